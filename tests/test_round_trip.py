"""A backup restored by hand is the database that was backed up, byte for byte."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from tests import by_hand
from tests.conftest import MAJORS, skip_without
from tests.lab.aws import REGION, Ministack, Moto
from tests.lab.cloud import Cloud, listing, new_cloud, source_inputs, writing
from tests.lab.issuer import Issuer
from tests.lab.login import LoginFront, VersionFront
from tests.lab.postgres import PostgresServer, installed
from tests.lab.runner import ActionRun, run_action

EVERYTHING = Path(__file__).with_name("everything.sql")
HOSTILE_NAME = "-it's \"100%\" a=b.c $HOME/🐘\nline two; DROP"
HOSTILE_PASSWORD = " pa:ss\\word' \"%41\nsecond line@/?#& é "


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def database_named(server: PostgresServer, name: str, statements: str = "") -> str:
    server.sql(f"CREATE DATABASE {identifier(name)} TEMPLATE template0")
    if statements:
        server.sql(statements, name)
    return name


def forget(server: PostgresServer, name: str) -> None:
    server.sql(f"DROP DATABASE IF EXISTS {identifier(name)}")


def back_up(
    cloud: Cloud,
    server: PostgresServer,
    database: str,
    inputs: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
) -> ActionRun:
    clients = {"PG_BACKUP_CLIENTS": str(server.binaries)}
    return run_action(
        cloud.inputs | source_inputs(server, database) | dict(inputs or {}),
        cloud.env | clients | dict(env or {}),
    )


def green(run: ActionRun) -> ActionRun:
    assert 0 == run.exit_code, run.output
    assert [] == run.errors
    return run


def fill_with_chance(server: PostgresServer, database: str, blocks: int) -> None:
    """Bytes that no method can compress, so that a table becomes an object of its own."""
    with psycopg.connect(server.url(), dbname=database, autocommit=True) as connection:
        for _ in range(blocks):
            connection.execute("INSERT INTO kinds.bulk VALUES (%s)", (os.urandom(1 << 20),))


def drop_everything(server: PostgresServer, database: str) -> None:
    """The database and every role but ours, as after a disaster."""
    forget(server, database)
    for (name,) in server.sql(
        "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'postgres'"
    ):
        server.sql(f"DROP ROLE {identifier(name)}")


@pytest.mark.parametrize("major", MAJORS)
def test_a_restore_by_hand_with_the_lines_of_the_summary_gives_the_same_database(
    major: int, cloud: Cloud, tmp_path: Path
) -> None:
    skip_without(major)
    with PostgresServer(installed()[major]) as server:
        database_named(server, HOSTILE_NAME, EVERYTHING.read_text())
        fill_with_chance(server, HOSTILE_NAME, blocks=10)

        run = green(back_up(cloud, server, HOSTILE_NAME))

        before, roles_before = by_hand.plain(server, HOSTILE_NAME), by_hand.roles(server)
        drop_everything(server, HOSTILE_NAME)
        shell = by_hand.shell(tmp_path, server, cloud)
        for line in by_hand.restore_lines(run):
            shell.run(line)
        after, roles_after = by_hand.plain(server, "restored"), by_hand.roles(server)
    assert len(before) > 20 << 20
    assert before == after
    assert roles_before == roles_after
    keys = [Path(key).name for key in cloud.objects() if "/archive/" in key]
    assert 2 == len(keys), keys
    assert [] == run.warnings
    assert [] == run.leftovers
