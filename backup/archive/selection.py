"""What of an archive is restored, in which of the three steps, and what cannot come.

pg_restore is given lists of entries (`-L`), so what it would choose by itself (_tocEntryRequired
in src/bin/pg_dump/pg_backup_archiver.c) is chosen here: its own `-t` leaves out a table's indexes,
keys, defaults, sequences, triggers and types.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from backup.archive.belonging import ANNOTATIONS, RELATIONS, belongings
from backup.archive.choosing import Choice, choose
from backup.archive.toc import Entry, TableOfContents
from backup.errors import DumpError
from backup.model import ObjectName

# pg_restore takes these from every archive by itself (REQ_SPECIAL).
_SETTINGS = frozenset({"ENCODING", "STDSTRINGS", "SEARCHPATH"})
_DATA = frozenset({"TABLE DATA", "SEQUENCE SET", "BLOBS"})


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What belongs to the restored objects and cannot come.

    `remedy` is the SQL that brings it once its reason is gone, or ''.
    """

    entry: Entry
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The steps of a restore, each in the order of the table of contents, a pg_restore for each.

    `definitions` come before the data, `finish` after it. `attachments` come last, for themselves:
    partitions of tables that the target already holds.
    """

    definitions: tuple[Entry, ...]
    data: tuple[Entry, ...]
    finish: tuple[Entry, ...]
    attachments: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self.definitions + self.data + self.finish + self.attachments


def everything(contents: TableOfContents, *, without: Mapping[int, str] | None = None) -> Chosen:
    """The whole database but for itself; `without` are dump ids with the reason of each."""
    reasons = without or {}
    outside = {entry.dump_id for entry in database_entries(contents)}
    wanted = [
        entry
        for entry in contents.entries
        if entry.kind not in _SETTINGS and entry.dump_id not in outside
    ]
    return _in_steps(
        contents,
        {entry.dump_id for entry in wanted} - reasons.keys(),
        {entry.dump_id: reasons[entry.dump_id] for entry in wanted if entry.dump_id in reasons},
    )


def database_entries(contents: TableOfContents) -> tuple[Entry, ...]:
    """The database itself, its settings, grants, comment and label: what `-C` would restore."""
    return tuple(
        entry
        for entry in contents.entries
        if entry.kind in ("DATABASE", "DATABASE PROPERTIES")
        or (entry.kind in ANNOTATIONS and entry.name.startswith("DATABASE "))
    )


def of_tables(
    contents: TableOfContents,
    tables: Collection[tuple[str, str]],
    present: Collection[ObjectName] = (),
) -> Chosen:
    """Tables, views, sequences … (schema and name), each whole, with what they need.

    `present` is what the target holds: it is neither restored nor altered, but for the tables
    themselves, which come even so. Raises DumpError for a table that the archive does not hold.
    """
    ids = {(entry.schema or "", entry.name): entry.dump_id for entry in _with_names(contents)}
    if missing := [f"{schema}.{name}" for schema, name in tables if (schema, name) not in ids]:
        raise DumpError(
            "the backup does not hold " + ", ".join(missing),
            detail="its table of contents names no such table, view or sequence",
            hint="look at the names in the backup's manifest; they are case-sensitive",
        )
    return _steps_of(contents, choose(contents, {ids[table] for table in tables}, set(present)))


def of_schemas(
    contents: TableOfContents, schemas: Collection[str], present: Collection[ObjectName] = ()
) -> Chosen:
    """Everything that lies in those schemas, with what it needs from elsewhere.

    As with of_tables, its relations come even where `present` holds them, all else does not.
    Raises DumpError for a schema of which the archive holds nothing.
    """
    names = set(schemas)
    inside = {entry.dump_id for entry in contents.entries if entry.schema in names}
    itself = {
        entry.dump_id
        for entry in contents.entries
        if entry.kind == "SCHEMA" and entry.name in names
    }
    known = {entry.schema for entry in contents.entries} | {
        entry.name for entry in contents.entries if entry.dump_id in itself
    }
    if missing := sorted(names - known):
        raise DumpError(
            "the backup holds nothing of the schemas " + ", ".join(missing),
            detail="its table of contents names no object in them",
            hint="look at the names in the backup's manifest; they are case-sensitive",
        )
    # The schema public is in an archive only by what was granted on it.
    said = {
        entry.dump_id
        for entry in contents.entries
        if entry.kind in ANNOTATIONS
        and not entry.schema
        and entry.name.startswith("SCHEMA ")
        and entry.name.removeprefix("SCHEMA ") in names
    }
    choice = choose(contents, inside | itself, set(present), expected=inside | said)
    return _steps_of(contents, choice)


def dependents(contents: TableOfContents, ids: Collection[int]) -> frozenset[int]:
    """Every entry that depends, directly or not, on one of those; without them."""
    links = belongings(contents)
    found = set(ids)
    queue = list(found)
    while queue:
        dump_id = queue.pop()
        following = list(links.dependents.get(dump_id, ()))
        # A view in a circle of dependencies is a dummy until its rule replaces it.
        entry, owner = links.entries.get(dump_id), links.owners.get(dump_id)
        if entry and entry.kind == "RULE" and owner and links.entries[owner].kind == "VIEW":
            following.append(owner)
        queue += [each for each in dict.fromkeys(following) if each not in found]
        found.update(following)
    return frozenset(found - set(ids))


def _with_names(contents: TableOfContents) -> list[Entry]:
    """What a person calls a table; of an extension's table, only its rows are in the archive."""
    rows = [entry for entry in contents.entries if entry.kind == "TABLE DATA"]
    return rows + [entry for entry in contents.entries if entry.kind in RELATIONS]


def _steps_of(contents: TableOfContents, choice: Choice) -> Chosen:
    return _in_steps(contents, choice.wanted, choice.reasons, choice.attached)


def _in_steps(
    contents: TableOfContents,
    wanted: Collection[int],
    reasons: Mapping[int, str],
    attached: Collection[int] = (),
) -> Chosen:
    entries = [entry for entry in contents.entries if entry.dump_id in wanted]
    return Chosen(
        definitions=tuple(entry for entry in entries if _step(entry) == "definitions"),
        data=tuple(entry for entry in entries if _step(entry) == "data"),
        finish=tuple(entry for entry in entries if _step(entry) == "finish"),
        attachments=tuple(entry for entry in contents.entries if entry.dump_id in attached),
        left_out=tuple(
            LeftOut(
                entry,
                reasons[entry.dump_id],
                "" if entry.dump_id in wanted else entry.definition,
            )
            for entry in contents.entries
            if entry.dump_id in reasons
        ),
    )


def _step(entry: Entry) -> str:
    if entry.kind in _DATA:
        return "data"
    # Large objects are made before they are filled: BLOB is of section pre-data until 16, and
    # BLOB METADATA of section data since. Grants come after the data, since an owner may have
    # revoked what loading needs; statistics of rows once there are rows.
    if entry.section == "pre-data" or entry.kind == "BLOB METADATA":
        return "definitions"
    return "finish"
