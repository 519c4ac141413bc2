"""What the source holds in the snapshot, and which of it the dump must hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from backup.errors import InputError
from backup.model import Extension, Inventory, Relation
from backup.postgres.connection import Connection
from backup.postgres.failures import source_failure
from backup.postgres.patterns import matching_schemas, matching_tables
from backup.settings import Selection

# Relations that belong to an extension come back with CREATE EXTENSION, so pg_dump leaves them
# out whatever is selected. The size is as of the last VACUUM or ANALYZE: pg_table_size would wait
# for the lock of each table, chosen or not, and look up its files.
_RELATIONS = """
SELECT c.oid, n.oid, n.nspname, c.relname, c.relkind,
       CASE WHEN c.relkind IN ('r', 'm') THEN
         (greatest(c.relpages, 0) + greatest(coalesce(toast.relpages, 0), 0))::bigint
         * pg_catalog.current_setting('block_size')::bigint
       ELSE 0 END,
       owner.refobjid, owner.deptype = 'i'
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_class toast ON toast.oid = c.reltoastrelid
LEFT JOIN pg_catalog.pg_depend owner
  ON c.relkind = 'S' AND owner.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
 AND owner.objid = c.oid AND owner.objsubid = 0
 AND owner.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
 AND owner.deptype IN ('a', 'i')
WHERE c.relkind IN ('r', 'p', 'f', 'm', 'v', 'S')
  AND (n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
       OR c.oid = ANY (%(tables)s) OR n.oid = ANY (%(schemas)s))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend member
                  WHERE member.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                    AND member.objid = c.oid AND member.objsubid = 0 AND member.deptype = 'e')
ORDER BY n.nspname, c.relname
"""
_EXTENSION_TABLES = """
SELECT c.oid, c.relnamespace FROM pg_catalog.pg_class c
WHERE c.oid IN (SELECT unnest(e.extconfig) FROM pg_catalog.pg_extension e)
"""
_EXTENSIONS = """
SELECT e.extname, e.extversion, n.nspname FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY e.extname
"""
_ROLES = "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname"
# Columns of pg_database come and go with the versions; as JSON all of them can be asked for.
_DATABASE = """
SELECT pg_catalog.to_jsonb(d), pg_catalog.pg_encoding_to_char(d.encoding)
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
"""
_DATABASE_SIZE = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())"
_LARGE_OBJECTS = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata"


@dataclass(frozen=True)
class _Chosen:
    """The selection as oids; None where nothing of the kind was asked for."""

    schemas: set[int] | None
    exclude_schemas: set[int]
    tables: set[int] | None
    exclude_tables: set[int]

    def holds(self, relation: _Found) -> bool:
        """As selectDumpableTable() in src/bin/pg_dump/pg_dump.c: tables override schemas."""
        return self.covers(relation.oid, relation.schema_oid)

    def covers(self, table: int, schema: int) -> bool:
        if table in self.exclude_tables:
            return False
        if self.tables is not None:
            return table in self.tables
        if schema in self.exclude_schemas:
            return False
        return self.schemas is None or schema in self.schemas


@dataclass(frozen=True)
class _Found:
    oid: int
    schema_oid: int
    relation: Relation
    owner: int | None
    identity: bool


def read_inventory(connection: Connection, selection: Selection) -> Inventory:
    """Read what the source holds, in the transaction of `export_snapshot`.

    `relations` and `large_objects` are what the dump of this selection must hold; the rest is
    of the whole database. Raises InputError for a pattern that is none or matches nothing,
    AccessError or DumpError.
    """
    try:
        chosen = _choose(connection, selection)
        found = _find(connection, chosen)
        database, encoding = _one(connection, _DATABASE)
        everything = chosen.schemas is None and chosen.tables is None
        return Inventory(
            relations=tuple(entry.relation for entry in _dumped(found, chosen)),
            extensions=tuple(Extension(*row) for row in connection.execute(_EXTENSIONS)),
            roles=tuple(name for (name,) in connection.execute(_ROLES)),
            # pg_dump takes them along only where no schema and no table was asked for.
            large_objects=_one(connection, _LARGE_OBJECTS)[0] if everything else 0,
            database_bytes=_database_bytes(connection),
            encoding=encoding,
            collation=_collation(database),
        )
    except psycopg.Error as error:
        raise source_failure(error, "reading the inventory") from error


def extension_tables(connection: Connection, selection: Selection) -> list[int]:
    """Tables of extensions whose rows the dump holds, for they are marked as the user's: their
    oids, and those of sequences that are marked so. Raises as `read_inventory`.

    As processExtensionTables() in src/bin/pg_dump/pg_dump.c.
    """
    try:
        chosen = _choose(connection, selection)
        without = chosen.exclude_tables | oids_of_tables(
            connection, "exclude-table-data", selection.exclude_table_data, strict=False
        )
        marked = connection.execute(_EXTENSION_TABLES).fetchall()
    except psycopg.Error as error:
        raise source_failure(error, "reading the inventory") from error
    return [oid for oid, schema in marked if oid not in without and chosen.covers(oid, schema)]


def _choose(connection: Connection, selection: Selection) -> _Chosen:
    schemas = _oids_of_schemas(connection, "schemas", selection.schemas, strict=True)
    tables = oids_of_tables(connection, "tables", selection.tables, strict=True)
    return _Chosen(
        schemas=schemas if selection.schemas else None,
        exclude_schemas=_oids_of_schemas(
            connection, "exclude-schemas", selection.exclude_schemas, strict=False
        ),
        tables=tables if selection.tables else None,
        exclude_tables=oids_of_tables(
            connection, "exclude-tables", selection.exclude_tables, strict=False
        ),
    )


def _oids_of_schemas(
    connection: Connection, option: str, patterns: Iterable[str], *, strict: bool
) -> set[int]:
    oids: set[int] = set()
    for pattern in patterns:
        matched = matching_schemas(connection, option, pattern)
        if strict and not matched:
            raise _nothing_matches(option, pattern)
        oids |= matched
    return oids


def oids_of_tables(
    connection: Connection, option: str, patterns: Iterable[str], *, strict: bool
) -> set[int]:
    oids: set[int] = set()
    if not patterns:
        return oids
    # As pg_dump does: what is visible without a schema is what the user sees after login.
    with connection.transaction(force_rollback=True):
        connection.execute("RESET search_path")
        for pattern in patterns:
            matched = matching_tables(connection, option, pattern)
            if strict and not matched:
                raise _nothing_matches(option, pattern)
            oids |= matched
    return oids


def _nothing_matches(option: str, pattern: str) -> InputError:
    """pg_dump complains only where all patterns match nothing; a backup must not miss a table."""
    return InputError(
        f"{option}: nothing matches {pattern!r}",
        detail="the user may also lack the privilege to see it, or it lies in another database",
        hint="Capitals need double quotes, and a table outside of the user's search_path its"
        ' schema: sales."Order". psql\'s \\d PATTERN shows what a pattern matches.',
    )


def _find(connection: Connection, chosen: _Chosen) -> list[_Found]:
    rows = connection.execute(
        _RELATIONS.encode(),
        {"tables": list(chosen.tables or ()), "schemas": list(chosen.schemas or ())},
    )
    return [
        _Found(oid, schema_oid, Relation(schema, name, kind, size), owner, bool(identity))
        for oid, schema_oid, schema, name, kind, size, owner, identity in rows
    ]


def _dumped(found: Sequence[_Found], chosen: _Chosen) -> Iterator[_Found]:
    """The chosen relations; a sequence that a column owns goes with its table.

    As getOwnedSeqs() in src/bin/pg_dump/pg_dump.c: such a sequence comes along even where it is
    excluded, and one of an identity column never comes without its table.
    """
    held = {entry.oid for entry in found if chosen.holds(entry)}
    for entry in found:
        with_owner = entry.owner in held
        if with_owner or (entry.oid in held and not entry.identity):
            yield entry


def _database_bytes(connection: Connection) -> int:
    """0 where the user may not ask."""
    try:
        with connection.transaction():
            size: int = _one(connection, _DATABASE_SIZE)[0]
            return size
    except psycopg.errors.InsufficientPrivilege:
        return 0


def _collation(database: dict[str, Any]) -> str:
    """The locale, with its provider where that is not the C library."""
    provider = database.get("datlocprovider", "c")
    if provider == "c":
        return str(database["datcollate"])
    locale = database.get("datlocale") or database.get("daticulocale") or ""
    return f"{ {'i': 'icu', 'b': 'builtin'}.get(provider, provider) }:{locale}"


def _one(connection: Connection, statement: str) -> tuple[Any, ...]:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None  # noqa: S101 - aggregates, and the database we are in
    return row
