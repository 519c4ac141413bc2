"""Frozen dataclasses as JSON and back, by the types of their fields: neither side can drift.

Times are UTC with microseconds, tags an object, other tuples lists.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

T = TypeVar("T")

_PAIRS = tuple[tuple[str, str], ...]


class Unreadable(ValueError):
    """A field is not what it should be; the text says which."""


def to_json(value: Any) -> Any:
    """What `json.dumps` takes, of a dataclass and all within it."""
    return _plain(value, type(value))


def from_json(kind: type[T], told: Any, path: str = "") -> T:
    """The dataclass that JSON tells of. Fields that it does not know are left, and one that may be
    None may be missing. Raises Unreadable."""
    if not isinstance(told, Mapping):
        raise Unreadable(f"{path or 'the whole'} is no JSON object")
    hints = typing.get_type_hints(kind)
    values = {
        each.name: _typed(hints[each.name], told.get(each.name), f"{path}.{each.name}".strip("."))
        for each in fields(kind)  # type: ignore[arg-type]
    }
    return kind(**values)


def load(content: bytes) -> Mapping[str, Any]:
    """The JSON object in an object of S3. Raises Unreadable."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise Unreadable("the whole is no JSON object")
    return told


def dump(told: Mapping[str, Any]) -> bytes:
    """Indented: a person may have to read it on the worst of days."""
    text = json.dumps(told, ensure_ascii=False, indent=2)
    return (text + "\n").encode("utf-8", "backslashreplace")


def _plain(value: Any, kind: Any) -> Any:
    if is_dataclass(value):
        hints = typing.get_type_hints(type(value))
        return {
            each.name: _plain(getattr(value, each.name), hints[each.name]) for each in fields(value)
        }
    if isinstance(value, datetime):
        text = value.astimezone(UTC).isoformat(timespec="microseconds")
        return text.replace("+00:00", "Z")
    if kind == _PAIRS:
        return dict(value)
    if isinstance(value, tuple):
        return [_plain(each, type(each)) for each in value]
    return value


def _typed(kind: Any, told: Any, path: str) -> Any:
    """`told` as a value of the type `kind`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if told is None:
            return None
        (kind,) = (each for each in arguments if each is not type(None))
        return _typed(kind, told, path)
    if is_dataclass(kind):
        return from_json(typing.cast(type[Any], kind), told, path)
    if kind == _PAIRS:
        if not isinstance(told, Mapping):
            raise Unreadable(f"{path} is no JSON object")
        return tuple((key, _typed(str, each, f"{path}.{key}")) for key, each in told.items())
    if origin is tuple:
        return _tuple(arguments, told, path)
    if kind is datetime:
        return _moment(told, path)
    # JSON has one kind of number, and to Python true is one.
    fitting = (int, float) if kind is float else (kind,)
    if type(told) not in fitting:
        raise Unreadable(f"{path} is no {kind.__name__}")
    return kind(told)


def _tuple(arguments: tuple[Any, ...], told: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(told, list):
        raise Unreadable(f"{path} is no list")
    kinds = [arguments[0]] * len(told) if arguments[1:] == (...,) else list(arguments)
    if len(kinds) != len(told):
        raise Unreadable(f"{path} is not {len(kinds)} long")
    both = zip(kinds, told, strict=True)
    return tuple(_typed(each, one, f"{path}[{at}]") for at, (each, one) in enumerate(both))


def _moment(told: Any, path: str) -> datetime:
    try:
        moment = datetime.fromisoformat(told)
    except (TypeError, ValueError) as error:
        raise Unreadable(f"{path} is no time") from error
    if moment.tzinfo is None:
        raise Unreadable(f"{path} is a time without a zone")
    return moment.astimezone(UTC)
