"""The moment of the backup: one read-only transaction that the whole run looks at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg

from backup.model import ServerVersion, Snapshot
from backup.postgres.connection import Connection
from backup.postgres.failures import source_failure

# All of them count against a transaction that stays open as long as the dump runs. Which ones
# exist depends on the version, so the server's own list is asked.
_NO_TIMEOUTS = """
SELECT pg_catalog.set_config(name, '0', true) FROM pg_catalog.pg_settings
WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout',
               'idle_session_timeout', 'transaction_timeout')
"""
# As pg_dump sets them: names resolve to nothing by accident, and row level security raises an
# error instead of leaving rows out.
_SETTINGS = """
SELECT pg_catalog.set_config('search_path', '', true),
       pg_catalog.set_config('row_security', 'off', true),
       pg_catalog.set_config('lock_timeout', %s, true)
"""
_EXPORT = """
SELECT pg_catalog.pg_export_snapshot(),
       (extract(epoch FROM pg_catalog.transaction_timestamp()) * 1000000)::bigint
"""
_LSN = """
SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
             ELSE pg_catalog.pg_current_wal_lsn() END)::text
"""


def server_version(connection: Connection) -> ServerVersion:
    """The version that the server told at login; asks nothing."""
    text = connection.info.parameter_status("server_version") or ""
    return ServerVersion(connection.info.server_version, text.split(" ")[0])


def export_snapshot(connection: Connection, lock_timeout_ms: int) -> Snapshot:
    """Begin the transaction of the backup on an idle connection, and export its snapshot.

    The snapshot can be used for as long as the transaction stays open
    (https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION).
    `lsn` is empty where the server does not tell it. Works on a standby.
    Raises AccessError or DumpError.
    """
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    try:
        connection.execute(_NO_TIMEOUTS)
        connection.execute(_SETTINGS, (str(lock_timeout_ms),))
        row = connection.execute(_EXPORT).fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM
        return Snapshot(
            id=row[0],
            time=datetime.fromtimestamp(0, UTC) + timedelta(microseconds=row[1]),
            lsn=_position(connection),
        )
    except psycopg.Error as error:
        raise source_failure(error, "exporting a snapshot") from error


def _position(connection: Connection) -> str:
    """Everything in the snapshot was written before this position of the log."""
    try:
        with connection.transaction():
            row = connection.execute(_LSN).fetchone()
    except (psycopg.errors.InsufficientPrivilege, psycopg.NotSupportedError, psycopg.DataError):
        return ""
    except psycopg.errors.ObjectNotInPrerequisiteState:  # Aurora has no WAL of its own
        return ""
    return row[0] or "" if row else ""
