"""SQL as pg_dump and pg_dumpall write it: cut into statements, and a database renamed in them.

Both write strings by the rules of standard_conforming_strings, keywords in upper case, and names
in lower case or in double quotes (fmtId() in src/fe_utils/string_utils.c). Neither uses dollar
quotes for what belongs to the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# https://www.postgresql.org/docs/current/sql-syntax-lexical.html
_TOKEN = re.compile(
    r"""
      (?P<comment> --[^\n]*)
    | (?P<meta>    ^\\[^\n]*)                   # psql's \restrict and \unrestrict
    | (?P<name>    "(?:[^"]|"")*")
    | (?P<string>  [Ee]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*')
    | (?P<word>    [\w$]+)
    | (?P<space>   \s+)
    | (?P<other>   .)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def split(text: str) -> list[list[str]]:
    """The statements of a script, each as its tokens: without comments, space and semicolon."""
    statements: list[list[str]] = [[]]
    for match in _TOKEN.finditer(text):
        if match.lastgroup in ("comment", "meta", "space"):
            continue
        if match[0] == ";":
            statements.append([])
        else:
            statements[-1].append(match[0])
    return [statement for statement in statements if statement]


def join(tokens: Sequence[str]) -> str:
    """The tokens as a statement again."""
    text = ""
    for before, token in zip(("", *tokens), tokens, strict=False):
        tight = not before or token in (",", ")", ".", "=>") or before in ("(", ".")
        text += token if tight else f" {token}"
    return f"{text};"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def unquoted(token: str) -> str:
    """The name that an identifier stands for, or the text of a string without backslashes."""
    for mark in ('"', "'"):
        if token.startswith(mark):
            return token[1:-1].replace(mark * 2, mark)
    return token


def for_database(text: str, name: str) -> Iterator[str]:
    """The statements of a script about one database, made to speak of the database `name`."""
    for tokens in split(text):
        places = [place for place, token in enumerate(tokens) if token == "DATABASE"]  # noqa: S105
        for place in places:
            # A name that is the word itself is written in lower case, or in quotes.
            tokens[place + 1 : place + 2] = [quoted(name)]
        yield join(tokens)


def options(tokens: Sequence[str]) -> dict[str, str]:
    """The `NAME = value` pairs of a CREATE DATABASE, as they are written."""
    return {
        tokens[place - 1]: tokens[place + 1]
        for place, token in enumerate(tokens)
        if token == "=" and 0 < place < len(tokens) - 1  # noqa: S105
    }


def grantees(text: str) -> Iterator[str]:
    """To whom the GRANT statements of an ACL give something; PUBLIC is nobody in particular."""
    for tokens in split(text):
        if "GRANT" in tokens and "TO" in tokens:
            # Names come one at a time: buildACLCommands() in src/bin/pg_dump/dumputils.c.
            name = tokens[len(tokens) - tokens[::-1].index("TO")]
            if name != "PUBLIC":
                yield unquoted(name)


def columns_of_copy(statement: str) -> Iterator[str]:
    """The columns of a COPY statement as pg_dump writes it: COPY a.b (c, "d e") FROM stdin;"""
    (tokens,) = split(statement)
    if "(" in tokens:
        listed = tokens[tokens.index("(") + 1 : len(tokens) - 1 - tokens[::-1].index(")")]
        yield from (unquoted(each) for each in listed if each != ",")
