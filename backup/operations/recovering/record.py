"""How long a restore took, kept in S3: `PREFIX/rds/IDENTIFIER/restores/TIME.json`, written once.

The form is `docs/instance-restore.schema.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from backup import __version__
from backup.aws.instance_record import JSON, RecordedRun, entries, folder, key_of
from backup.aws.instances import Cluster, Database
from backup.aws.record_json import Unreadable, dump, from_json, load, to_json
from backup.aws.recovery.points import Point, SnapshotPoint
from backup.aws.s3 import Bucket
from backup.console import Console
from backup.errors import AccessError, StorageError
from backup.github.context import workflow_run
from backup.postgres.first_answer import FirstAnswer

FORMAT = 1
_KIND = "restores"
_MOST_PAST = 12


@dataclass(frozen=True, slots=True)
class RestoredFrom:
    """`kind` is `snapshot` or `time`; `data_time` the moment that the data is of.

    `id` and `arn` are the snapshot's, "" for a point in time.
    """

    kind: str
    id: str
    arn: str
    data_time: datetime


@dataclass(frozen=True, slots=True)
class RestoreRecord:
    """One restore of an instance or a cluster.

    `seconds` run from the start of the run to the first answer, or where nobody could log in
    (`checked` is false) until RDS called it available.
    """

    region: str
    source: str
    restored_from: RestoredFrom
    new_identifier: str
    new_arn: str
    endpoint: str
    began: datetime
    finished: datetime
    seconds: float
    checked: bool
    server_version: str
    database_bytes: int | None
    tables: int | None
    action: RecordedRun


def restored_from(point: Point) -> RestoredFrom:
    if isinstance(point, SnapshotPoint):
        return RestoredFrom("snapshot", point.identifier, point.arn, point.taken)
    return RestoredFrom("time", "", "", point.taken)


def record_of(
    source: Database,
    point: Point,
    made: Database,
    region: str,
    began: datetime,
    seconds: float,
    answer: FirstAnswer | None,
    environment: Mapping[str, str],
) -> RestoreRecord:
    run = workflow_run(environment)
    return RestoreRecord(
        region=region,
        source=source.identifier,
        restored_from=restored_from(point),
        new_identifier=made.identifier,
        new_arn=made.arn,
        endpoint=made.network.endpoint or "",
        began=began,
        finished=datetime.now(UTC),
        seconds=round(seconds, 3),
        checked=answer is not None,
        server_version=answer.server_version if answer else made.engine_version,
        database_bytes=answer.database_bytes if answer else None,
        tables=answer.tables if answer else None,
        action=RecordedRun(__version__, run.url if run else None),
    )


def encode(record: RestoreRecord, *, is_cluster: bool) -> bytes:
    """The record as JSON."""
    kind = "cluster" if is_cluster else "instance"
    return dump({"format": FORMAT, "kind": kind} | to_json(record))


def keep(
    bucket: Bucket, prefix: str, record: RestoreRecord, source: Database, console: Console
) -> str:
    """Write the record; its key, empty where that failed: what was made is worth more."""
    key = key_of(prefix, record.source, record.finished, _KIND)
    try:
        body = encode(record, is_cluster=isinstance(source, Cluster))
        bucket.put_if_absent(key, body, JSON)
    except (AccessError, StorageError) as error:
        console.warning("The time of the restore was not kept", "\n".join(error.lines()))
        return ""
    console.info(bucket.uri(key))
    return key


def history(bucket: Bucket, prefix: str, identifier: str, console: Console) -> list[RestoreRecord]:
    """The latest restores, the oldest first; none where the bucket does not let us look."""
    past = []
    try:
        listed = bucket.list(folder(prefix, identifier, _KIND))
        for entry in entries(prefix, identifier, listed, _KIND)[-_MOST_PAST:]:
            try:
                past.append(from_json(RestoreRecord, load(bucket.read(entry.key))))
            except Unreadable as error:
                console.warning(f"{bucket.uri(entry.key)} is no record of a restore", str(error))
    except (AccessError, StorageError) as error:
        console.warning("Past restores cannot be shown", "\n".join(error.lines()))
    return past
