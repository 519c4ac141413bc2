"""Which entries of an archive a choice of objects means: they, their parts and what they need."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass

from backup.archive.belonging import (
    ANNOTATIONS,
    KEYS,
    RELATIONS,
    Belongings,
    belongings,
    full_name,
    is_identity,
)
from backup.archive.ties import TIES, Ties
from backup.archive.toc import Entry, TableOfContents
from backup.model import ObjectName

_TYPES = frozenset({"TYPE", "DOMAIN", "TABLE", "EXTENSION"})
# Nothing says that it needs these; they come with the types that they are for. A cast is used by
# views, an operator class by primary keys.
_OF_TYPES = frozenset({"CAST", "OPERATOR CLASS"})


@dataclass(frozen=True, slots=True)
class Choice:
    """Dump ids: of what comes, of the partitions to attach last, of what cannot come and why."""

    wanted: Set[int]
    attached: Set[int]
    reasons: Mapping[int, str]


def choose(
    contents: TableOfContents,
    roots: Collection[int],
    present: Set[ObjectName],
    expected: Collection[int] = (),
) -> Choice:
    """`roots` with their parts and needs; each of `expected` that does not come has its reason."""
    links = belongings(contents)
    chosen = _with_partitions(links, roots)
    reach = _Reach(links, present)
    for dump_id in sorted(chosen):
        reach.choose(dump_id)
    reach.close()
    ties = Ties(links, present, chosen, reach.needed_by)
    for entry in contents.entries:
        ties.decide(entry)
    wanted = ties.wanted | {
        entry.dump_id
        for entry in contents.entries
        if entry.kind in ANNOTATIONS and links.owners.get(entry.dump_id) in ties.wanted
    }
    reasons = reach.kept | ties.reasons
    for dump_id in expected:
        entry, owner = links.entries[dump_id], links.owners.get(dump_id)
        explained = dump_id in reasons or owner in reasons or dump_id in ties.attached
        # The attachment of a partition attaches its indexes.
        if dump_id not in wanted and not explained and entry.kind != "INDEX ATTACH":
            reasons[dump_id] = _why_lost(links, entry)
    return Choice(wanted, ties.attached, reasons)


def _with_partitions(links: Belongings, roots: Collection[int]) -> set[int]:
    chosen, queue = set(roots), deque(roots)
    while queue:
        more = [each for each in links.partitions.get(queue.popleft(), ()) if each not in chosen]
        chosen.update(more)
        queue += more
    return chosen


def _why_lost(links: Belongings, entry: Entry) -> str:
    owner = links.owners.get(entry.dump_id)
    if owner is not None and links.entries[owner].kind != "SCHEMA":
        return f"it belongs to {full_name(links.entries[owner])}, which does not come"
    return "it alters what this restore does not make"


class _Reach:
    """What is needed, followed through the dependencies. `needed_by` is what comes, by whom."""

    def __init__(self, links: Belongings, present: Set[ObjectName]) -> None:
        self._links = links
        self._present = present
        self._queue: deque[int] = deque()
        self.needed_by: dict[int, int | None] = {}
        self.kept: dict[int, str] = {}

    def choose(self, dump_id: int) -> None:
        """Take what is chosen by itself, not as a part: a relation even where it is present."""
        entry = self._links.entries[dump_id]
        if entry.kind in ANNOTATIONS:
            return
        if entry.kind in RELATIONS:
            self._take(dump_id, None)
        elif dump_id in self._links.owners or entry.kind in TIES or entry.kind == "DEFAULT ACL":
            # The rows of an extension's table come without it, and need the extension.
            if entry.kind == "TABLE DATA" and dump_id not in self._links.owners:
                self._take(dump_id, None)
        elif not self._is_present(entry):
            self._take(dump_id, None)
        elif entry.kind != "SCHEMA":
            self.kept[dump_id] = "the target has it already, and it was left as it is there"

    def close(self) -> None:
        while self._queue:
            dump_id = self._queue.popleft()
            entry = self._links.entries[dump_id]
            for needed in self._needs(entry):
                self._need(needed, dump_id)
            for part in self._links.parts.get(dump_id, ()):
                if self._links.entries[part].kind not in TIES | ANNOTATIONS:
                    self._take(part, dump_id)
            for each in self._links.dependents.get(dump_id, ()):
                if self._links.entries[each].kind in _OF_TYPES and self._types_come(each):
                    self._take(each, dump_id)

    def _needs(self, entry: Entry) -> Iterator[Entry]:
        links = self._links
        for dump_id in links.needs[entry.dump_id]:
            needed = links.entries[dump_id]
            if (
                needed.kind in ANNOTATIONS
                # The same of the partitioned table, made before that of the partition.
                or (entry.kind in KEYS and needed.kind in KEYS)
                # A partition is made by itself, then attached.
                or links.parents.get(entry.dump_id) == dump_id
                # A sequence is made by itself, then owned, unless it is made by its table.
                or (
                    entry.kind == "SEQUENCE"
                    and links.owners.get(entry.dump_id) == dump_id
                    and not is_identity(entry)
                )
            ):
                continue
            yield needed

    def _need(self, needed: Entry, by: int) -> None:
        owner = self._links.owners.get(needed.dump_id)
        if owner is not None and needed.kind != "SEQUENCE":
            needed = self._links.entries[owner]  # which brings it
        if not self._is_present(needed):
            self._take(needed.dump_id, by)

    def _take(self, dump_id: int, by: int | None) -> None:
        if dump_id not in self.needed_by:
            self.needed_by[dump_id] = by
            self._queue.append(dump_id)

    def _is_present(self, entry: Entry) -> bool:
        return ObjectName(entry.kind, entry.schema or "", entry.name) in self._present

    def _types_come(self, dump_id: int) -> bool:
        types = [
            each for each in self._links.needs[dump_id] if self._links.entries[each].kind in _TYPES
        ]
        return bool(types) and all(each in self.needed_by for each in types)
