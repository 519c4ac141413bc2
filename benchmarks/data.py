"""Databases to measure with, generated inside the server.

Sizes are megabytes (10^6 bytes) of COPY text, which is what pg_dump reads and compresses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import psycopg

from tests.lab.postgres import PostgresServer

DATABASE = "bench"

# Nothing here need survive a crash: https://www.postgresql.org/docs/current/populate.html
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "32GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "jit": "off",
    "shared_buffers": "512MB",
    "maintenance_work_mem": "256MB",
    "max_locks_per_transaction": "1024",  # pg_dump locks each of 10,000 tables
    "tcp_user_timeout": "15s",  # drops a client that stays stopped
}

_SMALL_TABLES = 700
_SMALL_TABLES_MEGABYTES = 0.044  # each, on average
_BASE_ROWS = 40_000
# COPY text of one base's rows, in megabytes; measured.
_EVENTS, _MEASUREMENTS, _DOCUMENTS = 14.2, 1.35, 32.3

# 4,000 words, the first far more frequent than the last, as in any language.
_PREPARE = """
SELECT setseed(0.42);
CREATE TEMPORARY TABLE word AS
    SELECT n, translate(substr(md5('word ' || n), 1, 3 + n % 8), '0123456789', 'etaoinshrl') AS word
    FROM generate_series(1, 4000) AS n;
CREATE FUNCTION pg_temp.sentence(words text[], length int) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT string_agg(words[1 + floor(4000 * random() ^ 5)::int], ' ')
    FROM generate_series(1, length) $$;

CREATE TEMPORARY TABLE event_base AS
    WITH vocabulary AS (SELECT array_agg(word ORDER BY n) AS words FROM word)
    SELECT n AS id,
           timestamptz '2024-01-01 00:00+00' + n * interval '1.7 seconds' AS at,
           md5('session ' || n / 7)::uuid AS session,
           (random() ^ 3 * 90000)::int AS customer,
           (ARRAY['page.viewed', 'basket.changed', 'order.placed', 'search'])[1 + n % 4] AS kind,
           inet '10.0.0.0' + (random() * 16000000)::int AS address,
           jsonb_build_object(
               'path', '/' || pg_temp.sentence(words, 2), 'status', 200 + (n % 3) * 100,
               'milliseconds', (random() ^ 5 * 4000)::int, 'referrer', pg_temp.sentence(words, 3),
               'agent', 'Mozilla/5.0 (X11; Linux x86_64) Firefox/' || 90 + n % 30) AS properties,
           pg_temp.sentence(words, 14) AS note
    FROM vocabulary, generate_series(1, {rows}) AS n;
CREATE TEMPORARY TABLE measurement_base AS
    SELECT n AS id, n % 500 AS sensor, date '2024-01-01' + n / 86400 AS day,
           round((20 + 5 * sin(n / 900.0) + random())::numeric, 3) AS value,
           CASE WHEN random() < 0.1 THEN (random() * 100)::smallint END AS error,
           n % 2 = 0 AS checked
    FROM generate_series(1, {rows} * 2) AS n;
CREATE TEMPORARY TABLE document_base AS
    WITH vocabulary AS (SELECT array_agg(word ORDER BY n) AS words FROM word)
    SELECT n AS id, 'Document ' || n AS title, md5('document ' || n) AS digest,
           pg_temp.sentence(words, 60 + (random() * 90)::int) AS body
    FROM vocabulary, generate_series(1, {rows}) AS n;
"""

# Copies lie tens of megabytes apart, far outside zstd's window: they do not compress each other.
_LARGE = {
    "event": (
        _EVENTS,
        "id + copy * {rows}, at + copy * interval '1 day', session, customer, kind, address,"
        " properties, note",
    ),
    "measurement": (
        _MEASUREMENTS * 2,
        "id + copy * {rows} * 2, sensor, day + copy, value + copy % 7, error, checked",
    ),
    "document": (_DOCUMENTS, "id + copy * {rows}, title, digest, body"),
}
_SHARES = {"event": 0.55, "measurement": 0.15, "document": 0.3}

# Tables to get back alone: of 1, 11 and 41 MB stored by zstd level 1, in 1600 MB of COPY text.
CHOSEN = {"supplier": 1.0, "customer": 11.0, "invoice": 41.0}
_CHOSEN_OF = 1600
_TEXT_PER_STORED = 2.91  # of the columns of a document; measured
_INDEXES = {
    "event": ("customer, at", "session"),
    "measurement": ("sensor, day",),
    "document": ("digest",),
} | dict.fromkeys(CHOSEN, ("title",))


def mixed(connection: psycopg.Connection, megabytes: int) -> None:
    """Three tables that hold nearly everything, and 700 that hold the rest."""
    connection.execute(_PREPARE.format(rows=_BASE_ROWS).encode())
    _fill(connection, megabytes)


def indexed(connection: psycopg.Connection, megabytes: int) -> None:
    """The mixed one with three tables more, of sizes told in `CHOSEN`, and with indexes."""
    connection.execute(_PREPARE.format(rows=_BASE_ROWS).encode())
    rows_per_stored = _BASE_ROWS / _DOCUMENTS * _TEXT_PER_STORED
    chosen = 0.0
    for name, stored in CHOSEN.items():
        stored *= megabytes / _CHOSEN_OF
        chosen += stored * _TEXT_PER_STORED
        rows = max(1, round(stored * rows_per_stored))
        columns = _LARGE["document"][1].format(rows=_BASE_ROWS)
        with connection.transaction():
            connection.execute(f"CREATE TABLE {name} AS TABLE document_base WITH NO DATA".encode())
            for copy, first in enumerate(range(0, rows, _BASE_ROWS)):
                connection.execute(
                    f"INSERT INTO {name} SELECT {columns} FROM document_base,"
                    f" (SELECT {copy} AS copy) AS copies WHERE id <= {rows - first}".encode()
                )
    _fill(connection, megabytes - round(chosen))
    for name, indexes in _INDEXES.items():
        connection.execute(f"ALTER TABLE {name} ADD PRIMARY KEY (id)".encode())
        for columns in indexes:
            connection.execute(f"CREATE INDEX ON {name} ({columns})".encode())


def _fill(connection: psycopg.Connection, megabytes: int) -> None:
    tables = _SMALL_TABLES if megabytes > 2 * _SMALL_TABLES * _SMALL_TABLES_MEGABYTES else 100
    rest = megabytes - tables * _SMALL_TABLES_MEGABYTES
    for name, (size, columns) in _LARGE.items():
        copies = max(1, round(rest * _SHARES[name] / size))
        chosen = columns.format(rows=_BASE_ROWS)
        # Made and filled in one transaction: with wal_level minimal nothing is logged.
        with connection.transaction():
            connection.execute(f"CREATE TABLE {name} AS TABLE {name}_base WITH NO DATA".encode())
            for copy in range(copies):
                connection.execute(
                    f"INSERT INTO {name} SELECT {chosen} FROM {name}_base,"
                    f" (SELECT {copy} AS copy) AS copies".encode()
                )
    for number in range(tables):
        with connection.transaction():
            _small_table(connection, f"small_{number:03}", 2 + number * 7919 % 1150)


def many_tables(connection: psycopg.Connection, _megabytes: int) -> None:
    """10,000 tables of 20 rows, each with a primary key."""
    connection.execute(_PREPARE.format(rows=1000).encode())
    for first in range(0, 10_000, 500):
        with connection.transaction():
            for number in range(first, first + 500):
                _small_table(connection, f"table_{number:05}", 20)


def large_objects(connection: psycopg.Connection, _megabytes: int) -> None:
    """20,000 large objects of 0 to 8 kB, and one table that points to them."""
    with connection.transaction():
        connection.execute(
            b"""CREATE TABLE attachment AS
                SELECT n AS id, lo_from_bytea(0, convert_to(coalesce((
                    SELECT string_agg(md5(n || '/' || part), ' ')
                    FROM generate_series(1, n * 7919 % 240) AS part), ''), 'UTF8')) AS content
                FROM generate_series(1, 20000) AS n"""
        )


GENERATORS: Mapping[str, Callable[[psycopg.Connection, int], None]] = {
    "mixed": mixed,
    "indexed": indexed,
    "many-tables": many_tables,
    "large-objects": large_objects,
}


def load(server: PostgresServer, kind: str, megabytes: int) -> int:
    """Create `DATABASE` with one kind of content; its size in the server, in bytes."""
    server.sql(f"CREATE DATABASE {DATABASE}")
    with psycopg.connect(server.url(DATABASE), autocommit=True) as connection:
        GENERATORS[kind](connection, megabytes)
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        return int(row[0])


def _small_table(connection: psycopg.Connection, name: str, rows: int) -> None:
    content = "SELECT id, title, left(body, 60) AS body FROM document_base"
    connection.execute(f"CREATE TABLE {name} AS {content} WHERE id <= {rows}".encode())
    connection.execute(f"ALTER TABLE {name} ADD PRIMARY KEY (id)".encode())
