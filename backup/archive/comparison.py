"""Two tables of contents, of the archive and of a dump of what was restored from it.

pg_dump prints every object of a database from the catalogue. What both dumps hold under one name
is there, and what they say of it differently is looked at by its kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from backup.archive.toc import Entry, TableOfContents
from backup.model import Member, ObjectName
from backup.verdicts import Check, Finding, Verdict, check

_DATA = "TABLE DATA"
LARGE_OBJECT = "LARGE OBJECT"
# Of the database itself, whose name is another; pg_restore leaves them out without --create.
_OF_THE_DATABASE = {"DATABASE", "DATABASE PROPERTIES", "ENCODING", "STDSTRINGS", "SEARCHPATH"}
# How large objects are grouped into entries depends on the version; they are compared by number.
_LARGE_OBJECTS = {"BLOB", "BLOBS", "BLOB METADATA"}
_ABOUT_OTHERS = {"COMMENT", "ACL", "SECURITY LABEL"}


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of a table, or a large object, in the archive and in the second dump.

    `copy` is the archive's COPY statement: an heir's columns may have changed their order, which
    is no harm. It is empty for a large object, and `actual` is None where it is not there.
    """

    name: ObjectName
    expected: Member
    actual: Member | None
    copy: str

    @property
    def is_same(self) -> bool:
        return self.actual is not None and self.actual.sha256 == self.expected.sha256


@dataclass(frozen=True, slots=True)
class Dump:
    """An archive with its members."""

    contents: TableOfContents
    members: tuple[Member, ...]

    def rows_of_tables(self) -> Iterator[tuple[ObjectName, Entry, Member]]:
        by_file = {member.data_file: member for member in self.members}
        for file, entry in self.contents.data_files().items():
            if entry.kind == _DATA and file in by_file:
                yield _name(entry), entry, by_file[file]

    def large_objects(self) -> dict[str, Member]:
        """By their number. The files that list them are named `blobs`."""
        return {
            member.data_file.removeprefix("blob_").removesuffix(".dat"): member
            for member in self.members
            if member.data_file.startswith("blob_")
        }


def pairs(archive: Dump, again: Dump) -> list[Data]:
    """All data of the archive, each beside what is there now."""
    actual = {name: member for name, _, member in again.rows_of_tables()}
    found = [
        Data(name, member, actual.get(name), entry.copy)
        for name, entry, member in archive.rows_of_tables()
    ]
    now = again.large_objects()
    return found + [
        Data(ObjectName(LARGE_OBJECT, "", number), member, now.get(number), "")
        for number, member in archive.large_objects().items()
    ]


def added(archive: Dump, again: Dump) -> list[tuple[ObjectName, Entry]]:
    """Tables whose rows the archive does not hold, though their table may be in it."""
    known = {name for name, _, _ in archive.rows_of_tables()}
    return [(name, entry) for name, entry, _ in again.rows_of_tables() if name not in known]


def objects(
    archive: TableOfContents,
    again: TableOfContents,
    excluded: Mapping[ObjectName, str],
    *,
    partial: bool,
) -> Check:
    """The same objects, kind by kind.

    `partial`: the archive is of some schemas or tables, and takes it for granted that what lies
    in no schema, such as an extension, is there.
    """
    expected, actual = _counted(archive), _counted(again)
    findings = [_missing(name, excluded) for name in (expected - actual)]
    findings += [
        Finding(Verdict.FAILED, f"{name} is not in the backup")
        for name in (actual - expected)
        if name.kind != _DATA and not (partial and not name.schema)
    ]
    there, now = _by_name(archive), _by_name(again)
    reworded = [
        str(name)
        for name in there.keys() & now.keys()
        if name.kind not in ("ACL", "DEFAULT ACL", "SEQUENCE SET")
        and not there[name].keys() <= now[name].keys()
    ]
    if reworded:
        shown = ", ".join(sorted(reworded)[:5])
        text = f"the server words {len(reworded)} of them in another way than the source: {shown}"
        findings.append(Finding(Verdict.PROVEN, text))
    kinds = Counter(name.kind for name in expected.elements())
    fine = f"{expected.total()} objects of {len(kinds)} kinds"
    return check("objects", findings, fine)


def sequences(
    archive: TableOfContents, again: TableOfContents, excluded: Mapping[ObjectName, str]
) -> Check:
    """Their values: the `setval` of each."""
    now = {_name(each): each.definition for each in again.entries if each.kind == "SEQUENCE SET"}
    expected = [each for each in archive.entries if each.kind == "SEQUENCE SET"]
    findings = []
    for entry in expected:
        name = _name(entry)
        if name not in now:
            findings.append(_missing(name, excluded))
        elif now[name] != entry.definition:
            was, is_now = entry.definition.strip(), now[name].strip()
            text = f"{entry.schema}.{entry.name} stands at {is_now}, in the backup at {was}"
            findings.append(Finding(Verdict.FAILED, text))
    return check("sequences", findings, f"the values of {len(expected)}")


def constraints(archive: TableOfContents, again: TableOfContents) -> Check:
    """Valid where they were valid. Those that are missing are for `objects` to tell."""
    now = {_name(each): _is_valid(each) for each in again.entries}
    findings = []
    count = 0
    for entry in archive.entries:
        if not entry.kind.endswith("CONSTRAINT"):
            continue
        count += 1
        name, valid = _name(entry), _is_valid(entry)
        if name in now and now[name] != valid:
            text = "is not valid, and it was" if valid else "is valid, and it was not"
            findings.append(Finding(Verdict.FAILED, f"{name} {text}"))
    return check("constraints", findings, f"{count}, valid as in the source")


def owners(archive: TableOfContents, again: TableOfContents, roles: Collection[str]) -> Check:
    """Who owns what. `roles` are those that the restored server has."""
    now = {_name(each): each.owner for each in again.entries}
    findings, seen = [], set()
    for entry in archive.entries:
        name = _name(entry)
        if not _is_compared(name) or name not in now or now[name] == entry.owner or name in seen:
            continue
        seen.add(name)
        text = f"{name} belongs to {now[name]}, in the backup to {entry.owner}"
        lacks = not entry.owner.startswith("pg_") and entry.owner not in roles
        findings.append(Finding(Verdict.NOT_PROVEN if lacks else Verdict.FAILED, text))
    return check(
        "owners", findings, f"of {len({each.owner for each in archive.entries} - {''})} roles"
    )


def grants(archive: TableOfContents, again: TableOfContents) -> Check:
    """Who may do what: the same GRANTs and REVOKEs, in any order."""
    there, now = _by_name(archive), _by_name(again)
    named = sorted(name for name in there if name.kind in ("ACL", "DEFAULT ACL"))
    findings = []
    for name in named:
        if name not in now or _lines(there[name]) == _lines(now[name]):
            continue
        lost = sorted(_lines(there[name]) - _lines(now[name]))
        text = (
            f"{name} of the restored database lacks {' '.join(lost)}"
            if lost
            else f"{name} grants more"
        )
        findings.append(Finding(Verdict.FAILED, text))
    return check("grants", findings, f"on {len(named)} objects")


def _missing(name: ObjectName, excluded: Mapping[ObjectName, str]) -> Finding:
    if name in excluded:
        return Finding(Verdict.NOT_PROVEN, f"{name} was left out: {excluded[name]}")
    return Finding(Verdict.FAILED, f"{name} is missing")


def _name(entry: Entry) -> ObjectName:
    return ObjectName(entry.kind, entry.schema or "", entry.name)


def _is_compared(name: ObjectName) -> bool:
    if name.kind in _OF_THE_DATABASE or name.kind in _LARGE_OBJECTS:
        return False
    return not (name.kind in _ABOUT_OTHERS and name.name.startswith("DATABASE "))


def _counted(contents: TableOfContents) -> Counter[ObjectName]:
    return Counter(name for name in map(_name, contents.entries) if _is_compared(name))


def _by_name(contents: TableOfContents) -> dict[ObjectName, Counter[str]]:
    """Definitions; several entries may have one name, such as grants on columns."""
    found: dict[ObjectName, Counter[str]] = {}
    for entry in contents.entries:
        name = _name(entry)
        if _is_compared(name):
            found.setdefault(name, Counter())[entry.definition] += 1
    return found


def _lines(definitions: Iterable[str]) -> set[str]:
    # Versions put different numbers of spaces between the words.
    lines = (line for definition in definitions for line in definition.splitlines())
    return {" ".join(line.split()) for line in lines}


def _is_valid(entry: Entry) -> bool:
    return not entry.definition.rstrip(" ;\n").endswith(("NOT VALID", "NOT ENFORCED"))
