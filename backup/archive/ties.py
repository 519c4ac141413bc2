"""Entries that tie two objects, or need another's rows: decided once it is known what comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Set

from backup.archive.belonging import RELATIONS, Belongings, full_name, referenced_table
from backup.archive.toc import Entry
from backup.model import ObjectName

TIES = frozenset(
    {
        "FK CONSTRAINT",
        "INDEX ATTACH",
        "MATERIALIZED VIEW DATA",
        "PUBLICATION TABLE",
        "PUBLICATION TABLES IN SCHEMA",
        "SEQUENCE OWNED BY",
        "TABLE ATTACH",
        "TABLE DATA",
    }
)
# Who reads one of these reads what it reads.
_READERS = frozenset({"VIEW", "MATERIALIZED VIEW", "RULE", "FUNCTION", "PROCEDURE", "AGGREGATE"})
_NOWHERE = "which was not chosen and is not in the target"


class Ties:
    """`chosen` come with their rows, what else is in `needed_by` (and by whom) without.

    `wanted` are the dump ids of all that comes, `attached` of the partitions to attach last,
    `reasons` says why of what cannot come.
    """

    def __init__(
        self,
        links: Belongings,
        present: Set[ObjectName],
        chosen: Set[int],
        needed_by: Mapping[int, int | None],
    ) -> None:
        self._links = links
        self._present = present
        self._chosen = chosen
        self._needed_by = needed_by
        self._unread = self._reading_what_is_empty()
        self.wanted = set(needed_by)
        self.attached: set[int] = set()
        self.reasons: dict[int, str] = {}

    def decide(self, entry: Entry) -> None:
        match entry.kind:
            case "TABLE":
                self._partitioned(entry)
            case "TABLE DATA":
                self._rows(entry)
            case "TABLE ATTACH":
                self._partition(entry)
            case "INDEX ATTACH":
                self._partition_of_index(entry)
            case "SEQUENCE OWNED BY":
                self._owned_sequence(entry)
            case "MATERIALIZED VIEW DATA":
                self._refresh(entry)
            case "FK CONSTRAINT":
                self._foreign_key(entry)
            case "PUBLICATION TABLE" | "PUBLICATION TABLES IN SCHEMA":
                # It would alter the publication, which is not part of any table.
                if entry.dump_id in self._chosen or any(
                    each in self.wanted and self._entry(each).kind in RELATIONS
                    for each in self._links.needs[entry.dump_id]
                ):
                    self.reasons[entry.dump_id] = "publications do not come with their tables"

    def _partitioned(self, entry: Entry) -> None:
        partitions = self._links.partitions.get(entry.dump_id, ())
        if self._is_empty(entry.dump_id) and not all(each in self._chosen for each in partitions):
            self.reasons[entry.dump_id] = self._needed_only(entry.dump_id, "its partitions")

    def _rows(self, entry: Entry) -> None:
        table = self._links.owners.get(entry.dump_id)
        if table is None:
            return
        if table in self._chosen:
            self.wanted.add(entry.dump_id)
        elif table in self.wanted:
            self.reasons[entry.dump_id] = self._needed_only(table, "its rows")

    def _partition(self, entry: Entry) -> None:
        partition = self._links.owners.get(entry.dump_id)
        if partition is None or partition not in self.wanted:
            return
        parent = self._links.parents[partition]
        if parent in self.wanted:
            self.wanted.add(entry.dump_id)
        elif self._is_present(parent):
            # Not with the definitions: attaching makes the indexes that the partition lacks, and
            # its own would be the second of their kind.
            self.attached.add(entry.dump_id)
        else:
            self.reasons[entry.dump_id] = f"it is a partition of {self._name(parent)}, {_NOWHERE}"

    def _partition_of_index(self, entry: Entry) -> None:
        """Where the table is attached last, its indexes are with it."""
        # The indexes of all levels above may be named, and only the next one counts.
        owners = {each: self._links.owners.get(each) for each in self._links.needs[entry.dump_id]}
        for index, table in owners.items():
            if table is None or index not in self.wanted:
                continue
            own_names = (entry.name, f"{self._entry(table).name} {entry.name}")
            parent = self._links.parents.get(table)
            if self._entry(index).name in own_names and any(
                above == parent and each in self.wanted for each, above in owners.items() if above
            ):
                self.wanted.add(entry.dump_id)

    def _owned_sequence(self, entry: Entry) -> None:
        sequence = self._links.owners.get(entry.dump_id)
        if sequence is None or sequence not in self.wanted:
            return
        table = self._links.owners.get(sequence)
        if table is None or table in self.wanted or self._is_present(table):
            self.wanted.add(entry.dump_id)
        else:
            self.reasons[entry.dump_id] = f"{self._name(table)} owns it, {_NOWHERE}"

    def _refresh(self, entry: Entry) -> None:
        view = self._links.owners.get(entry.dump_id)
        if view is None or view not in self.wanted:
            return
        if view in self._unread:
            self.reasons[entry.dump_id] = (
                f"it reads {self._name(self._unread[view])}, which comes without its rows"
            )
        else:
            self.wanted.add(entry.dump_id)

    def _foreign_key(self, entry: Entry) -> None:
        table = self._links.owners.get(entry.dump_id)
        if table is None:
            return
        others = {self._table_of(each) for each in self._links.needs[entry.dump_id]} - {table}
        others = {each for each in others if self._entry(each).kind in RELATIONS}
        if table not in self.wanted:
            if others & self._chosen:
                named = self._name((others & self._chosen).pop())
                self.reasons[entry.dump_id] = (
                    f"{self._name(table)}, which refers to {named}, was not chosen:"
                    " add its key back where it is"
                )
            return
        if reason := self._why_unkept(entry, table, others):
            self.reasons[entry.dump_id] = reason
        else:
            self.wanted.add(entry.dump_id)

    def _why_unkept(self, foreign_key: Entry, table: int, others: Set[int]) -> str:
        named = referenced_table(foreign_key)
        own = self._entry(table)
        if not others and named and named != (own.schema, own.name):
            if ObjectName("TABLE", *named) in self._present:
                return ""
            return f"it refers to {'.'.join(named)}, {_NOWHERE}"
        for other in sorted(others):
            if other in self._chosen or (other in self.wanted and table not in self._chosen):
                continue
            if other in self.wanted:
                return f"it refers to {self._name(other)}, which comes without its rows"
            if not self._is_present(other):
                return f"it refers to {self._name(other)}, {_NOWHERE}"
        return ""

    def _reading_what_is_empty(self) -> dict[int, int]:
        """Views and functions that read a table without its rows, each with one such table."""
        found = {each: each for each in self._needed_by if self._is_empty(each)}
        queue = deque(found)
        while queue:
            read = queue.popleft()
            readers = [
                each
                for each in self._links.dependents.get(read, ())
                if self._entry(each).kind in _READERS
            ]
            # A view in a circle of dependencies reads by its rule.
            if self._entry(read).kind == "RULE" and read in self._links.owners:
                readers.append(self._links.owners[read])
            for each in readers:
                if each not in found and self._entry(each).kind != "TABLE":
                    found[each] = found[read]
                    queue.append(each)
        return found

    def _is_empty(self, dump_id: int) -> bool:
        """Whether it is a table that comes, and its rows do not."""
        if dump_id in self._chosen or dump_id not in self._needed_by:
            return False
        parts = self._links.parts.get(dump_id, ())
        return dump_id in self._links.partitions or any(
            self._entry(each).kind == "TABLE DATA" for each in parts
        )

    def _needed_only(self, table: int, lacking: str) -> str:
        by = self._needed_by[table]
        who = f", {self._name(self._table_of(by))} needs it" if by is not None else ""
        return f"{self._name(table)} was not chosen{who}: it comes without {lacking}"

    def _table_of(self, dump_id: int) -> int:
        """The object itself, or that which it is part of."""
        if self._entry(dump_id).kind in RELATIONS:
            return dump_id
        return self._links.owners.get(dump_id, dump_id)

    def _is_present(self, dump_id: int) -> bool:
        entry = self._entry(dump_id)
        return ObjectName(entry.kind, entry.schema or "", entry.name) in self._present

    def _entry(self, dump_id: int) -> Entry:
        return self._links.entries[dump_id]

    def _name(self, dump_id: int) -> str:
        return full_name(self._entry(dump_id))
