"""A database in a throwaway server that encodes and sorts as its source does.

Locales are compiled into the server's own folder, so neither root nor a writable system is needed.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import sql

from backup.postgres.connection import Source, connect
from backup.postgres.failures import target_failure
from backup.postgres.throwaway import ThrowawayServer

# What CREATE DATABASE says of locales; its owner and tablespace stay the source's.
# https://www.postgresql.org/docs/current/sql-createdatabase.html
_OPTIONS = (
    "LOCALE_PROVIDER",
    "LOCALE",
    "LC_COLLATE",
    "LC_CTYPE",
    "ICU_LOCALE",
    "ICU_RULES",
    "BUILTIN_LOCALE",
)
_NAME = re.compile(r'CREATE DATABASE (?:"(?:[^"]|"")*"|[^\s"]+)')
_OPTION = re.compile(r"\b([A-Z_]+) = (?:E?'((?:[^'\\]|''|\\.)*)'|([A-Za-z_]+))", re.DOTALL)
_COLLATE = re.compile(r'\bCOLLATE pg_catalog\.(?:"((?:[^"]|"")+)"|(\w+))')
_OWN_LOCALE = re.compile(r"\b(?:locale|lc_collate|lc_ctype) = '([^']+)'")
# Syntax of a locale's name in the C library, and nothing that could be a path.
_LOCALE = re.compile(
    r"(?P<region>[A-Za-z]{2,3}_[A-Za-z]{2,3})(?:\.(?P<codeset>[\w-]+))?(?:@(?P<modifier>\w+))?"
)
_BUILT_IN = ("default", "C", "POSIX", "ucs_basic", "unicode", "pg_c_utf8", "pg_unicode_fast")
# Errors in what was asked for, rather than in the server: syntax, data, features.
_REFUSALS = ("22", "42", "0A", "58")
# The C library's names of PostgreSQL's encodings:
# https://www.postgresql.org/docs/current/multibyte.html#MULTIBYTE-CHARSET-SUPPORTED
_CHARMAPS = {
    "UTF8": "UTF-8",
    "LATIN1": "ISO-8859-1",
    "LATIN2": "ISO-8859-2",
    "LATIN3": "ISO-8859-3",
    "LATIN4": "ISO-8859-4",
    "LATIN5": "ISO-8859-9",
    "LATIN6": "ISO-8859-10",
    "LATIN7": "ISO-8859-13",
    "LATIN8": "ISO-8859-14",
    "LATIN9": "ISO-8859-15",
    "LATIN10": "ISO-8859-16",
    "ISO_8859_5": "ISO-8859-5",
    "ISO_8859_6": "ISO-8859-6",
    "ISO_8859_7": "ISO-8859-7",
    "ISO_8859_8": "ISO-8859-8",
    "KOI8R": "KOI8-R",
    "KOI8U": "KOI8-U",
    "EUC_JP": "EUC-JP",
    "EUC_KR": "EUC-KR",
    "EUC_CN": "GB2312",
    "EUC_TW": "EUC-TW",
    **{f"WIN{page}": f"CP{page}" for page in (866, *range(1250, 1259))},
}


@dataclass(frozen=True)
class MadeDatabase:
    """A new, empty database; `notes` say what of its locale is not as in the source."""

    source: Source
    notes: tuple[str, ...]


def create_like(server: ThrowawayServer, name: str, encoding: str, definition: str) -> MadeDatabase:
    """Make a database with the encoding and the collation of the source.

    `definition` is that of the archive's DATABASE entry, a CREATE DATABASE statement. Raises
    DumpError.
    """
    options = _options(definition)
    for key in ("LOCALE", "LC_COLLATE", "LC_CTYPE"):
        if key in options:
            _compile(server, options[key], encoding)
    # Its own first databases may have the name, and none can be renamed through itself.
    through = replace(server.source, database="template1" if name == "postgres" else "postgres")
    with connect(through) as connection:
        connection.autocommit = True
        try:
            if name in ("postgres", "template1"):
                connection.execute(
                    sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                        sql.Identifier(name), sql.Identifier(f"throwaway_{name}")
                    )
                )
            refusal = _create(connection, name, encoding, options)
        except psycopg.Error as error:
            raise target_failure(error, "creating the drill's database") from error
    notes = (_note(options, refusal),) if refusal else ()
    return MadeDatabase(replace(server.source, database=name), notes)


def add_collations(
    server: ThrowawayServer, made: MadeDatabase, encoding: str, definitions: Iterable[str]
) -> tuple[str, ...]:
    """Make the system's collations that definitions of the archive name; notes on those not made.

    A source's pg_catalog has one for each locale of its machine, which no archive holds.
    """
    notes = []
    named: set[str] = set()
    for definition in definitions:
        named.update(match[1] or match[2] for match in _COLLATE.finditer(definition))
        if definition.startswith("CREATE COLLATION"):
            for match in _OWN_LOCALE.finditer(definition):
                _compile(server, match[1], encoding)
    with connect(made.source) as connection:
        connection.autocommit = True
        known = {row[0] for row in connection.execute("SELECT collname FROM pg_collation")}
        for name in sorted(name.replace('""', '"') for name in named - {*_BUILT_IN}):
            if name in known:
                continue
            locale = _compile(server, name, encoding) or name
            try:
                connection.execute(
                    sql.SQL("CREATE COLLATION pg_catalog.{} (locale = {})").format(
                        sql.Identifier(name), sql.Literal(locale)
                    )
                )
            except psycopg.Error as error:
                said = error.diag.message_primary or str(error)
                notes.append(f"collation {name} cannot be made here ({said})")
    return tuple(notes)


def _options(definition: str) -> dict[str, str]:
    """The locale options of a CREATE DATABASE statement; its name may hold anything."""
    found = {}
    for key, quoted, bare in _OPTION.findall(_NAME.sub("", definition, count=1)):
        if key in _OPTIONS:
            found[key] = bare or re.sub(r"\\(.)|''", lambda each: each[1] or "'", quoted)
    return found


def _create(
    connection: psycopg.Connection[tuple[object, ...]],
    name: str,
    encoding: str,
    options: Mapping[str, str],
) -> psycopg.Error | None:
    """Create it in the best way that the server takes; why, where it sorts otherwise."""
    refusal: psycopg.Error | None = None
    for attempt, as_wanted in _attempts(encoding, options):
        parts = [
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}").format(
                sql.Identifier(name), sql.Literal(encoding)
            )
        ]
        for key, value in attempt.items():
            # The provider is a keyword; in quotes it would do as well, but only in lower case.
            parts.append(sql.SQL(f"{key} ") + sql.Literal(value))
        try:
            connection.execute(sql.SQL(" ").join(parts))
        except psycopg.Error as error:
            if (error.sqlstate or "")[:2] not in _REFUSALS or isinstance(
                error, psycopg.errors.DuplicateDatabase
            ):
                raise
            refusal = refusal or error
        else:
            return None if as_wanted else refusal
    assert refusal is not None  # noqa: S101 - the loop returns or is refused
    raise refusal


def _attempts(
    encoding: str, options: Mapping[str, str]
) -> Iterator[tuple[Mapping[str, str], bool]]:
    """Options in the order to try them, and whether they sort as the source does."""
    yield options, True
    provider = options.get("LOCALE_PROVIDER")
    if provider in ("icu", "builtin"):
        # The C library's locale of such a database sorts nothing.
        kept = {key: value for key, value in options.items() if not key.startswith("L")}
        locale = f"{provider}_locale".upper()
        kept.setdefault(locale, options.get("LOCALE", ""))
        yield {**kept, "LOCALE_PROVIDER": provider, "LC_COLLATE": "C", "LC_CTYPE": "C"}, True
    if encoding == "UTF8":
        yield {"LOCALE": "C.UTF-8"}, False
    yield {"LOCALE": "C"}, False


def _note(options: Mapping[str, str], refusal: psycopg.Error) -> str:
    wanted = next(
        (
            options[key]
            for key in ("ICU_LOCALE", "BUILTIN_LOCALE", "LOCALE", "LC_COLLATE")
            if key in options
        ),
        "of the source",
    )
    said = refusal.diag.message_primary or str(refusal)
    return f"collation {wanted} is not here ({said}): the sort order of indexes is not proven"


def _compile(server: ThrowawayServer, name: str, encoding: str) -> str | None:
    """Compile a locale for the server and return its name in full; None where it cannot be."""
    match = _LOCALE.fullmatch(name)
    if match is None:
        return None
    charmap = _CODESETS.get(_plain(match["codeset"] or ""), _CHARMAPS.get(encoding))
    if charmap is None:
        return None
    modifier = f"@{match['modifier']}" if match["modifier"] else ""
    full = name if match["codeset"] else f"{match['region']}.{charmap}{modifier}"
    compiled = server.locales / full
    if not compiled.exists() and _run_localedef(f"{match['region']}{modifier}", charmap, compiled):
        # By its short name, `de_DE`, a locale has the encoding that it is compiled for.
        short = server.locales / name
        if not short.exists():
            short.symlink_to(full)
    return full


def _run_localedef(source: str, charmap: str, compiled: Path) -> bool:
    """False where this machine has no sources of locales, or not this one."""
    command = ["localedef", "--no-archive", "--quiet", f"--inputfile={source}"]
    try:
        subprocess.run(
            [*command, f"--charmap={charmap}", str(compiled)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            umask=0o022,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return (compiled / "LC_COLLATE").exists()


def _plain(codeset: str) -> str:
    """As the C library compares them: utf8 is UTF-8."""
    return re.sub(r"[^a-z0-9]", "", codeset.lower())


_CODESETS = {_plain(charmap): charmap for charmap in _CHARMAPS.values()}
