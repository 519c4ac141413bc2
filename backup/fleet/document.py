"""A YAML file as its nodes, and the line of everything that is wrong with it.

Nothing is constructed from it: a value is its text as somebody wrote it, so that a database may
be called `no`, and 010 is no octal number. https://yaml.org/spec/1.1/
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml
from yaml import MappingNode, Node

# PyYAML reads some 100 KB a second; a thousand databases of ten lines are less than this.
MOST_BYTES = 1 << 20

_CORE = "tag:yaml.org,2002:"
_MERGE = f"{_CORE}merge"
_NULL = f"{_CORE}null"
_SCALARS = {f"{_CORE}{name}" for name in ("str", "int", "float", "bool", "timestamp", "value")}
_EXAMPLE = "write databases: and below it - database: shop"


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong in a line, the first being 1. `subject` is the key that is meant, or empty."""

    line: int
    subject: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        head = f"{self.subject}: " if self.subject else ""
        return f"{self.line}: {head}{self.problem}; {self.remedy}"


class Unreadable(Exception):
    """The file is no YAML, or none that anyone has to read."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(str(complaint))
        self.complaint = complaint


@dataclass(frozen=True, slots=True)
class Value:
    """What a key holds, and the line of the key."""

    node: Node
    line: int

    @property
    def items(self) -> Sequence[Node] | None:
        """The items of a list; None for what is none."""
        return self.node.value if isinstance(self.node, yaml.SequenceNode) else None

    @property
    def text(self) -> str | None:
        """The text of a scalar, empty for null; None for lists, mappings and tags of one's own."""
        if not isinstance(self.node, yaml.ScalarNode):
            return None
        if self.node.tag == _NULL:
            return ""
        return str(self.node.value) if self.node.tag in _SCALARS else None


def line_of(node: Node) -> int:
    return int(node.start_mark.line) + 1


def shown(text: str) -> str:
    """A key as it may stand in a message: hostile ones escaped, long ones cut."""
    return text if text.isprintable() and len(text) <= 40 else ascii(text)[:40]


def compose(content: bytes) -> Node:
    """The node of the whole file. Raises Unreadable.

    Aliases share their node, so that no file is larger here than it was on disk.
    """
    text = _text(content)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(
            Complaint(line, "", "holds a control character", "take it out of the file")
        ) from error
    except yaml.MarkedYAMLError as error:
        raise Unreadable(_syntax(error)) from error
    except RecursionError as error:
        raise Unreadable(
            Complaint(1, "", "is nested too deep", "write lists and mappings as in docs/fleets.md")
        ) from error
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _NULL):
        raise Unreadable(Complaint(1, "", "is empty", _EXAMPLE))
    return node


def keys_of(node: Node, subject: str, complaints: list[Complaint]) -> dict[str, Value]:
    """The keys of a mapping with those that `<<` merges into it, which yield to its own."""
    found: dict[str, Value] = {}
    seen: set[int] = set()
    waiting = [node]
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:  # an anchor inside of itself, or one that is merged twice
            continue
        seen.add(id(each))
        if isinstance(each, yaml.SequenceNode) and each is not node:
            waiting = [*each.value, *waiting]
        elif isinstance(each, MappingNode):
            own, merged = _own(each, subject, complaints)
            found = {**own, **found}
            waiting = [*merged, *waiting]
        else:
            complaints.append(
                Complaint(line_of(each), subject, "is no mapping", "write key: value, one a line")
            )
    return found


def _own(
    node: MappingNode, subject: str, complaints: list[Complaint]
) -> tuple[dict[str, Value], list[Node]]:
    own: dict[str, Value] = {}
    merged: list[Node] = []
    for key, value in node.value:
        line = line_of(key)
        if key.tag == _MERGE:
            merged.append(value)
        elif not isinstance(key, yaml.ScalarNode):
            complaints.append(Complaint(line, subject, "a key is no text", "write key: value"))
        elif key.value in own:
            about = ": ".join(filter(None, (subject, shown(key.value))))
            problem = f"is given in line {own[key.value].line} already"
            complaints.append(Complaint(line, about, problem, "remove one of the two"))
        else:
            own[str(key.value)] = Value(value, line)
    return own, merged


def _text(content: bytes) -> str:
    if len(content) > MOST_BYTES:
        problem = f"is larger than {MOST_BYTES >> 20} MiB"
        raise Unreadable(Complaint(1, "", problem, "make a file for each part of the fleet"))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(Complaint(line, "", "is not UTF-8", "save the file in UTF-8")) from error


def _syntax(error: yaml.MarkedYAMLError) -> Complaint:
    """PyYAML's words without the texts that it quotes: one of them may be a secret."""
    mark = error.problem_mark or error.context_mark
    line = int(mark.line) + 1 if mark else 1
    words = " ".join(filter(None, (error.context, error.problem)))
    said = re.sub(r" '[^']{2,}'| \"[^\"]{2,}\"", "", words)
    if error.problem and "'\\t'" in error.problem:
        return Complaint(line, "", "is no YAML: a tab", "indent with spaces")
    remedy = "indent alike, with a space behind each colon, and quote texts with signs in them"
    if "alias" in said:
        remedy = "name an anchor (&name) that stands before it, or quote a text that begins with *"
    elif "single document" in said:
        remedy = "leave one document in the file, without --- between"
    return Complaint(line, "", f"is no YAML: {said}", remedy)
