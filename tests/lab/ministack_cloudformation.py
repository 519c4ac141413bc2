"""What ministack's CloudFormation lacks: resources it does not know, properties it drops.

A property of a resource that the double would not apply fails the stack, so that a test of a
stack tells the truth. What is named here as ministack's own was read in its provisioners.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

# ministack has no type information.
provisioners: Any = importlib.import_module("ministack.services.cloudformation.provisioners")

Properties = Mapping[str, Any]

# The properties that take effect, by type.
_applied: dict[str, frozenset[str]] = {}


def provide(kind: str, properties: str, **handlers: Any) -> None:
    """A type of resource, with the properties that take effect, separated by spaces.

    `handlers` (create, update, delete) take the place of ministack's, and have its signatures:
    create(logical_id, properties, stack_name) -> (Ref, attributes),
    update(Ref, old, new, stack_name) -> the same (and logical_id with
    `update_with_logical_id=True`), delete(Ref, properties).
    """
    _applied[kind] = frozenset(properties.split())
    if handlers:
        provisioners._RESOURCE_HANDLERS[kind] = handlers


def install() -> None:
    """Put a guard around every type; to be called when all have been provided."""
    known = provisioners._RESOURCE_HANDLERS
    for kind, handlers in known.items():
        known[kind] = {
            **handlers,
            "create": _guarded(kind, handlers["create"], 1),
            **({"update": _guarded(kind, handlers["update"], 2)} if "update" in handlers else {}),
        }


def _guarded(kind: str, function: Callable[..., Any], position: int) -> Callable[..., Any]:
    """`position` is where the properties stand among the function's arguments."""

    @functools.wraps(function)
    def guarded(*arguments: Any, **named: Any) -> Any:
        refuse_unapplied(kind, arguments[position])
        return function(*arguments, **named)

    return guarded


def refuse_unapplied(kind: str, properties: Properties) -> None:
    """Raise ValueError, which fails the stack, for what would be dropped without a word."""
    if kind not in _applied:
        raise ValueError(f"nobody has read what the double does with {kind}: `provide` it")
    # ministack gives a stack's own tags to these, whether the template has tags or not.
    tags, _ = provisioners._STACK_TAG_PROPERTY.get(kind, ("Tags", ""))
    if dropped := sorted(set(properties) - _applied[kind] - {tags}):
        raise ValueError(f"{kind} {', '.join(dropped)} is not applied by the double")
