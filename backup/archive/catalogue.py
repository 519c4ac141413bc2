"""Where backups lie, and which there are.

    PREFIX/DATABASE/20261122T020000Z-1f9c3a/archive/…     the archive, see `follow`
    PREFIX/DATABASE/20261122T020000Z-1f9c3a/manifest.json  written last

A folder without a manifest is no backup: nothing here ever counts it as one.
"""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import quote, unquote

from backup.archive.manifest import NAME as MANIFEST
from backup.model import BackupEntry

_TIME = "%Y%m%dT%H%M%SZ"
_ID = re.compile(r"([0-9]{8}T[0-9]{6}Z)-[0-9a-f]{6}")


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


def database_prefix(prefix: str, database: str) -> str:
    """The folder of a database's backups. Any name can stand in it, and no two names share one."""
    folder = quote(database, safe="")
    if folder.strip(".") == "":  # `.` and `..` would be taken for folders by tools and shells
        folder = folder.replace(".", "%2E")
    return "/".join(part for part in (prefix, folder) if part) + "/"


def new_place(prefix: str, database: str, time: datetime) -> Place:
    """A place that nobody has written to: ids sort by time and end in chance."""
    backup_id = f"{time.astimezone(UTC).strftime(_TIME)}-{secrets.token_hex(3)}"
    return Place(backup_id, f"{database_prefix(prefix, database)}{backup_id}/")


def entries(prefix: str, listed: Iterable[Listed]) -> list[BackupEntry]:
    """The backups among the objects under `prefix`, oldest first."""
    root = f"{prefix}/" if prefix else ""
    stored: dict[tuple[str, str], list[int]] = {}
    complete: set[tuple[str, str]] = set()
    for each in listed:
        parts = each.key.removeprefix(root).split("/", 2)
        if len(parts) < 3 or _time_of(parts[1]) is None:
            continue
        place = (parts[0], parts[1])
        if parts[2] == MANIFEST:
            complete.add(place)
        else:
            stored.setdefault(place, []).append(each.size)
    return sorted(
        (
            BackupEntry(
                id=backup_id,
                database=unquote(folder),
                manifest_key=f"{root}{folder}/{backup_id}/{MANIFEST}",
                time=time,
                stored_bytes=sum(stored.get((folder, backup_id), [])),
                objects=len(stored.get((folder, backup_id), [])),
            )
            for folder, backup_id in complete
            if (time := _time_of(backup_id))
        ),
        key=lambda entry: (entry.id, entry.database),
    )


@functools.lru_cache(maxsize=1024)  # a backup has many objects, one after the other
def _time_of(backup_id: str) -> datetime | None:
    """When a backup was taken; None for a folder that is named like none."""
    match = _ID.fullmatch(backup_id)
    try:
        return datetime.strptime(match[1], _TIME).replace(tzinfo=UTC) if match else None
    except ValueError:  # digits, and no time: somebody else's folder must not stop a backup
        return None
