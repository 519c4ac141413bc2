"""Where a drill restores to: a throwaway server of its own, or the database that was named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from backup.archive.manifest import Manifest
from backup.archive.selection import Chosen, database_entries, dependents, everything
from backup.archive.toc import Entry, TableOfContents
from backup.console import Console
from backup.model import Client, Extension, ObjectName, ServerVersion
from backup.operations.choosing import redumper_for, restorer_for
from backup.operations.obtaining import OpenedBackup
from backup.postgres.connection import Source
from backup.postgres.extensions import (
    ConfigSequence,
    ConfigTable,
    Contents,
    Supplied,
    provide,
    supply,
)
from backup.postgres.globals import create_service_roles, load_globals
from backup.postgres.locales import add_collations, create_like
from backup.postgres.servers import choose_server, installed_servers
from backup.postgres.statements import columns_of_copy, grantees, join, quoted, split
from backup.postgres.throwaway import prove_room, throwaway_server
from backup.settings import Selection


@dataclass(frozen=True)
class DrillPlace:
    """An empty database to restore into; `notes` are what of the source it cannot imitate.

    `client` loads, and `redumper` dumps it again; mostly they are the same. `excluded` is what
    cannot come, each with the reason.
    """

    database: Source
    client: Client
    redumper: Client
    chosen: Chosen
    excluded: Mapping[ObjectName, str]
    notes: tuple[str, ...]


def throwaway_place(
    backup: OpenedBackup,
    jobs: int,
    scratch: Path,
    undo: ExitStack,
    console: Console,
    environment: Mapping[str, str],
) -> DrillPlace:
    """A server of the source's major, started here, with its roles and an empty database.

    Raises DumpError, RestoreError or StorageError where there can be none.
    """
    manifest, contents = backup.manifest, backup.contents
    programs = choose_server(manifest.client.major, installed_servers(environment))
    version = ServerVersion(programs.major * 10000, programs.version)
    client = restorer_for(manifest.client, manifest.compression, version, environment)
    redumper = redumper_for(client, version, environment)
    # Not within our own scratch folder, which the account of the server cannot enter.
    disk = scratch.parent
    prove_room(disk, _restored_bytes(manifest))
    server = undo.enter_context(throwaway_server(programs, disk, jobs=jobs))
    console.info(f"PostgreSQL {programs.version}; pg_restore and pg_dump {client.version}")

    supplied = supply(server, _extensions(backup), lambda name: _config_of(contents, name))
    roles = "".join(f"CREATE ROLE {quoted(role)};\n" for role in manifest.inventory.roles)
    create_service_roles(server.source, _roles(backup))
    load_globals(server.source, _without_tablespaces(backup.globals_script() or roles))
    (definition,) = [
        each.definition for each in database_entries(contents) if each.kind == "DATABASE"
    ] or [""]
    encoding = manifest.inventory.encoding
    made = create_like(server, manifest.database, encoding, definition)
    definitions = (entry.definition for entry in contents.entries)
    lacking = provide(made.source, *backup.taken_for_granted())
    notes = [*lacking, *made.notes, *add_collations(server, made, encoding, definitions)]
    notes += [f"extension {name}: the real one was fetched" for name in supplied.fetched]
    notes += [f"extension {name} is an empty stand-in: {why}" for name, why in supplied.stubbed]
    notes += [f"extension {name} is not here: {why}" for name, why in supplied.absent]
    for note in notes:
        console.info(note)
    without = _without(contents, supplied)
    chosen = everything(contents, without=without)
    return DrillPlace(made.source, client, redumper, chosen, excluded_by(chosen), tuple(notes))


def _restored_bytes(manifest: Manifest) -> int:
    """What the backup takes once it is restored, as far as the manifest can tell."""
    inventory = manifest.inventory
    if manifest.selection == Selection():
        return inventory.database_bytes
    dumped = {(each.schema, each.table) for each in manifest.members if each.table}
    tables = sum(
        each.size_bytes for each in inventory.relations if (each.schema, each.name) in dumped
    )
    # Sizes are those of the tables alone: as much again for their indexes.
    return min(inventory.database_bytes, 2 * tables + manifest.stored_bytes)


def _without_tablespaces(script: str) -> str:
    """Their folders are the source's: on its own machine they would be written to."""
    return "\n".join(join(each) for each in split(script) if "TABLESPACE" not in each[:4])


def excluded_by(chosen: Chosen) -> dict[ObjectName, str]:
    """What was left out, by name, with the reason."""
    return {
        ObjectName(each.entry.kind, each.entry.schema or "", each.entry.name): each.reason
        for each in chosen.left_out
    }


def _roles(backup: OpenedBackup) -> Iterator[str]:
    """All that the source had, owners and grantees among them."""
    yield from backup.manifest.inventory.roles
    for entry in backup.contents.entries:
        yield entry.owner
        if entry.kind in ("ACL", "DEFAULT ACL"):
            yield from grantees(entry.definition)


def _extensions(backup: OpenedBackup) -> Iterator[Extension]:
    versions = {each.name: each for each in backup.manifest.inventory.extensions}
    if backup.manifest.is_partial:
        yield from versions.values()
        return
    for entry in backup.contents.entries:
        if entry.kind == "EXTENSION":
            yield versions.get(entry.name) or Extension(entry.name, "1.0", "")


def _config_of(contents: TableOfContents, extension: str) -> list[Contents]:
    """The extension's own tables and sequences whose data is in the archive."""
    own = {
        entry.dump_id
        for entry in contents.entries
        if (entry.kind, entry.name) == ("EXTENSION", extension)
    }
    tied = dependents(contents, own)
    found: list[Contents] = []
    for entry in _config_entries(contents):
        if entry.dump_id not in tied:
            continue
        if entry.kind == "TABLE DATA":
            columns = tuple(columns_of_copy(entry.copy))
            found.append(ConfigTable(entry.schema or "", entry.name, columns))
        else:
            found.append(ConfigSequence(entry.schema or "", entry.name))
    return found


def _config_entries(contents: TableOfContents) -> Sequence[Entry]:
    """Data of tables and sequences that the archive does not create: an extension does."""
    created = {
        (entry.schema, entry.name)
        for entry in contents.entries
        if entry.kind in ("TABLE", "SEQUENCE")
    }
    return [
        entry
        for entry in contents.entries
        if entry.kind in ("TABLE DATA", "SEQUENCE SET")
        and (entry.schema, entry.name) not in created
    ]


def _without(contents: TableOfContents, supplied: Supplied) -> dict[int, str]:
    """What needs the types and functions of an extension that is not here, with the reason."""
    by_name = {entry.name: entry.dump_id for entry in contents.entries if entry.kind == "EXTENSION"}
    comments = {
        entry.name.removeprefix("EXTENSION "): entry.dump_id
        for entry in contents.entries
        if entry.kind == "COMMENT" and entry.name.startswith("EXTENSION ")
    }
    config = {entry.dump_id for entry in _config_entries(contents)}
    without: dict[int, str] = {}
    for name, why in supplied.stubbed:
        own = {by_name[name]} if name in by_name else set()
        tied = dependents(contents, own) - config - {comments.get(name, -1)}
        without |= dict.fromkeys(tied, f"it needs the extension {name}: {why}")
    for name, why in supplied.absent:
        own = {by_name[name]} if name in by_name else set()
        tied = dependents(contents, own) | own
        without |= dict.fromkeys(tied, f"it needs the extension {name}: {why}")
    return without
