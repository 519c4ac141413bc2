"""What a restored database holds: its relations beside those of the source, and rows as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg

from backup.model import Inventory, ObjectName, Relation
from backup.postgres.connection import Connection, Source, connect, hang_up
from backup.postgres.failures import target_failure
from backup.verdicts import Check, Finding, Verdict, check

# pg_class.relkind and the word of pg_dump's table of contents.
_KINDS = {
    "r": "TABLE",
    "p": "TABLE",
    "f": "FOREIGN TABLE",
    "v": "VIEW",
    "m": "MATERIALIZED VIEW",
    "S": "SEQUENCE",
}
# As setup_connection() in src/bin/pg_dump/pg_dump.c; the time zone as for pg_dump here.
_AS_PG_DUMP = """
SET DATESTYLE = ISO; SET INTERVALSTYLE = POSTGRES; SET extra_float_digits TO 3;
SET synchronize_seqscans TO off; SET row_security = off; SET timezone = 'UTC';
SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false)
"""
_PIECE_BYTES = 256 << 10
_LARGE_OBJECT_BYTES = 4 << 20
_LARGE_OBJECT = "SELECT pg_catalog.lo_get(%s::oid, %s, %s)"
# Of a partitioned index the parts count: whether all are attached is in the table of contents.
_INDEXES = """
SELECT n.nspname, c.relname, i.indisvalid AND i.indisready AND i.indislive
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i'
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""


def inventory(
    source: Inventory, restored: Inventory, excluded: Mapping[ObjectName, str], *, partial: bool
) -> Check:
    """Relations by kind and name, extensions, large objects, encoding.

    `partial`: the backup is of some schemas or tables, and pg_dump left extensions out.
    """
    there, now = _relations(source), _relations(restored)
    extensions = {each.name: each.version for each in source.extensions}
    has = {each.name: each.version for each in restored.extensions}
    missing = there - now
    if not partial:
        missing |= {ObjectName("EXTENSION", "", name) for name in extensions.keys() - has.keys()}
    findings = [_missing(name, excluded) for name in sorted(missing)]
    findings += [
        Finding(Verdict.FAILED, f"{name} is not in the backup") for name in sorted(now - there)
    ]
    findings += [
        Finding(Verdict.PROVEN, f"extension {name} is {has[name]} here and was {version}")
        for name, version in extensions.items()
        if has.get(name, version) != version
    ]
    if source.large_objects != restored.large_objects:
        text = (
            f"{restored.large_objects} large objects, where the source had {source.large_objects}"
        )
        findings.append(Finding(Verdict.FAILED, text))
    if source.encoding != restored.encoding:
        text = f"the encoding is {restored.encoding} here and was {source.encoding}"
        findings.append(Finding(Verdict.NOT_PROVEN, text))
    fine = f"{len(there)} relations, {len(extensions)} extensions, {source.encoding}"
    return check("inventory", findings, fine)


def row_counts(
    source: Inventory, counted: Mapping[tuple[str, str], int], excluded: Mapping[ObjectName, str]
) -> Check:
    """Rows of the restored tables beside those counted on the source, in the dump's snapshot."""
    findings = []
    known = [each for each in source.relations if each.rows is not None]
    for table in known:
        rows = counted.get((table.schema, table.name))
        if rows is None:
            findings.append(_missing(_object(table), excluded))
        elif rows != table.rows:
            text = f"{table.schema}.{table.name} has {rows} rows, the source had {table.rows}"
            findings.append(Finding(Verdict.FAILED, text))
    total = sum(each.rows or 0 for each in known)
    fine = f"{total:,} rows in {len(known)} tables" if known else "not counted on the source"
    return check("row counts", findings, fine)


def indexes(connection: Connection) -> Check:
    """Every index can be used. Raises DumpError."""
    try:
        rows = connection.execute(_INDEXES).fetchall()
    except psycopg.Error as error:
        raise target_failure(error, "looking for invalid indexes") from error
    findings = [
        Finding(Verdict.FAILED, f"index {schema}.{name} is invalid")
        for schema, name, usable in rows
        if not usable
    ]
    return check("indexes", findings, f"{len(rows)}, all valid")


class RestoredText:
    """Rows and large objects of the restored database in the form in which pg_dump wrote them.

    `encoding` is the dump's, `codec` Python's name of it.
    """

    def __init__(self, connection: Connection, codec: str) -> None:
        self._connection = connection
        self._codec = codec

    def table(self, copy_from: str) -> Iterator[bytes]:
        """By the archive's own COPY statement, whose columns are in its order. Raises DumpError."""
        query = copy_from.rstrip(";\n").removesuffix(" FROM stdin") + " TO STDOUT"
        gathered: list[bytes] = []
        size = 0
        try:
            with self._connection.cursor().copy(
                query.encode(self._codec, "surrogateescape")
            ) as rows:
                for row in rows:
                    gathered.append(bytes(row))
                    size += len(row)
                    if size > _PIECE_BYTES:
                        yield b"".join(gathered)
                        gathered, size = [], 0
        except psycopg.Error as error:
            raise target_failure(error, "comparing rows as text") from error
        yield b"".join(gathered)

    def large_object(self, number: int) -> Iterator[bytes]:
        """Raises DumpError."""
        offset = 0
        try:
            while True:
                query = (number, offset, _LARGE_OBJECT_BYTES)
                row = self._connection.execute(_LARGE_OBJECT, query).fetchone()
                if row is None or not row[0]:
                    return
                yield row[0]
                offset += len(row[0])
        except psycopg.Error as error:
            raise target_failure(error, "comparing large objects") from error


@contextmanager
def restored_text(source: Source, encoding: str, codec: str) -> Iterator[RestoredText]:
    """A connection of its own: its settings are pg_dump's. Raises AccessError or DumpError."""
    connection = connect(source)
    try:
        connection.execute(_AS_PG_DUMP)
        connection.execute(
            "SELECT pg_catalog.set_config('client_encoding', %s, false)", (encoding,)
        )
        yield RestoredText(connection, codec)
    finally:
        hang_up(connection)


def _relations(held: Inventory) -> set[ObjectName]:
    return {_object(relation) for relation in held.relations}


def _object(relation: Relation) -> ObjectName:
    return ObjectName(_KINDS[relation.kind], relation.schema, relation.name)


def _missing(name: ObjectName, excluded: Mapping[ObjectName, str]) -> Finding:
    if name in excluded:
        return Finding(Verdict.NOT_PROVEN, f"{name} was left out: {excluded[name]}")
    return Finding(Verdict.FAILED, f"{name} is missing")
