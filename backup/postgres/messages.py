"""What pg_restore -v says on stderr, message by message, without rows and without secrets.

A workflow's log has more readers than the database: the values of rows, which PostgreSQL puts
into its errors, and the passwords of foreign servers and subscriptions are left out here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

# warn_or_exit_horribly() in src/bin/pg_dump/pg_backup_archiver.c writes up to four messages: the
# stage, the entry (each only where it is another than last time), the error, and in it the
# statement.
_FIRST_LINE = re.compile(r"pg_restore: (?:(error|fatal|warning|detail|hint): )?(.*)")
_STAGE = re.compile(r"while (?:INITIALIZING|PROCESSING TOC|FINALIZING):")
_ENTRY = re.compile(r"from TOC entry (\d+); ")
_STATEMENT = "Command was: "
_IGNORED = re.compile(r"errors ignored on restore: (\d+)")
_LONGEST_TEXT, _LONGEST_STATEMENT = 4000, 4000

_WITH_SECRETS = re.compile(
    r"\s*(?:CREATE|ALTER) (?:SERVER|USER MAPPING|SUBSCRIPTION|FOREIGN|EXTENSION)"
)
_LITERAL = re.compile(r"'(?:[^']|'')*(?:'|\Z)")
_COPY_CONTEXT = re.compile(r"CONTEXT: .*?(COPY .*?, line \d+).*", re.DOTALL)
_KEY = re.compile(r"=\(.*\)", re.DOTALL)
_FAILING_ROW = re.compile(r"row contains \(.*\)", re.DOTALL)
_SYNTAX = re.compile(
    r'((?:invalid input|malformed|(?:field value|displacement) out of range)[^:]*: )".*"', re.DOTALL
)
_RANGE = re.compile(r'(value )".*"( is out of range)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Message:
    """`level` is error, fatal, warning, detail, hint, or empty for what -v adds.

    `entry_id` is the dump id of the entry that was at work, where an error names one.
    """

    level: str
    entry_id: int | None
    text: str
    statement: str = ""

    @property
    def is_error(self) -> bool:
        return self.level in ("error", "fatal")

    @property
    def ignored_errors(self) -> int | None:
        """The number in the last line of a restore that went on past errors."""
        match = _IGNORED.match(self.text) if self.level == "warning" else None
        return int(match[1]) if match else None


@dataclass
class _Draft:
    """The lines of a message, as far as they have come."""

    level: str
    entry_id: int | None
    text: list[str]
    statement: list[str] = field(default_factory=list)
    in_statement: bool = False
    size: int = 0

    def add(self, line: str) -> None:
        if not self.in_statement and line.startswith(_STATEMENT):
            self.in_statement, self.size = True, 0
            line = line.removeprefix(_STATEMENT)
        part, longest = (
            (self.statement, _LONGEST_STATEMENT)
            if self.in_statement
            else (self.text, _LONGEST_TEXT)
        )
        # A function's body may be megabytes.
        if self.size <= longest:
            part.append(line if self.size + len(line) <= longest else f"{line[:longest]} …")
        self.size += len(line) + 1

    def message(self) -> Message:
        text = _without_rows("\n".join(self.text).strip())
        statement = "\n".join(self.statement).strip()
        if _WITH_SECRETS.match(statement):
            statement = _LITERAL.sub("'…'", statement)
        return Message(self.level, self.entry_id, text, statement)


def read_messages(lines: Iterable[tuple[int, str]]) -> Iterator[Message]:
    """Messages as they end; `lines` come with the process that wrote each.

    A message has ended when its process begins another, and at the end of `lines`.
    """
    drafts: dict[int, _Draft] = {}
    entries: dict[int, int | None] = {}
    for process, line in lines:
        first = _FIRST_LINE.match(line)
        if not first:
            if process in drafts:
                drafts[process].add(line)
            else:
                drafts[process] = _Draft("", None, [line])
            continue
        if process in drafts:
            yield drafts.pop(process).message()
        level, text = first[1] or "", first[2]
        if not level and _STAGE.match(text):
            entries[process] = None
        elif not level and (entry := _ENTRY.match(text)):
            entries[process] = int(entry[1])
        drafts[process] = _Draft(level, entries.get(process) if level else None, [])
        drafts[process].add(text)
    for draft in drafts.values():
        yield draft.message()


def _without_rows(text: str) -> str:
    text = _COPY_CONTEXT.sub(r"CONTEXT:  \1", text)
    text = _SYNTAX.sub(r'\1"…"', text)
    text = _RANGE.sub(r'\1"…"\2', text)
    head, detail, rest = text.partition("\nDETAIL:")
    rest = _FAILING_ROW.sub("row contains (…)", _KEY.sub("=(…)", rest))
    return head + detail + rest
