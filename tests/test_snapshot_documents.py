"""`docs/snapshots.md`: its policies are what the operations need, and its commands run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backup.aws.grants import PolicyScope
from tests.lab.aws import REPOSITORY, Ministack
from tests.permissions import policy

PAGE = (REPOSITORY / "docs/snapshots.md").read_text()
SCOPE = PolicyScope(
    "aws", "eu-central-1", "123456789012", "my-company-pg-backups", "postgresql",
    instance="shop-production",
)  # fmt: skip
KEYS = {
    "eu-central-1": "11111111-2222-4333-8444-555555555555",
    "eu-west-1": "99999999-8888-4777-8666-555555555555",
}


def key(region: str) -> str:
    return f"arn:aws:kms:{region}:123456789012:key/{KEYS[region]}"


def role(name: str) -> str:
    return f"arn:aws:iam::123456789012:role/{name}"


def documented(heading: str) -> list[dict[str, Any]]:
    """The statements of the policy under a heading."""
    (block,) = re.findall(
        rf"^### {heading}\n.*?^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE
    )[:1]
    found: list[dict[str, Any]] = json.loads(block)["Statement"]
    return found


@pytest.mark.parametrize(
    ("heading", "operation", "scope"),
    [
        (
            "For snapshots",
            "snapshot",
            replace(SCOPE, copy_region="eu-west-1", copy_kms_key_arn=key("eu-west-1")),
        ),
        (
            "For snapshots by AWS Backup",
            "snapshot",
            replace(
                SCOPE,
                vault="production",
                service_role=role("pg-backup-vault"),
                copy_region="eu-west-1",
            ),
        ),
        (
            "For exports",
            "export",
            replace(SCOPE, kms_key_arn=key("eu-central-1"), service_role=role("pg-backup-export")),
        ),
    ],
)
def test_a_documented_policy_is_what_the_operation_needs(
    heading: str, operation: str, scope: PolicyScope
) -> None:
    def listed(statement: dict[str, Any]) -> dict[str, Any]:
        action = statement["Action"]
        return statement | {"Action": [action] if isinstance(action, str) else action}

    assert [listed(each) for each in documented(heading)] == policy(operation, scope)


@pytest.mark.parametrize("script", re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
def test_the_commands_that_prepare_for_it_run(
    ministack: Ministack, tmp_path: Path, script: str
) -> None:
    # The double does not know this call: its input is checked against the model alone.
    opt_in = "--resource-type-opt-in-preference RDS=true,Aurora=true"
    script = script.replace(opt_in, f"{opt_in} --generate-cli-skeleton output")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": ministack.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    assert 0 == done.returncode, done.stderr
