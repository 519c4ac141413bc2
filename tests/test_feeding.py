"""What is fetched for a pg_restore that reads a stream, and what not."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backup.archive.feeding import Feeder
from backup.archive.fetching import Fetcher
from backup.archive.loads import Load, divide
from backup.errors import VerificationError
from backup.model import Member
from backup.postgres.loading import RunningScript
from tests.lab.loads import Archive, client_of, database, dump
from tests.lab.postgres import PostgresServer
from tests.lab.stage import fill

LARGE_OBJECTS, LARGE_OBJECT_BYTES = 30, 256 << 10
SOME_BYTES = 100_000


@dataclass(frozen=True)
class Folder:
    """Objects that are files."""

    path: Path

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        with (self.path / key).open("rb") as file:
            file.seek(offset)
            return file.read(size)


@pytest.fixture(scope="module")
def archive(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Large objects and a table, all of noise."""
    with database(postgres, "fed"):
        fill(postgres, "fed", "noise", 12)
        blocks = LARGE_OBJECT_BYTES // 64
        postgres.sql(
            "SELECT lo_from_bytea(70000 + n, (SELECT string_agg(sha512((n || ' ' || m)::bytea), '')"
            f" FROM generate_series(1, {blocks}) m)) FROM generate_series(1, {LARGE_OBJECTS}) n",
            "fed",
        )
        return dump(postgres, "fed", tmp_path_factory.mktemp("feeding") / "archive")


@pytest.fixture
def fetcher(archive: Archive) -> Iterator[Fetcher]:
    fetcher = Fetcher(Folder(archive.folder), "", streams=8)
    yield fetcher
    fetcher.close()


def load_of(archive: Archive, fetcher: Fetcher, kind: str) -> Load:
    entries = [each for each in archive.entries if each.kind == kind]
    [load] = divide(entries, members_of(archive), fetcher.read, batch_bytes=1 << 20)
    assert load.is_streamed
    return load


def members_of(archive: Archive) -> list[Member]:
    return [
        Member(
            path.name,
            path.name,
            0,
            path.stat().st_size,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in archive.folder.iterdir()
    ]


def feeder(archive: Archive, fetcher: Fetcher) -> Feeder:
    return Feeder(fetcher, archive.folder, (archive.folder / "toc.dat").read_bytes(), "utf-8")


def test_what_comes_after_the_large_object_that_was_read_last_is_not_fetched(
    postgres: PostgresServer, archive: Archive, fetcher: Fetcher
) -> None:
    load = load_of(archive, fetcher, "BLOBS")
    with RunningScript(client_of(postgres), None, load.ids) as process:
        process.stdout.close()  # so it ends with the first that it writes
        feeder(archive, fetcher).feed(load, process)
        assert not process.killed
    assert fetcher.bytes_fetched < load.bytes / 2


def test_a_table_is_read_to_its_end_for_a_pg_restore_that_may_have_stumbled_over_it(
    postgres: PostgresServer, archive: Archive, fetcher: Fetcher
) -> None:
    load = load_of(archive, fetcher, "TABLE DATA")
    [member] = load.members
    path = archive.folder / member.name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with RunningScript(client_of(postgres), None, load.ids) as process:
            process.stdout.close()
            with pytest.raises(VerificationError, match="is damaged in this backup"):
                feeder(archive, fetcher).feed(load, process)
    finally:
        path.write_bytes(content)


def test_nothing_more_is_fetched_for_a_pg_restore_that_the_kernel_has_killed(
    postgres: PostgresServer, archive: Archive, fetcher: Fetcher
) -> None:
    """As it does where memory is short."""
    load = load_of(archive, fetcher, "TABLE DATA")
    with RunningScript(client_of(postgres), None, load.ids) as process:

        def kill_it() -> None:
            process.stdout.read(SOME_BYTES)
            os.kill(process._process.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_it)
        killer.start()
        feeder(archive, fetcher).feed(load, process)
        killer.join()
    assert fetcher.bytes_fetched < load.bytes / 2
