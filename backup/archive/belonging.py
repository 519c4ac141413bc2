"""What belongs to what in a table of contents: a table's parts, a partition's parent.

pg_dump tells only dependencies, and those of a foreign key name both tables. Which one an entry is
part of is in its tag: `orders orders_pkey` (src/bin/pg_dump/pg_dump.c, dumpConstraint,
dumpTrigger, dumpRule, dumpPolicy, dumpAttrDef).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backup.archive.toc import Entry, TableOfContents

RELATIONS = frozenset({"TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE"})
# Those of section "none": said of another entry, and in an archive without it of an object that
# was not dumped.
ANNOTATIONS = frozenset({"ACL", "COMMENT", "SECURITY LABEL"})
KEYS = frozenset({"INDEX", "CONSTRAINT"})

# The tag is the owner's name, a space and the part's own.
_TAGGED = frozenset(
    {"CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "DEFAULT", "TRIGGER", "RULE", "POLICY"}
)
# The tag is the owner's name.
_NAMESAKES = frozenset(
    {
        "TABLE DATA",
        "MATERIALIZED VIEW DATA",
        "ROW SECURITY",
        "SEQUENCE OWNED BY",
        "SEQUENCE SET",
        "STATISTICS DATA",
        "TABLE ATTACH",
    }
)
# Part of the one object of that kind that it depends on.
_BELOW = {
    "INDEX": RELATIONS - {"SEQUENCE"},
    "STATISTICS": RELATIONS - {"SEQUENCE"},
    "SEQUENCE": frozenset({"TABLE", "FOREIGN TABLE"}),
    "USER MAPPING": frozenset({"SERVER"}),
    "DEFAULT ACL": frozenset({"SCHEMA"}),
}

_IDENTIFIER = r'("(?:[^"]|"")*"|[^\s".(]+)'
_QUALIFIED = rf"{_IDENTIFIER}\.{_IDENTIFIER}"
_INDEXED = re.compile(rf"CREATE (?:UNIQUE )?INDEX {_IDENTIFIER} ON (?:ONLY )?{_QUALIFIED}")
# Operators that GiST has for plain types from btree_gist alone.
_BTREE_IN_GIST = re.compile(
    r" EXCLUDE USING gist .* WITH [<>=]+[,)]| WITHOUT OVERLAPS\)", re.DOTALL
)
# Quoted names are stepped over whole: one may hold the word.
_REFERENCED = re.compile(rf'(?:"(?:[^"]|"")*"|[^"])*?\sREFERENCES {_QUALIFIED}\(')


@dataclass(frozen=True, slots=True)
class Belongings:
    """The entries by their dump id, and how they hang together; ids throughout.

    `owners` gives the object that an entry is part of, `parts` the reverse; `parents` the
    partitioned table of a partition, `partitions` the reverse; `needs` what of the archive an
    entry depends on, `dependents` the reverse.
    """

    entries: Mapping[int, Entry]
    owners: Mapping[int, int]
    parts: Mapping[int, Sequence[int]]
    parents: Mapping[int, int]
    partitions: Mapping[int, Sequence[int]]
    needs: Mapping[int, Sequence[int]]
    dependents: Mapping[int, Sequence[int]]


def belongings(contents: TableOfContents) -> Belongings:
    entries = {entry.dump_id: entry for entry in contents.entries}
    needs = {entry.dump_id: _needs(entry, entries) for entry in contents.entries}
    _add_btree_gist(contents, needs)
    owners: dict[int, int] = {}
    parents: dict[int, int] = {}
    parts, partitions = defaultdict[int, list[int]](list), defaultdict[int, list[int]](list)
    dependents = defaultdict[int, list[int]](list)
    for entry in contents.entries:
        named = [entries[each] for each in needs[entry.dump_id]]
        for each in named:
            dependents[each.dump_id].append(entry.dump_id)
        if entry.kind == "TABLE ATTACH":
            tables = [each for each in named if each.kind in RELATIONS]
            partition = next((each for each in tables if _same_name(each, entry)), None)
            parent = next((each for each in tables if each is not partition), None)
            if partition and parent:
                parents[partition.dump_id] = parent.dump_id
                partitions[parent.dump_id].append(partition.dump_id)
        if owner := _owner(entry, named):
            owners[entry.dump_id] = owner.dump_id
            parts[owner.dump_id].append(entry.dump_id)
    return Belongings(entries, owners, parts, parents, partitions, needs, dependents)


def full_name(entry: Entry) -> str:
    """As a person writes it."""
    return f"{entry.schema}.{entry.name}" if entry.schema else entry.name


def is_identity(sequence: Entry) -> bool:
    """Whether the sequence is made by its table's column: then it cannot come without it."""
    return sequence.definition.startswith("ALTER TABLE")


def referenced_table(foreign_key: Entry) -> tuple[str, str] | None:
    """Schema and name of the table that a foreign key names, also where that was not dumped."""
    found = _REFERENCED.match(foreign_key.definition)
    return (_unquoted(found[1]), _unquoted(found[2])) if found else None


def _needs(entry: Entry, entries: Mapping[int, Entry]) -> list[int]:
    """Without what is not in the archive, and each once."""
    return [each for each in dict.fromkeys(entry.dependencies) if each in entries]


def _add_btree_gist(contents: TableOfContents, needs: Mapping[int, list[int]]) -> None:
    """pg_dump knows on which operator classes an index depends, and not so for a constraint's."""
    for extension in contents.entries:
        if extension.kind == "EXTENSION" and extension.name == "btree_gist":
            for entry in contents.entries:
                if entry.kind == "CONSTRAINT" and _BTREE_IN_GIST.search(entry.definition):
                    needs[entry.dump_id].append(extension.dump_id)


def _owner(entry: Entry, named: Sequence[Entry]) -> Entry | None:
    if entry.kind in ANNOTATIONS:
        # Grants of a column name the table, and the table's own grants.
        return next((each for each in named if each.kind not in ANNOTATIONS), None)
    if entry.kind in _NAMESAKES:
        return next((each for each in named if _same_name(each, entry)), None)
    if entry.kind in _TAGGED:
        return _tagged_owner(entry, named)
    if not (kinds := _BELOW.get(entry.kind)):
        return None
    owners = [each for each in named if each.kind in kinds]
    if len(owners) > 1 and (found := _INDEXED.match(entry.definition)):
        # An expression may name the row type of another table.
        name = (_unquoted(found[2]), _unquoted(found[3]))
        owners = [each for each in owners if (each.schema, each.name) == name]
    return owners[0] if owners else None


def _tagged_owner(entry: Entry, named: Sequence[Entry]) -> Entry | None:
    owners = [
        each
        for each in named
        if each.kind in RELATIONS | {"DOMAIN"}
        and each.schema == entry.schema
        and entry.name.startswith(f"{each.name} ")
    ]
    # `a b c` is `b c` of table `a`, or `c` of table `a b`; the DROP statement quotes `"b c"`.
    owners.sort(key=lambda owner: len(owner.name))
    for owner in owners[:-1]:
        part = entry.name[len(owner.name) + 1 :].replace('"', '""')
        if f' "{part}" ON ' in entry.drop or f' "{part}"' in entry.drop.rpartition(" DROP ")[2]:
            return owner
    return owners[-1] if owners else None


def _same_name(one: Entry, other: Entry) -> bool:
    return (one.schema, one.name) == (other.schema, other.name)


def _unquoted(identifier: str) -> str:
    if identifier.startswith('"'):
        return identifier[1:-1].replace('""', '"')
    return identifier
