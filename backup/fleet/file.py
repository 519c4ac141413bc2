"""The databases that the fleet's file names, each with its inputs, or every fault of the file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from yaml import MappingNode, Node

from backup.errors import Fault, InputError
from backup.fleet.document import (
    Complaint,
    Unreadable,
    Value,
    compose,
    keys_of,
    line_of,
    shown,
)
from backup.inputs.entries import LABELS, OF_A_DATABASE, unfit
from backup.settings import Settings
from backup.wording import count

# How an entry's inputs become settings, with what is wrong with them.
Examine = Callable[[Mapping[str, str]], tuple[Settings, list[Fault]]]

_SECTIONS = ("defaults", "databases")
_LONGEST_NAME = 100
_MOST_TOLD = 50


@dataclass(frozen=True, slots=True)
class Member:
    """A database of the fleet. `inputs` are those of the file, its own and the defaults."""

    name: str
    database: str
    group: str | None
    line: int
    inputs: Mapping[str, str]
    settings: Settings


@dataclass(frozen=True, slots=True)
class Fleet:
    """Every database of a file, in its order."""

    file: str
    members: tuple[Member, ...]

    def of(self, group: str | None) -> tuple[Member, ...]:
        """The databases of a group, or all of them. Raises InputError for a group of nobody."""
        found = tuple(each for each in self.members if group in (None, each.group))
        if found:
            return found
        groups = sorted({each.group for each in self.members if each.group})
        near = difflib.get_close_matches(group or "", groups, n=1)
        raise InputError(
            f"{self.file} has no database of group {group!r}",
            detail=f"its groups are {', '.join(groups)}" if groups else "no database has a group",
            hint=f"fleet-group: {near[0]}" if near else "give a database a group: group: eu",
        )


def read_fleet(file: str, content: bytes, examine: Examine) -> Fleet:
    """The fleet of a file's content. Raises InputError with every fault and its line."""
    reading = _Reading(examine)
    try:
        members = reading.members(content)
    except Unreadable as error:
        members, reading.complaints = [], [error.complaint]
    complaints = sorted(set(reading.complaints), key=lambda each: (each.line, each.subject))
    if not complaints:
        return Fleet(file, tuple(members))
    told = [f"{file}:{each}" for each in complaints[:_MOST_TOLD]]
    more = len(complaints) - _MOST_TOLD
    raise InputError(
        f"{count(len(complaints), 'fault')} in {file}",
        detail="\n".join([*told, *([f"and {more:,} more"] if more > 0 else [])]),
        hint="correct them; docs/fleets.md of the action describes the file",
    )


class _Reading:
    """One pass over the file, which remembers what is wrong."""

    def __init__(self, examine: Examine) -> None:
        self.complaints: list[Complaint] = []
        self._examine = examine
        self._names: dict[str, int] = {}
        self._places: dict[tuple[str, str, str], int] = {}
        self._defaults: dict[str, Value] = {}
        self._default_texts: dict[str, str] = {}

    def members(self, content: bytes) -> list[Member]:
        """Raises Unreadable."""
        root = compose(content)
        sections = keys_of(root, "", self.complaints)
        for name, value in sections.items():
            if name not in _SECTIONS:
                near = difflib.get_close_matches(name, _SECTIONS, n=1)
                remedy = f"did you mean {near[0]}?" if near else "the file has defaults, databases"
                self._complain(value.line, shown(name), "is not known", remedy)
        defaults = sections.get("defaults")
        if defaults and defaults.text != "":
            self._read_defaults(defaults)
        databases = sections.get("databases")
        if databases is None:
            remedy = "write databases: and below it - database: shop"
            self._complain(line_of(root), "databases", "is missing", remedy)
            return []
        if not databases.items:
            problem = "is no list" if databases.items is None else "has no database"
            self._complain(databases.line, "databases", problem, "write - database: shop below it")
            return []
        found = [self._member(n, node) for n, node in enumerate(databases.items, 1)]
        return [each for each in found if each]

    def _read_defaults(self, defaults: Value) -> None:
        self._defaults = keys_of(defaults.node, "defaults", self.complaints)
        if name := self._defaults.pop("name", None):
            self._complain(name.line, "defaults: name", "is of one database", "move it there")
        self._default_texts = self._texts(self._defaults, "defaults")

    def _member(self, number: int, node: Node) -> Member | None:
        line = line_of(node)
        own = keys_of(node, f"database {number}", self.complaints)
        if not isinstance(node, MappingNode):
            return None
        said = next((own[key].text for key in ("name", "database") if key in own), None)
        subject = shown(said) if said else f"database {number}"
        before = len(self.complaints)
        values = {**self._defaults, **own}
        texts = self._default_texts | self._texts(own, subject)
        inputs = {name: text for name, text in texts.items() if text and name not in LABELS}
        refused = values.keys() - texts.keys()  # told of already
        if not texts.get("database", "").strip() and "database" not in refused:
            self._complain(line, subject, "database is missing", "name it, as in database: shop")
        name = self._label(values, "name", subject, line, texts.get("database", ""))
        group = self._label(values, "group", subject, line, "")
        if name in self._names:
            problem = f"is the name of the one in line {self._names[name]} too"
            self._complain(line, shown(name), problem, "give each its own, as in name: shop-eu")
        elif name:
            self._names[name] = line
        settings, faults = self._examine(inputs)
        for fault in faults:
            if fault.option not in refused:
                self._tell(fault, subject, line, own)
        if len(self.complaints) > before:
            return None
        self._compare(name, settings, line)
        return Member(name, inputs["database"].strip(), group or None, line, inputs, settings)

    def _texts(self, values: Mapping[str, Value], subject: str) -> dict[str, str]:
        """The inputs and labels with their texts; what cannot be one is told of and left out."""
        texts: dict[str, str] = {}
        for name, value in values.items():
            about = f"{subject}: {shown(name)}"
            wrong = _unfit(name)
            text = value.text
            if wrong:
                self._complain(value.line, about, *wrong)
            elif text is None:
                self._complain(value.line, about, *_no_text(value))
            elif "\0" in text or not _is_text(text):
                self._complain(value.line, about, "holds what is no character", "take it out")
            else:
                texts[name] = text
        return texts

    def _label(
        self, values: Mapping[str, Value], key: str, subject: str, line: int, otherwise: str
    ) -> str:
        text = ((values[key].text if key in values else None) or otherwise).strip()
        if len(text) <= _LONGEST_NAME and text.isprintable():
            return text
        where = values[key].line if key in values else line
        problem = f"is no {key} that a job can have"
        remedy = f"write {key}: with printable characters, {_LONGEST_NAME} at the most"
        self._complain(where, f"{subject}: {key}", problem, remedy)
        return ""

    def _tell(self, fault: Fault, subject: str, line: int, own: Mapping[str, Value]) -> None:
        """A fault of an input, at the line that gives the input, or else at the database."""
        if (fault.option, fault.problem) == ("database", "is missing"):
            return  # told already
        if fault.option in own:
            line = own[fault.option].line
        elif fault.option in self._defaults:
            subject, line = "defaults", self._defaults[fault.option].line
        self._complain(line, f"{subject}: {fault.option}", fault.problem, fault.remedy)

    def _compare(self, name: str, settings: Settings, line: int) -> None:
        """Two databases in one place could not be told apart."""
        place = (settings.bucket.name, settings.bucket.prefix, settings.database or "")
        if place in self._places:
            problem = f"its backups would lie among those of line {self._places[place]}"
            remedy = "give one of them a prefix of its own, as in prefix: postgresql/eu"
            self._complain(line, shown(name), problem, remedy)
        self._places.setdefault(place, line)

    def _complain(self, line: int, subject: str, problem: str, remedy: str) -> None:
        self.complaints.append(Complaint(line, subject, problem, remedy))


def _unfit(name: str) -> tuple[str, str] | None:
    if name in LABELS:
        return None
    if wrong := unfit(name):
        return wrong
    if name not in OF_A_DATABASE:
        return "is of a step, and not of a database", f"give it to the step: {name}: …"
    return None


def _no_text(value: Value) -> tuple[str, str]:
    items: Sequence[object] | None = value.items
    if items is not None:
        return "is a list", "write several lines as one text, behind a bar: |"
    return "is no text", "write a text, a number, true or false"


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
