"""The rows and large objects in a script of pg_restore (`pg_restore --file=-`).

The format is that of _printTocEntry(), restore_toc_entry() and StartRestoreLO() in
src/bin/pg_dump/pg_backup_archiver.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from backup.errors import VerificationError

# Small: what is left of a piece is copied behind each table, of which there may be thousands.
_READ_BYTES = 64 << 10
_END = b"\n\\.\n"
_OPENED = re.compile(rb"SELECT pg_catalog\.lo_open\('([0-9]+)'")
_WRITTEN = re.compile(rb"SELECT pg_catalog\.lowrite\([0-9]+, E?'\\+x([0-9a-f]*)'\)")
_CLOSED = b"SELECT pg_catalog.lo_close("


def contents(
    script: BinaryIO, statements: Mapping[bytes, str]
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Each table's and large object's data file (`3349.dat`, `blob_7001.dat`) and its content.

    The pieces of one must be read before the next is asked for. `statements` gives the data file
    of a table by the COPY statement of its entry. Raises VerificationError for a script that ends
    early or copies into another table.
    """
    text = _Text(script)
    while line := text.line():
        if line.startswith(b"COPY "):
            while line not in statements:  # a name may hold newlines
                if not (more := text.line()):
                    raise _unreadable(f"it copies into another table: {_shown(line)}")
                line += more
            yield statements[line], _rows(text)
        elif match := _OPENED.match(line):
            yield f"blob_{int(match[1])}.dat", _large_object(text)


def _rows(text: _Text) -> Iterator[bytes]:
    # The first byte of the window was given already, or is the end of the COPY statement.
    window = b"\n"
    while (end := window.find(_END)) < 0:
        if len(window) > len(_END):
            yield window[1 : -len(_END) + 1]
            window = window[-len(_END) :]
        if not (piece := text.piece()):
            raise _unreadable("it ends within the rows of a table")
        window += piece
    yield window[1 : end + 1]
    text.put_back(window[end + len(_END) :])


def _large_object(text: _Text) -> Iterator[bytes]:
    while not (line := text.line()).startswith(_CLOSED):
        if match := _WRITTEN.match(line):
            yield bytes.fromhex(match[1].decode("ascii"))
        elif not line:
            raise _unreadable("it ends within a large object")


class _Text:
    """Lines or pieces of a stream, as asked for."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0

    def line(self) -> bytes:
        """With its newline; empty at the end."""
        while (end := self._buffer.find(b"\n", self._at)) < 0:
            if not (piece := self._stream.read(_READ_BYTES)):
                return self.piece()
            self._buffer, self._at = self._buffer[self._at :] + piece, 0
        line, self._at = self._buffer[self._at : end + 1], end + 1
        return line

    def piece(self) -> bytes:
        rest, self._buffer, self._at = self._buffer[self._at :], b"", 0
        return rest or self._stream.read(_READ_BYTES)

    def put_back(self, piece: bytes) -> None:
        """What the last `piece` had too much."""
        self._buffer, self._at = piece, 0


def _unreadable(why: str) -> VerificationError:
    return VerificationError(
        "the rows of the archive cannot be compared as text",
        detail=f"what pg_restore prints of it is not as expected: {why}",
        hint="run the drill again; report it if it happens twice, with the client's version",
    )


def _shown(line: bytes) -> str:
    return line[:200].decode("utf-8", "replace").strip()
