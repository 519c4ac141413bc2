"""What it means that a statement of ours failed: on the source, or on the target."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from backup.errors import AccessError, BackupError, DumpError, RestoreError


@dataclass(frozen=True)
class _Side:
    """The class of errors on one side, and what to do about each."""

    error: type[BackupError]
    when_denied: str
    when_locked: str
    when_ended: str
    otherwise: str


_SOURCE = _Side(
    DumpError,
    "GRANT pg_read_all_data TO the user; where row level security is on, the user needs BYPASSRLS"
    " as well: ALTER ROLE ... BYPASSRLS.",
    "Someone changes a table right now (pg_stat_activity tells who). Run the backup at another"
    " time, or raise lock-timeout.",
    "Its log says why: a restart, a failover, or someone who ended the session.",
    "The server's log says more.",
)
_TARGET = _Side(
    RestoreError,
    "Restore as the owner of the target database, or set role to it.",
    "Somebody uses the target right now (pg_stat_activity tells who): stop what writes to it, and"
    " run the restore again.",
    "Its log says why; then run the restore again.",
    "Its log says more.",
)


def source_failure(error: psycopg.Error, doing: str) -> BackupError:
    """The error for a statement in the source; `doing` says what for: `reading the sizes`."""
    return _failure(error, doing, _SOURCE)


def target_failure(error: psycopg.Error, doing: str) -> BackupError:
    """The same for a statement in the target of a restore, or in the server of a drill."""
    return _failure(error, doing, _TARGET)


def _failure(error: psycopg.Error, doing: str, side: _Side) -> BackupError:
    detail = str(error).strip()
    match error:
        case psycopg.errors.InsufficientPrivilege():
            return AccessError(
                f"permission denied while {doing}", detail=detail, hint=side.when_denied
            )
        case psycopg.errors.LockNotAvailable():
            message, hint = f"a table stayed locked while {doing}", side.when_locked
        case psycopg.errors.OutOfMemory():
            message = f"the server ran out of room for locks while {doing}"
            hint = "Raise max_locks_per_transaction and restart the server."
        case psycopg.OperationalError():
            message, hint = f"the server ended the connection while {doing}", side.when_ended
        case _:
            message, hint = f"the database failed while {doing}", side.otherwise
    return side.error(message, detail=detail, hint=hint)
