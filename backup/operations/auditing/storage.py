"""What the backups take up: by storage class, by database, and how much more it is each month.

Counted from the list of objects, so without earlier versions and incomplete uploads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from backup.archive.catalogue import database_prefix, entries
from backup.aws.s3 import Bucket
from backup.aws.s3_reading import ListedObject
from backup.model import BackupEntry
from backup.report.report import Table
from backup.settings import Settings
from backup.wording import size

GROWTH_DAYS = 30
_ALL = "all"


@dataclass(frozen=True, slots=True)
class Stored:
    """What one database takes up in one storage class, or in all.

    `added_bytes` are those of the last GROWTH_DAYS. `newest_bytes` is the size of the newest
    backup, `earlier_bytes` of the newest that is older than that; None where there is none, or
    where the line is about one class.
    """

    database: str
    storage_class: str
    objects: int
    bytes: int
    added_bytes: int
    newest_bytes: int | None = None
    earlier_bytes: int | None = None

    @property
    def growth(self) -> float | None:
        """How much larger the newest backup is than that of a month ago: 0.25 is a quarter."""
        if self.newest_bytes is None or not self.earlier_bytes:
            return None
        return self.newest_bytes / self.earlier_bytes - 1


def storage(bucket: Bucket, settings: Settings, now: datetime) -> tuple[Stored, ...]:
    """For each database one line over all classes, and one a class where it lies in several.

    Raises AccessError or StorageError.
    """
    prefix = settings.bucket.prefix
    objects = list(bucket.list(f"{prefix}/" if prefix else ""))
    backups = entries(prefix, objects)
    found: list[Stored] = []
    for database in sorted({each.database for each in backups}):
        root = database_prefix(prefix, database)
        inside = [each for each in objects if each.key.startswith(root)]
        mine = [each for each in backups if each.database == database]
        found.append(_in_all(database, inside, mine, now))
        classes = sorted({each.storage_class for each in inside})
        if len(classes) > 1:
            found += [_in_class(database, each, inside, now) for each in classes]
        else:
            found[-1] = replace(found[-1], storage_class=classes[0])
    return tuple(found)


def table(found: Sequence[Stored]) -> Table:
    """The same for a report."""
    return Table(
        "Storage",
        ("Database", "Class", "Objects>", "Stored>", f"Last {GROWTH_DAYS} days>", "Growth>"),
        tuple(
            (
                each.database,
                each.storage_class,
                f"{each.objects:,}",
                size(each.bytes),
                f"+{size(each.added_bytes)}",
                "" if each.growth is None else f"{each.growth:+.0%}",
            )
            for each in found
        ),
    )


def _in_all(
    database: str, inside: Sequence[ListedObject], backups: Sequence[BackupEntry], now: datetime
) -> Stored:
    earlier = [each for each in backups if now - each.time >= timedelta(days=GROWTH_DAYS)]
    return Stored(
        database,
        _ALL,
        len(inside),
        sum(each.size for each in inside),
        _added(inside, now),
        newest_bytes=backups[-1].stored_bytes,
        earlier_bytes=earlier[-1].stored_bytes if earlier else None,
    )


def _in_class(
    database: str, storage_class: str, inside: Sequence[ListedObject], now: datetime
) -> Stored:
    mine = [each for each in inside if each.storage_class == storage_class]
    total = sum(each.size for each in mine)
    return Stored(database, storage_class, len(mine), total, _added(mine, now))


def _added(inside: Sequence[ListedObject], now: datetime) -> int:
    return sum(each.size for each in inside if now - each.modified < timedelta(days=GROWTH_DAYS))
