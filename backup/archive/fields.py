"""JSON that is taken at its word only where it says what it should: each field has its type."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_LONGEST_SECONDS = 1e9  # thirty years; a float could not hold every number of JSON


class Unreadable(ValueError):
    """A field is not what it should be; the text says which, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object, and the path to it. Every method raises Unreadable; unknown fields are left.

    Sizes and counts are whole and never negative; texts hold no NUL.
    """

    path: str
    values: dict[str, Any]

    def text(self, name: str, pattern: re.Pattern[str] | None = None) -> str:
        value = self._field(name)
        if not isinstance(value, str) or "\0" in value:
            raise self.unlike(name, "is no text")
        if pattern and not pattern.fullmatch(value):
            raise self.unlike(name, f"may not be {value[:80]!r}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._list(name)
        if not all(isinstance(value, str) and "\0" not in value for value in values):
            raise self.unlike(name, "is no list of texts")
        return tuple(values)

    def whole(self, name: str, least: int = 0) -> int:
        value = self._field(name)
        # To Python, true is a number.
        if type(value) is not int or value < least:
            raise self.unlike(name, f"is no whole number of {least} or more")
        return value

    def whole_or_none(self, name: str) -> int | None:
        return None if self._field(name) is None else self.whole(name)

    def seconds(self, name: str) -> float:
        value = self._field(name)
        if type(value) not in (int, float) or not 0 <= value < _LONGEST_SECONDS:
            raise self.unlike(name, "is no number of seconds")
        return float(value)

    def moment(self, name: str) -> datetime:
        """A time in UTC with microseconds: 2026-11-22T02:00:00.000000Z."""
        text = self.text(name, _TIME)
        try:
            return datetime.fromisoformat(text)
        except ValueError as error:
            raise self.unlike(name, f"is no time: {text}") from error

    def part(self, name: str) -> Fields:
        return self._as_fields(f"{self._path_of(name)}", self._field(name))

    def part_or_none(self, name: str) -> Fields | None:
        return None if self._field(name) is None else self.part(name)

    def parts(self, name: str) -> Iterable[Fields]:
        path = self._path_of(name)
        for index, value in enumerate(self._list(name)):
            yield self._as_fields(f"{path}[{index}]", value)

    def unlike(self, name: str, problem: str) -> Unreadable:
        return Unreadable(f"{self._path_of(name)} {problem}")

    def _field(self, name: str) -> Any:
        if name not in self.values:
            raise self.unlike(name, "is missing")
        return self.values[name]

    def _list(self, name: str) -> list[Any]:
        value = self._field(name)
        if not isinstance(value, list):
            raise self.unlike(name, "is no list")
        return value

    def _path_of(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    @staticmethod
    def _as_fields(path: str, value: Any) -> Fields:
        if not isinstance(value, dict):
            raise Unreadable(f"{path or 'the whole'} is no JSON object")
        return Fields(path, value)

    @classmethod
    def of(cls, content: bytes) -> Fields:
        """The object that a JSON document is. Raises Unreadable, for a field given twice too."""
        try:
            value = json.loads(
                content, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant
            )
        except Unreadable:
            raise
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"it is no JSON: {error}") from error
        return cls._as_fields("", value)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise Unreadable("a field is there twice in one object")
    return values


def _refuse_constant(name: str) -> None:
    raise Unreadable(f"{name} is no number of JSON")
