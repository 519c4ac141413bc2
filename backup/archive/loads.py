"""How the data of an archive is divided into calls of pg_restore.

A large member is a call of its own, fed through a pipe while it is fetched; small ones go
together, as files. So the disk holds a few small files, whatever the size of the archive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from backup.archive.toc import Entry
from backup.errors import VerificationError
from backup.model import Member

# From this size on a member is fed through a pipe: a call of pg_restore reads the whole table of
# contents and logs in, which is little beside 4 MiB of compressed rows.
PIPED_BYTES = 4 << 20
# More of them in one call would leave the other jobs without work at the end.
_MOST_IN_A_BATCH = 1000
_LARGE_OBJECTS = "BLOBS"
# A file takes whole blocks: st_blocks of a file of one byte on ext4, xfs and tmpfs.
_DISK_BLOCK = 4 << 10


@dataclass(frozen=True, slots=True)
class Load:
    """One call of pg_restore: dump ids, members written before it, members piped to it.

    `pipes` are in the order in which pg_restore opens them.
    """

    ids: tuple[int, ...]
    files: tuple[Member, ...] = ()
    pipes: tuple[Member, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(member.size for member in (*self.files, *self.pipes))

    @property
    def tables(self) -> int:
        return sum(member.table is not None for member in (*self.files, *self.pipes))


def divide(
    entries: Iterable[Entry],
    members: Iterable[Member],
    read: Callable[[Member], bytes],
    batch_bytes: int,
) -> list[Load]:
    """The data entries as loads of which each takes at most `batch_bytes` of disk, largest first.

    `read` gives a small member whole. Raises VerificationError for an entry whose file is no
    member, besides what `read` raises.
    """
    by_file = {member.data_file: member for member in members}
    loads: list[Load] = []
    small: list[tuple[Entry, Member | None]] = []
    for entry in entries:
        if entry.kind == _LARGE_OBJECTS:
            loads.append(_large_objects(entry, by_file, read, batch_bytes))
            continue
        member = _member(by_file, entry.file) if entry.file else None
        if member and member.size > min(PIPED_BYTES, batch_bytes):
            loads.append(Load(ids=(entry.dump_id,), pipes=(member,)))
        else:
            small.append((entry, member))
    loads += _batches(small, batch_bytes)
    return sorted(loads, key=lambda load: load.bytes, reverse=True)


def _batches(small: Iterable[tuple[Entry, Member | None]], batch_bytes: int) -> Iterable[Load]:
    ids: list[int] = []
    files: list[Member] = []
    size = 0
    # In the order in which they lie in the packs, so that neighbours are fetched together.
    for entry, member in sorted(small, key=lambda each: _place(each[1])):
        more = member.size if member else 0
        if ids and (size + more > batch_bytes or len(ids) == _MOST_IN_A_BATCH):
            yield Load(tuple(ids), tuple(files))
            ids, files, size = [], [], 0
        ids.append(entry.dump_id)
        files += [member] if member else []
        size += more
    if ids:
        yield Load(tuple(ids), tuple(files))


def _place(member: Member | None) -> tuple[str, int]:
    return (member.object_key, member.offset) if member else ("", 0)


def _large_objects(
    entry: Entry,
    by_file: Mapping[str, Member],
    read: Callable[[Member], bytes],
    batch_bytes: int,
) -> Load:
    """One file lists the large objects of an entry, and each has a file of its own.

    Lines are `OID FILENAME`, see _LoadLOs() in src/bin/pg_dump/pg_backup_directory.c.
    """
    listing = _member(by_file, entry.file or "")
    names = [line.split(" ", 1)[1] for line in read(listing).decode("ascii").splitlines()]
    objects = [_member(by_file, name) for name in names]
    # Before PostgreSQL 17 one entry lists all that there are: millions of a few bytes each.
    if sum(-(-member.size // _DISK_BLOCK) * _DISK_BLOCK for member in objects) <= batch_bytes:
        return Load((entry.dump_id,), files=(listing, *objects))
    return Load((entry.dump_id,), files=(listing,), pipes=tuple(objects))


def _member(by_file: Mapping[str, Member], file: str) -> Member:
    if file in by_file:
        return by_file[file]
    raise VerificationError(
        f"{file} is missing in this backup",
        detail="its table of contents names it, and its manifest does not",
        hint="take another backup (backup-id), and look who has changed this one",
    )
