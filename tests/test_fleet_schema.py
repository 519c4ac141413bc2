"""The JSON Schema for editors: the options of the table, and what `plan` accepts."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
from jsonschema import Draft7Validator

from backup.inputs.entries import OF_A_DATABASE
from backup.options import OPTIONS
from tests.lab.aws import REPOSITORY

yaml: Any = importlib.import_module("yaml")  # has no type information of its own

# Draft 7 is what the language servers of editors know whole.
SCHEMA = json.loads((REPOSITORY / "docs/fleet.schema.json").read_text())
NAME = {
    "description": "What the database's job is called; its database without it.",
    "type": ["string", "number", "boolean"],
    "maxLength": 100,
}
GROUP = {
    "description": "Part of the fleet that it belongs to, for fleet-group.",
    "type": ["string", "number", "boolean", "null"],
    "maxLength": 100,
}


def inputs() -> dict[str, Any]:
    """The inputs that a file may give, as the table describes them."""
    found: dict[str, Any] = {}
    for option in OPTIONS:
        if option.name not in OF_A_DATABASE:
            continue
        is_flag = option.default in ("true", "false")
        kind = (
            {"enum": [True, False, "true", "false", "", None]}
            if is_flag
            else {"type": ["string", "number", "boolean", "null"]}
        )
        found[option.name] = {"description": option.help, **kind}
        if option.default:
            found[option.name]["default"] = option.default == "true" if is_flag else option.default
    return found


def test_the_schema_has_every_input_that_a_database_may_have() -> None:
    assert {"group": GROUP, **inputs()} == SCHEMA["definitions"]["inputs"]["properties"]
    database = SCHEMA["properties"]["databases"]["items"]
    assert NAME == database["properties"]["name"]
    assert {"name", "group", *OF_A_DATABASE} == set(database["properties"])
    secrets = {option.name for option in OPTIONS if option.secret}
    assert set() == secrets & set(database["properties"])


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        ("databases: [{database: shop, jobs: 4, verify: true, host: ''}]", True),
        ("defaults:\ndatabases: [{database: 7, group: eu}]", True),
        ("defaults: {host: x}\ndatabases: [{name: a, database: shop}]", True),
        ("databases: []", False),
        ("defaults: {name: x}\ndatabases: [{database: shop}]", False),
        ("databases: [{database: shop, password: x}]", False),
        ("databases: [{database: shop, hots: x}]", False),
        ("databases: [{database: shop, tables: [a]}]", False),
        ("databases: [{database: shop, operation: verify}]", False),
        ("databses: []", False),
    ],
)
def test_the_schema_takes_what_plan_takes(text: str, is_good: bool) -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert is_good == Draft7Validator(SCHEMA).is_valid(yaml.safe_load(text))


def test_the_example_fits_the_schema() -> None:
    example = yaml.safe_load((REPOSITORY / "examples/pg-backups.yml").read_text())
    assert [] == [error.message for error in Draft7Validator(SCHEMA).iter_errors(example)]
