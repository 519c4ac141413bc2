"""Dropping a list of objects, in any order that works and never with what others made.

pg_dump's own DROP statements do it. None is turned into a CASCADE: where something else depends
on an object, that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg

from backup.errors import BackupError, RestoreError
from backup.model import ObjectName
from backup.postgres.connection import Connection
from backup.postgres.failures import target_failure
from backup.postgres.objects import objects_in
from backup.postgres.statements import quoted

# Each object takes a lock until the commit, and a server has room for some thousands.
_BATCH = 100
_SHOWN = 5

# It is gone, or what bears the name is something else.
_GONE = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.WrongObjectType,
)
_SETTINGS = """
SELECT pg_catalog.set_config('search_path', '', true),
       pg_catalog.set_config('standard_conforming_strings', 'on', true),
       pg_catalog.set_config('lock_timeout', %s, true)
"""
# pg_dump drops a base type with CASCADE, for type and functions need each other. Whatever else
# depends on the type must go before, or the type stays.
_DEPEND_ON_TYPE = """
SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass
                           AND d.refobjid IN (t.oid, t.typarray) AND d.deptype IN ('n', 'a')
WHERE n.nspname = %s AND t.typname = %s
  AND NOT (d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
           AND d.objid IN (t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin,
                           t.typmodout, t.typanalyze))
"""
# A partitioned table takes its partitions along without a CASCADE, also those that are of later.
_PARTITIONS = """
SELECT 'partition ' || i.inhrelid::pg_catalog.regclass
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhparent AND c.relkind = 'p'
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Drop:
    """An object, and the statement of the archive that drops it; empty where there is none."""

    name: ObjectName
    statement: str

    @classmethod
    def of_large_object(cls, oid: int) -> Drop:
        """Archives of 17 and newer have none for a large object."""
        return cls(ObjectName("BLOB", "", str(oid)), f"SELECT pg_catalog.lo_unlink('{oid}');")

    @property
    def runs(self) -> bool:
        """Whether there is something to run, and it takes nothing that every database has."""
        if self.name in (
            ObjectName("SCHEMA", "", "public"),
            ObjectName("EXTENSION", "", "plpgsql"),
        ):
            return False
        return bool(self.statement.strip()) and not self.statement.startswith("--")


@dataclass(frozen=True)
class _Refused:
    drop: Drop
    why: str


def drop(
    connection: Connection,
    drops: Sequence[Drop],
    lock_timeout_ms: int,
    *,
    after_each_batch: Callable[[Sequence[Drop]], None] | None = None,
    shared_schemas_stay: bool = False,
) -> tuple[ObjectName, ...]:
    """Drop the objects; one that is not there is none to drop.

    What is refused is tried again when the rest has gone, as long as that helps, so that the
    order matters for the time alone. `after_each_batch` may commit; without it all is one
    transaction, left open. Returns what stays without harm: extensions, and schemas that hold
    nothing but them (or, where `shared_schemas_stay`, something else). Raises AccessError or
    RestoreError, after a rollback.
    """
    remaining = [each for each in drops if each.runs]
    refused: list[_Refused] = []
    try:
        while remaining:
            refused = []
            for start in range(0, len(remaining), _BATCH):
                batch = remaining[start : start + _BATCH]
                connection.execute(_SETTINGS, (str(lock_timeout_ms),))
                late = [why for each in batch if (why := _try(connection, each))]
                refused += late
                if after_each_batch:
                    kept = {id(each.drop) for each in late}
                    after_each_batch([each for each in batch if id(each) not in kept])
            if len(refused) == len(remaining):
                break
            remaining = [each.drop for each in refused]
        if not refused:
            return ()
        return _harmless(connection, refused, shared_schemas_stay)
    except psycopg.Error as error:
        failure = target_failure(error, "dropping what is in the way")
        _roll_back(connection)
        raise failure from error
    except BackupError:
        _roll_back(connection)
        raise


def _try(connection: Connection, each: Drop) -> _Refused | None:
    try:
        with connection.transaction():
            if query := _what_would_go_along(each):
                others = connection.execute(query, (each.name.schema, each.name.name))
                if names := [name for (name,) in others]:
                    return _Refused(each, f"{', '.join(names)} depends on it")
            for statement in (*_before(each.name), each.statement):
                # In binary the extended protocol is used, which takes one statement and no more.
                text = statement.encode("utf-8", "surrogateescape")
                connection.cursor(binary=True).execute(text)
    except _GONE:
        return None
    except (psycopg.OperationalError, psycopg.InterfaceError):  # a lock, memory, the connection
        raise
    except psycopg.Error as error:
        return _Refused(each, error.diag.message_detail or str(error).strip())
    return None


def _what_would_go_along(each: Drop) -> str:
    """The query for what the statement would drop without being asked; empty where nothing."""
    if each.statement.rstrip().endswith("CASCADE;"):
        return _DEPEND_ON_TYPE
    return _PARTITIONS if each.name.kind == "TABLE" else ""


def _before(name: ObjectName) -> tuple[str, ...]:
    """A subscription would take its slot along, on a publisher that has nothing to do with us.

    https://www.postgresql.org/docs/current/sql-dropsubscription.html
    """
    if name.kind != "SUBSCRIPTION":
        return ()
    change = f"ALTER SUBSCRIPTION {quoted(name.name)}"
    return f"{change} DISABLE", f"{change} SET (slot_name = NONE)"


def _harmless(
    connection: Connection, refused: Sequence[_Refused], shared_schemas_stay: bool
) -> tuple[ObjectName, ...]:
    """What could not be dropped, where it is all of a kind that may stay."""
    filled = {name.schema for name in objects_in(connection)}
    bad = [
        each
        for each in refused
        if each.drop.name.kind != "EXTENSION"
        and not (
            each.drop.name.kind == "SCHEMA"
            and (shared_schemas_stay or each.drop.name.name not in filled)
        )
    ]
    if not bad:
        return tuple(each.drop.name for each in refused)
    lines = [f"{each.drop.name}: {' '.join(each.why.split())}" for each in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        lines.append(f"and {len(bad) - _SHOWN:,} more")
    raise RestoreError(
        f"{len(bad)} of the objects in {connection.info.dbname!r} that must go cannot be dropped",
        detail="\n".join(lines),
        hint="Drop what depends on them, or restore into a new database: create-database: true."
        " Where the login is not the owner, restore as the one who is.",
    )


def _roll_back(connection: Connection) -> None:
    if not connection.closed:
        connection.rollback()
