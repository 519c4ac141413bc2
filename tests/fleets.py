"""The steps of a fleet's workflow: its file in a workspace, its plan, a job for each row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backup.options import OPTIONS
from tests.lab.runner import ActionRun, run_action
from tests.steps import green

FILE = ".github/pg-backups.yml"
HEAD = """\
defaults:
  aws-region: eu-central-1
  bucket: my-company-pg-backups
  host: db.example.org
  user: backup
"""
SHOP = HEAD + "databases:\n  - database: shop\n"


@dataclass(frozen=True)
class Workspace:
    """A checked-out repository, and what its jobs are told of AWS."""

    folder: Path
    env: Mapping[str, str]

    def write(self, text: str | bytes, file: str = FILE) -> None:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    def told(self, **more: str) -> Workspace:
        """The same workspace for a job that is told more."""
        return replace(self, env={**self.env, **more})

    def run(self, inputs: Mapping[str, str]) -> ActionRun:
        """A step as the runner starts it: every input that is left out has its default."""
        defaults = {option.name: option.default for option in OPTIONS}
        place = {"GITHUB_WORKSPACE": str(self.folder)}
        run = run_action(defaults | dict(inputs), {**self.env, **place})
        assert [] == run.leftovers
        lines = run.output.splitlines()
        assert [] == [line for line in lines if "Traceback" in line and "::debug::" not in line], (
            run.output
        )
        return run

    def plan(self, **inputs: str) -> ActionRun:
        return self.run({"operation": "plan"} | _hyphens(inputs))

    def rows(self, **inputs: str) -> list[dict[str, Any]]:
        """The jobs that GitHub would make of the plan's matrix."""
        run = green(self.plan(**inputs))
        rows: list[dict[str, Any]] = json.loads(run.outputs["matrix"])["include"]
        assert str(len(rows)) == run.outputs["count"]
        return rows

    def job(self, row: Mapping[str, Any], **inputs: str) -> ActionRun:
        """A job of the matrix, which gives its row as `${{ toJSON(matrix) }}`."""
        return self.run({"fleet-entry": json.dumps(row, indent=2)} | _hyphens(inputs))

    def collect(self, **inputs: str) -> ActionRun:
        return self.run({"operation": "collect"} | _hyphens(inputs))


def faults(run: ActionRun) -> list[str]:
    """The lines of an error that has every fault of the file."""
    assert 2 == run.exit_code, run.output
    (error,) = run.errors
    title, *told, hint = error.message.splitlines()
    assert "docs/fleets.md" in hint
    assert f"{len(told)} fault{'s' if len(told) > 1 else ''} in {FILE}" == title
    assert "matrix" not in run.outputs
    return told


def _hyphens(inputs: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): text for name, text in inputs.items()}
