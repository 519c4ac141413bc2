"""A documented policy with one action less, and what a run without it must say."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from backup.aws.grants import PolicyScope, needed
from tests.lab.aws import REGION
from tests.lab.cloud import PREFIX
from tests.lab.runner import ActionRun
from tests.lab.sts import ACCOUNT

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd"
SCOPE = PolicyScope("aws", REGION, ACCOUNT, "BUCKET", PREFIX)
# These know no resources, and a task of RDS has no ARN, by the Service Authorization Reference:
# https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
ABOUT_ALL = {
    "backup:DescribeBackupJob",
    "backup:DescribeCopyJob",
    "cloudtrail:DescribeTrails",
    "cloudwatch:GetMetricStatistics",
    "cloudwatch:PutMetricData",
    "ec2:DescribeRouteTables",
    "rds:DescribeDBEngineVersions",
    "rds:DescribeDBMajorEngineVersions",
    "rds:DescribeExportTasks",
}
# Everybody may do this; a policy needs one statement at least.
NOTHING = {"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"}


@dataclass(frozen=True)
class Removal:
    """One action of one statement."""

    sid: str
    action: str

    def __str__(self) -> str:
        return f"{self.sid}-{self.action}"


def removals(operation: str, scope: PolicyScope) -> list[Removal]:
    """Every action that a policy could lack."""
    return [
        Removal(grant.sid, action) for grant in needed(operation, scope) for action in grant.actions
    ]


def lacking(
    operation: str, scope: PolicyScope, but: Collection[Removal] = ()
) -> pytest.MarkDecorator:
    """Each of them in turn as `removal`."""
    tried = [each for each in removals(operation, scope) if each not in but]
    return pytest.mark.parametrize("removal", tried, ids=str)


def policy(operation: str, scope: PolicyScope, *without: Removal | None) -> list[dict[str, Any]]:
    """The statements of an operation's policy, but for those that have no action left."""
    statements: list[dict[str, Any]] = []
    for grant in needed(operation, scope):
        actions = [each for each in grant.actions if Removal(grant.sid, each) not in without]
        if actions:
            statements.append(grant.statement() | {"Action": actions})
    return statements or [NOTHING]


def assert_refused(run: ActionRun, removal: Removal) -> None:
    """The run failed, and its only error says what to allow."""
    assert 3 == run.exit_code, run.output
    (error,) = run.errors
    assert_prints(error.message, removal)


def assert_warned(run: ActionRun, removal: Removal) -> None:
    """The run was green without it, and a warning says what to allow."""
    assert 0 == run.exit_code, run.output
    assert_prints("\n".join(each.message for each in run.warnings), removal)


def assert_prints(text: str, removal: Removal) -> None:
    """A statement with the action is there to paste, for no more resources than it must."""
    statements = [each for each in printed(text) if removal.action in each["Action"]]
    assert [] != statements, text
    for statement in statements:
        assert "*" != statement["Resource"] or removal.action in ABOUT_ALL, statement


def printed(text: str) -> Iterator[dict[str, Any]]:
    """The statements of a text, each on a line of its own."""
    for line in text.splitlines():
        if line.startswith("{"):
            yield json.loads(line)
