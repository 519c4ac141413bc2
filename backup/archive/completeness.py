"""Does the archive hold what the source held? Compared before the dump is allowed to count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from backup.archive.toc import Entry, TableOfContents
from backup.errors import VerificationError
from backup.model import Inventory, Member, Relation

# pg_class.relkind and the word of pg_dump's table of contents. Sequences are left out: those of
# identity columns and of extensions come and go with their owners.
_KINDS = {
    "r": "TABLE",
    "p": "TABLE",
    "f": "FOREIGN TABLE",
    "v": "VIEW",
    "m": "MATERIALIZED VIEW",
}
_MOST_NAMES = 10

_Named = tuple[str, str, str]


def check_contents(
    contents: TableOfContents, inventory: Inventory, with_data: Iterable[Relation]
) -> None:
    """Compare the table of contents with the inventory of the same snapshot.

    `with_data` are the tables whose rows must be dumped. Raises VerificationError for a relation
    in the one and not in the other.
    """
    expected, found = _expected(inventory, with_data), _found(contents)
    if missing := expected - found:
        raise _difference("the dump misses what the database holds", missing)
    if extra := _extra(expected, found):
        raise _difference("the dump holds what the inventory of its snapshot does not", extra)


def contradictions(
    contents: TableOfContents, members: Sequence[Member], inventory: Inventory
) -> Iterator[str]:
    """What a table of contents and a manifest say otherwise than one another, in words."""
    expected = _expected(inventory, (each for each in inventory.relations if each.rows is not None))
    found = _found(contents)
    for each in sorted(expected - found):
        yield f"{_text(each)} is in the manifest's inventory, and not in the archive"
    for each in sorted(_extra(expected, found)):
        yield f"{_text(each)} is in the archive, and not in the manifest's inventory"
    present = {member.data_file for member in members}
    for name in sorted(contents.data_files().keys() - present):
        yield f"{name} is in the archive's table of contents, and not in the manifest"
    tables = _tables(contents)
    for member in members:
        entry = tables.get(member.data_file)
        of = (entry.schema or "", entry.name) if entry else (None, None)
        if (member.schema, member.table) != of:
            told = f"the rows of {member.schema}.{member.table}" if member.table else "no rows"
            yield f"{member.name} is {told} in the manifest alone"
    held = sum(member.name.startswith("blob_") for member in members)
    if held != inventory.large_objects:
        yield f"it has {held} large objects, and {inventory.large_objects} in its inventory"


def check_members(
    contents: TableOfContents, members: Sequence[Member], inventory: Inventory
) -> None:
    """Every file that the table of contents promises, and every large object, is a member."""
    present = {member.data_file for member in members}
    if missing := {name for name in contents.data_files() if name not in present}:
        raise VerificationError(
            f"{len(missing)} files of the dump are missing",
            detail="the table of contents names " + ", ".join(sorted(missing)[:_MOST_NAMES]),
            hint="nothing was stored; run the backup again and report it if it happens twice",
        )
    large_objects = sum(member.name.startswith("blob_") for member in members)
    if large_objects != inventory.large_objects:
        raise VerificationError(
            f"the dump holds {large_objects} large objects of {inventory.large_objects}",
            detail="both were read in the same snapshot",
            hint="nothing was stored; run the backup again and report it if it happens twice",
        )


def with_tables(contents: TableOfContents, members: Iterable[Member]) -> list[Member]:
    """The members, each table's data with the name of its table."""
    tables = _tables(contents)
    named = []
    for member in members:
        entry = tables.get(member.data_file)
        named.append(member.of_table(entry.schema or "", entry.name) if entry else member)
    return named


def _tables(contents: TableOfContents) -> dict[str, Entry]:
    """Whose rows a file holds."""
    files = contents.data_files().items()
    return {name: entry for name, entry in files if entry.kind == "TABLE DATA"}


def _expected(inventory: Inventory, with_data: Iterable[Relation]) -> set[_Named]:
    """Kind, schema and name of what an archive of that inventory must hold."""
    expected = {
        (_KINDS[relation.kind], relation.schema, relation.name)
        for relation in inventory.relations
        if relation.kind in _KINDS
    }
    return expected | {("TABLE DATA", table.schema, table.name) for table in with_data}


def _found(contents: TableOfContents) -> set[_Named]:
    words = {*_KINDS.values(), "TABLE DATA"}
    return {
        (entry.kind, entry.schema or "", entry.name)
        for entry in contents.entries
        if entry.kind in words
    }


def _extra(expected: set[_Named], found: set[_Named]) -> set[_Named]:
    # Tables of extensions bring rows and no definition.
    return {each for each in found - expected if each[0] != "TABLE DATA"}


def _text(named: _Named) -> str:
    kind, schema, name = named
    return f"{kind} {schema}.{name}"


def _difference(message: str, differing: set[_Named]) -> VerificationError:
    names = [_text(each) for each in sorted(differing)]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return VerificationError(
        f"{message}: {len(names)} in all",
        detail=", ".join(names[:_MOST_NAMES]) + more,
        hint="nothing was stored; if a migration ran meanwhile, run the backup again"
        " and report it if it happens twice",
    )
