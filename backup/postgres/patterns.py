"""pg_dump's patterns for the names of schemas and tables, as the server matches them.

A pattern becomes one regular expression per part, by the rules of
https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-PATTERNS, in the way of
patternToSQLRegex() in src/fe_utils/string_utils.c, and the server evaluates it as pg_dump lets
it. So the inventory holds exactly the tables that pg_dump selects.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from backup.errors import InputError
from backup.postgres.connection import Connection

_SPECIAL = frozenset("|*+?()[]{}.^$\\")
_UPPER = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")

_MATCHES = "OPERATOR(pg_catalog.~) %s::pg_catalog.text COLLATE pg_catalog.default"
_SCHEMAS = f"SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname {_MATCHES}"  # noqa: S608
# The kinds that pg_dump -t looks at: expand_table_name_patterns() in src/bin/pg_dump/pg_dump.c.
_TABLES = f"""
SELECT c.oid FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.relkind OPERATOR(pg_catalog.=) ANY (array['r', 'S', 'v', 'm', 'f', 'p'])
AND c.relname {_MATCHES}
"""  # noqa: S608 - constants


@dataclass(frozen=True)
class Parts:
    """A pattern in parts: anchored regular expressions, and the database's name as it stands."""

    name: str
    schema: str | None = None
    database: str | None = None
    dots: int = 0


def parse(pattern: str, *, most: int) -> Parts:
    """Split a pattern at its unquoted dots into at the `most` parts, 1 to 3.

    Dots beyond those are counted and stay in the last part.
    """
    parts = [""]
    literal = ""  # the first part without its quotes, for a database's name is no pattern
    dots = 0
    quoted = False
    position = 0
    while position < len(pattern):
        character = pattern[position]
        following = pattern[position + 1 : position + 2]
        position += 1
        if character == '"':
            if not (quoted and following == '"'):
                quoted = not quoted
                continue
            position += 1
            part = '"'
        elif character == "." and not quoted:
            dots += 1
            if len(parts) < most:
                parts.append("")
                continue
            part = "."
        elif character in _UPPER and not quoted:
            part = character = character.lower()
        elif character == "*" and not quoted:
            part = ".*"
        elif character == "?" and not quoted:
            part = "."
        elif (
            character == "$"
            or (quoted and character in _SPECIAL)
            or (character == "[" and following == "]")
        ):
            part = f"\\{character}"
        else:
            part = character
        parts[-1] += part
        if not dots:
            literal += character
    regexes = [f"^({part})$" for part in parts]
    return Parts(
        name=regexes[-1],
        schema=regexes[-2] if len(parts) > 1 else None,
        database=literal if len(parts) > 2 else None,
        dots=dots,
    )


def matching_schemas(connection: Connection, option: str, pattern: str) -> set[int]:
    """The oids of the schemas that `pg_dump -n` takes for the pattern.

    `option` is the input that holds the pattern. Raises InputError for a pattern that is none.
    """
    parts = parse(pattern, most=1)
    if parts.dots:
        raise InputError(
            f"{option}: {pattern!r} is no pattern for schemas",
            detail="it has a dot outside of double quotes",
            hint=f"Write the schema alone, or its name in double quotes if the dot belongs to it:"
            f' "{pattern}"',
        )
    return _oids(connection, option, pattern, _SCHEMAS, [parts.name])


def matching_tables(connection: Connection, option: str, pattern: str) -> set[int]:
    """The oids of the tables, views and sequences that `pg_dump -t` takes for the pattern.

    A pattern without a dot means what the user sees without naming a schema, so search_path
    must be as at login. Raises InputError for a pattern that is none.
    """
    parts = parse(pattern, most=3)
    if parts.dots > 2:
        raise InputError(
            f"{option}: {pattern!r} is no pattern for tables",
            detail="it has more than two dots outside of double quotes",
            hint='Write schema.table, with double quotes where a dot belongs to a name: "a.b".*',
        )
    if parts.database is not None and parts.database != connection.info.dbname:
        raise InputError(
            f"{option}: {pattern!r} names another database",
            detail=f"the backup reads {connection.info.dbname!r}",
            hint='Write schema.table, with double quotes where a dot belongs to a name: "a.b".*',
        )
    if parts.schema is None:
        sql = f"{_TABLES} AND pg_catalog.pg_table_is_visible(c.oid)"
        return _oids(connection, option, pattern, sql, [parts.name])
    sql = f"{_TABLES} AND n.nspname {_MATCHES}"
    return _oids(connection, option, pattern, sql, [parts.name, parts.schema])


def _oids(
    connection: Connection, option: str, pattern: str, sql: str, regexes: list[str]
) -> set[int]:
    try:
        rows = connection.execute(sql.encode(), regexes).fetchall()
    except psycopg.errors.InvalidRegularExpression as error:
        raise InputError(
            f"{option}: {pattern!r} is no pattern",
            detail=str(error).strip(),
            hint="Put a name with any of | + ( ) [ ] { } ^ \\ into double quotes.",
        ) from error
    return {oid for (oid,) in rows}
