"""The mark of an unfinished restore: a schema in the target that stands until all is loaded.

It says to whoever opens the database that data is missing, and it remembers what the restore was
to create, so that the next run can take away exactly that. Everything is done as the current
user of the connection, which is the role where one was set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql

from backup.errors import BackupError, InputError
from backup.model import ObjectName
from backup.postgres.connection import Connection
from backup.postgres.dropping import Drop, drop
from backup.postgres.failures import target_failure
from backup.postgres.objects import KINDS, objects_in

SCHEMA = "restore_unfinished_do_not_use"

# Advisory locks are of one database each; the number is any that nobody else takes.
_LOCK = 0x7067626B72657374
_TRY_LOCK = "SELECT pg_catalog.pg_try_advisory_lock(%s)"
# A bigint is told in two halves: https://www.postgresql.org/docs/current/view-pg-locks.html
_HOLDER = """
SELECT a.pid, a.usename::text, a.application_name, host(a.client_addr), a.backend_start::text
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32) | l.objid::bigint = %s
"""
_CREATE = f"""
CREATE SCHEMA {SCHEMA};
CREATE TABLE {SCHEMA}.restore (backup_id text NOT NULL, begun timestamptz NOT NULL);
CREATE TABLE {SCHEMA}.undo (position int PRIMARY KEY, kind text NOT NULL, schema text NOT NULL,
                            name text NOT NULL, statement text NOT NULL);
"""
_BEGUN = f"""
INSERT INTO {SCHEMA}.restore VALUES (%s, now())
RETURNING (extract(epoch FROM begun) * 1000000)::bigint
"""  # noqa: S608 - a constant
# What is in it will be executed, so it must be from one who could have done it anyway: the login,
# the role that it acts as, or a superuser.
_OWNERS = """
SELECT r.rolname::text, r.rolname IN (current_user, session_user) OR r.rolsuper
FROM pg_catalog.pg_namespace n
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
JOIN pg_catalog.pg_roles r ON r.oid IN (n.nspowner, c.relowner)
WHERE n.nspname = %s ORDER BY 2
"""
_READ = f"""
SELECT backup_id, (extract(epoch FROM begun) * 1000000)::bigint FROM {SCHEMA}.restore
"""  # noqa: S608
_READ_UNDO = f"SELECT kind, schema, name, statement FROM {SCHEMA}.undo ORDER BY position"  # noqa: S608
_DONE = f"""
DELETE FROM {SCHEMA}.undo WHERE (kind, schema, name) IN
(SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]))
"""  # noqa: S608
_DROP = f"""
DROP TABLE {SCHEMA}.undo; DROP TABLE {SCHEMA}.restore; DROP SCHEMA {SCHEMA};
"""
_LARGE_OBJECTS = "SELECT oid::text FROM pg_catalog.pg_largeobject_metadata"
_SETTINGS = "SELECT pg_catalog.set_config('search_path', 'pg_catalog', true)"


@dataclass(frozen=True)
class Unfinished:
    """A restore that did not come to its end, and how to take away what it brought."""

    backup_id: str
    begun: datetime
    drops: tuple[Drop, ...]


def lock(connection: Connection) -> None:
    """Keep every other restore out of this database for as long as the connection lives.

    Raises InputError where another one is running.
    """
    try:
        with connection.transaction():
            row = connection.execute(_TRY_LOCK, (_LOCK,)).fetchone()
            holder = None
            if row == (False,):
                holder = connection.execute(_HOLDER, (_LOCK,)).fetchone()
    except psycopg.Error as error:
        raise target_failure(error, "locking the target against other restores") from error
    if row == (True,):
        return
    who = (
        "process {} of {} ({}) from {} since {}".format(*holder) if holder else "it has just ended"
    )
    raise InputError(
        f"another restore into {connection.info.dbname!r} is running",
        detail=who,
        hint="Wait for it, or end it: a concurrency group keeps workflows apart. One that hangs"
        " is ended with SELECT pg_terminate_backend(PID);",
    )


def find(connection: Connection) -> Unfinished | None:
    """The unfinished restore of this database, if there is one.

    Raises InputError for a mark that somebody else made, for its statements are not to be run.
    """
    try:
        with connection.transaction():
            owners = connection.execute(_OWNERS, (SCHEMA,)).fetchall()
            if not owners:
                return None
            stranger, trusted = owners[0]
            if not trusted:
                raise InputError(
                    f"the schema {SCHEMA} in the target belongs to {stranger!r}",
                    detail="a restore by another login stopped half way, or somebody put it there:"
                    " what it says to undo is not to be trusted",
                    hint="Restore as that login; or drop the database, or the schema, by hand.",
                )
            connection.execute(_SETTINGS)
            row = connection.execute(_READ.encode()).fetchone()
            drops = tuple(
                Drop(ObjectName(kind, schema, name), statement)
                for kind, schema, name, statement in connection.execute(_READ_UNDO.encode())
            )
    except psycopg.Error as error:
        raise target_failure(error, f"reading the schema {SCHEMA}") from error
    if row is None:
        raise _damaged()
    return Unfinished(row[0], _time(row[1]), drops)


def begin(connection: Connection, backup_id: str, drops: Sequence[Drop]) -> Unfinished:
    """Mark the target, and commit, together with a `clean` before it in the same transaction.

    `drops` are those of all that the restore may create, in the order to run. Only those of
    objects that are not there now are kept: what the target had is not the restore's to undo.
    Raises InputError where the target is marked already.
    """
    kept = _ours(connection, drops)
    try:
        with connection.transaction():
            connection.execute(_CREATE.encode())
            row = connection.execute(_BEGUN.encode(), (backup_id,)).fetchone()
            assert row is not None  # noqa: S101 - INSERT ... RETURNING
            begun = _time(row[0])
            said = (
                f"A restore of backup {backup_id}, begun {begun:%Y-%m-%d %H:%M:%S} UTC, is not"
                " finished: data is missing. Run the restore again, or drop this database."
            )
            connection.execute(
                sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(SCHEMA), said)
            )
            with (
                connection.cursor() as cursor,
                cursor.copy(f"COPY {SCHEMA}.undo FROM STDIN".encode()) as copy,
            ):
                for position, each in enumerate(kept):
                    name = each.name
                    row = (position, name.kind, name.schema, name.name, each.statement)
                    copy.write_row(row)
        connection.commit()
    except psycopg.errors.DuplicateSchema as error:
        raise InputError(
            f"the target is marked with the schema {SCHEMA} already",
            detail="another restore stopped half way and has not been undone",
            hint="Run the restore again, or drop the database.",
        ) from error
    except psycopg.Error as error:
        raise target_failure(error, "marking the target as unfinished") from error
    return Unfinished(backup_id, begun, tuple(kept))


def _ours(connection: Connection, drops: Sequence[Drop]) -> list[Drop]:
    there = set(objects_in(connection))
    with connection.transaction():
        there |= {ObjectName("BLOB", "", oid) for (oid,) in connection.execute(_LARGE_OBJECTS)}
    kept = []
    for each in drops:
        name = each.name
        # In a loop of views pg_dump drops the rule of one, and what the statement does to the
        # view must not be done to one that was there.
        view = ObjectName("VIEW", name.schema, name.name.removesuffix(" _RETURN"))
        known = name.kind in KINDS | {"BLOB"} and each.runs
        if known and name not in there and view not in there:
            kept.append(each)
    return kept


def undo(
    connection: Connection, unfinished: Unfinished, lock_timeout_ms: int = 60_000
) -> tuple[ObjectName, ...]:
    """Take away what an unfinished restore brought, and then the mark.

    Each batch is committed with its lines of the list, so that an undo that is broken off goes on
    where it was, and never meets an object of the same name that somebody made since. Returns
    extensions and their schemas that had to stay. Raises RestoreError where something else depends
    on what was restored; what could go is gone then, and the mark stands.
    """

    def done(gone: Sequence[Drop]) -> None:
        _strike(connection, [each.name for each in gone])

    left = drop(connection, unfinished.drops, lock_timeout_ms, after_each_batch=done)
    end(connection)
    return left


def forget_unmade(connection: Connection) -> None:
    """Take from the list what the restore could not create: whoever makes it by hand keeps it."""
    marked = find(connection)
    if marked is None:
        return
    there = set(objects_in(connection))
    try:
        with connection.transaction():
            there |= {ObjectName("BLOB", "", oid) for (oid,) in connection.execute(_LARGE_OBJECTS)}
        names = [each.name for each in marked.drops]
        # The rule that makes a view what it is has no name of its own in the catalogue.
        _strike(
            connection,
            [each for each in names if each not in there and not each.name.endswith(" _RETURN")],
        )
    except psycopg.Error as error:
        raise target_failure(error, f"writing the schema {SCHEMA}") from error


def _strike(connection: Connection, names: Sequence[ObjectName]) -> None:
    columns = (
        [each.kind for each in names],
        [each.schema for each in names],
        [each.name for each in names],
    )
    connection.execute(_DONE.encode(), columns)
    connection.commit()


def end(connection: Connection) -> None:
    """The restore is good: take the mark away, and commit."""
    try:
        with connection.transaction():
            connection.execute(_DROP.encode())
        connection.commit()
    except psycopg.Error as error:
        raise target_failure(error, f"dropping the schema {SCHEMA}") from error


def clean(
    connection: Connection, drops: Sequence[Drop], lock_timeout_ms: int = 60_000
) -> tuple[ObjectName, ...]:
    """Drop what the restore will bring anew, in one transaction that only `begin` commits.

    Extensions stay, and so do schemas that hold more than was dropped; they are returned.
    Raises RestoreError, with nothing dropped, where something else depends on what would go.
    """
    try:
        chosen = [each for each in drops if each.name.kind in KINDS | {"BLOB"}]
        return drop(
            connection,
            [each for each in chosen if each.name.kind != "EXTENSION"],
            lock_timeout_ms,
            shared_schemas_stay=True,
        )
    except BackupError:
        connection.rollback()
        raise


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)


def _damaged() -> InputError:
    return InputError(
        f"the schema {SCHEMA} in the target says nothing",
        detail="somebody changed it, so what was restored there cannot be told from the rest",
        hint="Drop the database, or the schema and what was restored, by hand.",
    )
