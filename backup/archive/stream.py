"""An archive as one stream, made of pg_dump's directory format while pg_restore reads it.

A table of 100 GB must go through pg_restore without lying on the disk first. pg_restore reads the
data files of a directory from regular files alone (17.12 refuses anything else), but its custom
format from any pipe. The two hold the same: the table of contents differs in the format's number
and in what stands behind each entry, and data comes in blocks, each with the dump id that it is
of. See src/bin/pg_dump/pg_backup_custom.c and pg_backup_archiver.c.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain

from backup.archive.fetching import damaged
from backup.archive.toc import INTEGER, TocReader, read_entry, read_head
from backup.model import Member

_CUSTOM_FORMAT = b"\x01"
_OFFSET_SIZE = 8
# What stands behind an entry: whether it has data, and where; a stream is searched for it.
_SOMEWHERE = b"\x01" + bytes(_OFFSET_SIZE)
_NOWHERE = b"\x03" + bytes(_OFFSET_SIZE)
_DATA, _LARGE_OBJECTS = b"\x01", b"\x03"
_END = INTEGER.pack(False, 0)
# pg_compress_algorithm; a gzip file is unpacked here, for a stream holds zlib's form of it.
_NONE, _KEPT = b"\x00", (b"\x02", b"\x03")
_UNPACKED_BYTES = 1 << 20
_LARGE_OBJECT_FILE = re.compile(r"blob_([0-9]+)\.dat")


def head(toc: bytes, codec: str) -> bytes:
    """What such a stream begins with, from the bytes of a `toc.dat`."""
    reader = TocReader(toc, codec)
    found = read_head(reader)
    algorithm = toc[found.compression]
    if found.version >= (1, 15):
        packing = algorithm if algorithm in _KEPT else _NONE
    else:
        packing = INTEGER.pack(False, 0)
    pieces = [toc[: found.offset_size], bytes([_OFFSET_SIZE]), _CUSTOM_FORMAT, packing]
    start = found.compression.stop
    for _ in range(found.entries):
        entry = read_entry(reader, found.version)
        pieces += [toc[start : reader.file_start], _SOMEWHERE if entry.file else _NOWHERE]
        start = reader.position
    return b"".join(pieces)


def table(dump_id: int, member: Member, content: Iterable[bytes]) -> Iterator[bytes]:
    """The block of a table's rows; its end comes once `content` has come to its own."""
    yield _DATA + INTEGER.pack(False, dump_id)
    yield from _pieces(member, content)


def large_objects(
    dump_id: int, members: Iterable[tuple[Member, Iterable[bytes]]]
) -> Iterator[Iterable[bytes]]:
    """The block of the large objects of one entry, in parts of which each has one at the most."""
    yield (_LARGE_OBJECTS + INTEGER.pack(False, dump_id),)
    for member, content in members:
        named = _LARGE_OBJECT_FILE.fullmatch(member.data_file)
        if not named:
            raise damaged(member)
        yield chain((INTEGER.pack(False, int(named[1])),), _pieces(member, content))
    yield (_END,)


def _pieces(member: Member, content: Iterable[bytes]) -> Iterator[bytes]:
    for piece in _unpacked(member, content) if member.name.endswith(".gz") else content:
        if piece:  # one of no bytes would be the end
            yield INTEGER.pack(False, len(piece))
            yield piece
    yield _END


def _unpacked(member: Member, content: Iterable[bytes]) -> Iterator[bytes]:
    """A gzip file unpacked, a little at a time however well it is packed."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        for piece in content:
            rest = piece
            while rest:
                if unpacker.eof:  # gzip files may be joined
                    unpacker = zlib.decompressobj(wbits=31)
                yield unpacker.decompress(rest, _UNPACKED_BYTES)
                rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    except zlib.error as error:
        raise damaged(member) from error
    yield unpacker.flush()
    if not unpacker.eof:
        raise damaged(member)
