"""What lies below the prefix: every object, each database's series, the newest manifests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from backup.archive.catalogue import DrillEntry, drills, entries, root_of
from backup.archive.manifest import NAME as MANIFEST
from backup.archive.manifest import Manifest, decode
from backup.aws.s3 import Bucket
from backup.aws.s3_reading import ARCHIVED_CLASSES, ListedObject
from backup.errors import VerificationError
from backup.model import BackupEntry
from backup.operations.auditing.fleet import audited, unknown
from backup.operations.drill_record import past_drill
from backup.settings import Settings

# So many manifests of each database are read; a catalogue may hold thousands, of megabytes each.
MOST_READ = 10
_THREADS = 4
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Series:
    """The backups of one database, the oldest first; `drills` are of all of them."""

    database: str
    backups: tuple[BackupEntry, ...]
    drills: tuple[DrillEntry, ...]

    @property
    def newest(self) -> BackupEntry:
        return self.backups[-1]


@dataclass(frozen=True, slots=True)
class Holdings:
    """`objects` in key order; `stored` are those inside of backups, by the backup's root.

    `unknown` are the databases that have backups, and that the fleet's file does not name.
    """

    objects: tuple[ListedObject, ...]
    stored: Mapping[str, Mapping[str, ListedObject]]
    series: tuple[Series, ...]
    unknown: tuple[str, ...] = ()

    def of(self, entry: BackupEntry) -> Mapping[str, ListedObject]:
        """The objects of a backup, by key relative to its root."""
        return self.stored[root(entry)]


@dataclass(frozen=True, slots=True)
class Read:
    """A manifest that was read; None in place of it where it is damaged, for `fault`."""

    entry: BackupEntry
    manifest: Manifest | None
    fault: str


def root(entry: BackupEntry) -> str:
    return entry.manifest_key.removesuffix(MANIFEST)


def list_holdings(bucket: Bucket, settings: Settings) -> Holdings:
    """Everything below the prefix, and the series of every database that is audited.

    Raises AccessError or StorageError.
    """
    prefix = settings.bucket.prefix
    objects = tuple(bucket.list(f"{prefix}/" if prefix else ""))
    stored: dict[str, dict[str, ListedObject]] = {}
    for each in objects:
        if place := root_of(prefix, each.key):
            stored.setdefault(place, {})[each.key.removeprefix(place)] = each
    found, proofs = entries(prefix, objects), drills(prefix, objects)
    # With `database` that one alone: the series of one that was retired has a gap for ever.
    there = {each.database for each in found}
    return Holdings(
        objects,
        stored,
        tuple(_series(name, found, proofs) for name in sorted(audited(settings, there) & there)),
        tuple(sorted(unknown(settings, there))),
    )


def _series(database: str, found: Sequence[BackupEntry], proofs: Sequence[DrillEntry]) -> Series:
    return Series(
        database,
        tuple(each for each in found if each.database == database),
        tuple(each for each in proofs if each.database == database),
    )


def readable(holdings: Holdings) -> list[BackupEntry]:
    """The newest backups of each database whose manifests lie in no archive."""
    return [
        entry
        for series in holdings.series
        for entry in series.backups[-MOST_READ:]
        if holdings.of(entry)[MANIFEST].storage_class not in ARCHIVED_CLASSES
    ]


def read_manifests(bucket: Bucket, wanted: Iterable[BackupEntry]) -> dict[str, Read]:
    """Their manifests, by root. Raises AccessError or StorageError."""

    def read(entry: BackupEntry) -> Read:
        content = bucket.read(entry.manifest_key)
        try:
            return Read(entry, decode(content), "")
        except VerificationError as error:
            return Read(entry, None, f"{error.message}: {error.detail}")

    with ThreadPoolExecutor(_THREADS) as pool:
        return {root(each.entry): each for each in pool.map(read, wanted)}


def proven_drills(bucket: Bucket, holdings: Holdings) -> list[DrillEntry]:
    """Those drills of the newest backups that have proven one. Raises AccessError, StorageError."""
    newest = {
        (series.database, entry.id)
        for series in holdings.series
        for entry in series.backups[-MOST_READ:]
    }
    latest = {
        (series.database, drill.backup_id): drill
        for series in holdings.series
        for drill in series.drills
    }
    return [
        drill
        for place, drill in latest.items()
        if place in newest and past_drill(bucket, drill).is_proven_restore
    ]


def named(texts: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = len(texts) - _MOST_NAMED
    return "; ".join(texts[:_MOST_NAMED]) + (f"; and {more:,} more" if more > 0 else "")
