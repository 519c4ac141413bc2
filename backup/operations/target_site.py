"""The target of a restore: reached, looked at, made ready to be written to, and finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from backup.archive.selection import Chosen, database_entries
from backup.archive.toc import Entry, TableOfContents
from backup.console import Console
from backup.errors import InputError
from backup.model import Complaint, ObjectName
from backup.operations.obtaining import OpenedBackup
from backup.postgres import unfinished
from backup.postgres.connection import (
    Connection,
    Source,
    answers,
    connect,
    hang_up,
    lift_limits,
)
from backup.postgres.databases import (
    DatabaseDefinition,
    create_database,
    finish_database,
    maintenance,
)
from backup.postgres.databases import exists as database_exists
from backup.postgres.dropping import Drop
from backup.postgres.extensions import provide
from backup.postgres.globals import load_globals
from backup.postgres.refusals import shown
from backup.postgres.statements import quoted
from backup.postgres.target import Target, assume, large_objects_among, read_target
from backup.postgres.unfinished import Unfinished
from backup.settings import RestoreSettings


@dataclass(frozen=True)
class Site:
    """The target as it was found.

    `connection` leads to the database, or to another one of its server where it is yet to be
    created. `target.holds` is without what `leftover`, an unfinished restore, brought.
    """

    source: Source
    target: Target
    connection: Connection
    exists: bool
    leftover: Unfinished | None


def reach(source: Source, options: RestoreSettings, undo: ExitStack) -> Site:
    """Connect to the target, and keep other restores out of it until `undo` ends.

    Raises AccessError, InputError or DumpError.
    """
    if options.create_database:
        connection = undo.enter_context(maintenance(source))
        if not database_exists(connection, source.database):
            server = read_target(connection, source.host, source.port, source.forwards)
            target = replace(server, database=source.database, holds=(), large_objects=0)
            return Site(source, target, connection, exists=False, leftover=None)
    connection = _connected(source, options, undo)
    leftover = unfinished.find(connection)
    target = read_target(connection, source.host, source.port, source.forwards)
    if options.create_database and leftover is None:
        raise InputError(
            f"the target database {shown(source.database)} exists already",
            detail="create-database: true creates a new one, and never writes into another",
            hint="name a database that is not there yet, or leave out create-database"
            if target.holds
            else "it is empty: leave out create-database to restore into it",
        )
    if leftover:
        gone = {each.name for each in leftover.drops}
        # Some may not have been made yet, when it stopped.
        oids = [int(each.name) for each in gone if each.kind == "BLOB"]
        target = replace(
            target,
            holds=tuple(each for each in target.holds if each not in gone),
            large_objects=target.large_objects - len(large_objects_among(connection, oids)),
        )
    connection.commit()
    return Site(source, target, connection, exists=True, leftover=leftover)


def prepare(
    site: Site,
    backup: OpenedBackup,
    chosen: Chosen,
    options: RestoreSettings,
    undo: ExitStack,
    console: Console,
) -> tuple[Site, tuple[Complaint, ...]]:
    """The first writes: roles, the database, what is to be dropped, and the mark of a restore.

    Raises AccessError, InputError or DumpError.
    """
    complaints: tuple[Complaint, ...] = ()
    roles = backup.globals_script() if options.with_globals else None
    if roles is not None:
        complaints += load_globals(site.source, roles)
    elif options.with_globals:
        console.warning(
            "The backup holds no roles",
            "the source did not let its login read them, so with-globals creates none",
        )
    if not site.exists:
        definition = definition_of(backup.contents, options)
        complaints += create_database(site.source, definition, options.role)
        site = replace(site, connection=_connected(site.source, options, undo), exists=True)
    connection = site.connection
    if site.leftover:
        begun = f"{site.leftover.begun:%Y-%m-%d %H:%M} UTC"
        console.info(f"Undoing the restore of {site.leftover.backup_id} that stopped at {begun}")
        unfinished.undo(connection, site.leftover)
    drops = [*_drops(chosen)]
    if options.clean:
        unfinished.clean(connection, drops)
    # A backup of a part takes schemas and extensions for granted, which a new database has not.
    is_new = not (options.allow_existing or options.clean)
    schemas, extensions = backup.taken_for_granted() if is_new else ([], ())
    drops += [_drop_of("EXTENSION", each.name) for each in extensions]
    drops += [_drop_of("SCHEMA", name) for name in schemas]
    unfinished.begin(connection, backup.manifest.id, drops)
    for failure in provide(site.source, schemas, extensions):
        console.warning("The backup is of a part, and needs what it does not hold", failure)
    return site, complaints


def finish(
    site: Site, contents: TableOfContents, options: RestoreSettings
) -> tuple[Complaint, ...]:
    """All is loaded: take the mark away, and give a new database its owner and grants."""
    with ExitStack() as undo:
        connection = site.connection
        if not answers(connection):
            # Cut while it idled, as firewalls do. The server may not know that yet, so the lock
            # is not asked for again.
            connection = _session(site.source, options, undo)
        unfinished.end(connection)
        if not options.create_database:
            return ()
        definition = definition_of(contents, options)
        return finish_database(connection, site.source.database, definition)


def definition_of(contents: TableOfContents, options: RestoreSettings) -> DatabaseDefinition:
    """What the archive says of its database."""
    entries = database_entries(contents)
    database = [entry for entry in entries if entry.kind == "DATABASE"]
    others = [entry for entry in entries if entry.kind != "DATABASE"]
    if options.no_privileges:
        others = [entry for entry in others if entry.kind != "ACL"]
    return DatabaseDefinition(
        create=database[0].definition if database else "",
        properties=tuple(entry.definition for entry in others),
        owner=database[0].owner if database and not options.no_owner else None,
    )


def _connected(source: Source, options: RestoreSettings, undo: ExitStack) -> Connection:
    """A session that keeps other restores out."""
    connection = _session(source, options, undo)
    unfinished.lock(connection)
    return connection


def _session(source: Source, options: RestoreSettings, undo: ExitStack) -> Connection:
    connection = connect(source)
    undo.callback(hang_up, connection)
    lift_limits(connection)
    if options.role:
        assume(connection, options.role)
    return connection


def large_objects(entry: Entry) -> tuple[int, ...]:
    """The oids of the large objects that an entry makes; none for other kinds."""
    if entry.kind == "BLOB METADATA":
        # Its definition is a list of numbers: src/bin/pg_dump/pg_backup_archiver.c.
        return tuple(map(int, entry.definition.split()))
    return (int(entry.name),) if entry.kind == "BLOB" else ()


def _drop_of(kind: str, name: str) -> Drop:
    return Drop(ObjectName(kind, "", name), f"DROP {kind} {quoted(name)};")


def _drops(chosen: Chosen) -> Iterator[Drop]:
    """What takes away all that is chosen, the last first."""
    entries: Sequence[Entry] = (*chosen.definitions, *chosen.finish, *chosen.attachments)
    for entry in reversed(entries):
        if oids := large_objects(entry):
            yield from map(Drop.of_large_object, oids)
        elif entry.drop:
            yield Drop(ObjectName(entry.kind, entry.schema or "", entry.name), entry.drop)
