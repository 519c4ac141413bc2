"""The steps that most tests take: make a database, back it up, look whether that was green."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

import psycopg

from tests.lab.cloud import Cloud, source_inputs
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun, RunningAction, start_action


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def database_named(server: PostgresServer, name: str, statements: str = "") -> str:
    server.sql(f"CREATE DATABASE {identifier(name)} TEMPLATE template0")
    if statements:
        server.sql(statements, name)
    return name


def forget(server: PostgresServer, name: str) -> None:
    server.sql(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)")


def drop_roles(server: PostgresServer) -> None:
    """Every role that no database needs any more; a shared server holds those of other tests."""
    for (name,) in server.sql(
        "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'postgres'"
    ):
        with contextlib.suppress(psycopg.errors.DependentObjectsStillExist):
            server.sql(f"DROP ROLE {identifier(name)}")


def fill_with_chance(server: PostgresServer, database: str, table: str, blocks: int) -> None:
    """Blocks of 1 MiB that no method can compress."""
    with psycopg.connect(server.url(), dbname=database, autocommit=True) as connection:
        for _ in range(blocks):
            connection.execute(f"INSERT INTO {table} VALUES (%s)".encode(), (os.urandom(1 << 20),))


def start_backup(
    cloud: Cloud,
    server: PostgresServer,
    database: str,
    inputs: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
) -> RunningAction:
    """The step that backs `database` up, with the client of the server's own major."""
    clients = {"PG_BACKUP_CLIENTS": str(server.binaries)}
    return start_action(
        cloud.inputs | source_inputs(server, database) | dict(inputs or {}),
        cloud.env | clients | dict(env or {}),
    )


def back_up(
    cloud: Cloud,
    server: PostgresServer,
    database: str,
    inputs: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
) -> ActionRun:
    with start_backup(cloud, server, database, inputs, env) as running:
        return running.finish()


def green(run: ActionRun) -> ActionRun:
    assert 0 == run.exit_code, run.output
    assert [] == run.errors
    assert [] == run.leftovers
    return run
