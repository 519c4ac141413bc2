"""`fleet-entry`: what a row of the matrix stands for, and what it cannot bring along."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fleets import Workspace
from tests.lab.cloud import Cloud
from tests.lab.runner import ActionRun
from tests.lab.stage import the_error


@pytest.fixture
def workspace(cloud: Cloud, tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, cloud.env)


@pytest.fixture
def row(cloud: Cloud) -> dict[str, Any]:
    return {"name": "shop", **cloud.inputs}


def listed(workspace: Workspace, row: dict[str, Any], **inputs: str) -> ActionRun:
    return workspace.job(row, operation="list", **inputs)


def test_an_entry_stands_for_what_the_step_leaves_out(
    workspace: Workspace, cloud: Cloud, row: dict[str, Any]
) -> None:
    run = listed(workspace, {**row, "prefix": "elsewhere"})

    assert 0 == run.exit_code, run.output
    assert f"s3://{cloud.bucket}/elsewhere/" in run.summary


def test_what_the_step_gives_goes_before_the_entry(
    workspace: Workspace, cloud: Cloud, row: dict[str, Any]
) -> None:
    run = listed(workspace, {**row, "prefix": "elsewhere", "bucket": "no-such-bucket"},
                 prefix="here", bucket=cloud.bucket)  # fmt: skip

    assert f"s3://{cloud.bucket}/here/" in run.summary


def test_texts_numbers_and_truths_are_understood(workspace: Workspace, row: dict[str, Any]) -> None:
    good = {"jobs": 3, "port": 5432.0, "verify": True, "max-age-hours": 1.5, "host": None}
    assert 0 == listed(workspace, row | good).exit_code

    bad = {"jobs": 2.5, "port": 0, "verify": "maybe", "max-age-hours": True}
    run = listed(workspace, row | bad)

    assert 2 == run.exit_code
    the_error(run, "jobs: '2.5'", "port: '0'", "verify: 'maybe'", "max-age-hours: 'true'")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"password": "hunter2"}, "fleet-entry: password: is a secret"),
        ({"database-url": "postgresql://u:hunter2@h/d"}, "fleet-entry: database-url: is a secret"),
        ({"github-token": "hunter2"}, "github-token: ${{ github.token }}"),
        ({"hots": "hunter2"}, "fleet-entry: hots: is not an input of this action; did you mean ho"),
        ({"tables": ["hunter2"]}, "fleet-entry: tables: is a list or an object"),
        ({"tables": {"hunter2": 1}}, "fleet-entry: tables: is a list or an object"),
        ({"fleet-entry": "{}"}, "fleet-entry: holds another one"),
        ({"a\n::error::hunter": 2}, "fleet-entry: 'a\\n::error::hunter': is not an input"),
    ],
)
def test_what_an_entry_cannot_hold_is_refused_and_never_shown(
    workspace: Workspace, cloud: Cloud, row: dict[str, Any], bad: dict[str, Any], words: str
) -> None:
    run = listed(workspace, row | bad)

    assert 2 == run.exit_code, run.output
    the_error(run, words)
    assert "hunter2" not in run.output + run.summary
    assert [] == cloud.sts.exchanges


@pytest.mark.parametrize(
    "text", ["shop", "[]", "{", '{"jobs": NaN}', "[" * 100_000, '"shop"', '{"jobs": ' + "9" * 5000]
)
def test_what_is_no_json_object_is_refused(workspace: Workspace, text: str) -> None:
    run = workspace.run({"operation": "list", "fleet-entry": text})

    assert 2 == run.exit_code
    the_error(run, "fleet-entry: is no JSON object; write fleet-entry: ${{ toJSON(matrix) }}")


def test_a_drill_leaves_out_what_leads_to_the_source(
    workspace: Workspace, row: dict[str, Any]
) -> None:
    """A whole backup is drilled, whatever part of a database it is of."""
    source = {"host": "db.example.org", "port": 5432, "user": "backup", "tables": "public.orders",
              "password-secret-id": "shop/backup", "database": "shop"}  # fmt: skip

    run = workspace.job(row | source, operation="verify", target_url="postgresql://u@127.0.0.1/t")

    # The first fault that it meets is that there is nothing to drill.
    assert 2 == run.exit_code
    the_error(run, "there is no backup of database 'shop'")


def test_every_fault_of_an_entry_is_told_at_once(workspace: Workspace, row: dict[str, Any]) -> None:
    run = listed(workspace, row | {"password": "x", "hots": "y", "tables": []})

    (error,) = run.errors
    assert "3 inputs cannot be used" == error.title
    assert json.dumps(row) not in run.log.visible
