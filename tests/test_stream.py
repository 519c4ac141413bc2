"""An archive as one stream says what its directory says, to every pg_restore."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backup.archive import stream, toc
from backup.model import Member
from tests.conftest import MAJORS
from tests.lab.loads import client
from tests.lab.postgres import PostgresServer
from tests.steps import database_named, forget

OF_ALL_KINDS = """
CREATE TABLE "of (x) FROM stdin;
lines" AS SELECT n, repeat('é''\\', n % 90) AS t FROM generate_series(1, 60000) AS n;
CREATE TABLE empty (x int);
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
CREATE SEQUENCE counter START 7;
CREATE VIEW seen AS SELECT * FROM empty;
SELECT lo_from_bytea(7001, convert_to(repeat('large object ', 100000), 'UTF8'));
SELECT lo_from_bytea(7002, ''), lo_from_bytea(4294967295, '\\x00ff00');
"""
PIECE = 100_000


@pytest.mark.parametrize("compression", ["0", "6", "lz4", "zstd:3"])
@pytest.mark.parametrize("major", MAJORS)
def test_a_stream_restores_what_the_directory_does(
    major: int, compression: str, servers: Callable[[int], PostgresServer], tmp_path: Path
) -> None:
    server = servers(major)
    database_named(server, "streamed", OF_ALL_KINDS)
    folder = tmp_path / "archive"
    dump = [client(major).program("pg_dump"), "-Fd", f"-Z{compression}", "-f", str(folder)]
    dumped = subprocess.run([*dump, "-d", server.url("streamed")], capture_output=True, text=True)
    forget(server, "streamed")
    if dumped.returncode and not compression.isdigit():
        # The other half of this test: what this pg_dump cannot write, nobody has to read.
        assert "compress" in dumped.stderr
        return
    assert "" == dumped.stderr

    streamed = b"".join(stream_of(folder))

    restore = [client(major).program("pg_restore"), "--file=-"]
    as_stream = subprocess.run([*restore, "-Fc"], input=streamed, capture_output=True, check=True)
    as_folder = subprocess.run([*restore, "-Fd", folder], capture_output=True, check=True)
    assert without_keys(as_folder.stdout) == without_keys(as_stream.stdout)


def without_keys(script: bytes) -> list[bytes]:
    """A script's lines but for those that psql is restricted with, by a key drawn anew each time.

    https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-META-COMMAND-RESTRICT
    """
    keys = (b"\\restrict ", b"\\unrestrict ")
    return [line for line in script.splitlines() if not line.startswith(keys)]


def stream_of(folder: Path) -> Iterator[bytes]:
    """The whole directory as one stream."""
    content = (folder / "toc.dat").read_bytes()
    yield stream.head(content, "utf-8")
    for entry in toc.parse(content).entries:
        if entry.kind == "BLOBS":
            listed = (folder / str(entry.file)).read_text().split()[1::2]
            members = ((member_of(folder, name), pieces(folder, name)) for name in listed)
            for part in stream.large_objects(entry.dump_id, members):
                yield from part
        elif entry.file:
            member = member_of(folder, entry.file)
            yield from stream.table(entry.dump_id, member, pieces(folder, entry.file))


def pieces(folder: Path, name: str) -> Iterator[bytes]:
    [path] = folder.glob(f"{name}*")
    content = path.read_bytes()
    return (content[start : start + PIECE] for start in range(0, len(content), PIECE))


def member_of(folder: Path, name: str) -> Member:
    [path] = folder.glob(f"{name}*")
    return Member(path.name, "archive", 0, path.stat().st_size, "")
