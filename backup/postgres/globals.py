"""Roles, memberships and tablespaces: what belongs to the cluster and not to a database."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import psycopg
import psycopg.conninfo

from backup.errors import DumpError
from backup.model import Client, Complaint, ObjectName, Severity
from backup.postgres.connection import Connection, Source, child_environment, conninfo
from backup.postgres.databases import maintenance
from backup.postgres.failures import target_failure
from backup.postgres.statements import join, quoted, split, unquoted

# The roles that RDS makes for itself:
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.Roles.html
OF_THE_SERVICE = ("rds_", "rdsadmin", "rdsrepladmin", "rdsproxyadmin", "rdstopmgr")
# Attributes that only those can give who have them, and before 16 only superusers (the first
# three): https://www.postgresql.org/docs/current/sql-alterrole.html
_PRIVILEGED = ("SUPERUSER", "REPLICATION", "BYPASSRLS", "CREATEDB", "CREATEROLE")
_ROLES = "SELECT rolname FROM pg_catalog.pg_roles"
_IS_SUPERUSER = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
# https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-CREATEROLE-SELF-GRANT
_SELF_GRANT = "SET createrole_self_grant = 'set, inherit'"


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


def load_globals(target: Source, script: str) -> tuple[Complaint, ...]:
    """Create the roles, memberships and tablespaces of a `globals.sql` on the target's server.

    Roles that are there already stay as they are, attributes, settings and all: others use them.
    Roles of RDS itself are left out. New ones have no password, for the backup has none.
    Returns what could not be had; raises AccessError, InputError or DumpError.
    """
    complaints = []
    with maintenance(target) as connection:
        settled = {name for (name,) in connection.execute(_ROLES)}
        if connection.info.server_version >= 160000:
            # Else who creates a role without being a superuser could give nothing to it.
            connection.execute(_SELF_GRANT)
        for tokens in split(script):
            if tokens[0] == "SET" or _is_settled(tokens, settled):
                continue
            complaint = _load(connection, tokens)
            if complaint is None:
                if tokens[:2] == ["CREATE", "ROLE"]:
                    _join(connection, tokens[2])
                continue
            complaints.append(complaint)
            if tokens[0] == "CREATE":  # one complaint about a role that cannot be is enough
                settled.add(unquoted(tokens[2]))
    return tuple(complaints)


def _join(connection: Connection, role: str) -> None:
    """Let the login own and give away what belongs to a role that it has made, before 16."""
    row = connection.execute(_IS_SUPERUSER).fetchone()
    if connection.info.server_version >= 160000 or row == (True,):
        return
    with contextlib.suppress(psycopg.Error):
        connection.execute(f"GRANT {role} TO current_user".encode())


def create_service_roles(target: Source, names: Iterable[str]) -> None:
    """Create those of the roles that RDS makes for itself, which `load_globals` then leaves be.

    For a throwaway server, where they are to own and to be granted what they were on RDS. Raises
    AccessError, InputError or DumpError.
    """
    with maintenance(target) as connection:
        for name in sorted({each for each in names if each.startswith(OF_THE_SERVICE)}):
            try:
                connection.execute(f"CREATE ROLE {quoted(name)}".encode())
            except psycopg.Error as error:
                raise target_failure(error, "creating the roles of RDS") from error


def _is_settled(tokens: Sequence[str], settled: set[str]) -> bool:
    """Whether the statement is about roles that need nothing from us."""
    if tokens[0] == "GRANT" and "ON" not in tokens:
        names = [unquoted(tokens[1]), unquoted(tokens[tokens.index("TO") + 1])]
        # Who is whose member among those that are there is not ours to change.
        return all(name in settled for name in names) or any(
            name.startswith(OF_THE_SERVICE) and name not in settled for name in names
        )
    about = _about(tokens)
    name = about.name
    return about.kind == "ROLE" and (name in settled or name.startswith(OF_THE_SERVICE))


def _about(tokens: Sequence[str]) -> ObjectName:
    """What the statement creates, changes or grants: kind, and the name right after it."""
    for kind in ("TABLESPACE", "ROLE"):
        if kind in tokens[1:4]:
            return ObjectName(kind, "", unquoted(tokens[tokens.index(kind) + 1]))
    return ObjectName("ROLE", "", unquoted(tokens[1]))


def _attempts(tokens: Sequence[str]) -> Iterator[tuple[Sequence[str], list[str]]]:
    """The statement, then what a login that is no superuser may do of it, and what that loses."""
    yield tokens, []
    if tokens[:2] == ["ALTER", "ROLE"]:
        # To say NO takes the same right, and a new role has none of them anyway.
        refusals = {f"NO{word}" for word in _PRIVILEGED}
        for given_up in ((), _PRIVILEGED[:3], _PRIVILEGED):
            attempt = [each for each in tokens if each not in {*refusals, *given_up}]
            yield attempt, [word for word in given_up if word in tokens]
    if "GRANTED" in tokens:
        yield tokens[: tokens.index("GRANTED")], []


def _load(connection: Connection, tokens: Sequence[str]) -> Complaint | None:
    about, statement = _about(tokens), join(tokens)
    refusal: psycopg.Error | None = None
    for attempt, lost in _attempts(tokens):
        try:
            connection.execute(join(attempt).encode())
        except psycopg.errors.DuplicateObject:
            return None
        except psycopg.OperationalError as error:
            raise target_failure(error, "creating roles and tablespaces") from error
        except psycopg.Error as error:
            refusal = refusal or error
        else:
            if not lost:
                return None
            said = f"the login may not give {', '.join(lost)}"
            reason = "the role is there without an attribute that the login may not give"
            return Complaint(None, about, said, statement, Severity.DEGRADED, reason)
    reason = (
        "what lay in it lies in the default tablespace"
        if about.kind == "TABLESPACE"
        else "what the role owned belongs to the login, and what it was granted is left out"
        if tokens[0] == "CREATE"
        else "the role lacks this attribute, setting or membership"
    )
    return Complaint(None, about, str(refusal).strip(), statement, Severity.DEGRADED, reason)
