"""The table of contents of pg_dump's directory format, read from `toc.dat`.

`pg_restore -l` would print it too, but turns a newline in a name into a space; which file
belongs to which table must not depend on that. The format is that of PostgreSQL's
src/bin/pg_dump/pg_backup_archiver.c (WriteHead, WriteToc) and pg_backup_directory.c.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from backup.errors import DumpError

_MAGIC = b"PGDMP"
INTEGER = struct.Struct("<?I")
# A directory says of itself that it is a tar, whose toc.dat is the same.
_DIRECTORY_FORMAT = 3
# Archive versions: 1.14 is PostgreSQL 12 to 15, 1.15 is 16, 1.16 is 17 and 18.
_OLDEST, _NEWEST = (1, 14), (1, 16)
# teSection of pg_backup.h.
_SECTIONS = {1: "none", 2: "pre-data", 3: "data", 4: "post-data"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of the dump. `file` is the name of its data file, or None.

    `kind` is pg_dump's word: TABLE, TABLE DATA, SEQUENCE SET, INDEX, BLOBS …
    `section` is one of "none", "pre-data", "data" and "post-data". `definition`, `drop` and `copy`
    are its statements, '' where it has none. `relkind` is pg_class.relkind where the archive tells
    it (1.16 and newer, of relations), and ''.
    """

    dump_id: int
    kind: str
    schema: str | None
    name: str
    owner: str
    file: str | None
    dependencies: tuple[int, ...]
    section: str
    definition: str
    drop: str
    copy: str
    relkind: str


@dataclass(frozen=True, slots=True)
class TableOfContents:
    archive_version: tuple[int, int]
    database: str
    server_version: str
    client_version: str
    entries: tuple[Entry, ...]

    def data_files(self) -> dict[str, Entry]:
        """The files that pg_dump promises in the directory, each with its entry."""
        return {entry.file: entry for entry in self.entries if entry.file}


def read(path: Path, codec: str = "utf-8") -> TableOfContents:
    """Read a `toc.dat` whose names are in that encoding.

    Raises DumpError when it is damaged or of an unknown version.
    """
    return parse(path.read_bytes(), codec)


def parse(content: bytes, codec: str = "utf-8") -> TableOfContents:
    """The same, from bytes already read."""
    try:
        return _parse(content, codec)
    except (struct.error, ValueError, LookupError) as error:
        raise DumpError(
            "pg_dump's table of contents cannot be read",
            detail=f"toc.dat is damaged or cut off: {error}",
            hint="take or choose another backup; if it happens twice, report it with the server's"
            " version",
        ) from error


def _parse(content: bytes, codec: str) -> TableOfContents:
    reader = TocReader(content, codec)
    head = read_head(reader)
    entries = tuple(read_entry(reader, head.version) for _ in range(head.entries))
    return TableOfContents(head.version, head.database, head.server, head.client, entries)


@dataclass(frozen=True, slots=True)
class Head:
    """What comes before the entries, and how many there are.

    `offset_size` is the position of that byte, `compression` where the compression is told.
    """

    version: tuple[int, int]
    offset_size: int
    compression: slice
    database: str
    server: str
    client: str
    entries: int


def read_head(reader: TocReader) -> Head:
    """Raises ValueError or struct.error, as `read_entry` does."""
    if reader.take(5) != _MAGIC:
        raise ValueError("it does not begin with PGDMP")
    version = (reader.byte(), reader.byte())
    reader.byte()  # revision
    if not _OLDEST <= version <= _NEWEST:
        raise ValueError(f"archive version {version[0]}.{version[1]} is not known")
    if reader.byte() != INTEGER.size - 1:
        raise ValueError("its integers are not of four bytes")
    offset_size = reader.position
    reader.byte()  # a directory has no offsets
    if reader.byte() != _DIRECTORY_FORMAT:
        raise ValueError("it is of another format than a directory")
    compression = reader.position
    if version >= (1, 15):
        reader.byte()  # the algorithm
    else:
        reader.integer()  # the level
    told = slice(compression, reader.position)
    for _ in range(7):
        reader.integer()  # local time of the dump, a struct tm; the manifest has a better one
    database, server, client = reader.text(), reader.text(), reader.text()
    return Head(
        version, offset_size, told, database or "", server or "", client or "", reader.integer()
    )


def read_entry(reader: TocReader, version: tuple[int, int]) -> Entry:
    dump_id = reader.integer()
    reader.integer()  # whether a data dumper was set
    reader.skip_text(2)  # catalogue's oid, object's oid
    name = reader.text() or ""
    kind = reader.text() or ""
    section = _SECTIONS[reader.integer()]
    definition, drop, copy = (reader.text() or "" for _ in range(3))
    schema = reader.text()
    reader.skip_text(2)  # tablespace, table access method
    relkind = reader.integer() if version >= (1, 16) else 0
    owner = reader.text() or ""
    reader.skip_text(1)  # WITH OIDS, always false since PostgreSQL 12
    dependencies = []
    while (dependency := reader.text()) is not None:
        dependencies.append(int(dependency))
    reader.file_start = reader.position
    file = reader.text()
    return Entry(
        dump_id,
        kind,
        schema or None,
        name,
        owner,
        file or None,
        tuple(dependencies),
        section,
        definition,
        drop,
        copy,
        chr(relkind) if relkind else "",
    )


class TocReader:
    """Integers are a sign byte and four little-endian ones; texts a length (-1: NULL) and bytes.

    `file_start` is where the file's name of the last entry begins, and `position` where it ends.
    """

    def __init__(self, content: bytes, codec: str) -> None:
        self.content = content
        self.codec = codec
        self.position = 0
        self.file_start = 0

    def take(self, count: int) -> bytes:
        start = self.position
        self.position += count
        if self.position > len(self.content):
            raise ValueError(f"it ends at byte {len(self.content)}")
        return self.content[start : self.position]

    def byte(self) -> int:
        return self.take(1)[0]

    def integer(self) -> int:
        negative: bool
        value: int
        negative, value = INTEGER.unpack_from(self.content, self.position)
        self.position += INTEGER.size
        return -value if negative else value

    def text(self) -> str | None:
        length = self.integer()
        # Databases in SQL_ASCII may hold names that are not UTF-8.
        return None if length < 0 else self.take(length).decode(self.codec, "surrogateescape")

    def skip_text(self, count: int) -> None:
        for _ in range(count):
            length = self.integer()
            self.position += max(0, length)
