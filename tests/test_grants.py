"""The policies in the documentation are those that the operations need, statement by statement."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from backup.aws.grants import PolicyScope, needed, needed_of_bucket_role
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


BEYOND = replace(
    EVERYTHING,
    replica="REPLICA",
    replica_region="eu-west-1",
    read_from="auto",
    awaits_replica=True,
    topic_arn="arn:aws:sns:eu-central-1:123456789012:pg-backup",
    namespace="PgBackup",
    remembers_outcomes=True,
)
BUCKET_ROLE = "arn:aws:iam::210987654321:role/pg-backup-writer"


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
        ("backup", ["docs/account.md"]),
        ("restore", ["docs/restore.md"]),
        ("verify", ["docs/restore.md", "docs/drill.md"]),
        ("collect", ["docs/fleets.md"]),
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
    scope = replace(BEYOND, **of)
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


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "policy"])
def test_two_roles_share_what_one_would_need(operation: str) -> None:
    of_instance = replace(BEYOND, instance="shop")
    shared = replace(of_instance, bucket_role=BUCKET_ROLE)
    first, second = needed(operation, shared), needed_of_bucket_role(operation, shared)
    become, *rest = first
    assert (("sts:AssumeRole",), (BUCKET_ROLE,)) == (become.actions, become.resources)
    alone = needed(operation, of_instance)
    assert sorted(map(str, alone)) == sorted(map(str, [*rest, *second]))
    assert [] == [each for each in rest if any(name.startswith("s3:") for name in each.actions)]
    services = {name.partition(":")[0] for each in second for name in each.actions}
    assert services <= {"s3", "kms"}


def test_the_key_of_an_instance_stays_with_the_first_role() -> None:
    scope = replace(BEYOND, instance="shop", bucket_role=BUCKET_ROLE)
    sids = {each.sid for each in needed("restore-instance", scope)}
    assert "UseTheInstancesKey" in sids
    assert "UseTheBucketsKey" not in sids


def test_what_is_told_adds_its_own_permissions_to_every_operation() -> None:
    told = replace(SCOPE, topic_arn="TOPIC", namespace="PgBackup", remembers_outcomes=True)
    for operation in ("list", "restore", "audit", "snapshot", "collect"):
        beyond = actions(operation, told) - actions(operation, SCOPE)
        expected = {"sns:Publish", "cloudwatch:PutMetricData", "s3:PutObject", "s3:ListBucket"}
        assert beyond <= expected, operation
        assert {"sns:Publish", "cloudwatch:PutMetricData"} <= beyond
    assert () == needed("policy", told)


@pytest.mark.parametrize("operation", ["list", "restore", "verify", "audit"])
@pytest.mark.parametrize(
    ("read_from", "buckets"),
    [("bucket", {"BUCKET"}), ("replica", {"REPLICA"}), ("auto", {"BUCKET", "REPLICA"})],
)
def test_backups_are_read_where_they_are_to_be_read(
    operation: str, read_from: str, buckets: set[str]
) -> None:
    scope = replace(SCOPE, replica="REPLICA", replica_region="eu-west-1", read_from=read_from)
    read = {
        resource.removeprefix("arn:aws:s3:::").partition("/")[0]
        for grant in needed(operation, scope)
        for resource in grant.resources
        if {"s3:GetObject", "s3:RestoreObject"}.intersection(grant.actions)
        or grant.sid == "ListBackups"
    }
    assert buckets == read


def test_a_replicas_key_is_bound_to_that_bucket_alone() -> None:
    scope = replace(BEYOND, read_from="replica")
    (key,) = [each for each in needed("restore", scope) if "kms:Decrypt" in each.actions]
    assert ("arn:aws:kms:eu-west-1:*:key/*",) == key.resources
    assert {
        "StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"},
        "StringLike": {
            "kms:EncryptionContext:aws:s3:arn": [
                "arn:aws:s3:::REPLICA",
                "arn:aws:s3:::REPLICA/*",
            ]
        },
    } == key.condition
    exact = replace(scope, replica_key_arn="KEY")
    assert ("KEY",) in {each.resources for each in needed("restore", exact)}


def test_a_backup_that_waits_lists_the_replica_and_reads_nothing() -> None:
    scope = replace(SCOPE, replica="REPLICA", replica_region="eu-west-1", awaits_replica=True)
    beyond = [each for each in needed("backup", scope) if each not in needed("backup", SCOPE)]
    (waiting,) = beyond
    assert (("s3:ListBucket",), ("arn:aws:s3:::REPLICA",)) == (waiting.actions, waiting.resources)


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "policy"])
def test_the_documented_table_of_actions_is_what_the_code_asks_for(operation: str) -> None:
    page = (REPOSITORY / "docs/permissions.md").read_text()
    row = re.search(rf"^\| `{operation}` \| (.*) \| (.*) \|$", page, re.M)
    assert row is not None
    always, with_inputs = (re.findall(r"`([a-z0-9-]+:\w+)`", cell) for cell in row.groups())
    least = actions(operation, replace(SCOPE, instance="shop", deletes_snapshots=False))
    scopes = (
        replace(BEYOND, instance="shop"),
        replace(BEYOND, cluster="shop"),
        replace(BEYOND, instance="shop", vault="production"),
    )
    most = set().union(*(actions(operation, scope) for scope in scopes))
    assert (sorted(least), sorted(most - least)) == (sorted(always), sorted(with_inputs))


def actions(operation: str, scope: PolicyScope) -> set[str]:
    return {action for grant in needed(operation, scope) for action in grant.actions}
