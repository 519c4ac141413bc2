"""The JSON Schemas of docs/, closed: nothing that is written may hold a field they leave out."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from tests.lab.aws import REPOSITORY


def published(name: str) -> dict[str, Any]:
    """The schema as docs/ has it."""
    schema: dict[str, Any] = json.loads((REPOSITORY / f"docs/{name}.schema.json").read_text())
    return schema


def validator(name: str) -> Draft202012Validator:
    """The validator of `docs/NAME.schema.json`."""
    return Draft202012Validator(_closed(published(name)), format_checker=FormatChecker())


def _closed(schema: Any) -> Any:
    """The same, with no field beyond those that are described: readers may not be so strict."""
    if isinstance(schema, dict):
        closed = {name: _closed(value) for name, value in schema.items()}
        is_object = "object" in schema.get("type", ()) and "properties" in schema
        return {"additionalProperties": False, **closed} if is_object else closed
    return [_closed(value) for value in schema] if isinstance(schema, list) else schema
