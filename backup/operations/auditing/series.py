"""What the bucket holds of each database, in the order in which an audit needs it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from backup.archive.catalogue import DrillEntry, database_prefix, drills, entries
from backup.archive.manifest import NAME as MANIFEST
from backup.aws.glacier import Retrieval, retrieval
from backup.aws.s3 import Bucket
from backup.aws.s3_reading import ListedObject
from backup.errors import NotReplicated, StorageError, VerificationError
from backup.model import BackupEntry
from backup.operations.auditing.fleet import audited
from backup.operations.drill_record import PastDrill, past_drill
from backup.operations.finding import Located, read_manifest
from backup.settings import Settings

_MOST_DRILLS, _MOST_RESTORES = 400, 100
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/intelligent-tiering-overview.html
_MAY_BE_ARCHIVED = "INTELLIGENT_TIERING"
_RESTORE = re.compile(r"([A-Za-z][A-Za-z0-9-]*)/restores/([0-9]{8}T[0-9]{6}Z)\.json")


@dataclass(frozen=True, slots=True)
class Series:
    """The backups and drills of one database, the oldest first."""

    database: str
    backups: tuple[BackupEntry, ...]
    drills: tuple[DrillEntry, ...]
    newest_objects: tuple[ListedObject, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backup that is young enough, or why it does not count all the same."""

    entry: BackupEntry
    fault: str


@dataclass(frozen=True, slots=True)
class Restored:
    """The record of an instance that was restored; `seconds` is what it took.

    `checked` is false where nobody has logged in: that measures no restore.
    """

    identifier: str
    time: datetime
    seconds: float | None
    checked: bool


def listed_series(bucket: Bucket, settings: Settings) -> list[Series]:
    """The series of every database that is audited. Raises AccessError or StorageError."""
    prefix, database = settings.bucket.prefix, settings.database
    root = f"{prefix}/" if prefix else ""
    listed = list(bucket.list(database_prefix(prefix, database) if database else root))
    backups, proofs = entries(prefix, listed), drills(prefix, listed)
    names = audited(settings, {each.database for each in backups})
    return [_series(name, backups, proofs, listed) for name in sorted(names)]


def _series(
    database: str,
    backups: Sequence[BackupEntry],
    proofs: Sequence[DrillEntry],
    listed: Sequence[ListedObject],
) -> Series:
    mine = tuple(each for each in backups if each.database == database)
    root = mine[-1].manifest_key.removesuffix(MANIFEST) if mine else None
    objects = (each for each in listed if root and each.key.startswith(root))
    return Series(
        database,
        mine,
        tuple(each for each in proofs if each.database == database),
        tuple(each for each in objects if not each.key.startswith(f"{root}drills/")),
    )


def looked_at(bucket: Bucket, series: Series, entry: BackupEntry) -> Candidate:
    """Whether a backup is of the whole database, and all there.

    Raises AccessError or StorageError.
    """
    try:
        manifest = read_manifest(bucket, _located(bucket, series, entry))
    except (VerificationError, NotReplicated) as error:
        return Candidate(entry, error.message)
    fault = f"backup {entry.id} is of some schemas or tables alone" if manifest.is_partial else ""
    return Candidate(entry, fault)


def _located(bucket: Bucket, series: Series, entry: BackupEntry) -> Located:
    root = entry.manifest_key.removesuffix(MANIFEST)
    newest = entry is series.backups[-1]
    objects = series.newest_objects if newest else tuple(bucket.list(root))
    stored = {each.key.removeprefix(root): each for each in objects}
    return Located(entry, root, MappingProxyType(stored))


def is_of_a_part(bucket: Bucket, series: Series, drill: PastDrill) -> bool:
    """Whether what was drilled is a backup of some schemas or tables alone.

    One that is gone, damaged or archived by now tells no more than its drill did. Raises
    AccessError.
    """
    entry = next((each for each in series.backups if each.id == drill.backup_id), None)
    try:
        return (
            entry is not None and read_manifest(bucket, _located(bucket, series, entry)).is_partial
        )
    except (VerificationError, StorageError):
        return False


def drilled(bucket: Bucket, series: Series) -> Iterator[PastDrill]:
    """The drills of a database, the newest first. Raises AccessError or StorageError."""
    for entry in reversed(series.drills[-_MOST_DRILLS:]):
        yield past_drill(bucket, entry)


def slowest_thaw(bucket: Bucket, series: Series, tier: str) -> tuple[str, Retrieval] | None:
    """The archive of the newest backup that takes longest to read, and how long; None for none.

    Raises AccessError or StorageError.
    """
    archives = set()
    for each in series.newest_objects:
        archived = bucket.head(each.key) if each.storage_class == _MAY_BE_ARCHIVED else None
        archives.add(archived.archive if archived else each.storage_class)
    ways = [
        (archive, way)
        for archive in sorted(archives)
        # Deep Archive knows no expedited way out.
        if (way := retrieval(archive, tier) or retrieval(archive, "standard"))
    ]
    return max(ways, key=lambda each: each[1].seconds, default=None)


def restored_instances(bucket: Bucket, settings: Settings) -> list[Restored]:
    """Of each instance that was restored the newest record that somebody's login has checked, or
    else the newest. Raises AccessError or StorageError."""
    meant = (settings.rds.instance or settings.rds.cluster or "").lower()
    root = database_prefix(settings.bucket.prefix, "rds")
    found: dict[str, list[tuple[datetime, str]]] = {}
    for each in bucket.list(f"{root}{meant}/restores/" if meant else root):
        if match := _RESTORE.fullmatch(each.key.removeprefix(root)):
            moment = datetime.strptime(match[2], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            found.setdefault(match[1], []).append((moment, each.key))
    return [_newest(bucket, *each) for each in sorted(found.items())]


def _newest(bucket: Bucket, identifier: str, records: list[tuple[datetime, str]]) -> Restored:
    newest_first = sorted(records, reverse=True)[:_MOST_RESTORES]
    read = [_restored(bucket, identifier, *newest_first[0])]
    for each in newest_first[1:]:
        if read[-1].checked:
            break
        read.append(_restored(bucket, identifier, *each))
    return read[-1] if read[-1].checked else read[0]


def _restored(bucket: Bucket, identifier: str, moment: datetime, key: str) -> Restored:
    """What a record says; no time where it is none: whoever may write may have written it."""
    try:
        told = json.loads(bucket.read(key))
    except (ValueError, RecursionError):
        told = None
    seconds = told.get("seconds") if isinstance(told, dict) else None
    is_number = isinstance(seconds, int | float) and 0 <= seconds < float(10**9)
    if not isinstance(told, dict) or seconds is None or not is_number:
        return Restored(identifier, moment, None, checked=True)
    return Restored(identifier, moment, float(seconds), checked=told.get("checked") is True)
