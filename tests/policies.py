"""Runs of `operation: policy`, and what they are expected to print."""

from __future__ import annotations

import json
from typing import Any

from backup.aws.grants import needed
from backup.aws.policy import PolicyScope
from backup.aws.policy_document import merged
from tests.lab.aws import REGION
from tests.lab.runner import ActionRun, run_action
from tests.lab.sts import ACCOUNT
from tests.steps import green

ROLE = f"arn:aws:iam::{ACCOUNT}:role/pg-backup-writer"
BUCKET_ROLE = "arn:aws:iam::210987654321:role/pg-backup-writer"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:shop/db-AbCdEf"
SERVICE_ROLE = f"arn:aws:iam::{ACCOUNT}:role/service"
PROVIDER = "token.actions.githubusercontent.com"
SCOPE = PolicyScope(
    "aws",
    REGION,
    ACCOUNT,
    "backups",
    "postgresql",
    deletes_snapshots=False,
    role=ROLE,
    instance_key_arn=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/*",
    monitoring_role=f"arn:aws:iam::{ACCOUNT}:role/rds-monitoring-role",
)
IDS = {"GITHUB_REPOSITORY_ID": "4242", "GITHUB_REPOSITORY_OWNER_ID": "77"}
# Where any request would end: nothing listens there.
NOWHERE = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_EC2_METADATA_DISABLED": "true"}


def run(env: Any = None, **inputs: str) -> ActionRun:
    """Inputs by name, with underscores for hyphens; empty ones are left out. `env` are the job's
    variables, its ids without it."""
    given = {"operation": "policy", "aws-region": REGION, "bucket": "backups"}
    given |= {"role-to-assume": ROLE}
    given |= {name.replace("_", "-"): value for name, value in inputs.items()}
    return run_action(
        {name: value for name, value in given.items() if value}, NOWHERE | dict(env or IDS)
    )


def printed(name: str = "policy", env: Any = None, **inputs: str) -> Any:
    return json.loads(green(run(env, **inputs)).outputs[name])


def wanted(scope: PolicyScope, *operations: str) -> list[dict[str, Any]]:
    grants = [grant for name in operations for grant in needed(name, scope)]
    statements: list[dict[str, Any]] = [each.statement() for each in merged(grants)]
    return statements
