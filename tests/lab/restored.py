"""A backup on the local disk, restored with pg_restore alone: what a proof is given to compare."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from psycopg.conninfo import make_conninfo

from backup.archive import toc
from backup.archive.completeness import with_tables
from backup.archive.manifest import Manifest
from backup.archive.toc import TableOfContents
from backup.model import Client, Member
from backup.operations.phases import Phases
from backup.operations.proving import ProofPlan, prove
from backup.postgres.clients import installed
from backup.postgres.connection import Source, connect
from backup.postgres.counts import count_rows, tables_with_data
from backup.postgres.inventory import read_inventory
from backup.postgres.snapshot import export_snapshot, server_version
from backup.settings import Secret, Selection
from backup.terminal import Terminal
from backup.verdicts import Proof
from tests.lab.daemon import LOOPBACK
from tests.lab.postgres import SUPERUSER, PostgresServer
from tests.steps import database_named


@dataclass(frozen=True)
class LocalBackup:
    """An archive in a folder, with the manifest that the action would have written of it."""

    folder: Path
    manifest: Manifest
    contents: TableOfContents
    client: Client

    def restore(self, server: PostgresServer, database: str, *options: str) -> None:
        """Into a new database, without an error. Many jobs keep the order of rows, one does not."""
        database_named(server, database)
        result = self.load(server, database, *options)
        assert 0 == result.returncode, result.stderr

    def load(
        self, server: PostgresServer, database: str, *options: str
    ) -> subprocess.CompletedProcess[str]:
        """Into a database that is there already, whatever pg_restore says."""
        return subprocess.run(
            [self.client.program("pg_restore"), "--jobs=2", *options, f"--dbname={database}",
             self.folder],
            env=os.environ | server.psql_env, capture_output=True, text=True,
        )  # fmt: skip

    @contextmanager
    def script(self, members: Sequence[Member]) -> Iterator[BinaryIO]:
        """What pg_restore prints of the data of these members."""
        wanted = {member.data_file for member in members}
        chosen = [
            f"{entry.dump_id};\n"
            for entry in self.contents.entries
            if entry.file in wanted
            or (entry.kind == "BLOBS" and any(name.startswith("blob_") for name in wanted))
        ]
        listing = self.folder.parent / "list"
        listing.write_text("".join(chosen))
        with subprocess.Popen(
            [self.client.program("pg_restore"), "--file=-", f"--use-list={listing}", self.folder],
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            yield process.stdout  # type: ignore[misc]
        assert 0 == process.returncode

    def prove(self, server: PostgresServer, database: str, plan: ProofPlan | None = None) -> Proof:
        """The proof of what was restored into `database`."""
        console = Terminal(as_json=True, debug=False)
        return prove(
            self.manifest,
            self.contents,
            source_of(server, database),
            self.script,
            plan or ProofPlan(self.client, jobs=2, scratch_limit_bytes=64 << 20),
            Phases(console),
            console,
            os.environ,
        )


def source_of(server: PostgresServer, database: str) -> Source:
    secret = Secret(server.password)
    return Source(LOOPBACK, database, SUPERUSER, str(server.port), password=lambda: secret)


def client_of(server: PostgresServer) -> Client:
    (client,) = [
        each
        for each in installed({"PG_BACKUP_CLIENTS": str(server.binaries)})
        if each.folder == str(server.binaries)
    ]
    return client


def local_backup(
    server: PostgresServer,
    database: str,
    folder: Path,
    *options: str,
    selection: Selection | None = None,
    compression: str = "gzip:1",
) -> LocalBackup:
    """Dump `database` by hand, with the inventory of that moment; `options` for pg_dump."""
    client = client_of(server)
    chosen = selection or Selection()
    level = compression.partition(":")[2] if client.major < 16 else compression
    with connect(source_of(server, database)) as connection:
        snapshot = export_snapshot(connection, 1000)
        inventory = read_inventory(connection, chosen)
        tables = tables_with_data(connection, inventory, chosen)
        encoding = inventory.encoding
        subprocess.run(
            [client.program("pg_dump"), "--format=directory", "--jobs=2", f"--file={folder}",
             f"--snapshot={snapshot.id}", f"--encoding={encoding}", f"--compress={level}",
             *options, f"--dbname={make_conninfo(server.url(), dbname=database)}"],
            env=os.environ | {"PGTZ": "UTC"}, check=True,
        )  # fmt: skip
        inventory = inventory.with_counted(count_rows(connection, tables, threading.Event()))
        version = server_version(connection)
    contents = toc.read(folder / "toc.dat")
    members = [
        Member(path.name, f"archive/{path.name}", 0, path.stat().st_size, _digest(path))
        for path in sorted(folder.iterdir())
    ]
    manifest = Manifest(
        id="20261122T020000Z-1f9c3a",
        database=database,
        host=LOOPBACK,
        port=str(server.port),
        finished=datetime.now(UTC),
        snapshot=snapshot,
        server=version,
        client=client,
        action_version="0",
        run=None,
        compression=compression,
        selection=chosen,
        inventory=inventory,
        phases=(),
        objects=(),
        members=tuple(with_tables(contents, members)),
    )
    return LocalBackup(folder, manifest, contents, client)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
