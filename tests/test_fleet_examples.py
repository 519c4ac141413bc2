"""The example of a fleet: its file, its workflows, and each step of them as it would run."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from backup.inputs import read
from backup.options import OPTIONS
from tests.fleets import Workspace
from tests.lab.aws import REPOSITORY

yaml: Any = importlib.import_module("yaml")  # has no type information of its own

DEFAULTS = {option.name: option.default for option in OPTIONS}
NAMES = ["shop", "crm", "app-eu", "app-us", "reports"]


def workflow(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(
        (REPOSITORY / f"examples/workflows/{name}.yml").read_text()
    )
    return loaded


def step(name: str, job: str) -> dict[str, str]:
    """The inputs of the job's step of this action."""
    (given,) = [
        each["with"]
        for each in workflow(name)["jobs"][job]["steps"]
        if "pg-backup-action" in each.get("uses", "")
    ]
    return {key: str(value) for key, value in given.items()}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path, {})
    made.write((REPOSITORY / "examples/pg-backups.yml").read_text())
    return made


@pytest.mark.parametrize("name", ["fleet", "fleet-drill"])
def test_the_example_is_planned_by_the_example(workspace: Workspace, name: str) -> None:
    plan = step(name, "plan")
    rows = workspace.rows(**{key.replace("-", "_"): text for key, text in plan.items()})
    assert NAMES == [row["name"] for row in rows]


@pytest.mark.parametrize(
    ("name", "job", "operation"),
    [("fleet", "backup", "backup"), ("fleet-drill", "drill", "verify")],
)
def test_every_row_fits_the_step_of_its_job(
    workspace: Workspace, name: str, job: str, operation: str
) -> None:
    given = step(name, job)
    roles = set()
    for row in workspace.rows():
        entry = {"fleet-entry": json.dumps(row)}
        settings = read(DEFAULTS | given | entry, {})
        assert (operation, row["database"]) == (settings.operation, settings.database)
        assert 26 * 3600 == settings.verify.max_age_seconds
        assert (settings.source.host is None) == (operation == "verify")
        roles.add(settings.role.arn)
    writer, driller = (
        f"arn:aws:iam::123456789012:role/pg-backup-{n}" for n in ("writer", "driller")
    )
    assert {driller if operation == "verify" else writer} == roles


@pytest.mark.parametrize("name", ["fleet", "fleet-drill"])
def test_the_matrix_goes_from_job_to_job_by_the_names_of_the_outputs(name: str) -> None:
    jobs = workflow(name)["jobs"]
    job = jobs["backup" if name == "fleet" else "drill"]
    assert {"matrix": "${{ steps.plan.outputs.matrix }}"} == jobs["plan"]["outputs"]
    assert "${{ fromJSON(needs.plan.outputs.matrix) }}" == job["strategy"]["matrix"]
    assert "plan" == job["needs"]
    assert job["strategy"]["fail-fast"] is False


def test_the_closing_job_runs_whatever_became_of_the_others() -> None:
    collect = workflow("fleet")["jobs"]["collect"]
    assert ("backup", "${{ always() }}") == (collect["needs"], collect["if"])
    assert {"actions", "contents", "id-token"} == set(collect["permissions"])
    outputs = yaml.safe_load((REPOSITORY / "action.yml").read_text())["outputs"]
    used = re.findall(r"steps\.collect\.outputs\.([a-z-]+)", str(collect["steps"]))
    assert ["missing"] == used and "missing" in outputs
