"""pg_restore as it really behaves: its complaints, its ends, and what the database then holds."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from backup.archive import toc
from backup.errors import BackupError, RestoreError
from backup.model import Client, Complaint, ObjectName, Severity
from backup.postgres.connection import Source, connect
from backup.postgres.loading import LoadPlan, RunningLoad, RunningScript, session_settings
from backup.settings import Secret
from tests.conftest import MAJORS
from tests.lab.daemon import LOOPBACK
from tests.lab.postgres import PostgresServer, installed
from tests.lab.stage import fill, wait_until

Servers = Callable[[int], PostgresServer]


@dataclass
class Archive:
    """A directory that pg_dump wrote, with its entries in their order."""

    folder: Path
    entries: tuple[toc.Entry, ...]

    def ids(self, *kinds: str, without: tuple[str, ...] = ()) -> list[int]:
        return [
            entry.dump_id
            for entry in self.entries
            if (not kinds or entry.kind in kinds) and entry.kind not in without
        ]

    @property
    def names(self) -> dict[int, ObjectName]:
        return {
            entry.dump_id: ObjectName(entry.kind, entry.schema or "", entry.name)
            for entry in self.entries
        }

    def data_file(self, table: str) -> Path:
        (entry,) = [each for each in self.entries if (each.kind, each.name) == ("TABLE DATA", table)]
        (path,) = self.folder.glob(f"{entry.file}*")
        return path


def dump(server: PostgresServer, database: str, folder: Path, client: int = 0) -> Archive:
    binaries = installed()[client] if client else server.binaries
    subprocess.run(
        [f"{binaries}/pg_dump", "-Fd", "-Z1", "-f", folder, "-d", server.url(database)], check=True
    )
    return Archive(folder, toc.read(folder / "toc.dat").entries)


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return f"test_{abs(hash(request.node.nodeid)) % 10**10}"


def target_of(server: PostgresServer, database: str, user: str = "postgres") -> Source:
    secret = Secret(server.password if user == "postgres" else user)
    return Source(LOOPBACK, database, user, port=str(server.port), password=lambda: secret)


def client_of(server: PostgresServer) -> Client:
    ((major, folder),) = [each for each in installed().items() if each[1] == server.binaries]
    return Client(major, f"{major}.0", str(folder))


def load(
    plan: LoadPlan, archive: Archive, *, needed: tuple[int, ...] = ()
) -> tuple[tuple[Complaint, ...], list[str]]:
    """The complaints, and the lines that were relayed."""
    relayed: list[str] = []
    with RunningLoad(plan, os.environ, relayed.append) as running:
        while not running.finished():
            running.wait(1.0)
        return running.complaints(archive.names, needed), relayed


def judged(complaints: tuple[Complaint, ...]) -> list[tuple[str, str, str]]:
    return [(each.severity.value, str(each.about), each.reason) for each in complaints]


@contextmanager
def role(server: PostgresServer, name: str, definition: str = "") -> Iterator[str]:
    server.sql(f"CREATE ROLE {name} {definition}")
    try:
        yield name
    finally:
        server.sql(f"DROP ROLE {name}")


STRANGE = """
CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'begin end';
CREATE EVENT TRIGGER watching ON ddl_command_start EXECUTE FUNCTION watch();
CREATE FOREIGN DATA WRAPPER wrapper;
CREATE SERVER far FOREIGN DATA WRAPPER wrapper OPTIONS (host 'h', key 'hush: a key');
CREATE USER MAPPING FOR departed SERVER far OPTIONS (password 'hush: it''s one');
CREATE FOREIGN TABLE abroad (x int) SERVER far;
ALTER FOREIGN TABLE abroad OWNER TO departed;
CREATE TABLE "line
break" (x int PRIMARY KEY);
ALTER TABLE "line
break" OWNER TO departed;
CREATE TABLE orders (id int PRIMARY KEY, x text);
GRANT SELECT ON orders TO departed;
GRANT SELECT ON orders TO present;
CREATE POLICY mine ON orders TO departed USING (true);
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
INSERT INTO orders VALUES (1, 'one');
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE SUBSCRIPTION news CONNECTION 'host=h password=hush' PUBLICATION p WITH (connect = false);
ALTER DEFAULT PRIVILEGES FOR ROLE departed GRANT SELECT ON TABLES TO present;
SELECT lo_create(5);
ALTER LARGE OBJECT 5 OWNER TO departed;
"""
OWNED_BY_OTHERS = "only a member of postgres may give it to that role, so it belongs to the user who restored it"  # noqa: E501
OWNER_GONE = "its owner departed is not on the target, so it belongs to the user who restored it"
GRANTS_GONE = "role departed is not on the target; a grant that fails takes with it all others on the same object, and what was revoked there"  # noqa: E501
NO_WAY = "the way to a foreign server is missing; the database's own rows do not depend on it"


@pytest.fixture(scope="module", params=MAJORS, ids="PostgreSQL-{}".format)
def strange(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PostgresServer, Archive]]:
    """An archive with what only a superuser, or a role that is gone, may have; and its server."""
    server = servers(request.param)
    with role(server, "present"):
        with role(server, "departed"):
            server.sql("CREATE DATABASE strange")
            for statement in STRANGE.strip().split(";\n"):
                server.sql(statement, "strange")
            archive = dump(server, "strange", tmp_path_factory.mktemp("strange") / "archive")
            server.sql("ALTER SUBSCRIPTION news SET (slot_name = NONE)", "strange")
            server.sql("DROP SUBSCRIPTION news", "strange")
            server.sql("DROP DATABASE strange")
        yield server, archive


@pytest.fixture
def plain(strange: tuple[PostgresServer, Archive]) -> Iterator[Source]:
    """A new database whose owner is no superuser."""
    server, _ = strange
    with role(server, "plain", "LOGIN PASSWORD 'plain'"):
        server.sql("CREATE DATABASE plain OWNER plain")
        try:
            yield target_of(server, "plain", "plain")
        finally:
            server.sql("DROP DATABASE plain")


@pytest.mark.parametrize("jobs", [1, 3])
def test_what_a_plain_owner_cannot_restore_is_told_with_its_object_and_why(
    strange: tuple[PostgresServer, Archive], plain: Source, jobs: int
) -> None:
    server, archive = strange
    plan = LoadPlan(client_of(server), plain, archive.folder, archive.ids(), jobs=jobs)
    complaints, relayed = load(plan, archive)
    for x in sorted(judged(complaints)):
        print(x)
    for x in relayed: print(x)
    for x in complaints: print(x.said, '|', x.statement)
    assert [] == sorted(judged(complaints))
