"""pg_dump's patterns for the names of schemas and tables, as the server matches them.

A pattern becomes one regular expression per part, by the rules of
https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-PATTERNS, in the way of
patternToSQLRegex() in src/fe_utils/string_utils.c, and the server evaluates it as pg_dump lets
it. So the inventory holds exactly the tables that pg_dump selects.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import psycopg

from backup.errors import InputError
from backup.postgres.connection import Connection
from backup.postgres.failures import target_failure

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
# Names of an archive, by their place in the list that was sent. With several arrays unnest must
# stand alone, and then means that of pg_catalog
# (transformRangeFunction() in src/backend/parser/parse_clause.c).
_GIVEN = f"""
SELECT given.place FROM unnest(%s::pg_catalog.text[], %s::pg_catalog.text[])
WITH ORDINALITY AS given (schema, name, place) WHERE given.name {_MATCHES}
"""  # noqa: S608
_NEAR = 3


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
    return _numbers(connection, option, pattern, _SCHEMAS, [_of_schemas(option, pattern)])


def _of_schemas(option: str, pattern: str) -> str:
    parts = parse(pattern, most=1)
    if parts.dots:
        raise InputError(
            f"{option}: {pattern!r} is no pattern for schemas",
            detail="it has a dot outside of double quotes",
            hint=f"Write the schema alone, or its name in double quotes if the dot belongs to it:"
            f' "{pattern}"',
        )
    return parts.name


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
        return _numbers(connection, option, pattern, sql, [parts.name])
    sql = f"{_TABLES} AND n.nspname {_MATCHES}"
    return _numbers(connection, option, pattern, sql, [parts.name, parts.schema])


def matching_schema_names(
    connection: Connection, option: str, patterns: Iterable[str], schemas: Collection[str]
) -> set[str]:
    """Which schemas of an archive the patterns match; any server can be asked.

    Raises InputError for a pattern that is none or matches nothing.
    """
    given = sorted(schemas)
    found: set[str] = set()
    for pattern in patterns:
        regex = _of_schemas(option, pattern)
        columns = [_sendable(given), _sendable(given)]
        places = _places(connection, option, pattern, _GIVEN, [*columns, regex])
        if not places:
            raise _not_in_the_backup(option, pattern, given, [_literal(pattern)])
        found |= {given[place - 1] for place in places}
    return found


def matching_names(
    connection: Connection,
    option: str,
    patterns: Iterable[str],
    names: Collection[tuple[str, str]],
) -> set[tuple[str, str]]:
    """Which (schema, name) of an archive the patterns match; any server can be asked.

    A pattern without a dot matches the name in every schema: nobody looks for a lost table along
    a search_path. Raises InputError for a pattern that is none or matches nothing.
    """
    given = sorted(names)
    found: set[tuple[str, str]] = set()
    for pattern in patterns:
        parts = parse(pattern, most=2)
        if parts.dots > 1:
            raise InputError(
                f"{option}: {pattern!r} is no pattern for tables",
                detail="it has more than one dot outside of double quotes",
                hint='Write schema.table, with double quotes where a dot is in a name: "a.b".*',
            )
        statement, regexes = _GIVEN, [parts.name]
        if parts.schema is not None:
            statement, regexes = f"{_GIVEN} AND given.schema {_MATCHES}", [parts.name, parts.schema]
        columns = [_sendable(schema for schema, _ in given), _sendable(name for _, name in given)]
        places = _places(connection, option, pattern, statement, [*columns, *regexes])
        if not places:
            wanted = _literal(pattern)
            texts = [wanted, wanted.rpartition(".")[2]]
            raise _not_in_the_backup(option, pattern, [".".join(each) for each in given], texts)
        found |= {given[place - 1] for place in places}
    return found


def _places(
    connection: Connection,
    option: str,
    pattern: str,
    statement: str,
    values: Sequence[str | list[str]],
) -> set[int]:
    try:
        with connection.transaction():
            return _numbers(connection, option, pattern, statement, values)
    except psycopg.Error as error:
        raise target_failure(error, "matching patterns with the names of the backup") from error


def _sendable(names: Iterable[str]) -> list[str]:
    """Names as text that can be sent: those of a database in SQL_ASCII may be no UTF-8."""
    return [name.encode("utf-8", "replace").decode("utf-8") for name in names]


def _literal(pattern: str) -> str:
    """The pattern as the name that may have been meant."""
    return pattern.replace('"', "").strip("*")


def _not_in_the_backup(
    option: str, pattern: str, given: Sequence[str], wanted: Iterable[str]
) -> InputError:
    near: list[str] = []
    folded = {name.rpartition(".")[2].casefold(): name for name in reversed(given)}
    folded |= {name.casefold(): name for name in given}
    for text in wanted:
        close = difflib.get_close_matches(text.casefold(), folded, _NEAR, 0.6)
        near += [folded[each] for each in close]
    shown = ", ".join(repr(name)[1:-1] for name in dict.fromkeys(near))
    return InputError(
        f"{option}: nothing in the backup matches {pattern!r}",
        detail=f"near to it: {shown}" if shown else f"the backup holds {len(given):,} names",
        hint='Capitals need double quotes, as in sales."Order"; the backup\'s own list is what'
        " `pg_restore -l` prints.",
    )


def _numbers(
    connection: Connection, option: str, pattern: str, sql: str, values: Sequence[str | list[str]]
) -> set[int]:
    """The oids or places that the statement finds."""
    try:
        rows = connection.execute(sql.encode(), values).fetchall()
    except psycopg.errors.InvalidRegularExpression as error:
        raise InputError(
            f"{option}: {pattern!r} is no pattern",
            detail=str(error).strip(),
            hint="Put a name with any of | + ( ) [ ] { } ^ \\ into double quotes.",
        ) from error
    return {number for (number,) in rows}
