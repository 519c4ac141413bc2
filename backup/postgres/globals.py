"""Roles, memberships and tablespaces: what belongs to the cluster and not to a database."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import psycopg.conninfo

from backup.errors import DumpError
from backup.model import Client
from backup.postgres.connection import Source, child_environment, conninfo


def dump_globals(
    client: Client, source: Source, environment: Mapping[str, str], into: Path
) -> str | None:
    """Write `pg_dumpall --globals-only`, without passwords, to a file of its own.

    Returns None, or the text of a warning where the server denied it; then there is no file.
    Raises DumpError where it failed otherwise; no half a file stays.
    """
    # The name as a connection string of its own: pg_dumpall takes a name with an equals sign for
    # one, and -d leaves the database out of account
    # (https://www.postgresql.org/docs/current/app-pg-dumpall.html).
    database = psycopg.conninfo.make_conninfo(dbname=source.database)
    command = [
        client.program("pg_dumpall"),
        "--globals-only",
        # Their hashes are for superusers alone, and no managed service shows them.
        "--no-role-passwords",
        "--no-password",
        "--no-sync",
        f"--file={into}",
        f"--dbname={conninfo(source)}",
        f"--database={database}",
    ]
    complete = False
    try:
        result = subprocess.run(
            command,
            env=child_environment(source, environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        complete = result.returncode == 0 and _is_whole(into)
    except OSError as error:
        raise DumpError(
            "pg_dumpall cannot be started",
            detail=str(error),
            hint=f"Install it beside {client.program('pg_dump')}.",
        ) from error
    finally:
        if not complete:
            into.unlink(missing_ok=True)
    if complete:
        return None
    said = result.stderr.strip()
    if "permission denied" in said:
        return (
            "the backup holds no roles and no tablespaces, for the server denied them: "
            f"{said} Grants of the tables are in it; create their roles before a restore."
        )
    raise DumpError(
        f"pg_dumpall --globals-only failed with status {result.returncode}",
        detail=said,
        hint="Where it says nothing, the disk was full; else its own words are above.",
    )


def _is_whole(file: Path) -> bool:
    """pg_dumpall does not look at what its writes return: on a full disk it exits with 0."""
    with file.open("rb") as script:
        script.seek(max(0, file.stat().st_size - 200))
        return b"-- PostgreSQL database cluster dump complete\n" in script.read()
