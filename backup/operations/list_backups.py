"""`operation: list`: the catalogue, oldest backup first, and the records of RDS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from backup.archive.catalogue import database_prefix, entries
from backup.aws.instance_record import RecordEntry, all_entries
from backup.aws.s3_reading import ReadableBucket
from backup.console import Console
from backup.model import BackupEntry
from backup.operations.opening import bucket_to_read, log_in
from backup.report.report import Report, Table
from backup.settings import Settings
from backup.wording import count, duration, size

# An output may hold 1 MB, and nobody reads a longer table than this.
_MOST_IN_OUTPUT, _MOST_ROWS = 3000, 100
_KINDS = {"": "snapshot", "exports": "export", "restores": "restore"}


def run(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    """List the backups of one database, or of all. Raises AccessError or StorageError."""
    access = bucket_to_read(log_in(settings, console, environment), settings, console)
    settings, bucket = access.settings, access.readable(connections=1)
    prefix = settings.bucket.prefix
    database = settings.source.database
    under = database_prefix(prefix, database) if database else f"{prefix}/" if prefix else ""
    listing = list(bucket.list(under))
    found, records = entries(prefix, listing), all_entries(prefix, listing)
    where = f"s3://{settings.bucket.name}/{under}"
    for entry in found:
        console.info(f"{entry.database}  {entry.id}  {size(entry.stored_bytes)}")
    listed = [_as_json(entry, settings.bucket.name) for entry in found[-_MOST_IN_OUTPUT:]]
    return Report(
        verdict=f"{count(len(found), 'backup')} in {where}{_newest(found)}",
        sections=(
            Table(
                "Backups",
                ("Database", "Backup", "Taken", "Stored>", "Objects>"),
                tuple(_row(entry) for entry in found[: -_MOST_ROWS - 1 : -1]),
            ),
            Table(
                "Records of RDS",
                ("Instance or cluster", "What", "When", "Record"),
                tuple(_record_row(entry, bucket) for entry in records[: -_MOST_ROWS - 1 : -1]),
            ),
        ),
        outputs={"backups": json.dumps(listed)},
        data={
            "backups": listed,
            "records": [_record_as_json(entry, bucket) for entry in records[-_MOST_IN_OUTPUT:]],
        },
    )


def _newest(found: list[BackupEntry]) -> str:
    if not found:
        return ""
    age = (datetime.now(UTC) - found[-1].time).total_seconds()
    return f", the newest {duration(age)} old"


def _row(entry: BackupEntry) -> tuple[str, ...]:
    return (
        entry.database,
        entry.id,
        f"{entry.time:%Y-%m-%d %H:%M} UTC",
        size(entry.stored_bytes),
        f"{entry.objects:,}",
    )


def _record_row(entry: RecordEntry, bucket: ReadableBucket) -> tuple[str, ...]:
    return (
        entry.identifier,
        _KINDS[entry.kind],
        f"{entry.time:%Y-%m-%d %H:%M} UTC",
        bucket.uri(entry.key),
    )


def _record_as_json(entry: RecordEntry, bucket: ReadableBucket) -> dict[str, str]:
    return {
        "identifier": entry.identifier,
        "kind": _KINDS[entry.kind],
        "time": entry.time.isoformat(),
        "uri": bucket.uri(entry.key),
    }


def _as_json(entry: BackupEntry, bucket: str) -> dict[str, str | int]:
    return {
        "id": entry.id,
        "database": entry.database,
        "time": entry.time.isoformat(),
        "stored-bytes": entry.stored_bytes,
        "objects": entry.objects,
        "manifest-uri": f"s3://{bucket}/{entry.manifest_key}",
    }
