"""Where backups lie, and which there are.

    PREFIX/DATABASE/20261122T020000Z-1f9c3a/archive/…     the archive, see `follow`
    PREFIX/DATABASE/20261122T020000Z-1f9c3a/manifest.json  written last
    PREFIX/DATABASE/20261122T020000Z-1f9c3a/retention-tier/weekly  see `retention`
    PREFIX/DATABASE/20261122T020000Z-1f9c3a/drills/20261201T030000Z.json  one for each drill

A folder without a manifest is no backup: nothing here ever counts it as one.
"""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Protocol
from urllib.parse import quote, unquote

from backup.archive import retention
from backup.archive.manifest import NAME as MANIFEST
from backup.errors import InputError
from backup.model import BackupEntry

LATEST = "latest"

_TIME = "%Y%m%dT%H%M%SZ"
_ID = re.compile(r"([0-9]{8}T[0-9]{6}Z)-[0-9a-f]{6}")
_DRILL = re.compile(r"drills/([0-9]{8}T[0-9]{6}Z)\.json")
_MOST_CANDIDATES = 5


class Listed(Protocol):
    """An object as the store lists it."""

    @property
    def key(self) -> str: ...
    @property
    def size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Place:
    """The id of a backup and the key prefix of everything in it, with its slash."""

    id: str
    root: str

    @property
    def manifest(self) -> str:
        return f"{self.root}{MANIFEST}"


@dataclass(frozen=True, slots=True)
class DrillEntry:
    """The result of a drill, as the catalogue lists it; `key` is the object's, from its start."""

    database: str
    backup_id: str
    time: datetime
    key: str


def database_prefix(prefix: str, database: str) -> str:
    """The folder of a database's backups. Any name can stand in it, and no two names share one."""
    folder = quote(database, safe="")
    if folder.strip(".") == "":  # `.` and `..` would be taken for folders by tools and shells
        folder = folder.replace(".", "%2E")
    return "/".join(part for part in (prefix, folder) if part) + "/"


def new_place(prefix: str, database: str, moment: datetime) -> Place:
    """A place that nobody has written to: ids sort by time and end in chance."""
    backup_id = f"{moment.astimezone(UTC).strftime(_TIME)}-{secrets.token_hex(3)}"
    return Place(backup_id, f"{database_prefix(prefix, database)}{backup_id}/")


def entries(prefix: str, listed: Iterable[Listed]) -> list[BackupEntry]:
    """The backups among the objects under `prefix`, oldest first; drills count for nothing."""
    root = f"{prefix}/" if prefix else ""
    stored: dict[tuple[str, str], list[int]] = {}
    complete: set[tuple[str, str]] = set()
    tiers: dict[tuple[str, str], list[str]] = {}
    for each in listed:
        folder, backup_id, name = _parts(each.key, root)
        if _time_of(backup_id) is None:
            continue
        if name == MANIFEST:
            complete.add((folder, backup_id))
        elif name.startswith("archive/"):
            stored.setdefault((folder, backup_id), []).append(each.size)
        elif tier := retention.marked(name):
            tiers.setdefault((folder, backup_id), []).append(tier)
    return sorted(
        (
            BackupEntry(
                id=backup_id,
                database=unquote(folder),
                manifest_key=f"{root}{folder}/{backup_id}/{MANIFEST}",
                time=moment,
                stored_bytes=sum(stored.get((folder, backup_id), [])),
                objects=len(stored.get((folder, backup_id), [])),
                tier=retention.longest(tiers.get((folder, backup_id), [])),
            )
            for folder, backup_id in complete
            if (moment := _time_of(backup_id))
        ),
        key=lambda entry: (entry.id, entry.database),
    )


def choose(found: Sequence[BackupEntry], wanted: str) -> BackupEntry:
    """One of the backups of a database, which come oldest first as `entries` gives them.

    `wanted` is `latest`, an id, or a time: the newest backup at or before it. Times are ISO 8601,
    in UTC where they name no zone; a date alone takes in all of that day in UTC.
    Raises InputError, which names the backups that are near.
    """
    if wanted == LATEST:
        moment, fitting = None, found[-1:]
    elif moment := _time_of(wanted):
        fitting = [entry for entry in found if entry.id == wanted]
    else:
        moment = _end_of(wanted)
        fitting = [entry for entry in found if entry.time <= moment]
    if fitting:
        return fitting[-1]
    near = sorted(found, key=lambda entry: abs(entry.time - moment) if moment else entry.time)
    names = sorted(entry.id for entry in near[:_MOST_CANDIDATES])
    raise InputError(
        f"there is no backup for backup-id: {wanted}",
        detail=f"the nearest are {', '.join(names)}" if names else "there is none at all",
        hint="backup-id: latest, or an id, or a time at which there was a backup already;"
        " operation: list shows them all",
    )


def drill_key(root: str, moment: datetime) -> str:
    """Where the result of a drill of that moment lies; `root` is the backup's."""
    return f"{root}drills/{moment.astimezone(UTC).strftime(_TIME)}.json"


def drills(prefix: str, listed: Iterable[Listed]) -> list[DrillEntry]:
    """The results of drills among the objects under `prefix`, oldest first."""
    root = f"{prefix}/" if prefix else ""
    found: list[DrillEntry] = []
    for each in listed:
        folder, backup_id, name = _parts(each.key, root)
        match = _DRILL.fullmatch(name)
        moment = _moment(match[1]) if match else None
        if moment and _time_of(backup_id):
            found.append(DrillEntry(unquote(folder), backup_id, moment, each.key))
    return sorted(found, key=lambda drill: (drill.time, drill.key))


def root_of(prefix: str, key: str) -> str:
    """The prefix of the backup that an object lies in, whole or not; empty where it lies in none.

    What a backup that is under way, or has failed, has written so far lies in one too.
    """
    root = f"{prefix}/" if prefix else ""
    _, backup_id, name = _parts(key, root)
    return key.removesuffix(name) if name and _time_of(backup_id) else ""


def _parts(key: str, root: str) -> tuple[str, str, str]:
    """The folder of the database, the id, and the rest of a key; empty where there is none."""
    parts = key.removeprefix(root).split("/", 2)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else ("", "", "")


def _end_of(text: str) -> datetime:
    """The last moment of a time or a day. Raises InputError."""
    with suppress(ValueError):
        return datetime.combine(date.fromisoformat(text), time.max, UTC)
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"backup-id: {text!r} names no backup",
            detail="it is neither latest, nor an id, nor a time",
            hint="backup-id: latest, or an id as 20261122T020000Z-1f9c3a, or a time as 2026-11-22,"
            " 2026-11-22T02:00 (in UTC) or 2026-11-22T02:00+01:00",
        ) from error


def _time_of(backup_id: str) -> datetime | None:
    """When a backup was taken; None for a folder that is named like none."""
    match = _ID.fullmatch(backup_id)
    return _moment(match[1]) if match else None


@functools.lru_cache(maxsize=1024)  # a backup has many objects, one after the other
def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:  # digits, and no time: somebody else's folder must not stop a backup
        return None
