"""What an RDS instance or cluster was, kept in S3 for the day on which it is gone.

    PREFIX/rds/IDENTIFIER/20261122T020000Z.json           one for each snapshot, written once
    PREFIX/rds/IDENTIFIER/exports/20261122T020000Z.json   one for each export
    PREFIX/rds/IDENTIFIER/restores/20261122T020000Z.json  one for each restore, with its time

The form is `docs/instance.schema.json`. None of these is ever taken for a backup: those lie in
folders that begin with a time, and identifiers of RDS begin with a letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from backup.aws.instances import Cluster, Database, Instance
from backup.aws.record_json import Unreadable, dump, from_json, load, to_json
from backup.aws.s3 import Bucket
from backup.aws.s3_reading import ReadableBucket
from backup.errors import StorageError

FORMAT = 1
JSON = "application/json"

_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"([0-9]{8}T[0-9]{6}Z)\.json")


@dataclass(frozen=True, slots=True)
class SnapshotCopy:
    """A snapshot's copy in another region. `id` is its name, or "" for a recovery point."""

    id: str
    arn: str
    region: str


@dataclass(frozen=True, slots=True)
class RecordedSnapshot:
    """The snapshot that a record was written with. `via` is `rds` or `aws-backup`.

    `id` is its name; `arn` that of the snapshot, or of the recovery point. `vault` is None for
    `rds`. `copy` is None where there is none.
    """

    id: str
    arn: str
    via: str
    vault: str | None
    copy: SnapshotCopy | None


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """What wrote a record: the action's version, and the URL of the workflow's run."""

    version: str
    run: str | None


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """An instance, or a cluster with its members (the writer first), at the moment `taken`."""

    taken: datetime
    region: str
    database: Database
    members: tuple[Instance, ...]
    snapshot: RecordedSnapshot
    action: RecordedRun


class Listed(Protocol):
    """An object as the store lists it."""

    @property
    def key(self) -> str: ...


@dataclass(frozen=True, slots=True)
class RecordEntry:
    """A record that is there; `key` is the object's, from its start. `kind` is "" for a snapshot,
    or `exports` or `restores`."""

    identifier: str
    kind: str
    time: datetime
    key: str


def folder(prefix: str, identifier: str, kind: str = "") -> str:
    """Where the records of an instance or cluster lie; `kind` is "", `exports` or `restores`."""
    # RDS keeps identifiers in small letters, whatever was typed.
    parts = (prefix, "rds", identifier.lower(), kind)
    return "/".join(part for part in parts if part) + "/"


def key_of(prefix: str, identifier: str, moment: datetime, kind: str = "") -> str:
    """Where the record of that moment lies."""
    return f"{folder(prefix, identifier, kind)}{moment.astimezone(UTC).strftime(_TIME)}.json"


def all_entries(prefix: str, listed: Iterable[Listed]) -> list[RecordEntry]:
    """The records of all instances and kinds among listed objects, oldest first."""
    root, found = f"{prefix}/rds/" if prefix else "rds/", []
    for each in listed:
        if not each.key.startswith(root):
            continue
        *folders, name = each.key.removeprefix(root).split("/")
        match = _NAME.fullmatch(name)
        moment = _moment(match[1]) if match else None
        if moment and folders and folders[1:] in ([], ["exports"], ["restores"]):
            found.append(RecordEntry(folders[0], "".join(folders[1:]), moment, each.key))
    return sorted(found, key=lambda entry: (entry.time, entry.key))


def entries(
    prefix: str, identifier: str, listed: Iterable[Listed], kind: str = ""
) -> list[RecordEntry]:
    """The same of one instance or cluster, and one kind."""
    return [
        entry
        for entry in all_entries(prefix, listed)
        if entry.identifier == identifier.lower() and entry.kind == kind
    ]


def keep(bucket: Bucket, prefix: str, record: InstanceRecord) -> str:
    """Write a record; its key. Raises AccessError or StorageError."""
    key = key_of(prefix, record.database.identifier, record.taken)
    bucket.put_if_absent(key, encode(record), JSON)
    return key


def newest(
    bucket: ReadableBucket, prefix: str, identifier: str, *, is_cluster: bool
) -> InstanceRecord | None:
    """The newest record of an instance, or of the cluster of that name; None where there is none.

    One that cannot be read does not hide those before it. Raises AccessError, and StorageError
    where there is none but such.
    """
    unreadable: StorageError | None = None
    for entry in reversed(entries(prefix, identifier, bucket.list(folder(prefix, identifier)))):
        try:
            record = decode(bucket.read(entry.key), bucket.uri(entry.key))
        except StorageError as error:
            unreadable = unreadable or error
            continue
        if isinstance(record.database, Cluster) == is_cluster:
            return record
    if unreadable:
        raise unreadable
    return None


def encode(record: InstanceRecord) -> bytes:
    """The record as JSON."""
    database = record.database
    kind = "cluster" if isinstance(database, Cluster) else "instance"
    head: dict[str, Any] = {"format": FORMAT, "kind": kind}
    return dump(head | to_json(record))


def decode(content: bytes, uri: str) -> InstanceRecord:
    """The record that an object holds; `uri` is for the error. Raises StorageError."""
    try:
        told = load(content)
        if told.get("format") != FORMAT:
            raise Unreadable(f"its format is {told.get('format')!r}, and this knows {FORMAT}")
        return _record(told)
    except Unreadable as error:
        raise StorageError(
            f"{uri} is no record of an instance",
            detail=str(error),
            hint="no earlier record in the same folder does: use the version of the action that"
            " wrote it, or restore by hand, with every setting",
        ) from error


def _record(told: Mapping[str, Any]) -> InstanceRecord:
    kind = {"instance": Instance, "cluster": Cluster}.get(str(told.get("kind")))
    if kind is None:
        raise Unreadable("kind is neither instance nor cluster")
    head = from_json(_Head, told)
    return InstanceRecord(
        taken=head.taken,
        region=head.region,
        database=from_json(kind, told.get("database"), "database"),
        members=head.members,
        snapshot=head.snapshot,
        action=head.action,
    )


@dataclass(frozen=True, slots=True)
class _Head:
    """The fields of a record beside the database, whose type the field `kind` tells."""

    taken: datetime
    region: str
    members: tuple[Instance, ...]
    snapshot: RecordedSnapshot
    action: RecordedRun


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:  # digits, and no time: not ours
        return None
