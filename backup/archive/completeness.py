"""Does the archive hold what the source held? Compared before the dump is allowed to count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backup.archive.toc import TableOfContents
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


def check_contents(
    contents: TableOfContents, inventory: Inventory, with_data: Iterable[Relation]
) -> None:
    """Compare the table of contents with the inventory of the same snapshot.

    `with_data` are the tables whose rows must be dumped. Raises VerificationError for a relation
    in the one and not in the other.
    """
    expected = {
        (_KINDS[relation.kind], relation.schema, relation.name)
        for relation in inventory.relations
        if relation.kind in _KINDS
    }
    expected |= {("TABLE DATA", table.schema, table.name) for table in with_data}
    words = {*_KINDS.values(), "TABLE DATA"}
    found = {
        (entry.kind, entry.schema or "", entry.name)
        for entry in contents.entries
        if entry.kind in words
    }
    if missing := expected - found:
        raise _difference("the dump misses what the database holds", missing)
    # Tables of extensions bring rows and no definition.
    if extra := {each for each in found - expected if each[0] != "TABLE DATA"}:
        raise _difference("the dump holds what the inventory of its snapshot does not", extra)


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
    tables = {
        name: entry for name, entry in contents.data_files().items() if entry.kind == "TABLE DATA"
    }
    named = []
    for member in members:
        entry = tables.get(member.data_file)
        named.append(member.of_table(entry.schema or "", entry.name) if entry else member)
    return named


def _difference(message: str, differing: set[tuple[str, str, str]]) -> VerificationError:
    names = [f"{kind} {schema}.{name}" for kind, schema, name in sorted(differing)]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return VerificationError(
        f"{message}: {len(names)} in all",
        detail=", ".join(names[:_MOST_NAMES]) + more,
        hint="nothing was stored; if a migration ran meanwhile, run the backup again"
        " and report it if it happens twice",
    )
