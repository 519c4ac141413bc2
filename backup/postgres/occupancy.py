"""Who is on the server right now: locks that a dump would wait for, and connections that are left.

https://www.postgresql.org/docs/current/view-pg-locks.html
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from backup.model import Inventory
from backup.postgres.connection import Connection
from backup.postgres.failures import source_failure
from backup.postgres.privileges import Named


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session with an ACCESS EXCLUSIVE lock on a table, or in the queue for one.

    `pid` is None for a prepared transaction. `seconds` of its transaction, or of its wait; None
    where the login may not see that. `application` and `user` are empty where they are unknown.
    """

    table: Named
    pid: int | None
    application: str
    user: str
    is_waiting: bool
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Room:
    """Connections that may still be opened, ours counted as free; None where nothing limits."""

    user: str
    database: str
    of_server: int
    of_role: int | None
    of_database: int | None


# Whoever queues for the lock bars new readers as well. An autovacuum gives its lock back as soon
# as somebody waits for it.
_BLOCKERS = """
SELECT n.nspname, c.relname, l.pid, coalesce(a.application_name, ''), coalesce(a.usename, ''),
       NOT l.granted,
       extract(epoch FROM pg_catalog.clock_timestamp() - CASE WHEN l.granted THEN a.xact_start
                          ELSE coalesce(l.waitstart, a.xact_start) END)::float8
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
  AND l.database = (SELECT oid FROM pg_catalog.pg_database
                    WHERE datname = pg_catalog.current_database())
  AND c.relkind IN ('r', 'p') AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
ORDER BY l.granted DESC, l.pid, n.nspname, c.relname
"""
# What belongs to no user is no connection but a process of the server's own. A superuser may take
# the reserved ones, and is bound by no limit of a role or a database.
_ROOM = """
SELECT r.rolname::text, d.datname::text,
       (SELECT sum(setting::int) FILTER (WHERE name = 'max_connections')
               - coalesce(sum(setting::int) FILTER (WHERE name <> 'max_connections'), 0)
        FROM pg_catalog.pg_settings
        WHERE name = 'max_connections' OR NOT r.rolsuper
          AND name IN ('superuser_reserved_connections', 'reserved_connections'))
       - (SELECT count(*) FROM pg_catalog.pg_stat_activity
          WHERE datid IS NOT NULL AND usesysid IS NOT NULL) + 1,
       CASE WHEN r.rolconnlimit >= 0 AND NOT r.rolsuper THEN r.rolconnlimit + 1
            - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usesysid = r.oid) END,
       CASE WHEN d.datconnlimit >= 0 AND NOT r.rolsuper THEN d.datconnlimit + 1
            - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datid = d.oid) END
FROM pg_catalog.pg_roles r, pg_catalog.pg_database d
WHERE r.rolname = session_user AND d.datname = pg_catalog.current_database()
"""


@dataclass(frozen=True, slots=True)
class LockTable:
    """Locks that the server has room for, all sessions together; `backends` share them."""

    per_transaction: int
    backends: int

    @property
    def size(self) -> int:
        return self.per_transaction * self.backends

    def per_transaction_for(self, locks: int) -> int:
        """The setting that has room for so many, in steps of 64."""
        return -(-locks // (64 * self.backends)) * 64


# https://www.postgresql.org/docs/current/runtime-config-locks.html
_LOCK_TABLE = """
SELECT pg_catalog.current_setting('max_locks_per_transaction')::int,
       (SELECT sum(setting::int) FROM pg_catalog.pg_settings
        WHERE name IN ('max_connections', 'max_prepared_transactions'))::int
"""


def blockers(connection: Connection, inventory: Inventory) -> list[Blocker]:
    """The locks that the dump would wait for if it began now, holders before those who wait.

    Raises AccessError or DumpError.
    """
    dumped = {(each.schema, each.name) for each in inventory.relations}
    try:
        rows = connection.execute(_BLOCKERS).fetchall()
    except psycopg.Error as error:
        raise source_failure(error, "looking at the locks") from error
    return [
        Blocker(Named(schema, name), pid, application, user, waiting, seconds)
        for schema, name, pid, application, user, waiting, seconds in rows
        if (schema, name) in dumped
    ]


def room(connection: Connection) -> Room:
    """How many connections are left for the login. Raises AccessError or DumpError."""
    try:
        row = connection.execute(_ROOM).fetchone()
    except psycopg.Error as error:
        raise source_failure(error, "counting the connections") from error
    assert row is not None  # noqa: S101 - our own role and database
    user, database, of_server, of_role, of_database = row
    return Room(user, database, int(of_server), of_role, of_database)


def lock_table(connection: Connection) -> LockTable:
    """How many locks a dump may take. Raises AccessError or DumpError."""
    try:
        row = connection.execute(_LOCK_TABLE).fetchone()
    except psycopg.Error as error:
        raise source_failure(error, "reading the size of the lock table") from error
    assert row is not None  # noqa: S101 - a SELECT without FROM
    return LockTable(*row)
