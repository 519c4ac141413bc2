"""What restores are measured on: a store that holds one backup, a server to load it into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg

from benchmarks.contestants import environment, identity_service, ours, zstd_pipe
from benchmarks.data import DATABASE, SETTINGS, load
from benchmarks.measure import BenchmarkError, Scratch, measure
from tests.lab.postgres import PostgresServer, installed
from tests.lab.sink import Sink

MAJOR = 17
RESTORED = "restored"

# What initdb would choose, so that a restore is as durable as on a server in use. autovacuum
# alone is off: it would look at what one contestant loaded while the next one is measured.
_DEFAULTS = {"fsync": "on", "shared_buffers": "128MB", "autovacuum": "off"}


@dataclass(frozen=True)
class Table:
    """What must be there again after a restore."""

    rows: int
    valid_indexes: int


@dataclass(frozen=True)
class Stage:
    sink: Sink
    target: PostgresServer
    variables: Mapping[str, str]  # of every contestant, TMPDIR aside
    tables: Mapping[str, Table]  # of the source
    stored_bytes: int

    def clear(self) -> None:
        """An empty database, and nothing left to write of the one before."""
        self.target.sql(f"DROP DATABASE IF EXISTS {RESTORED} WITH (FORCE)")
        self.target.sql(f"CREATE DATABASE {RESTORED} TEMPLATE template0")
        self.target.sql("CHECKPOINT")

    def check(self, chosen: str | None) -> None:
        """Raises BenchmarkError unless all is restored, or the chosen table and no other."""
        wanted = {name: each for name, each in self.tables.items() if chosen in (None, name)}
        found = _tables(self.target, RESTORED)
        if found != wanted:
            names = [name for name in wanted | found if wanted.get(name) != found.get(name)]
            raise BenchmarkError(
                f"{len(names)} tables are not as in the source: "
                + ", ".join(f"{n} {found.get(n)} != {wanted.get(n)}" for n in names[:3])
            )


@contextmanager
def prepare(megabytes: int, scratch: Scratch) -> Iterator[Stage]:
    """Make the source, back it up for each contestant, and stop it again."""
    binaries = installed()[MAJOR]
    with ExitStack() as parts:
        sink = parts.enter_context(Sink(keeps_all=True))
        sts = identity_service()
        parts.callback(sts.close)
        with PostgresServer(binaries, SETTINGS, tls=True) as source:
            load(source, "indexed", megabytes)
            variables = environment(binaries, source, sink, sts)
            for each in (ours(), zstd_pipe()):
                folder = scratch.fresh()
                own = {**variables, "TMPDIR": str(folder)}
                measure(each.command, own, folder, folder.with_suffix(".log"))
                scratch.free(folder)
            tables = _tables(source, DATABASE)
        stored = sink.counters().objects
        root = next(name for name in stored if name.endswith("/manifest.json"))
        archive = root.removesuffix("manifest.json") + "archive/"
        target = parts.enter_context(PostgresServer(binaries, _DEFAULTS, tls=True))
        variables = environment(binaries, target, sink, sts, RESTORED)
        variables["TARGET_URL"] = variables.pop("DATABASE_URL")
        variables["ARCHIVE"] = f"s3://{archive}"
        stored_bytes = sum(size for name, size in stored.items() if name.startswith(archive))
        yield Stage(sink, target, variables, tables, stored_bytes)


def _tables(server: PostgresServer, database: str) -> dict[str, Table]:
    with psycopg.connect(server.url(database)) as connection:
        found = connection.execute(
            """SELECT c.relname, (SELECT count(*) FROM pg_index AS i
                                  WHERE i.indrelid = c.oid AND i.indisvalid)
               FROM pg_class AS c
               WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace"""
        ).fetchall()
        tables = {}
        for name, indexes in found:
            row = connection.execute(f"SELECT count(*) FROM public.{name}".encode()).fetchone()
            assert row is not None
            tables[str(name)] = Table(int(row[0]), int(indexes))
        return tables
