"""A small GitHub: one repository with one workflow, served as GitHub's REST API does.

Shapes and statuses: https://docs.github.com/en/rest (version 2022-11-28).
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.lab.httpd import HttpService, Request, Response, answering

REPOSITORY = "octo-org/shop"
TOKEN = "the-token-of-the-lab"
NIGHTLY = """\
name: backup
on:
  schedule:
    - cron: "23 2 * * *" # UTC
  workflow_dispatch:
jobs:
  backup:
    runs-on: ubuntu-24.04
"""


@dataclass
class Run:
    """A run of the workflow; `conclusion` is None while it runs."""

    id: int
    event: str
    created: datetime
    conclusion: str | None


@dataclass
class GitHub:
    """What a test arranges, and what was asked. `permissions` are those of the token."""

    url: str = ""
    permissions: set[str] = field(default_factory=lambda: {"actions", "contents", "metadata"})
    file: str = "backup.yml"
    state: str | None = "active"  # None: GitHub knows no such workflow
    text: str | None = NIGHTLY  # of the file on the default branch; None: it is not there
    runs: list[Run] = field(default_factory=list)
    tags: dict[str, datetime] = field(default_factory=dict)
    answer: Response | None = None  # to everything, where a test sets one
    requests: list[Request] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        return {
            "GITHUB_API_URL": self.url,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_REPOSITORY_ID": "1296269",
            "GITHUB_REPOSITORY_OWNER_ID": "583231",
        }

    def ran(self, hours_ago: float, conclusion: str | None, event: str = "schedule") -> Run:
        """A run of the workflow, from now on the newest."""
        run = Run(
            30433642 + len(self.runs),
            event,
            datetime.now(UTC) - timedelta(hours=hours_ago),
            conclusion,
        )
        self.runs.insert(0, run)
        return run

    def respond(self, request: Request) -> Response:
        self.requests.append(request)
        if self.answer:
            return self.answer
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _refused(401, "Bad credentials")
        root = f"/repos/{REPOSITORY}"
        workflow = f"{root}/actions/workflows/{self.file}"
        if not request.path.startswith(root) or "metadata" not in self.permissions:
            return _refused(404, "Not Found")
        rest = request.path.removeprefix(root)
        needed = "actions" if rest.startswith("/actions") else "contents" if rest else "metadata"
        if needed not in self.permissions:
            return _refused(403, "Resource not accessible by integration")
        if not rest:
            return _json({"full_name": REPOSITORY, "default_branch": "main", "private": True})
        if asked := re.fullmatch(r"/actions/runs/(\d+)", rest):
            known = [run for run in self.runs if run.id == int(asked[1])]
            return _json(_run(known[0])) if known else _refused(404, "Not Found")
        if tag := re.fullmatch(r"/commits/tags/(.+)", rest):
            return self._commit(tag[1])
        if rest == f"/contents/.github/workflows/{self.file}":
            return self._content(request)
        if not request.path.startswith(workflow) or self.state is None:
            return _refused(404, "Not Found")
        match request.method, request.path.removeprefix(workflow):
            case "GET", "":
                return _json(self._workflow())
            case "PUT", "/enable":
                self.state = "active"
                return Response(204, b"")
            case "GET", "/runs":
                return _json(self._listed(request))
        return _refused(404, "Not Found")

    def _workflow(self) -> dict[str, Any]:
        path = f".github/workflows/{self.file}"
        return {
            "id": 161335,
            "node_id": "MDg6V29ya2Zsb3cxNjEzMzU=",
            "name": "backup",
            "path": path,
            "state": self.state,
            "created_at": "2026-01-08T23:48:37.000-08:00",
            "updated_at": "2026-01-08T23:50:21.000-08:00",
            "url": f"{self.url}/repos/{REPOSITORY}/actions/workflows/161335",
            "html_url": f"https://github.com/{REPOSITORY}/blob/main/{path}",
            "badge_url": f"https://github.com/{REPOSITORY}/workflows/backup/badge.svg",
        }

    def _listed(self, request: Request) -> dict[str, Any]:
        event = request.query.get("event", [None])[0]
        most = int(request.query.get("per_page", ["30"])[0])
        found = [run for run in self.runs if event in (None, run.event)]
        return {"total_count": len(found), "workflow_runs": [_run(run) for run in found[:most]]}

    def _content(self, request: Request) -> Response:
        if self.text is None or request.query.get("ref", ["main"]) != ["main"]:
            return _refused(404, "Not Found")
        # GitHub breaks the base64 into lines.
        encoded = base64.encodebytes(self.text.encode()).decode()
        return _json({"type": "file", "encoding": "base64", "content": encoded})

    def _commit(self, tag: str) -> Response:
        if tag not in self.tags:
            return _refused(422, f"No commit found for SHA: tags/{tag}")
        person = {"name": "Monalisa", "email": "m@example.org", "date": _time(self.tags[tag])}
        commit = {"author": person, "committer": person, "message": "Release"}
        return _json({"sha": "6dcb09b5b57875f334f61aebed695e2e4193db5e", "commit": commit})


@contextmanager
def github() -> Iterator[GitHub]:
    """A GitHub in order: the workflow is enabled, and ran green by its schedule an hour ago."""
    made = GitHub()
    made.ran(1, "success")
    service = HttpService(_with_put(made))
    made.url = service.url
    try:
        yield made
    finally:
        service.close()


def rate_limited() -> Response:
    """https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api"""
    return Response(
        403,
        json.dumps({"message": "API rate limit exceeded for installation ID 1."}).encode(),
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + 1800)},
    )


def _with_put(made: GitHub) -> Any:
    handler: Any = answering(made.respond)
    handler.do_PUT = handler.do_GET
    return handler


def _run(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": "backup",
        "head_branch": "main",
        "event": run.event,
        "status": "completed" if run.conclusion else "in_progress",
        "conclusion": run.conclusion,
        "workflow_id": 161335,
        "html_url": f"https://github.com/{REPOSITORY}/actions/runs/{run.id}",
        "created_at": _time(run.created),
        "run_started_at": _time(run.created),
    }


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(value: Any) -> Response:
    body = json.dumps(value).encode()
    return Response(200, body, {"Content-Type": "application/json; charset=utf-8"})


def _refused(status: int, message: str) -> Response:
    told = {"message": message, "documentation_url": "https://docs.github.com/rest"}
    return Response(status, json.dumps(told).encode(), {"Content-Type": "application/json"})
