"""The first thing that a new server says: what it is, and how much it holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg

from backup.errors import RestoreError
from backup.postgres.connection import Connection

_QUESTION = """
SELECT pg_catalog.current_setting('server_version'),
       pg_catalog.current_database(),
       pg_catalog.pg_database_size(pg_catalog.current_database()),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p')
        AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'),
       pg_catalog.clock_timestamp()
"""


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """`database_bytes` is the size of the database, `tables` the number of its tables, `time` the
    server's own."""

    server_version: str
    database: str
    database_bytes: int
    tables: int
    time: datetime


def first_answer(connection: Connection) -> FirstAnswer:
    """Ask; raises RestoreError where the server does not answer."""
    try:
        (row,) = connection.execute(_QUESTION).fetchall()
    except psycopg.Error as error:
        raise RestoreError(
            "the new instance lets us in, and does not answer",
            detail=str(error).strip(),
            hint="look at its log in the RDS console: it may still be recovering",
        ) from error
    version, database, size, tables, time = row
    # Distributions append their own to the version: "17.6 (Debian 17.6-1)".
    return FirstAnswer(str(version).split()[0], database, size, tables, time)
