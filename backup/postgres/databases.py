"""A new database for a restore: made as the one that was backed up, under its own name."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import psycopg

from backup.errors import AccessError, BackupError, InputError
from backup.model import Complaint, ObjectName, Severity
from backup.postgres.connection import Connection, Source, connect
from backup.postgres.failures import target_failure
from backup.postgres.statements import for_database, join, options, quoted, split, unquoted

# One of them is on every server, and nobody restores into it.
_MAINTENANCE = ("postgres", "template1")
_EXISTS = "SELECT FROM pg_catalog.pg_database WHERE datname = %s"
_MAY_ACT_AS = """
SELECT FROM pg_catalog.pg_roles owner JOIN pg_catalog.pg_roles login
  ON login.rolname = coalesce(%s, current_user::text)
WHERE owner.rolname = %s AND pg_catalog.pg_has_role(login.oid, owner.oid, 'USAGE')
"""
_TABLESPACE = "SELECT FROM pg_catalog.pg_tablespace WHERE spcname = %s"
# "source database is being accessed": autovacuum looks at template0 now and then, and leaves.
_PAUSES_SECONDS = (1, 2, 4)
# What is ours to say, and what only pg_upgrade writes.
_NOT_ASKED_FOR = ("TEMPLATE", "TABLESPACE", "OID", "STRATEGY", "COLLATION_VERSION")


@dataclass(frozen=True)
class DatabaseDefinition:
    """What the archive says of its database, as SQL that names the database that was backed up.

    `create` is the definition of the entry DATABASE, `properties` those of DATABASE PROPERTIES
    and of the database's COMMENT, ACL and SECURITY LABEL. `owner` is None where it shall be the
    login's.
    """

    create: str
    properties: tuple[str, ...]
    owner: str | None


@contextlib.contextmanager
def maintenance(target: Source) -> Iterator[Connection]:
    """A connection in autocommit to the target's server, to a database that is always there.

    Raises AccessError, InputError or DumpError.
    """
    failure: BackupError | None = None
    for name in _MAINTENANCE:
        try:
            connection = connect(replace(target, database=name))
        except (InputError, AccessError) as error:
            failure = failure or error
            continue
        with connection:
            connection.autocommit = True
            yield connection
        return
    assert failure is not None  # noqa: S101 - no connection without one
    raise failure


def exists(connection: Connection, name: str) -> bool:
    """Whether the server has a database of that name."""
    return connection.execute(_EXISTS, (name,)).fetchone() is not None


def create_database(
    target: Source, definition: DatabaseDefinition, role: str | None = None
) -> tuple[Complaint, ...]:
    """Create the database `target.database`, and set for it what its users had set.

    It belongs to `role` where one is to restore into it, else to the login. What could keep the
    restore itself out (owner, grants, limits, read-only) is for `finish_database`. Raises
    InputError where the database exists or its locale does not, AccessError where the login may
    not.
    """
    name = target.database
    complaints: list[Complaint] = []
    with maintenance(target) as connection:
        statement = _creation(connection, name, definition.create, role, complaints)
        _create(connection, name, statement)
        early = [each for each in _properties(name, definition) if not _keeps_out(each)]
        if definition.owner and _has_the_rights_of(connection, role, definition.owner):
            # Who owns the database may own what is in its schema public, and nobody else.
            early.append(_giving(name, definition.owner))
        complaints += _run(connection, name, early)
    return tuple(complaints)


def _has_the_rights_of(connection: Connection, role: str | None, owner: str) -> bool:
    """Whether a database given to `owner` would still let us in."""
    row = connection.execute(_MAY_ACT_AS, (role, owner)).fetchone()
    return row is not None


def _giving(name: str, owner: str) -> str:
    return f"ALTER DATABASE {quoted(name)} OWNER TO {quoted(owner)};"


def finish_database(
    connection: Connection, name: str, definition: DatabaseDefinition
) -> tuple[Complaint, ...]:
    """Give the loaded database its owner, grants and limits, and commit."""
    statements = [each for each in _properties(name, definition) if _keeps_out(each)]
    if definition.owner is not None:
        # First, as pg_restore does: grants are the owner's. Only a member of the role can give it
        # a database, and has its rights afterwards.
        statements.insert(0, _giving(name, definition.owner))
    complaints = _run(connection, name, statements)
    connection.commit()
    return tuple(complaints)


def _creation(
    connection: Connection,
    name: str,
    create: str,
    role: str | None,
    complaints: list[Complaint],
) -> str:
    """The CREATE DATABASE of the archive for this server."""
    statements = [tokens for tokens in split(create) if tokens[:2] == ["CREATE", "DATABASE"]]
    if len(statements) != 1:
        raise InputError(
            "the backup does not say how its database was created",
            detail="its table of contents has no entry DATABASE that can be read",
            hint=f"CREATE DATABASE {quoted(name)} TEMPLATE template0; by hand, and leave out"
            " create-database.",
        )
    given = options(statements[0])
    wanted = {"TEMPLATE": "template0"}
    wanted |= {key: value for key, value in given.items() if key not in _NOT_ASKED_FOR}
    # Before 15 there was but one provider; the template of this server may have another.
    if connection.info.server_version >= 150000:
        wanted.setdefault("LOCALE_PROVIDER", "libc")
    elif wanted.get("LOCALE_PROVIDER") == "libc":
        del wanted["LOCALE_PROVIDER"]
    if (tablespace := given.get("TABLESPACE")) is not None:
        if connection.execute(_TABLESPACE, (unquoted(tablespace),)).fetchone() is not None:
            wanted["TABLESPACE"] = tablespace
        else:
            complaints.append(
                Complaint(
                    None,
                    ObjectName("DATABASE", "", name),
                    f"tablespace {tablespace} does not exist",
                    join(statements[0]),
                    Severity.DEGRADED,
                    "the database lies in the server's default tablespace",
                )
            )
    if role is not None:
        wanted["OWNER"] = quoted(role)
    clauses = " ".join(f"{key} = {value}" for key, value in wanted.items())
    return f"CREATE DATABASE {quoted(name)} WITH {clauses};"


def _create(connection: Connection, name: str, statement: str) -> None:
    if exists(connection, name):
        raise _exists(name)
    for pause in (*_PAUSES_SECONDS, None):
        try:
            connection.execute(statement.encode())
        except psycopg.errors.ObjectInUse as error:
            if pause is None:
                raise target_failure(error, "creating the database") from error
            time.sleep(pause)
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation) as error:
            raise _exists(name) from error
        except psycopg.errors.InsufficientPrivilege as error:
            login = quoted(connection.info.user)
            raise AccessError(
                f"the login may not create the database {name!r}",
                detail=str(error).strip(),
                hint=f"ALTER ROLE {login} CREATEDB; or have the database created, empty, and leave"
                " out create-database.",
            ) from error
        except psycopg.OperationalError as error:
            raise target_failure(error, "creating the database") from error
        except psycopg.Error as error:
            raise InputError(
                f"the database {name!r} cannot be created as it was",
                detail=f"{str(error).strip()}\n{statement}",
                hint="Where the server lacks the locale, create the database by hand with one that"
                f" it has: CREATE DATABASE {quoted(name)} TEMPLATE template0 ENCODING 'UTF8'"
                " LOCALE 'C'; and leave out create-database. Texts sort by the new locale then.",
            ) from error
        else:
            return


def _exists(name: str) -> InputError:
    return InputError(
        f"the target database {name!r} exists already",
        detail="create-database: true creates a new one, and never writes into another",
        hint="Name a database that is not there yet, or leave out create-database.",
    )


def _properties(name: str, definition: DatabaseDefinition) -> Iterator[str]:
    for text in definition.properties:
        yield from for_database(text, name)


def _keeps_out(statement: str) -> bool:
    """Whether the statement could stop the restore, or needs what the restore brings."""
    (tokens,) = split(statement)
    if tokens[0] in ("ALTER", "COMMENT"):
        return bool({"CONNECTION", "IS_TEMPLATE", "default_transaction_read_only"} & set(tokens))
    return True


def _run(connection: Connection, name: str, statements: Iterable[str]) -> list[Complaint]:
    complaints = []
    for statement in statements:
        try:
            with connection.transaction():
                connection.execute(statement.encode())
        except psycopg.OperationalError as error:
            raise target_failure(error, "setting the properties of the database") from error
        except psycopg.Error as error:
            complaints.append(
                Complaint(
                    None,
                    ObjectName("DATABASE", "", name),
                    str(error).strip(),
                    statement,
                    Severity.DEGRADED,
                    "a setting or a grant of the database, none of its objects",
                )
            )
    return complaints
