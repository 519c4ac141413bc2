"""What GitHub knows of the repository: its default branch, a workflow, its runs, a tag."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from backup.errors import AccessError
from backup.github.api import GitHubApi, Question, field, moment, not_github
from backup.settings import Secret

_MOST_RUNS = 30


@dataclass(frozen=True, slots=True)
class Workflow:
    """`state` is active, deleted, disabled_fork, disabled_inactivity or disabled_manually.

    https://docs.github.com/en/rest/actions/workflows#get-a-workflow
    """

    path: str
    state: str


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """A run that the schedule began. `conclusion` is None while it runs, then success, failure …

    https://docs.github.com/en/rest/actions/workflow-runs#list-workflow-runs-for-a-workflow
    """

    id: int
    created: datetime
    conclusion: str | None
    url: str


class Repository:
    """The repository of this run, asked about through GitHub's API."""

    def __init__(self, environment: Mapping[str, str], token: Secret) -> None:
        url = environment.get("GITHUB_API_URL") or "https://api.github.com"
        self.name = environment.get("GITHUB_REPOSITORY", "")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.name):
            raise AccessError(
                "cannot ask GitHub about the repository",
                detail="GITHUB_REPOSITORY, which GitHub's runner sets, does not name it",
                hint="export GITHUB_REPOSITORY=OWNER/REPOSITORY",
            )
        self._api = GitHubApi(url, token)

    def default_branch(self) -> str:
        """Raises AccessError, also for a repository that the token cannot see."""
        question = Question(
            f"cannot read what GitHub knows of {self.name}",
            "contents: read",
            f"/repos/{self.name}",
            absent=(),
        )
        return field(question, self._api.get(question), "default_branch", str)

    def workflow(self, file: str) -> Workflow | None:
        """The workflow of that file name; None where GitHub knows none."""
        question = self._of_workflow(file, f"cannot read the state of workflow {file}", "")
        answer = self._api.get(question)
        if answer is None:
            return None
        return Workflow(field(question, answer, "path", str), field(question, answer, "state", str))

    def scheduled_runs(self, file: str) -> tuple[ScheduledRun, ...]:
        """The newest runs that the workflow's schedule began, the newest first."""
        question = self._of_workflow(
            file,
            f"cannot read the runs of workflow {file}",
            "/runs",
            ("event", "schedule"),
            ("per_page", str(_MOST_RUNS)),
        )
        answer = self._api.get(question)
        if answer is None:
            return ()
        runs = field(question, answer, "workflow_runs", list)
        return tuple(_run(question, each) for each in runs)

    def run_created(self, run_id: str) -> datetime:
        """When a run was begun; its later attempts change nothing of it.

        https://docs.github.com/en/rest/actions/workflow-runs#get-a-workflow-run
        """
        question = Question(
            f"cannot read when run {run_id} began",
            "actions: read",
            f"/repos/{self.name}/actions/runs/{quote(run_id)}",
            absent=(),
        )
        return moment(question, self._api.get(question), "created_at")

    def content(self, path: str, branch: str) -> str | None:
        """A file's text on a branch; None where it is not there.

        https://docs.github.com/en/rest/repos/contents#get-repository-content
        """
        question = Question(
            f"cannot read {path} on {branch}",
            "contents: read",
            f"/repos/{self.name}/contents/{quote(path)}",
            (("ref", branch),),
        )
        answer = self._api.get(question)
        if answer is None:
            return None
        try:
            encoded = field(question, answer, "content", str)
            return base64.b64decode(encoded).decode(errors="replace")
        except binascii.Error as error:
            raise not_github(question, "a file that is no base64") from error

    def tagged(self, tag: str) -> datetime | None:
        """When the commit that a tag names was made; None where there is no such tag.

        https://docs.github.com/en/rest/commits/commits#get-a-commit
        """
        question = Question(
            f"cannot read the commit of tag {tag}",
            "contents: read",
            f"/repos/{self.name}/commits/tags/{quote(tag)}",
            absent=(404, 422),  # "No commit found for SHA"
        )
        answer = self._api.get(question)
        if answer is None:
            return None
        committer = field(question, field(question, answer, "commit", dict), "committer", dict)
        return moment(question, committer, "date")

    def _of_workflow(self, file: str, message: str, rest: str, *query: tuple[str, str]) -> Question:
        path = f"/repos/{self.name}/actions/workflows/{quote(file)}{rest}"
        return Question(message, "actions: read", path, query)


def _run(question: Question, answer: Any) -> ScheduledRun:
    conclusion = answer.get("conclusion") if isinstance(answer, dict) else None
    return ScheduledRun(
        field(question, answer, "id", int),
        moment(question, answer, "created_at"),
        str(conclusion) if conclusion else None,
        field(question, answer, "html_url", str),
    )
