"""Audit area workflow: does a schedule make backups, and does GitHub still obey it?"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from backup.checks import Answer, Check, Known, Status, Unanswered, ask, failed, passed
from backup.github.repository import Repository, ScheduledRun, Workflow
from backup.github.workflow_file import crons
from backup.settings import Settings
from backup.wording import duration

_PERMISSIONS = """\
permissions:
  actions: read
  contents: read
  id-token: write
with:
  github-token: ${{ github.token }}"""

_DISABLED = {
    "disabled_inactivity": "GitHub disabled it, because the repository had no commit for 60 days",
    "disabled_manually": "someone disabled it",
    "disabled_fork": "it is disabled because the repository is a fork",
}


def checks(settings: Settings, environment: Mapping[str, str], now: datetime) -> list[Check]:
    """Six checks, or one that says what it takes to make them."""
    audit = settings.audit
    if not audit.github_token:
        return [
            Check(
                "workflow.asked",
                f"Workflow {audit.backup_workflow}",
                Status.UNKNOWN,
                "no github-token is given, so GitHub was not asked about it",
                _PERMISSIONS,
            )
        ]
    token = audit.github_token
    repository = ask(lambda: Repository(environment, token))
    if isinstance(repository, Unanswered):
        return [repository.check("workflow.asked", f"Workflow {audit.backup_workflow}")]
    watched = _Watched(audit.backup_workflow, repository.value.name, audit.max_age_seconds, now)
    return [*_of_state(watched, repository.value), *_of_file(watched, repository.value)]


@dataclass(frozen=True, slots=True)
class _Watched:
    """The workflow that is looked at, and how old its newest scheduled run may be."""

    file: str
    repository: str
    max_age_seconds: float
    now: datetime

    @property
    def path(self) -> str:
        return f".github/workflows/{self.file}"

    @property
    def schedule(self) -> str:
        return f'# {self.path}\non:\n  schedule:\n    - cron: "23 2 * * *" # UTC'


def _of_state(watched: _Watched, repository: Repository) -> list[Check]:
    answer = ask(lambda: repository.workflow(watched.file))
    if isinstance(answer, Known) and (not answer.value or answer.value.state == "deleted"):
        return [_exists(watched, answer)]  # it has no runs either
    runs = ask(lambda: repository.scheduled_runs(watched.file))
    return [
        _exists(watched, answer),
        _enabled(watched, answer),
        _recent(watched, runs),
        _green(watched, runs),
    ]


def _exists(watched: _Watched, answer: Answer[Workflow | None]) -> Check:
    id, title = "workflow.exists", f"Workflow {watched.file} exists"
    if isinstance(answer, Unanswered):
        return answer.check(id, title)
    if answer.value and answer.value.state != "deleted":
        return passed(id, title, f"{answer.value.path} in {watched.repository}")
    return failed(
        id,
        title,
        f"GitHub knows no such workflow in {watched.repository}",
        f"commit one as {watched.path}; examples/workflows/nightly.yml of the action is one"
        " to copy. Where it has another name:\nwith:\n  backup-workflow: nightly.yml",
    )


def _enabled(watched: _Watched, answer: Answer[Workflow | None]) -> Check:
    id, title = "workflow.enabled", f"Workflow {watched.file} is enabled"
    if isinstance(answer, Unanswered):
        return answer.check(id, title)
    state = answer.value.state if answer.value else ""
    if state == "active":
        return passed(id, title, "its state is active")
    return failed(
        id,
        title,
        _DISABLED.get(state, f"its state is {state}"),
        f"gh workflow enable {watched.file} --repo {watched.repository}",
    )


def _recent(watched: _Watched, answer: Answer[tuple[ScheduledRun, ...]]) -> Check:
    id, title = "workflow.recent", f"Workflow {watched.file} has run lately by its schedule"
    if isinstance(answer, Unanswered):
        return answer.check(id, title)
    most = duration(watched.max_age_seconds)
    fix = (
        f"gh workflow run {watched.file} --repo {watched.repository} # a backup now\n"
        f"# and a schedule that begins a run at least every {most}; a commit that touches its\n"
        "# cron line takes it over from someone who has left the organisation\n"
        f"{watched.schedule}"
    )
    if not answer.value:
        return failed(id, title, "its schedule has begun no run yet", fix)
    newest = answer.value[0]
    age = (watched.now - newest.created).total_seconds()
    said = f"the last run of its schedule began {duration(max(age, 0.0))} ago"
    if age <= watched.max_age_seconds:
        return passed(id, title, said)
    return failed(id, title, f"{said}, and {most} are allowed (max-age-hours)", fix)


def _green(watched: _Watched, answer: Answer[tuple[ScheduledRun, ...]]) -> Check:
    id, title = "workflow.green", f"The last scheduled run of {watched.file} was green"
    if isinstance(answer, Unanswered):
        return answer.check(id, title)
    ended = [run for run in answer.value if run.conclusion]
    if not ended:
        return failed(
            id,
            title,
            "no scheduled run has ended yet",
            f"gh run list --workflow {watched.file} --repo {watched.repository} --event schedule",
        )
    last = ended[0]
    if last.conclusion == "success":
        return passed(id, title, last.url)
    return failed(
        id,
        title,
        f"it ended with {last.conclusion}: {last.url}",
        f"gh run view {last.id} --repo {watched.repository} --log-failed # why\n"
        f"gh run rerun {last.id} --repo {watched.repository} # once that is mended",
    )


def _of_file(watched: _Watched, repository: Repository) -> list[Check]:
    on_branch = ("workflow.branch", f"Workflow {watched.file} is on the default branch")
    scheduled = ("workflow.schedule", f"Workflow {watched.file} has a schedule")
    branch = ask(repository.default_branch)
    if isinstance(branch, Unanswered):
        return [branch.check(*on_branch), branch.check(*scheduled)]
    text = ask(lambda: repository.content(watched.path, branch.value))
    if isinstance(text, Unanswered):
        return [text.check(*on_branch), text.check(*scheduled)]
    if text.value is None:
        return [
            failed(
                *on_branch,
                f"{watched.path} is not on {branch.value}, and GitHub obeys schedules of the"
                " default branch alone",
                f"gh pr create --repo {watched.repository} --base {shlex.quote(branch.value)}"
                " # from the branch that it is on",
            )
        ]
    lines = crons(text.value)
    return [
        passed(*on_branch, f"{watched.path} is on {branch.value}"),
        passed(*scheduled, f"it runs at {', '.join(lines)} (UTC)")
        if lines
        else failed(*scheduled, "it has no `on: schedule:` with a cron line", watched.schedule),
    ]
