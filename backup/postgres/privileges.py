"""What a dump reads, and which of it the login may not.

pg_dump locks every table that it dumps, copies those with rows, and reads each sequence and large
object; definitions it takes from the catalogues, which everyone may read
(https://www.postgresql.org/docs/current/app-pgdump.html).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from backup.model import Inventory, Relation
from backup.postgres.connection import Connection
from backup.postgres.failures import source_failure


@dataclass(frozen=True, slots=True)
class Named:
    """A relation by its two names, as the catalogue has them."""

    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Needed:
    """How many things of a kind the dump reads, and those that the login may not."""

    number: int
    schemas: tuple[str, ...] = ()
    relations: tuple[Named, ...] = ()


@dataclass(frozen=True, slots=True)
class Privileges:
    """`user` is whom statements run as. `large_objects` are those that it may not read.

    `row_security` are the tables of whose rows it would see only some.
    """

    user: str
    database: str
    schemas: Needed
    tables: Needed
    sequences: Needed
    large_object_count: int
    large_objects: tuple[int, ...]
    row_security: tuple[Named, ...]
    foreign_tables: int
    materialized_views: int


# The rows of an extension's own tables that it marks as the user's are dumped too.
_RELATIONS = """
SELECT n.nspname, c.relname, c.relkind::text,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
       CASE WHEN c.relkind = 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
            ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END,
       c.relkind = 'r' AND c.relrowsecurity AND pg_catalog.row_security_active(c.oid)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN unnest(%(schemas)s::text[], %(names)s::text[]) AS given (schema, name)
  ON given.schema = n.nspname::text AND given.name = c.relname::text
WHERE c.relkind IN ('r', 'p', 'S')
  AND (given.name IS NOT NULL OR c.oid = ANY (%(extensions)s))
ORDER BY n.nspname, c.relname
"""
_WHO = "SELECT current_user::text, pg_catalog.current_database()::text"
_LARGE_OBJECTS = """
SELECT l.oid::bigint FROM pg_catalog.pg_largeobject_metadata l
WHERE NOT (pg_catalog.current_setting('lo_compat_privileges')::boolean OR {may_read})
ORDER BY l.oid
"""
# Before 18 no function tells: https://www.postgresql.org/docs/18/release-18.html
_BY_ACL = """pg_catalog.pg_has_role(l.lomowner, 'USAGE') OR EXISTS (
  SELECT FROM pg_catalog.aclexplode(l.lomacl) granted
  WHERE granted.privilege_type = 'SELECT'
    AND (granted.grantee = 0 OR pg_catalog.pg_has_role(granted.grantee, 'USAGE')))"""
_BY_FUNCTION = "pg_catalog.has_largeobject_privilege(l.oid, 'SELECT')"


def read_privileges(
    connection: Connection,
    inventory: Inventory,
    with_data: Sequence[Relation],
    of_extensions: Sequence[int],
) -> Privileges:
    """Ask what the login may, in the transaction of `export_snapshot`. Nothing is locked.

    `with_data` are the tables whose rows the dump holds, and `of_extensions` those that it holds
    of extensions besides, by oid.
    Raises AccessError or DumpError.
    """
    given = {
        "schemas": [each.schema for each in inventory.relations],
        "names": [each.name for each in inventory.relations],
        "extensions": list(of_extensions),
    }
    try:
        user, database = _one(connection, _WHO)
        rows = connection.execute(_RELATIONS.encode(), given).fetchall()
        denied = _denied_large_objects(connection) if inventory.large_objects else ()
    except psycopg.Error as error:
        raise source_failure(error, "reading the privileges") from error
    copied = {(each.schema, each.name) for each in with_data}
    listed = {(each.schema, each.name) for each in inventory.relations}
    kinds = [each.kind for each in inventory.relations]
    return Privileges(
        user=user,
        database=database,
        schemas=Needed(
            len({row[0] for row in rows}),
            schemas=tuple(dict.fromkeys(row[0] for row in rows if not row[3])),
        ),
        tables=_needed([row for row in rows if row[2] != "S"]),
        sequences=_needed([row for row in rows if row[2] == "S"]),
        large_object_count=inventory.large_objects,
        large_objects=denied,
        row_security=tuple(
            Named(row[0], row[1])
            for row in rows
            if row[5] and (row[:2] in copied or row[:2] not in listed)
        ),
        foreign_tables=kinds.count("f"),
        materialized_views=kinds.count("m"),
    )


def _needed(rows: Sequence[tuple[Any, ...]]) -> Needed:
    return Needed(len(rows), relations=tuple(Named(row[0], row[1]) for row in rows if not row[4]))


def _denied_large_objects(connection: Connection) -> tuple[int, ...]:
    knows = connection.info.server_version >= 180000
    statement = _LARGE_OBJECTS.format(may_read=_BY_FUNCTION if knows else _BY_ACL)
    return tuple(number for (number,) in connection.execute(statement.encode()))


def _one(connection: Connection, statement: str) -> tuple[Any, ...]:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM
    return row
