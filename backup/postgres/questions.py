"""The user's own checks: queries that must each return true in the restored database."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg

from backup.errors import InputError
from backup.postgres.connection import Source, connect, hang_up
from backup.verdicts import Check, Finding, Verdict, check
from backup.wording import count

_NAME = "check-sql"
_TIMEOUT_MS = 5 * 60 * 1000
_SHOWN = 300
# What may hold a semicolon that ends nothing:
# https://www.postgresql.org/docs/current/sql-syntax-lexical.html
_TOKEN = re.compile(
    r"""
      --[^\n]*
    | (?P<comment> /\* )
    | "(?:[^"]|"")*"
    | \b[Ee]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$ .*? \$(?P=tag)\$
    | (?P<end> ; )
    """,
    re.VERBOSE | re.DOTALL,
)
_NESTED = re.compile(r"/\*|\*/")


def queries(text: str) -> Iterator[str]:
    """The queries of a file, cut at semicolons outside of quotes and comments."""
    begun = position = 0
    while match := _TOKEN.search(text, position):
        position = match.end()
        if match["comment"]:
            position = _end_of_comment(text, position)
        elif match["end"]:
            yield text[begun : match.start()].strip()
            begun = position
    yield text[begun:].strip()


def to_ask(text: str) -> list[str]:
    """The queries of a file without those that are comments alone. Raises InputError for none."""
    asked = [query for query in queries(text) if _bare(query)]
    if not asked:
        raise InputError(
            "check-sql holds no query",
            detail="a file of comments alone proves nothing",
            hint="write queries that return true, as in SELECT count(*) > 0 FROM orders;",
        )
    return asked


def ask(source: Source, text: str) -> Check:
    """Ask each query by itself, read only. One that fails, or is not one true, is named.

    Raises InputError for a text without queries, AccessError or DumpError for no connection.
    """
    asked = to_ask(text)
    connection = connect(source)
    try:
        connection.read_only = True
        findings = []
        for query in asked:
            if problem := _ask(connection, query):
                shown = query if len(query) <= _SHOWN else f"{query[:_SHOWN]}…"
                findings.append(Finding(Verdict.FAILED, f"{shown}: {problem}"))
    finally:
        hang_up(connection)
    return check(_NAME, findings, f"{count(len(asked), 'query', 'queries')}, each true")


def _ask(connection: psycopg.Connection[tuple[object, ...]], query: str) -> str:
    """What is wrong with the answer; nothing if it is one row with one true."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET LOCAL statement_timeout = {_TIMEOUT_MS}".encode())
            # By the extended protocol, which refuses more than one statement at a time.
            cursor = connection.execute(query.encode(), binary=True)
            rows = cursor.fetchmany(2) if cursor.description else []
    except psycopg.Error as error:
        return str(error).strip()
    if len(rows) != 1 or len(rows[0]) != 1:
        return "it did not return one row of one column"
    ((answer,),) = rows
    return "" if answer is True else f"it returned {answer!r}, which is not true"


def _bare(query: str) -> str:
    """The query without its comments."""
    bare, begun, position = "", 0, 0
    while match := _TOKEN.search(query, position):
        position = match.end()
        if match["comment"]:
            position = _end_of_comment(query, position)
        if match["comment"] or match[0].startswith("--"):
            bare += query[begun : match.start()]
            begun = position
    return (bare + query[begun:]).strip()


def _end_of_comment(text: str, position: int) -> int:
    """Behind the comment that was opened just before; they nest."""
    depth = 1
    while depth and (match := _NESTED.search(text, position)):
        depth += 1 if match[0] == "/*" else -1
        position = match.end()
    return len(text) if depth else position
