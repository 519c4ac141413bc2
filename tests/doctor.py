"""Runs the doctor (`operation: audit`, `scope: setup`), and what its checks say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tests.lab.cloud import Cloud
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun, start_action
from tests.schemas import validator

REPORT = "setup.json"
READER = "reader"
READERS_PASSWORD = "reader: 100%"


@dataclass(frozen=True)
class Diagnosis:
    """A run of the doctor, and its checks by id, in their order."""

    run: ActionRun
    checks: dict[str, dict[str, str]]

    def status(self, id: str) -> str:
        return self.checks[f"setup.{id}"]["status"]

    def reason(self, id: str) -> str:
        return self.checks[f"setup.{id}"]["reason"]

    def fix(self, id: str) -> str:
        return self.checks[f"setup.{id}"]["fix"]

    def having(self, status: str) -> list[str]:
        """The short names of the checks with that status."""
        return [
            id.removeprefix("setup.")
            for id, check in self.checks.items()
            if check["status"] == status
        ]

    def statements(self, id: str) -> list[dict[str, object]]:
        """The IAM statements that a fix holds, one a line."""
        return [json.loads(line) for line in self.fix(id).splitlines() if line.startswith("{")]


def examine(
    cloud: Cloud,
    source: Mapping[str, str],
    inputs: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Diagnosis:
    """Run the doctor to its end. `source` names the database."""
    asked = {"operation": "audit", "scope": "setup", "report-file": REPORT}
    given = cloud.inputs | dict(source) | asked | dict(inputs or {})
    variables = cloud.env | {"AWS_MAX_ATTEMPTS": "2"} | dict(env or {})
    with start_action({name: value for name, value in given.items() if value}, variables) as step:
        run = step.finish()
        told = json.loads((step.home / "workspace" / REPORT).read_text())
    validator("audit").validate(told)
    return Diagnosis(run, {check["id"]: check for check in told["checks"]})


def clients_of(server: PostgresServer) -> dict[str, str]:
    return {"PG_BACKUP_CLIENTS": str(server.binaries)}
