"""How many rows each table has in the snapshot: counted while pg_dump runs, at little cost."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from backup.model import Inventory, Relation
from backup.postgres.connection import Connection
from backup.postgres.failures import source_failure
from backup.postgres.inventory import oids_of_tables
from backup.settings import Selection

_WITHOUT_DATA = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s) OR (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())
"""

# One statement over many small tables: 10,000 of them one by one would be 10,000 round trips.
_BATCH_TABLES = 50
_BATCH_BYTES = 8 << 20
# Undoing the savepoint gives the locks back, so that the counts hold no more of the server's
# lock table than one batch. pg_dump keeps its own locks; whoever waits behind them, as an ALTER
# TABLE does, also bars new readers, and a count is not worth waiting for that.
_BEGIN_BATCH = (
    "SAVEPOINT counting; SET LOCAL lock_timeout = '1s';"
    " SET LOCAL max_parallel_workers_per_gather = 0; "
)
_END_BATCH = "; ROLLBACK TO SAVEPOINT counting; RELEASE SAVEPOINT counting"
_UNCOUNTABLE = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.FeatureNotSupported,  # an unlogged table on a standby
)


def tables_with_data(
    connection: Connection, inventory: Inventory, selection: Selection
) -> tuple[Relation, ...]:
    """The tables whose rows the dump holds: those of the inventory that are worth counting.

    Views, sequences, materialized views and foreign tables have none, partitioned tables have
    theirs in the partitions, and on a standby unlogged tables cannot be read.
    """
    try:
        excluded = oids_of_tables(
            connection, "exclude-table-data", selection.exclude_table_data, strict=False
        )
        rows = connection.execute(_WITHOUT_DATA, (list(excluded),)).fetchall()
    except psycopg.Error as error:
        raise source_failure(error, "reading the inventory") from error
    without = {(schema, name) for schema, name in rows}
    return tuple(
        relation
        for relation in inventory.relations
        if relation.kind == "r" and (relation.schema, relation.name) not in without
    )


def count_rows(
    connection: Connection, relations: Sequence[Relation], stop: threading.Event
) -> Iterator[Relation]:
    """Count the rows of tables in the snapshot, small tables first; yields each with its rows and
    its size.

    `rows` stays None where the count met a lock or was denied. Ends early once `stop` is set;
    who cannot wait for the table at hand calls `connection.cancel_safe()` after setting it.
    Raises DumpError.
    """
    for batch in _batches(relations):
        if stop.is_set():
            return
        try:
            yield from _count(connection, batch)
        except psycopg.errors.QueryCanceled as error:
            if stop.is_set():
                return
            raise source_failure(error, "counting rows") from error
        except psycopg.Error as error:
            raise source_failure(error, "counting rows") from error


def _batches(relations: Sequence[Relation]) -> Iterator[list[Relation]]:
    batch: list[Relation] = []
    size = 0
    for relation in sorted(relations, key=lambda relation: relation.size_bytes):
        if batch and (len(batch) == _BATCH_TABLES or size + relation.size_bytes > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(relation)
        size += relation.size_bytes
    if batch:
        yield batch


def _count(connection: Connection, batch: list[Relation]) -> list[Relation]:
    names = [sql.Identifier(relation.schema, relation.name) for relation in batch]
    counts = sql.SQL(" UNION ALL ").join(
        sql.SQL(
            "SELECT {}::int, pg_catalog.count(*), pg_catalog.pg_table_size({}) FROM ONLY {}"
        ).format(sql.Literal(number), sql.Literal(name.as_string(connection)), name)
        for number, name in enumerate(names)
    )
    statements = sql.SQL(_BEGIN_BATCH) + counts + sql.SQL(_END_BATCH)
    try:
        counted = _rows_of_any(connection.execute(statements))
    except _UNCOUNTABLE:
        connection.execute(_END_BATCH.lstrip("; "))
        if len(batch) == 1:
            return batch
        return [counted for relation in batch for counted in _count(connection, [relation])]
    return [replace(batch[number], rows=rows, size_bytes=size) for number, rows, size in counted]


def _rows_of_any(cursor: psycopg.Cursor[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows of the one statement among several that gives any."""
    rows: list[tuple[Any, ...]] = []
    while True:
        if cursor.description is not None:
            rows += cursor.fetchall()
        if not cursor.nextset():
            return rows
