"""Archives that pg_dump wrote, and pg_restore at work on them through the adapter."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backup.archive import toc
from backup.model import Client, Complaint, ObjectName
from backup.postgres.connection import Source
from backup.postgres.loading import LoadPlan, RunningLoad
from backup.settings import Secret
from tests.lab.daemon import LOOPBACK
from tests.lab.postgres import SUPERUSER, PostgresServer, installed


@dataclass
class Archive:
    """A directory that pg_dump wrote, with its entries in their order."""

    folder: Path
    entries: tuple[toc.Entry, ...]

    def ids(self, *names: str, without: tuple[str, ...] = ()) -> list[int]:
        """The entries that are called so, as in `TABLE DATA public.orders`; without names all."""
        called = {number: str(name) for number, name in self.names.items()}
        return [
            number
            for number, name in called.items()
            if (not names or name in names) and name not in without
        ]

    @property
    def names(self) -> dict[int, ObjectName]:
        return {
            entry.dump_id: ObjectName(entry.kind, entry.schema or "", entry.name)
            for entry in self.entries
        }

    def data_file(self, table: str) -> Path:
        [number] = self.ids(f"TABLE DATA public.{table}")
        [path] = self.folder.glob(f"{number}.dat*")
        return path

    def edit_contents(self, old: str, new: str) -> None:
        """Write other words of the same length into the table of contents."""
        assert len(old) == len(new)
        path = self.folder / "toc.dat"
        path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))


def dump(
    server: PostgresServer, database: str, folder: Path, client: Client | None = None
) -> Archive:
    program = (client or client_of(server)).program("pg_dump")
    url = server.url(database)
    subprocess.run([program, "-Fd", "-Z1", "-f", folder, "-d", url], check=True)
    return Archive(folder, toc.read(folder / "toc.dat").entries)


def client_of(server: PostgresServer) -> Client:
    [major] = [major for major, folder in installed().items() if folder == server.binaries]
    return client(major)


def client(major: int) -> Client:
    return Client(major, f"{major}.0", str(installed()[major]))


def target_of(server: PostgresServer, database: str, user: str = SUPERUSER) -> Source:
    """A database of the server, and a user whose password is its name."""
    secret = Secret(server.password if user == SUPERUSER else user)
    return Source(LOOPBACK, database, user, port=str(server.port), password=lambda: secret)


@contextmanager
def database(
    server: PostgresServer, name: str, script: str = "", owner: str = SUPERUSER
) -> Iterator[str]:
    """A new database in which each statement of `script` was run."""
    server.sql(f"CREATE DATABASE {name} OWNER {owner}")
    try:
        for statement in filter(None, script.strip().split(";\n")):
            server.sql(statement, name)
        yield name
    finally:
        server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def role(server: PostgresServer, name: str, definition: str = "") -> Iterator[str]:
    server.sql(f"CREATE ROLE {name} {definition}")
    try:
        yield name
    finally:
        server.sql(f"DROP ROLE {name}")


@dataclass
class Outcome:
    complaints: tuple[Complaint, ...]
    relayed: list[str]

    @property
    def judged(self) -> list[tuple[str, str, str]]:
        """Severity, object and reason of each complaint, in an order that workers do not change."""
        return sorted(
            (each.severity.value, str(each.about), each.reason) for each in self.complaints
        )

    @property
    def told(self) -> str:
        """All that a log may show."""
        said = [f"{each.said}\n{each.statement}" for each in self.complaints]
        return "\n".join([*self.relayed, *said])


def load(plan: LoadPlan, archive: Archive, needed: Collection[int] = ()) -> Outcome:
    relayed: list[str] = []
    with RunningLoad(plan, os.environ, relayed.append) as running:
        while not running.finished():
            running.wait(1.0)
        return Outcome(running.complaints(archive.names, needed), relayed)
