"""A table of contents by which rows come to lie in the order of the archive.

COPY puts rows wherever the free space map knows a gap, so that rows of varying width change their
order; into a table that was truncated in the same transaction it only appends, and with wal_level
minimal it writes no log
(https://www.postgresql.org/docs/current/populate.html#POPULATE-COPY-FROM). pg_restore truncates
by itself where one run with `--jobs` creates the table and fills it (restore_toc_entry() in
src/bin/pg_dump/pg_backup_archiver.c). For a run that only fills, the TRUNCATE goes before the
COPY: both are one query, which is one transaction.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from backup.archive.toc import Entry

_LENGTH = struct.Struct("<?I")


def emptying_first(content: bytes, entries: Iterable[Entry], codec: str) -> bytes:
    """The bytes of `toc.dat` with a TRUNCATE before the COPY of each of these entries.

    They are in the order of the table of contents, so that one pass finds them all. For tables
    alone that this very restore has created: whatever is in them is lost.
    """
    pieces: list[bytes] = []
    position = 0
    for entry in entries:
        copy = entry.copy.encode(codec, "surrogateescape")
        if entry.kind != "TABLE DATA" or not copy:
            continue
        # Lengths hold zero bytes, which no text does: this is found nowhere else.
        start = content.index(_text(copy), position)
        table = f"{_quoted(entry.schema or '')}.{_quoted(entry.name)}"
        truncate = f"TRUNCATE TABLE ONLY {table}; ".encode(codec, "surrogateescape")
        pieces += [content[position:start], _text(truncate + copy)]
        position = start + len(_text(copy))
    return b"".join([*pieces, content[position:]])


def _text(text: bytes) -> bytes:
    return _LENGTH.pack(False, len(text)) + text


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
