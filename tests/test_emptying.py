"""Rows come back in the order of the archive, though definitions and data are loaded apart."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.archive import toc
from backup.archive.emptying import emptying_first
from tests.conftest import MAJORS
from tests.lab.postgres import PostgresServer
from tests.lab.restored import LocalBackup, local_backup
from tests.steps import database_named, forget

NAME = 'of (x) FROM stdin; "quoted"\nlines'
UNEVEN = """
CREATE TABLE {name} AS
SELECT n, repeat('x', (random() * 1900)::int) AS x FROM generate_series(1, 9000) AS n;
CREATE TABLE plain AS
SELECT n, repeat('x', (random() * 100)::int) AS x FROM generate_series(1, 9000) AS n;
CREATE TABLE no_columns ();
CREATE TABLE parted (x int) PARTITION BY RANGE (x);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (1) TO (9);
INSERT INTO part VALUES (5), (3);
"""


@pytest.mark.parametrize("major", MAJORS)
def test_rows_lie_in_the_order_of_the_archive(
    major: int, servers: Callable[[int], PostgresServer], tmp_path: Path
) -> None:
    server = servers(major)
    name = '"' + NAME.replace('"', '""') + '"'
    database_named(server, "uneven", UNEVEN.format(name=name))
    made = local_backup(server, "uneven", tmp_path / "archive")
    table_of_contents = made.folder / "toc.dat"
    content = table_of_contents.read_bytes()

    table_of_contents.write_bytes(emptying_first(content, made.contents.entries, "utf-8"))
    ways = {"emptied": _loaded_apart(made, server)}
    again = toc.read(table_of_contents)
    table_of_contents.write_bytes(content)
    ways["not emptied"] = _loaded_apart(made, server)
    forget(server, "uneven")

    assert {"same bytes"} == ways["emptied"]
    assert {"same bytes", "same rows in another order"} == ways["not emptied"]
    assert [each.dump_id for each in made.contents.entries] == [
        each.dump_id for each in again.entries
    ]


def _loaded_apart(made: LocalBackup, server: PostgresServer) -> set[str]:
    """Load definitions first and data then, each by a pg_restore; by what the rows are proven."""
    database_named(server, "apart")
    for section in ("pre-data", "data", "post-data"):
        subprocess.run(
            [made.client.program("pg_restore"), f"--section={section}", "--dbname=apart",
             made.folder],
            env=os.environ | server.psql_env, check=True,
        )  # fmt: skip
    proof = made.prove(server, "apart")
    forget(server, "apart")
    return {table.how for table in proof.tables}
