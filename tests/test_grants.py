"""The policies in the documentation are those that the operations need, statement by statement."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from backup.aws.grants import PolicyScope, needed
from backup.options import OPERATIONS
from tests.lab.aws import REPOSITORY
from tests.permissions import ABOUT_ALL

SCOPE = PolicyScope("aws", "eu-central-1", "123456789012", "BUCKET", "PREFIX")

EVERYTHING = replace(
    SCOPE,
    kms_key_arn="arn:aws:kms:eu-central-1:123456789012:key/1",
    tags_objects=True,
    secret_arn="arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf",
    login_arn="arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-1/backup",
    thaws=True,
    role="arn:aws:iam::123456789012:role/pg-backup-writer",
    service_role="arn:aws:iam::123456789012:role/pg-backup-vault",
    copy_region="eu-west-1",
    copy_kms_key_arn="arn:aws:kms:eu-west-1:123456789012:key/2",
    tunnel_secret_arn="arn:aws:secretsmanager:eu-central-1:123456789012:secret:tunnel-AbCdEf",
    bastion_arn="arn:aws:ec2:eu-central-1:123456789012:instance/i-0123456789abcdef0",
    bastion_user="ec2-user",
    instance_key_arn="arn:aws:kms:eu-central-1:123456789012:key/3",
    monitoring_role="arn:aws:iam::123456789012:role/rds-monitoring-role",
)


def statements(page: str) -> list[dict[str, Any]]:
    """Every statement that lets a role do something in the JSON of a page."""
    text = (REPOSITORY / page).read_text().replace("$bucket", "BUCKET").replace("$prefix", "PREFIX")
    found: list[dict[str, Any]] = []
    for block in re.findall(
        r"^(?:```json|cat >\S+ <<JSON)\n(.*?)^(?:```|JSON)$", text, re.S | re.M
    ):
        read = json.loads(block)
        found += read.get("Statement", [read] if "Effect" in read else [])
    return [each for each in found if "Resource" in each]


def policy(operation: str, scope: PolicyScope = SCOPE) -> list[dict[str, Any]]:
    return [grant.statement() for grant in needed(operation, scope)]


@pytest.mark.parametrize(
    ("operation", "pages"),
    [
        ("backup", ["README.md"]),
        ("restore", ["docs/restore.md"]),
        ("verify", ["docs/restore.md", "docs/drill.md"]),
    ],
)
def test_a_documented_policy_is_what_the_operation_needs(operation: str, pages: list[str]) -> None:
    documented = [each for page in pages for each in statements(page)]
    assert documented == policy(operation)


def test_the_documented_policy_of_an_audit_is_what_it_needs() -> None:
    scope = PolicyScope(
        "aws",
        "eu-central-1",
        "123456789012",
        "my-company-pg-backups",
        "postgresql",
        role="arn:aws:iam::123456789012:role/pg-backup-writer",
        instance="shop-production",
    )
    of_cluster = replace(scope, instance=None, cluster="shop-production")
    (instead,) = [each for each in policy("audit", of_cluster) if each["Sid"] == "AuditInstance"]
    assert statements("docs/audit.md") == [*policy("audit", scope), instead]


def test_the_documented_policies_of_a_restored_instance_are_what_it_needs() -> None:
    def scope(**of: Any) -> PolicyScope:
        return PolicyScope(
            "aws",
            "eu-central-1",
            "123456789012",
            "my-company-pg-backups",
            "postgresql",
            monitoring_role="arn:aws:iam::123456789012:role/rds-monitoring-role",
            instance_key_arn="arn:aws:kms:eu-central-1:123456789012:key/"
            "11111111-2222-4333-8444-555555555555",
            **of,
        )

    of_instance = policy("restore-instance", scope(instance="shop-production"))
    of_cluster = policy("restore-instance", scope(cluster="shop-production"))
    differing = [each for each in of_cluster if each not in of_instance]
    assert statements("docs/recovery.md") == of_instance + differing


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("of", [{"instance": "shop"}, {"cluster": "shop"}], ids=str)
def test_only_what_knows_no_resources_is_allowed_on_all(operation: str, of: Any) -> None:
    scope = replace(EVERYTHING, **of)
    in_vault = replace(scope, vault="production")
    granted = [*needed(operation, scope), *needed(operation, in_vault)]
    assert [] == [each for each in granted if "*" in each.actions or ":*" in str(each.actions)]
    on_all = {action for each in granted if "*" in each.resources for action in each.actions}
    assert on_all <= ABOUT_ALL
    # A statement about resources does nothing for an action that knows none.
    on_some = {action for each in granted if "*" not in each.resources for action in each.actions}
    assert set() == on_some & ABOUT_ALL


def test_a_bucket_without_a_prefix_is_listed_and_written_whole() -> None:
    scope = PolicyScope("aws", "eu-central-1", "123456789012", "BUCKET", "")
    write, listing = policy("backup", scope)
    assert "arn:aws:s3:::BUCKET/*" == write["Resource"]
    assert "Condition" not in listing


def test_what_is_used_adds_its_own_permissions() -> None:
    scope = EVERYTHING
    assert {
        "s3:PutObject",
        "s3:AbortMultipartUpload",
        "s3:PutObjectTagging",
        "s3:ListBucket",
        "kms:GenerateDataKey",
        "kms:Decrypt",
        "secretsmanager:GetSecretValue",
        "rds-db:connect",
        "ec2-instance-connect:SendSSHPublicKey",
    } == actions("backup", scope)
    assert {
        "s3:GetObject",
        "s3:ListBucket",
        "s3:RestoreObject",
        "kms:Decrypt",
        "secretsmanager:GetSecretValue",
        "rds-db:connect",
        "ec2-instance-connect:SendSSHPublicKey",
    } == actions("restore", scope)
    beyond = actions("verify", scope) - actions("restore", scope)
    assert {"s3:PutObject", "kms:GenerateDataKey"} == beyond


def test_the_documented_permissions_of_a_tunnel_are_what_it_needs() -> None:
    bucket_alone = policy("backup")
    scope = replace(
        SCOPE,
        tunnel_secret_arn="arn:aws:secretsmanager:eu-central-1:123456789012:secret:shop/tunnel-AbCdEf",
        bastion_arn="arn:aws:ec2:eu-central-1:123456789012:instance/i-0123456789abcdef0",
        bastion_user="ec2-user",
    )
    needed_for_it = [each for each in policy("backup", scope) if each not in bucket_alone]
    documented = statements("docs/network.md")
    assert sorted(needed_for_it, key=str) == sorted(documented, key=str)


def actions(operation: str, scope: PolicyScope) -> set[str]:
    return {action for grant in needed(operation, scope) for action in grant.actions}
