"""The example workflows and the steps in the documentation: inputs that exist and are accepted."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backup.inputs import read
from tests.lab.aws import REPOSITORY

yaml: Any = importlib.import_module("yaml")  # has no type information of its own

INPUTS = yaml.safe_load((REPOSITORY / "action.yml").read_text())["inputs"]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
# What the expressions of the examples stand for.
VALUES = {
    "inputs.database": "shop",
    "inputs.target-database": "shop_restored",
    "inputs.confirm-target": "shop",
    "inputs.backup-id": "latest",
    "inputs.tables": "public.orders",
    "inputs.compression": "",
    "secrets.DATABASE_URL": "postgresql://backup:secret@db.example.org/shop",
    "secrets.BACKUP_PASSWORD": "secret",
    "secrets.RESTORE_PASSWORD": "secret",
    "secrets.SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/x",
    "github.token": "token",
    "matrix.account": "123456789012",
    "matrix.database": "shop",
    "toJSON(matrix)": '{"name": "shop", "database": "shop", "host": "db.example.org",'
    ' "user": "backup", "aws-region": "eu-central-1", "bucket": "my-company-pg-backups",'
    ' "password-secret-id": "shop/backup"}',
}


def steps(loaded: Any) -> Iterator[dict[str, Any]]:
    """The `with` of every step that uses this action."""
    jobs = loaded["jobs"].values() if isinstance(loaded, dict) else [{"steps": loaded}]
    for job in jobs:
        for step in job["steps"]:
            if "pg-backup-action" in step.get("uses", ""):
                yield step["with"]


def in_pages() -> Iterator[tuple[str, dict[str, Any]]]:
    for page in PAGES:
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            if "uses:" in block:
                for given in steps(yaml.safe_load(block)):
                    yield str(page.relative_to(REPOSITORY)), given


def in_examples() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((REPOSITORY / "examples/workflows").glob("*.yml")):
        for given in steps(yaml.safe_load(path.read_text())):
            yield path.name, given


@pytest.mark.parametrize(("where", "given"), [*in_examples(), *in_pages()])
def test_a_step_gives_inputs_that_exist_and_are_accepted(where: str, given: dict[str, Any]) -> None:
    assert set() == given.keys() - INPUTS.keys(), where
    values = {
        name: re.sub(r"\$\{\{ (.*?) \}\}", lambda found: VALUES[found[1]], _text(value))
        for name, value in given.items()
    }
    defaults = {name: each["default"] for name, each in INPUTS.items()}

    settings = read(defaults | values, {})

    assert settings.operation == given.get("operation", "backup")


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    """Files, and headings as GitHub names them; the web is another matter."""
    broken = []
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith(("http:", "https:")):
                continue
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            if not path.exists() or (anchor and anchor not in _anchors(path)):
                broken.append(f"{page.relative_to(REPOSITORY)}: {target}")
    assert [] == broken


def _anchors(page: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
