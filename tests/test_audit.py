"""The audit as a whole: red with what mends it, green once mended, and blind without rights."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from backup.aws.grants import PolicyScope, needed
from backup.checks import Check, Status
from backup.operations.auditing import identity, instance
from backup.operations.auditing.survey import Area, Survey, survey_report
from backup.settings import Selection
from tests.audits import KEYS, apply, settings_of
from tests.buckets import put_backup
from tests.lab.aws import REGION, REPOSITORY, client
from tests.lab.cloud import PREFIX, Cloud, role_of
from tests.lab.github_api import TOKEN, GitHub, github
from tests.lab.runner import ActionRun, start_action
from tests.lab.scripted.server import ScriptedAws
from tests.lab.stage import the_error
from tests.lab.sts import ACCOUNT, Trust
from tests.manifests import manifest_of
from tests.schemas import published, validator

AREAS = ("objectives", "workflow", "instance", "bucket", "catalogue", "identity")


@dataclass(frozen=True)
class Audit:
    """A run of the audit and what it wrote into its file; None where it wrote none."""

    run: ActionRun
    told: dict[str, Any] | None

    @property
    def checks(self) -> list[dict[str, str]]:
        assert self.told is not None, self.run.output
        checks: list[dict[str, str]] = self.told["checks"]
        return checks

    def ids(self, *statuses: str) -> set[str]:
        return {each["id"] for each in self.checks if each["status"] in statuses}


@dataclass
class Strategy:
    """A bucket, an instance and a repository, and a role that may do what the docs say."""

    cloud: Cloud
    aws: ScriptedAws
    hub: GitHub
    clients: Path

    @property
    def env(self) -> dict[str, str]:
        return (
            self.cloud.env
            | self.hub.env
            | {
                "AWS_ENDPOINT_URL_RDS": self.aws.url,
                "AWS_ENDPOINT_URL_EC2": self.aws.url,
                "AWS_MAX_ATTEMPTS": "2",
                "PG_BACKUP_CLIENTS": str(self.clients),
            }
        )

    def audit(self, env: Mapping[str, str] | None = None, **others: str) -> Audit:
        """Inputs with underscores; an empty one is left out."""
        inputs = self.cloud.inputs | {
            "operation": "audit",
            "db-instance": "shop",
            "writer-role": self.writer,
            "github-token": TOKEN,
            "report-file": "reports/audit.json",
        }
        inputs |= {name.replace("_", "-"): text for name, text in others.items()}
        with start_action(inputs, self.env | dict(env or {})) as running:
            run = running.finish()
            file = running.home / "workspace/reports/audit.json"
            told = json.loads(file.read_text()) if file.exists() else None
        assert [] == run.leftovers
        lines = run.output.splitlines()
        assert [] == [line for line in lines if "Traceback" in line and "::debug::" not in line]
        if told is not None:
            assert [] == [error.message for error in validator("audit").iter_errors(told)]
            assert TOKEN not in json.dumps(told) + run.summary
        return Audit(run, told)

    @property
    def writer(self) -> str:
        """The role of the backups, which is not the audit's."""
        return role_of(f"writer-of-{self.cloud.bucket}")

    def make_roles(self) -> None:
        """The audit's and the writer's, each with what the docs say and no more."""
        scope = PolicyScope(
            "aws", REGION, ACCOUNT, self.cloud.bucket, PREFIX, role=self.writer, instance="shop"
        )
        audit, write = (
            [grant.statement() for grant in needed(operation, scope)]
            for operation in ("audit", "backup")
        )
        self.cloud.allow(*audit)
        self.cloud.double.make_role(write, Trust(self.writer))

    def mend(self, audit: Audit) -> None:
        """Apply the fixes of instance, bucket, identity and workflow, each once."""
        keys = KEYS | {
            name: url for name, url in self.env.items() if name.startswith("AWS_ENDPOINT_URL")
        }
        fixes = {each["fix"]: each["area"] for each in audit.checks}
        for fix, area in fixes.items():
            if area in ("instance", "bucket", "identity") and fix:
                apply(fix, keys)
            if area == "workflow" and re.match("gh workflow enable backup.yml ", fix):
                self.hub.state = "active"

    def back_up_and_drill(self, database: str = "shop") -> None:
        """What a night of the workflows leaves: a backup of an hour ago, and its proof."""
        now = datetime.now(UTC)
        backup_id = f"{now - timedelta(hours=1):%Y%m%dT%H%M%SZ}-1f9c3a"
        whole = replace(manifest_of(backup_id, database), selection=Selection())
        root = put_backup(self.cloud, whole)
        record = {"depth": "restore", "verdict": "proven", "restore_seconds": 61.5}
        self.cloud.s3.put_object(
            Bucket=self.cloud.bucket,
            Key=f"{root}drills/{now:%Y%m%dT%H%M%SZ}.json",
            Body=json.dumps(record).encode(),
        )


@pytest.fixture
def strategy(cloud: Cloud, scripted: ScriptedAws, tmp_path: Path) -> Iterator[Strategy]:
    """Nothing in it is in order yet but the workflow and the instance."""
    scripted.rds.seconds_per_state = 0
    scripted.rds.add_instance()
    scripted.rds.operating.support_ends = {
        ("postgres", "17"): datetime.now(UTC) + timedelta(days=1000)
    }
    scripted.network.add_route_table("rtb-main", main=True)
    program = tmp_path / "17.6/pg_dump"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 17.6'\n")
    program.chmod(0o755)
    with github() as hub:
        made = Strategy(cloud, scripted, hub, program.parent)
        made.make_roles()
        yield made


def test_a_strategy_with_gaps_is_red_until_its_fixes_are_applied(strategy: Strategy) -> None:
    client("rds", strategy.aws.url).modify_db_instance(
        DBInstanceIdentifier="shop", DeletionProtection=False
    )
    strategy.hub.state = "disabled_inactivity"

    red = strategy.audit()

    assert 6 == red.run.exit_code, red.run.output
    gaps = {
        "objectives.age",
        "workflow.enabled",
        "instance.deletion-protection",
        "bucket.versioning",
        "bucket.tls",
        "catalogue.gaps",
    }
    assert gaps <= red.ids("fail")
    assert set() == red.ids("unknown"), red.run.output
    the_error(red.run, "the audit is red", "one call deletes shop", "no commit for 60 days")
    assert red.run.summary.startswith(f"## ❌ Audit of s3://{strategy.cloud.bucket}: ")
    assert "gh workflow enable backup.yml --repo octo-org/shop" in red.run.summary
    assert "fail" == red.run.outputs["verdict"]
    assert (
        str(len([each for each in red.checks if each["status"] == "fail"]))
        == (red.run.outputs["checks-failed"])
    )

    strategy.mend(red)
    strategy.back_up_and_drill()
    green = strategy.audit()

    assert set() == green.ids("fail", "unknown", "warn"), green.run.output
    assert 0 == green.run.exit_code
    assert [] == green.run.errors + green.run.warnings
    assert set(AREAS) == {each["area"] for each in green.checks}
    assert green.run.summary.startswith(f"## ✅ Audit of s3://{strategy.cloud.bucket}: ")
    assert {
        "verdict": "pass",
        "checks-failed": "0",
        "checks-warned": "0",
        "checks-unknown": "0",
        "report-file": "reports/audit.json",
    } == green.run.outputs
    assert green.told is not None
    assert ["shop"] == [each["database"] for each in green.told["storage"]]
    page = (REPOSITORY / "docs/audit.md").read_text()
    documented = set(re.findall(r"^\| `([a-z]+\.[a-z-]+)` \|", page, re.MULTILINE))
    assert set() == {each["id"] for each in green.checks} - documented
    assert set() == {*instance.TITLES, *identity.TITLES} - documented


def test_an_audit_changes_nothing(strategy: Strategy) -> None:
    strategy.back_up_and_drill()
    before = strategy.cloud.objects()

    strategy.audit()

    assert before == strategy.cloud.objects()
    assert {"GET", "HEAD"} >= {each.method for each in strategy.cloud.proxy.records}
    assert [] == [call for call in strategy.aws.calls if ":Describe" not in call.action]
    assert {"GET"} == {each.method for each in strategy.hub.requests}


def test_who_may_nothing_learns_what_to_allow_and_the_audit_is_red(strategy: Strategy) -> None:
    strategy.cloud.allow({"Effect": "Deny", "Action": "*", "Resource": "*"})
    strategy.aws.authorization.allow_only([])

    blind = strategy.audit(github_token="")

    assert {"unknown"} == {each["status"] for each in blind.checks}
    assert set(AREAS) == {each["area"] for each in blind.checks}
    assert all(each["fix"] for each in blind.checks)
    assert 6 == blind.run.exit_code
    the_error(blind.run, "the audit could look at nothing", "docs/audit.md")
    for action in ("s3:ListBucket", "rds:DescribeDBInstances", "s3:GetLifecycleConfiguration"):
        assert action in blind.run.summary
    assert blind.told is not None
    assert blind.told["storage"] is None

    assert 0 == strategy.audit(github_token="", fail_on="never").run.exit_code


@pytest.mark.parametrize(
    ("statuses", "red_for"),
    [
        ("pass", ""),
        ("pass warn", "warn"),
        ("pass unknown", "warn"),
        ("pass fail", "fail warn"),
        ("warn unknown", "warn"),
        ("unknown unknown", "fail warn"),
    ],
)
def test_what_makes_an_audit_red_is_chosen(statuses: str, red_for: str) -> None:
    checks = tuple(
        Check(f"bucket.{word}", "A check", Status(word), "for a reason", "a fix")
        for word in statuses.split()
    )
    survey = Survey(datetime.now(UTC), None, (Area("Bucket", checks),), None)

    red = [
        each
        for each in ("fail", "warn", "never")
        if survey_report(survey, settings_of(fail_on=each), ()).failure
    ]

    assert red_for.split() == red


def test_an_audit_that_never_fails_tells_all_the_same(strategy: Strategy) -> None:
    found = strategy.audit(fail_on="never")

    assert 0 == found.run.exit_code
    assert "fail" == found.run.outputs["verdict"]
    assert [] == found.run.errors
    (warning,) = found.run.warnings
    assert "failed" in warning.message


def test_a_service_that_is_away_ends_no_other_area(strategy: Strategy) -> None:
    found = strategy.audit(
        {"AWS_ENDPOINT_URL_RDS": "http://127.0.0.1:9", "GITHUB_API_URL": "http://127.0.0.1:9"}
    )

    away = [each for each in found.checks if each["area"] in ("instance", "workflow")]
    assert {"unknown"} == {each["status"] for each in away}
    assert "fail" in {each["status"] for each in found.checks if each["area"] == "bucket"}


def test_a_release_is_compared_with_the_snapshots(strategy: Strategy) -> None:
    strategy.hub.tags["v1.4.2"] = datetime.now(UTC) - timedelta(hours=2)

    missing = strategy.audit(release_tag="v1.4.2")
    strategy.aws.rds.add_snapshot("shop-v1-4-2")
    there = strategy.audit(release_tag="v1.4.2")
    wrong = strategy.audit(release_tag="v9")

    assert "instance.snapshot" in missing.ids("fail")
    assert "instance.snapshot" in there.ids("pass")
    assert "instance.snapshot" in wrong.ids("fail")
    assert "git push origin v9" in wrong.run.summary


def test_an_audit_that_is_cancelled_has_changed_nothing(strategy: Strategy) -> None:
    inputs = strategy.cloud.inputs | {"operation": "audit", "db-instance": "shop"}
    with start_action(inputs, strategy.env) as running:
        running.wait_for("::group::Objectives")
        running.send(signal.SIGTERM)
        run = running.finish()

    assert 143 == run.exit_code, run.output
    the_error(run, "interrupted by SIGTERM", "nothing was changed, for an audit only reads")


def test_who_cannot_log_in_is_told_so(strategy: Strategy) -> None:
    found = strategy.audit(role_to_assume="arn:aws:iam::123456789012:role/nobody")

    assert 3 == found.run.exit_code
    assert found.told is None
    the_error(found.run, "nobody")


@pytest.mark.parametrize("kind", ["folder is a link", "file is a link", "file is a folder"])
def test_no_link_leads_the_report_out_of_the_workspace(
    strategy: Strategy, tmp_path: Path, kind: str
) -> None:
    outside, workspace = tmp_path / "outside", tmp_path / "workspace"
    outside.mkdir()
    (outside / "audit.json").write_text("precious")
    workspace.mkdir()
    if kind == "folder is a link":
        (workspace / "reports").symlink_to(outside)
    elif kind == "file is a link":
        (workspace / "reports").mkdir()
        (workspace / "reports/audit.json").symlink_to(outside / "audit.json")
    else:
        (workspace / "reports/audit.json").mkdir(parents=True)

    found = strategy.audit({"GITHUB_WORKSPACE": str(workspace)})

    assert 2 == found.run.exit_code, found.run.output
    the_error(found.run, "cannot write report-file reports/audit.json", "report-file: audit.json")
    assert "precious" == (outside / "audit.json").read_text()
    assert [] == strategy.cloud.sts.exchanges


def test_an_earlier_report_is_replaced(strategy: Strategy, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    file = tmp_path / "reports/audit.json"
    file.write_text("x" * 999_999)

    strategy.audit({"GITHUB_WORKSPACE": str(tmp_path)})

    assert [] == list(validator("audit").iter_errors(json.loads(file.read_text())))
    assert [file] == list(file.parent.iterdir())


def test_what_was_found_is_told_though_its_file_cannot_be_written(
    strategy: Strategy, tmp_path: Path
) -> None:
    inputs = {"operation": "audit", "report-file": "reports/audit.json", "fail-on": "never"}
    env = strategy.env | {"GITHUB_WORKSPACE": str(tmp_path)}
    with start_action(strategy.cloud.inputs | inputs, env) as running:
        running.wait_for("::group::Log in to AWS")
        (tmp_path / "reports").rmdir()
        run = running.finish()

    assert 5 == run.exit_code, run.output
    the_error(run, "cannot write report-file reports/audit.json")
    assert f"❌ Audit of s3://{strategy.cloud.bucket}" in run.summary


def test_a_hostile_name_stays_in_its_place(strategy: Strategy) -> None:
    hostile = 'a\n```\n| b | <script>\n::error::c "%2F'
    strategy.back_up_and_drill(hostile)

    found = strategy.audit(max_age_hours="0.5")

    assert [] == [each for each in found.run.annotations if each.title == "c"]
    fences = re.findall(r"^(`{3,})(?:sh|mermaid)$", found.run.summary, re.MULTILINE)
    for fence in set(fences):
        lines = found.run.summary.splitlines()
        opened = [line for line in lines if re.fullmatch(rf"{fence}(sh|mermaid)", line)]
        assert len(opened) == lines.count(fence), found.run.summary
    shown_as_it_is = re.compile(r"^(`{3,})sh$.*?^\1$|^    [^\n]*$", re.M | re.S)
    assert "<script>" not in shown_as_it_is.sub("", found.run.summary)
    assert found.told is not None
    assert [hostile] == [each["database"] for each in found.told["storage"]]


def test_a_terminal_prints_the_same_as_json(strategy: Strategy, tmp_path: Path) -> None:
    inputs = strategy.cloud.inputs | {"db-instance": "shop"}
    inputs.pop("role-to-assume")
    flags = [word for name, text in inputs.items() for word in (f"--{name}", text)]
    done = subprocess.run(
        [sys.executable, "-m", "backup", "audit", *flags, "--json"],
        env=strategy.env
        | KEYS
        | {"GITHUB_TOKEN": TOKEN, "HOME": str(tmp_path), "PATH": "/usr/bin", "GITHUB_ACTIONS": ""},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert 6 == done.returncode, done.stderr
    told = json.loads(done.stdout)
    assert [] == [error.message for error in validator("audit").iter_errors(told)]
    assert told["action"]["run"] is None
    assert "❌ Age of the newest backup" in done.stderr


def test_the_schema_is_one() -> None:
    schema = published("audit")
    Draft202012Validator.check_schema(schema)
    areas = schema["properties"]["checks"]["items"]["properties"]["area"]["enum"]
    assert {*AREAS, "setup"} == set(areas)
