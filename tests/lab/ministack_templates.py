"""Functions of a template that ministack does not know where CloudFormation does.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference-conditions.html
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

# ministack has no type information.
_PACKAGE = "ministack.services.cloudformation"
engine: Any = importlib.import_module(f"{_PACKAGE}.engine")
_USERS: tuple[Any, ...] = tuple(
    importlib.import_module(f"{_PACKAGE}.{name}")
    for name in ("engine", "changesets", "handlers", "stacks")
)
_evaluate_conditions = engine._evaluate_conditions


def evaluate_conditions(
    template: Mapping[str, Any], parameters: Mapping[str, Any]
) -> dict[str, bool]:
    """As ministack does, with each Fn::Join of parameters made beforehand."""
    conditions = _joined(template.get("Conditions", {}), parameters)
    found: dict[str, bool] = _evaluate_conditions(
        {**template, "Conditions": conditions}, parameters
    )
    return found


def _joined(node: Any, parameters: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_joined(each, parameters) for each in node]
    if not isinstance(node, dict):
        return node
    if "Fn::Join" not in node:
        return {key: _joined(each, parameters) for key, each in node.items()}
    delimiter, items = node["Fn::Join"]
    if isinstance(items, dict):
        # A list's value is one text here.
        return str(delimiter).join(str(parameters[items["Ref"]]["Value"]).split(","))
    return str(delimiter).join(
        str(parameters[each["Ref"]]["Value"]) if isinstance(each, dict) else str(each)
        for each in items
    )


def install() -> None:
    for module in _USERS:
        module._evaluate_conditions = evaluate_conditions
