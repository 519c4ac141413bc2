"""The policies that `operation: policy` prints, given to IAM, make a role that does its work."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.aws import REPOSITORY, Ministack
from tests.lab.cloud import Cloud, role_of, source_inputs
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer
from tests.lab.runner import run_action
from tests.lab.stacks import administrator
from tests.lab.sts import Sts
from tests.permissions import KEY
from tests.steps import database_named, forget, green

IDS = {"GITHUB_REPOSITORY_ID": "4242", "GITHUB_REPOSITORY_OWNER_ID": "77"}


@pytest.mark.parametrize("head", ["octo-org/shop", "octo-org@77/shop@4242"])
def test_a_role_made_of_what_is_printed_backs_up_and_drills(
    cloud: Cloud, ministack: Ministack, postgres: PostgresServer, head: str
) -> None:
    name = f"printed-for-{cloud.bucket}"
    secret = ministack.client("secretsmanager").create_secret(
        Name=f"shop/{name}", SecretString=postgres.password
    )
    inputs = source_inputs(postgres, database_named(postgres, "printed"))
    del inputs["password"]
    inputs |= cloud.inputs | {
        "role-to-assume": role_of(name),
        "password-secret-id": secret["Name"],
        "kms-key-id": KEY,
        "retention-tier": "auto",
        "verify": "true",
        "verify-depth": "archive",
    }
    printed = green(run_action(inputs | {"operation": "policy"}, IDS)).outputs
    iam = ministack.client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=printed["trust-policy"])
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=printed["policy"])

    with (
        Issuer(f"repo:{head}:ref:refs/heads/main") as issuer,
        Sts(issuer.jwks_url, ministack.url, trust=None) as sts,
    ):
        own = replace(cloud, issuer=issuer, sts=sts)
        clients = {"PG_BACKUP_CLIENTS": str(postgres.binaries)}
        run = run_action(inputs, own.env | clients)
        issuer.subject = "repo:octo-org/shop:ref:refs/heads/other"
        stranger = run_action(inputs, own.env | clients)
    forget(postgres, "printed")

    assert [] == green(run).warnings
    assert 3 == stranger.exit_code
    assert "s3:DeleteObject" not in json.dumps(printed)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed: apt-get install jq")
def test_the_documented_lines_make_a_role(ministack: Ministack, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/permissions.md").read_text()
    block = re.search(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert block is not None
    name = f"documented-{secrets.token_hex(4)}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block[1].replace("pg-backup-writer", name)],
        env=administrator(ministack) | {"PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    iam = ministack.client("iam")
    trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    policy = iam.get_role_policy(RoleName=name, PolicyName="backup")["PolicyDocument"]
    assert "repo:acme@77/shop@4242:ref:refs/heads/main" in json.dumps(trust)
    sids = [each["Sid"] for each in policy["Statement"]]
    assert ["WriteBackups", "ListBackups", "EncryptBackups"] == sids
