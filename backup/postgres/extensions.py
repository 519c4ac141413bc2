"""Extensions that a throwaway server lacks: fetched as packages, or stood in for by empty ones.

A stand-in lets CREATE EXTENSION succeed and has the tables whose rows the archive holds, so that
they load and can be compared. Types and functions it has none: what needs them is not proven.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from backup.model import Extension
from backup.postgres.connection import Connection, Source, connect
from backup.postgres.failures import target_failure
from backup.postgres.packages import can_fetch, fetch
from backup.postgres.throwaway import ThrowawayServer

# As check_valid_extension_name() and check_valid_version_name() in src/backend/commands/extension.c
# want it, and no character that ends a line or a literal of a control file.
_NAME = re.compile(r"(?!-)(?!.*--)[^/\\'\x00-\x1f]+(?<!-)")
# It would run the source's jobs, here.
_NEVER_LOADED = ("pg_cron",)


@dataclass(frozen=True, slots=True)
class ConfigTable:
    """A table that belongs to an extension and whose rows are in the archive."""

    schema: str
    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigSequence:
    """A sequence that belongs to an extension and whose value is in the archive."""

    schema: str
    name: str


Contents = ConfigTable | ConfigSequence


@dataclass(frozen=True, slots=True)
class Supplied:
    """What became of the extensions that were missing.

    `fetched` are real, `stubbed` are empty stand-ins, `absent` fail; the last two are pairs of
    name and reason.
    """

    fetched: tuple[str, ...] = ()
    stubbed: tuple[tuple[str, str], ...] = ()
    absent: tuple[tuple[str, str], ...] = ()


def missing(connection: Connection, wanted: Iterable[Extension]) -> list[Extension]:
    """Those that the server does not have, by name. Raises BackupError."""
    try:
        rows = connection.execute("SELECT name FROM pg_available_extensions").fetchall()
    except psycopg.Error as error:
        raise target_failure(error, "listing the available extensions") from error
    available = {row[0] for row in rows}
    return sorted((each for each in wanted if each.name not in available), key=lambda e: e.name)


def supply(
    server: ThrowawayServer,
    wanted: Iterable[Extension],
    contents: Callable[[str], Sequence[Contents]] = lambda _name: (),
    *,
    packages: bool = True,
) -> Supplied:
    """Give the server the extensions that it lacks, before anything is restored into it.

    `contents` gives what a stand-in of that name must hold; `packages` is whether to look for the
    real ones. Raises BackupError only where the server fails.
    """
    with connect(server.source) as connection:
        lacking = missing(connection, wanted)
        if not lacking:
            return Supplied()
        why = {
            each.name: "it needs a worker that would run the jobs of the source" for each in lacking
        }
        asked = [each.name for each in lacking if each.name not in _NEVER_LOADED]
        why |= dict.fromkeys(asked, "no packages can be fetched into this server")
        if packages and asked and can_fetch(server):
            failures = fetch(server, asked)
            why |= failures
            for name in (name for name in asked if name not in failures):
                why[name] = _refusal(connection, name)
    stubbed, absent = [], []
    for each in lacking:
        if not why[each.name]:
            continue
        if stub(server, each.name, each.version, contents(each.name)):
            stubbed.append((each.name, why[each.name]))
        else:
            absent.append((each.name, why[each.name]))
    fetched = tuple(each.name for each in lacking if not why[each.name])
    return Supplied(fetched, tuple(stubbed), tuple(absent))


def _refusal(connection: Connection, name: str) -> str:
    """Why a fetched one cannot be created, as where its library must be there from the start."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("CREATE EXTENSION {} CASCADE").format(sql.Identifier(name)))
    except psycopg.Error as error:
        return (error.diag.message_primary or str(error)).strip().splitlines()[0]
    return ""


def provide(database: Source, schemas: Iterable[str], extensions: Iterable[Extension]) -> list[str]:
    """Create what an archive of a part takes for granted; why not, for each that cannot be."""
    failures = []
    with connect(database) as connection:
        for schema in schemas:
            statement = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema))
            failures += _create_one(connection, f"schema {schema}", statement)
        for each in extensions:
            statement = sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {} CASCADE").format(
                sql.Identifier(each.name), sql.Identifier(each.schema)
            )
            failures += _create_one(connection, f"extension {each.name}", statement)
    return failures


def _create_one(connection: Connection, what: str, statement: sql.Composed) -> list[str]:
    try:
        with connection.transaction():
            connection.execute(statement)
    except psycopg.Error as error:
        return [f"{what} cannot be created: {str(error).strip().splitlines()[0]}"]
    return []


def stub(
    server: ThrowawayServer, name: str, version: str, contents: Sequence[Contents] = ()
) -> bool:
    """Write an empty extension of that name; False where the server takes no additions."""
    if not server.installation.private:
        return False
    if not all(_NAME.fullmatch(word) for word in (name, version)):
        return False
    folder = server.installation.extensions
    for old in folder.iterdir():  # links to those of a package that does not work here
        if old.name == f"{name}.control" or old.name.startswith(f"{name}--"):
            old.unlink()
    _write(
        folder / f"{name}.control",
        # Without a comment: it would be one that the backup does not hold.
        f"default_version = '{version}'\nencoding = 'UTF8'\nrelocatable = true\n",
    )
    _write(folder / f"{name}--{version}.sql", "".join(map(_create, contents)))
    return True


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


def _create(each: Contents) -> str:
    """A table of text reads and writes the same COPY lines as that of the real types."""
    name = f"{_quoted(each.schema)}.{_quoted(each.name)}"
    if isinstance(each, ConfigTable):
        columns = ", ".join(f"{_quoted(column)} text" for column in each.columns)
        made = f"CREATE TABLE {name} ({columns});"
    else:
        made = f"CREATE SEQUENCE {name};"
    schema = _literal(_quoted(each.schema))
    # The schema may be the one that the extension is created in; IF NOT EXISTS would refuse that.
    return (
        f"DO $do$ BEGIN IF pg_catalog.to_regnamespace({schema}) IS NULL THEN"
        f" EXECUTE {_literal('CREATE SCHEMA ' + _quoted(each.schema))}; END IF; END $do$;\n"
        f"{made}\nSELECT pg_catalog.pg_extension_config_dump({_literal(name)}, '');\n"
    )


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def _literal(text: str) -> str:
    return sql.Literal(text).as_string()
