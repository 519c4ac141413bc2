"""How the data of an archive is divided into calls of pg_restore.

A large member is a call of its own, streamed to it while it is fetched; small ones go together,
as files. So the disk holds a few small files, whatever the size of the archive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from backup.archive.toc import Entry
from backup.errors import VerificationError
from backup.model import Member

# From this size on a member is streamed: a call of pg_restore reads the whole table of contents
# and logs in, which is little beside 4 MiB of compressed rows.
STREAMED_BYTES = 4 << 20
# More of them in one call would leave the other jobs without work at the end.
_MOST_IN_A_BATCH = 1000
_LARGE_OBJECTS = "BLOBS"
# A file takes whole blocks: st_blocks of a file of one byte on ext4, xfs and tmpfs.
_DISK_BLOCK = 4 << 10


@dataclass(frozen=True, slots=True)
class Block:
    """The data of one entry. Large objects have a `listing` of them, a table has none."""

    dump_id: int
    members: tuple[Member, ...] = ()
    listing: Member | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """One call of pg_restore, which reads files that were written before it, or one stream."""

    blocks: tuple[Block, ...]
    is_streamed: bool = False

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(block.dump_id for block in self.blocks)

    @property
    def members(self) -> tuple[Member, ...]:
        """In the order in which pg_restore reads them; without listings."""
        return tuple(member for block in self.blocks for member in block.members)

    @property
    def files(self) -> tuple[Member, ...]:
        """What has to be written before the call."""
        if self.is_streamed:
            return ()
        listings = tuple(block.listing for block in self.blocks if block.listing)
        return (*listings, *self.members)

    @property
    def bytes(self) -> int:
        return sum(member.size for member in self.members)

    @property
    def tables(self) -> int:
        return sum(member.table is not None for member in self.members)


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
        if member and member.size > min(STREAMED_BYTES, batch_bytes):
            loads.append(Load((Block(entry.dump_id, (member,)),), is_streamed=True))
        else:
            small.append((entry, member))
    loads += _batches(small, batch_bytes)
    return sorted(loads, key=lambda load: load.bytes, reverse=True)


def _batches(small: Iterable[tuple[Entry, Member | None]], batch_bytes: int) -> Iterable[Load]:
    blocks: list[Block] = []
    size = 0
    # In the order in which they lie in the packs, so that neighbours are fetched together.
    for entry, member in sorted(small, key=lambda each: _place(each[1])):
        more = member.size if member else 0
        if blocks and (size + more > batch_bytes or len(blocks) == _MOST_IN_A_BATCH):
            yield Load(tuple(blocks))
            blocks, size = [], 0
        blocks.append(Block(entry.dump_id, (member,) if member else ()))
        size += more
    if blocks:
        yield Load(tuple(blocks))


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
    objects = tuple(_member(by_file, name) for name in names)
    block = Block(entry.dump_id, objects, listing)
    # Before PostgreSQL 17 one entry lists all that there are: millions of a few bytes each.
    on_disk = sum(-(-member.size // _DISK_BLOCK) * _DISK_BLOCK for member in objects)
    return Load((block,), is_streamed=on_disk > batch_bytes)


def _member(by_file: Mapping[str, Member], file: str) -> Member:
    if file in by_file:
        return by_file[file]
    raise VerificationError(
        f"{file} is missing in this backup",
        detail="its table of contents names it, and its manifest does not",
        hint="take another backup (backup-id), and look who has changed this one",
    )
