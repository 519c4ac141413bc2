"""What a restore brings, and every reason not to begin it: all found before the first write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from backup.archive.completeness import contradictions
from backup.archive.selection import Chosen, dependents, everything, of_schemas, of_tables
from backup.archive.toc import TableOfContents
from backup.errors import InputError, VerificationError
from backup.model import Extension, ObjectName
from backup.operations.obtaining import OpenedBackup
from backup.operations.target_site import Site, large_objects
from backup.postgres.patterns import matching_names, matching_schema_names
from backup.postgres.refusals import (
    Lack,
    lacking_extensions,
    lacking_roles,
    refuse_closed,
    refuse_collisions,
    refuse_doubling,
    refuse_older,
    refuse_the_source,
    refuse_unless_new,
    refuse_unwritable,
)
from backup.postgres.statements import grantees
from backup.postgres.target import filled_configuration, large_objects_among
from backup.settings import RestoreSettings
from backup.wording import count, size

_RELATIONS = ("TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE")
_MOST_NAMES = 10


@dataclass(frozen=True)
class RestorePlan:
    """The entries to load; `needed` are those that come only because others need them."""

    chosen: Chosen
    needed: frozenset[int]
    lacking_extensions: tuple[Lack, ...]
    lacking_roles: tuple[Lack, ...]


def plan_restore(opened: OpenedBackup, site: Site, options: RestoreSettings) -> RestorePlan:
    """Choose what to restore, and refuse a target that is not to be written to.

    Raises InputError, AccessError, and VerificationError for a backup that contradicts itself.
    """
    manifest, contents, target = opened.manifest, opened.contents, site.target
    _refuse_contradictions(opened)
    if site.exists:
        refuse_unwritable(target)
        refuse_the_source(
            target,
            host=manifest.host,
            port=manifest.port,
            database=manifest.database,
            confirmed=options.confirmed_target,
        )
        refuse_unless_new(
            target,
            allow_existing=options.allow_existing,
            clean=options.clean,
            confirmed=options.confirmed_target,
        )
    refuse_older(target, manifest.server)
    extensions = lacking_extensions(target, _extensions(opened))
    without = _without(contents, extensions)
    chosen = _choose(opened, site, options, without)
    needed = _needed(chosen, options)
    if site.exists:
        refuse_closed(target, {entry.schema for entry in chosen.definitions if entry.schema})
        refuse_doubling(target, _filled(site, chosen))
    if site.exists and not options.clean:
        theirs = _large_objects_there(site, chosen)
        beside = replace(target, holds=(*target.holds, *theirs))
        refuse_collisions(beside, (*_made(chosen, needed), *theirs))
    _refuse_a_small_disk(opened, site, chosen, options)
    # with-globals is about to create them.
    roles = [] if options.with_globals else lacking_roles(target, _roles(chosen, options))
    return RestorePlan(chosen, needed, tuple(extensions), tuple(roles))


def _choose(
    opened: OpenedBackup, site: Site, options: RestoreSettings, without: dict[int, str]
) -> Chosen:
    contents, connection = opened.contents, site.connection
    # With `clean` what is asked for is dropped and made anew; all else that is there stays.
    if options.tables:
        names = {
            (entry.schema or "", entry.name)
            for entry in contents.entries
            if entry.kind in (*_RELATIONS, "TABLE DATA")
        }
        tables = matching_names(connection, "tables", options.tables, names)
        return of_tables(contents, tables, site.target.holds)
    if options.schemas:
        schemas = {entry.schema for entry in contents.entries if entry.schema}
        schemas |= {entry.name for entry in contents.entries if entry.kind == "SCHEMA"}
        wanted = matching_schema_names(connection, "schemas", options.schemas, schemas)
        return of_schemas(contents, wanted, site.target.holds)
    return everything(contents, without=without)


def _without(contents: TableOfContents, lacks: Iterable[Lack]) -> dict[int, str]:
    """What cannot come because the target lacks an extension, with the reason.

    Raises InputError where that would be a table with its rows.
    """
    without: dict[int, str] = {}
    by_id = {entry.dump_id: entry for entry in contents.entries}
    for lack in lacks:
        names = (("EXTENSION", lack.name), ("COMMENT", f"EXTENSION {lack.name}"))
        own = {each.dump_id for each in contents.entries if (each.kind, each.name) in names}
        reason = f"it needs the extension {lack.name}: {lack.consequence}"
        tied = own | dependents(contents, own)
        if lost := [f"{by_id[each].schema}.{by_id[each].name}" for each in sorted(tied)
                    if by_id[each].kind == "TABLE DATA"]:  # fmt: skip
            more = f" and {len(lost) - _MOST_NAMES} more" if len(lost) > _MOST_NAMES else ""
            raise InputError(
                f"the target lacks the extension {lack.name}, and"
                f" {count(len(lost), 'table')} of the backup cannot be without it",
                detail=f"{lack.consequence}: {', '.join(lost[:_MOST_NAMES])}{more}",
                hint=f"{lack.remedy}; or restore the rest by name, with tables or schemas",
            )
        without |= dict.fromkeys(tied, reason)
    return without


def _extensions(opened: OpenedBackup) -> Iterator[Extension]:
    """Those that the archive creates, with the version that the source had."""
    versions = {each.name: each for each in opened.manifest.inventory.extensions}
    for entry in opened.contents.entries:
        if entry.kind == "EXTENSION":
            yield versions.get(entry.name) or Extension(entry.name, "", "")


def _needed(chosen: Chosen, options: RestoreSettings) -> frozenset[int]:
    """In a restore of some tables, whatever is no relation may be there already."""
    if not (options.tables or options.schemas):
        return frozenset()
    return frozenset(entry.dump_id for entry in chosen.definitions if entry.kind not in _RELATIONS)


def _made(chosen: Chosen, needed: frozenset[int]) -> Iterator[ObjectName]:
    """What must not be there yet."""
    for entry in (*chosen.definitions, *chosen.finish):
        if entry.dump_id not in needed and entry.kind not in ("SCHEMA", "EXTENSION"):
            yield ObjectName(entry.kind, entry.schema or "", entry.name)


def _large_objects_there(site: Site, chosen: Chosen) -> list[ObjectName]:
    """Those of the backup that the target has, and not from an unfinished restore."""
    made = [oid for entry in chosen.definitions for oid in large_objects(entry)]
    there = [ObjectName("BLOB", "", str(oid)) for oid in large_objects_among(site.connection, made)]
    undone = {each.name for each in site.leftover.drops} if site.leftover else set()
    return [each for each in there if each not in undone]


def _filled(site: Site, chosen: Chosen) -> Iterator[ObjectName]:
    """Tables of the target's extensions that hold rows, and that the backup has rows for."""
    created = {(each.schema, each.name) for each in chosen.definitions if each.kind == "TABLE"}
    wanted = {
        (each.schema or "", each.name)
        for each in chosen.data
        if each.kind == "TABLE DATA" and (each.schema, each.name) not in created
    }
    undone = {each.name for each in site.leftover.drops} if site.leftover else set()
    for extension, table in filled_configuration(site.connection, wanted) if wanted else ():
        if ObjectName("EXTENSION", "", extension) not in undone:
            yield table


def _roles(chosen: Chosen, options: RestoreSettings) -> Iterator[str]:
    """Owners and grantees."""
    for entry in chosen.entries:
        if not options.no_owner:
            yield entry.owner
        if entry.kind in ("ACL", "DEFAULT ACL") and not options.no_privileges:
            yield from grantees(entry.definition)


def _refuse_contradictions(opened: OpenedBackup) -> None:
    """An archive without a table that its manifest promises would restore without a word."""
    manifest = opened.manifest
    found = [*contradictions(opened.contents, manifest.members, manifest.inventory)]
    if found:
        more = f"; and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
        raise VerificationError(
            f"the archive and the manifest of backup {manifest.id} contradict each other",
            detail="; ".join(found[:_MOST_NAMES]) + more,
            hint="restore another backup (operation: list shows them), and look who has changed"
            " this one; by hand, pg_restore takes what there is of it",
        )


def _refuse_a_small_disk(
    opened: OpenedBackup, site: Site, chosen: Chosen, options: RestoreSettings
) -> None:
    """Where the disk of the target can be seen. Raises InputError."""
    if options.clean or site.leftover:
        return  # what is dropped first gives its room back, and nobody knows how much
    tables = {(entry.schema, entry.name) for entry in chosen.data}
    needed = sum(
        relation.size_bytes
        for relation in opened.manifest.inventory.relations
        if (relation.schema, relation.name) in tables
    )
    free = site.target.free_bytes
    if free is not None and free < needed:
        raise InputError(
            f"the target's disk has {size(free)} free, and the tables alone took {size(needed)}",
            detail="that was their size in the source, without indexes",
            hint="give the server more storage, or restore fewer tables",
        )
