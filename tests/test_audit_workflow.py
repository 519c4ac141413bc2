"""The audit's questions to GitHub: is there a schedule, does it run, and was it green?"""

from __future__ import annotations

import contextlib
import http.client
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from backup.checks import Check, Known, Status, Unanswered
from backup.errors import InputError
from backup.github.workflow_file import crons
from backup.operations.auditing import workflow
from backup.operations.auditing.release import released
from tests.audits import settings_of
from tests.findings import assert_bad, assert_denied, status_by_id, the_check
from tests.lab.github_api import NIGHTLY, REPOSITORY, TOKEN, GitHub, github, rate_limited
from tests.lab.httpd import HttpService, Request, Response, answering

ALL = ("exists", "enabled", "recent", "green", "branch", "schedule")


@pytest.fixture
def hub() -> Iterator[GitHub]:
    with github() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


def checks(hub: GitHub, **inputs: str) -> list[Check]:
    given = {"github_token": TOKEN} | inputs
    return workflow.checks(settings_of(**given), hub.env, datetime.now(UTC))


def check(hub: GitHub, id: str, **inputs: str) -> Check:
    return the_check(checks(hub, **inputs), f"workflow.{id}")


def apply_gh(hub: GitHub, fix: str) -> None:
    """`gh workflow enable`, which is this one request of it."""
    command = re.search(r"^gh workflow enable (\S+) --repo (\S+)$", fix, re.MULTILINE)
    assert command is not None, fix
    path = f"/repos/{command[2]}/actions/workflows/{command[1]}/enable"
    connection = http.client.HTTPConnection(urlsplit(hub.url).netloc)
    with contextlib.closing(connection):
        connection.request("PUT", path, headers={"Authorization": f"Bearer {TOKEN}"})
        assert 204 == connection.getresponse().status


def test_a_workflow_in_order_passes_every_check(hub: GitHub) -> None:
    found = checks(hub)

    assert {f"workflow.{name}": "pass" for name in ALL} == status_by_id(found)
    assert "23 2 * * *" in the_check(found, "workflow.schedule").reason
    assert all(TOKEN not in f"{each.reason}{each.fix}" for each in found)


def test_without_a_token_one_check_says_what_it_takes() -> None:
    (only,) = workflow.checks(settings_of(), {}, datetime.now(UTC))

    assert_bad(only, Status.UNKNOWN, "actions: read", "github-token: ${{ github.token }}")


def test_outside_of_github_the_repository_must_be_named() -> None:
    (only,) = workflow.checks(settings_of(github_token=TOKEN), {}, datetime.now(UTC))

    assert_bad(only, Status.UNKNOWN, "export GITHUB_REPOSITORY=OWNER/REPOSITORY")


@pytest.mark.parametrize("state", [None, "deleted"])
def test_a_workflow_that_github_does_not_know_fails(hub: GitHub, state: str | None) -> None:
    hub.state = state

    found = checks(hub)

    assert_bad(the_check(found, "workflow.exists"), Status.FAIL, ".github/workflows/backup.yml")
    assert not {"workflow.enabled", "workflow.recent"} & status_by_id(found).keys()


def test_the_workflow_may_have_another_name(hub: GitHub) -> None:
    hub.file = "nightly.yml"
    fix = check(hub, "exists").fix
    named = re.search(r"backup-workflow: (\S+)", fix)
    assert named is not None

    assert {"pass"} == set(status_by_id(checks(hub, backup_workflow=named[1])).values())


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("disabled_inactivity", "no commit for 60 days"),
        ("disabled_manually", "someone disabled it"),
        ("disabled_fork", "a fork"),
    ],
)
def test_a_disabled_workflow_fails_until_the_fix_enables_it(
    hub: GitHub, state: str, why: str
) -> None:
    hub.state = state
    found = check(hub, "enabled")

    assert_bad(found, Status.FAIL, why, f"gh workflow enable backup.yml --repo {REPOSITORY}")
    apply_gh(hub, found.fix)
    assert Status.PASS is check(hub, "enabled").status


def test_a_workflow_on_another_branch_alone_never_starts_by_its_schedule(hub: GitHub) -> None:
    hub.text = None
    found = checks(hub)

    assert_bad(the_check(found, "workflow.branch"), Status.FAIL, "--base main", "is not on main")
    assert "workflow.schedule" not in status_by_id(found)
    hub.text = NIGHTLY  # merged
    assert Status.PASS is check(hub, "branch").status


def test_a_workflow_without_a_schedule_fails_until_the_fix_is_in_it(hub: GitHub) -> None:
    hub.text = "name: backup\non:\n  workflow_dispatch:\njobs: {}\n"
    found = check(hub, "schedule")

    assert_bad(found, Status.FAIL, "schedule")
    hub.text = hub.text.replace("on:\n", found.fix + "\n")
    assert Status.PASS is check(hub, "schedule").status


def test_a_schedule_that_has_not_run_lately_fails(hub: GitHub) -> None:
    hub.runs.clear()
    hub.ran(50, "success")
    hub.ran(1, "success", event="workflow_dispatch")  # by hand: no schedule made it

    found = check(hub, "recent")

    assert_bad(found, Status.FAIL, "50 h 0 min ago", "26 h 0 min", "cron:")
    assert "pass" == check(hub, "recent", max_age_hours="60").status.value
    hub.ran(0, None)  # the schedule's next run has begun
    assert Status.PASS is check(hub, "recent").status


def test_a_schedule_that_has_never_run_fails(hub: GitHub) -> None:
    hub.runs.clear()

    found = checks(hub)

    assert_bad(the_check(found, "workflow.recent"), Status.FAIL, "no run yet")
    assert_bad(the_check(found, "workflow.green"), Status.FAIL, "no scheduled run has ended")


@pytest.mark.parametrize("conclusion", ["failure", "cancelled", "timed_out", "skipped"])
def test_the_last_scheduled_run_must_have_been_green(hub: GitHub, conclusion: str) -> None:
    run = hub.ran(0.5, conclusion)
    hub.ran(0.1, None)  # what still runs tells nothing yet

    found = check(hub, "green")

    assert_bad(found, Status.FAIL, conclusion, f"gh run rerun {run.id} --repo {REPOSITORY}")
    run.conclusion = "success"  # what the rerun of the fix leaves
    assert Status.PASS is check(hub, "green").status


def test_a_token_without_actions_is_told_of_the_permission(hub: GitHub) -> None:
    hub.permissions.discard("actions")

    found = checks(hub)

    assert_denied(
        found,
        ["workflow.exists", "workflow.enabled", "workflow.recent", "workflow.green"],
        "actions: read",
    )
    assert "pass" == status_by_id(found)["workflow.schedule"]


def test_a_token_without_contents_is_told_of_the_permission(hub: GitHub) -> None:
    hub.permissions.discard("contents")

    found = checks(hub)

    assert_denied(found, ["workflow.branch", "workflow.schedule"], "contents: read")
    assert "pass" == status_by_id(found)["workflow.enabled"]


def test_a_repository_that_the_token_cannot_see_is_unknown(hub: GitHub) -> None:
    hub.permissions.clear()

    assert_bad(check(hub, "branch"), Status.UNKNOWN, REPOSITORY, "404", "contents: read")


def test_a_wrong_token_is_refused_and_not_shown(hub: GitHub) -> None:
    found = checks(hub, github_token="ghs_wrong")

    assert {"unknown"} == set(status_by_id(found).values())
    assert_bad(found[0], Status.UNKNOWN, "Bad credentials", "github-token: ${{ github.token }}")
    assert all("ghs_wrong" not in f"{each.reason}{each.fix}" for each in found)


def test_a_rate_limit_says_when_to_come_again(hub: GitHub) -> None:
    hub.answer = rate_limited()
    assert_bad(check(hub, "exists"), Status.UNKNOWN, "rate limit", "run again after")

    hub.answer = Response(429, b'{"message": "slow down"}', {"retry-after": "60"})
    assert_bad(check(hub, "exists"), Status.UNKNOWN, "run again in 60 s")


def test_a_server_error_is_tried_again_and_then_told(hub: GitHub) -> None:
    hub.answer = Response(502, b"<html>Bad Gateway</html>")

    assert_bad(check(hub, "exists"), Status.UNKNOWN, "502", "githubstatus.com")
    state = f"/repos/{REPOSITORY}/actions/workflows/backup.yml"
    assert 3 == len([each for each in hub.requests if each.path == state])


@pytest.mark.parametrize(
    "body",
    [b"<html>log in</html>", b"[]", b'{"path": 1}', b'{"default_branch": null}', b"[" * 9999],
)
def test_what_is_not_github_is_unknown_and_no_traceback(hub: GitHub, body: bytes) -> None:
    hub.answer = Response(200, body)

    found = checks(hub)

    assert {"unknown"} == set(status_by_id(found).values())
    assert_bad(found[0], Status.UNKNOWN, "GITHUB_API_URL")


def test_an_api_that_does_not_answer_is_unknown() -> None:
    with github() as gone:
        pass

    assert_bad(check(gone, "exists"), Status.UNKNOWN, "does not answer")


def test_the_token_does_not_follow_a_redirect_to_another_host(hub: GitHub) -> None:
    stolen: list[Request] = []

    def steal(request: Request) -> Response:
        stolen.append(request)
        return Response(200, b"{}")

    thief = HttpService(answering(steal))
    try:
        hub.answer = Response(302, b"", {"Location": f"{thief.url}/repos"})
        found = check(hub, "exists")
    finally:
        thief.close()

    assert_bad(found, Status.UNKNOWN, "must not get the token")
    assert [] == stolen


def test_a_renamed_repository_is_followed_on_the_same_host(hub: GitHub) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api"""
    env = hub.env | {"GITHUB_REPOSITORY": "octo-org/old-name"}
    respond: Any = hub.respond

    def moved(request: Request) -> Response:
        if "old-name" not in request.path:
            answer: Response = respond(request)
            return answer
        query = "?event=schedule" if "event" in request.query else ""
        place = hub.url + request.path.replace("octo-org/old-name", REPOSITORY) + query
        return Response(301, b"", {"Location": place})

    service = HttpService(answering(moved))
    try:
        hub.url = service.url
        env["GITHUB_API_URL"] = service.url
        found = workflow.checks(settings_of(github_token=TOKEN), env, datetime.now(UTC))
    finally:
        service.close()

    assert {"pass"} == set(status_by_id(found).values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NIGHTLY, ("23 2 * * *",)),
        ('on: {schedule: [{cron: "1 2 * * *"}]}\n', ("1 2 * * *",)),
        ("'on':\n  schedule:\n  - cron: 5 4 * * MON-FRI\n", ("5 4 * * MON-FRI",)),
        ("on:\n  # schedule:\n  #   - cron: '1 1 1 1 1'\n  push:\n", ()),
        ("on: push\njobs:\n  schedule:\n    - cron: '1 1 1 1 1'\n", ()),
        ("on:\n  workflow_dispatch:\n    inputs:\n      cron:\n        default: '1 1 1 1 1'\n", ()),
        ("name: x\n", ()),
        ("on:\n  schedule: &s\n    - cron: '1 2 * *\n        3'\njobs: *s\n", ("1 2 * * 3",)),
        ("on:\n  push: {branches: ['schedule: [{cron: 1 1 1 1 1}]']}\n", ()),
        ("on:\n  schedule:\n    - cron: [1, 2]\n    - just text\n    - cron: every day\n", ()),
        ("on: [\n", ()),
        ("[" * 5000, ()),
        ("", ()),
    ],
)
def test_cron_lines_are_those_below_the_schedule(text: str, expected: tuple[str, ...]) -> None:
    assert expected == crons(text)


def test_a_release_is_as_old_as_the_commit_of_its_tag(hub: GitHub) -> None:
    made = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
    hub.tags["release/v1.4.2"] = made

    audit = settings_of(github_token=TOKEN, release_tag="release/v1.4.2").audit

    assert Known(made) == released(audit, hub.env)


def test_a_tag_that_is_not_there_is_told(hub: GitHub) -> None:
    answer = released(settings_of(github_token=TOKEN, release_tag="v9").audit, hub.env)

    assert isinstance(answer, Unanswered)
    assert isinstance(answer.error, InputError)
    assert "git push origin v9" in answer.error.hint


def test_a_release_that_the_token_may_not_read_is_unanswered(hub: GitHub) -> None:
    hub.permissions.discard("contents")

    answer = released(settings_of(github_token=TOKEN, release_tag="v1").audit, hub.env)

    assert isinstance(answer, Unanswered)
    assert "contents: read" in answer.error.hint


def test_without_a_release_tag_nothing_is_asked(hub: GitHub) -> None:
    assert released(settings_of(github_token=TOKEN).audit, hub.env) is None
    assert [] == hub.requests
