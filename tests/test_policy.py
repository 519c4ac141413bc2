"""`operation: policy` prints what the operations take, from the code's own knowledge, offline."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from backup.aws.grants import needed_of_bucket_role
from backup.aws.policy_document import MOST_MANAGED, document, length
from backup.options import OPERATIONS
from tests.lab.aws import REGION, REPOSITORY
from tests.lab.stage import the_error
from tests.lab.sts import ACCOUNT
from tests.policies import (
    BUCKET_ROLE,
    IDS,
    KEY,
    NOWHERE,
    ROLE,
    SCOPE,
    SECRET,
    SERVICE_ROLE,
    printed,
    run,
    wanted,
)
from tests.steps import green

CASES: dict[str, tuple[tuple[str, ...], dict[str, str], dict[str, Any]]] = {
    "backup": (("backup",), {}, {}),
    "list": (("list",), {}, {}),
    "collect": (("collect",), {}, {}),
    "restore": (("restore",), {}, {}),
    "verify": (("verify",), {}, {}),
    "audit": (("audit",), {}, {}),
    "a-key": (("backup",), {"kms_key_id": KEY}, {"kms_key_arn": KEY}),
    "a-key-by-id": (("backup",), {"kms_key_id": "1"}, {"kms_key_arn": KEY}),
    "a-key-by-alias": (
        ("backup",),
        {"kms_key_id": "alias/pg"},
        {"kms_key_arn": f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/pg"},
    ),
    "tags": (("backup",), {"object_tags": "team=shop"}, {"tags_objects": True}),
    "tiers": (("backup",), {"retention_tier": "auto"}, {"tags_objects": True}),
    "thawing": (("restore",), {"thaw_wait": "5h"}, {"thaws": True}),
    "a-secret": (("backup",), {"password_secret_id": SECRET}, {"secret_arn": SECRET}),
    "a-secret-by-name": (
        ("backup",),
        {"password_secret_id": "shop/db"},
        {"secret_arn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:shop/db-??????"},
    ),
    "a-login-by-iam": (
        ("backup",),
        {"iam_auth": "true", "user": "backup"},
        {"login_arn": f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:*/backup"},
    ),
    "a-login-at-an-instance": (
        ("backup",),
        {"iam_auth": "true", "user": "backup", "db_instance": "shop"},
        {
            "login_arn": f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:db-*/backup",
            "instance": "shop",
        },
    ),
    "a-login-at-a-cluster": (
        ("backup",),
        {"iam_auth": "true", "user": "backup", "db_cluster": "shop"},
        {
            "login_arn": f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:cluster-*/backup",
            "cluster": "shop",
        },
    ),
    "a-tunnel": (
        ("backup",),
        {"tunnel": "ssh://jump@bastion", "tunnel_instance_id": "i-0123456789abcdef0",
         "tunnel_host_key": "ssh-ed25519 AAAA"},
        {
            "bastion_arn": f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/i-0123456789abcdef0",
            "bastion_user": "jump",
        },
    ),
    "a-snapshot": (("snapshot",), {"db_instance": "shop"}, {"instance": "shop"}),
    "a-snapshot-of-a-cluster": (("snapshot",), {"db_cluster": "shop"}, {"cluster": "shop"}),
    "snapshots-that-go": (
        ("snapshot",),
        {"db_instance": "shop", "keep": "7"},
        {"instance": "shop", "deletes_snapshots": True},
    ),
    "a-snapshot-copied": (
        ("snapshot",),
        {"db_instance": "shop", "copy_to_region": "eu-west-1", "copy_kms_key_id": "alias/there"},
        {
            "instance": "shop",
            "copy_region": "eu-west-1",
            "copy_kms_key_arn": f"arn:aws:kms:eu-west-1:{ACCOUNT}:alias/there",
        },
    ),
    "a-vault": (
        ("snapshot",),
        {"db_instance": "shop", "via": "aws-backup", "backup_vault": "production",
         "service_role": SERVICE_ROLE},
        {"instance": "shop", "vault": "production", "service_role": SERVICE_ROLE},
    ),
    "a-new-instance": (("restore-instance",), {"db_instance": "shop"}, {"instance": "shop"}),
    "an-export": (
        ("export",),
        {"db_instance": "shop", "service_role": SERVICE_ROLE, "kms_key_id": KEY},
        {"instance": "shop", "service_role": SERVICE_ROLE, "kms_key_arn": KEY},
    ),
    "a-topic-and-metrics": (
        ("backup",),
        {"sns_topic_arn": f"arn:aws:sns:{REGION}:{ACCOUNT}:told",
         "cloudwatch_namespace": "PgBackup", "notify_on": "change"},
        {
            "topic_arn": f"arn:aws:sns:{REGION}:{ACCOUNT}:told",
            "namespace": "PgBackup",
            "remembers_outcomes": True,
        },
    ),
    "a-replica": (
        ("restore",),
        {"replica_bucket": "replica", "replica_region": "eu-west-1", "kms_key_id": KEY},
        {"kms_key_arn": KEY, "replica": "replica", "replica_region": "eu-west-1",
         "read_from": "auto"},
    ),
    "a-replica-waited-for": (
        ("backup",),
        {"replica_bucket": "replica", "replica_region": "eu-west-1", "replica_wait": "15min"},
        {"replica": "replica", "replica_region": "eu-west-1", "awaits_replica": True},
    ),
    "several": (("backup", "restore", "verify", "list"), {"kms_key_id": KEY}, {"kms_key_arn": KEY}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_policy_is_what_the_operations_take(
    case: tuple[tuple[str, ...], dict[str, str], dict[str, Any]],
) -> None:
    operations, inputs, differing = case
    policy = printed(policy_for="\n".join(operations), **inputs)
    assert ["Version", "Statement"] == list(policy)
    assert wanted(replace(SCOPE, **differing), *operations) == policy["Statement"]


def test_a_backup_with_its_drill_may_do_both() -> None:
    assert wanted(SCOPE, "backup", "verify") == printed(verify="true")["Statement"]


def test_the_audit_of_a_setup_is_made_with_a_backups_permissions() -> None:
    policy = printed(policy_for="audit", scope="setup")
    assert wanted(SCOPE, "backup") == policy["Statement"]


def test_a_role_for_the_bucket_splits_the_policy() -> None:
    given = {"bucket_role": BUCKET_ROLE, "password_secret_id": SECRET, "kms_key_id": "alias/pg"}
    outputs = green(run(IDS, **given)).outputs
    key = "arn:aws:kms:eu-central-1:210987654321:alias/pg"
    scope = replace(SCOPE, bucket_role=BUCKET_ROLE, secret_arn=SECRET, kms_key_arn=key)
    first = json.loads(outputs["policy"])
    assert {"sts:AssumeRole", "secretsmanager:GetSecretValue"} == {
        each["Action"] for each in first["Statement"]
    }
    assert BUCKET_ROLE == first["Statement"][0]["Resource"]
    beside = [each.statement() for each in needed_of_bucket_role("backup", scope)]
    assert beside == json.loads(outputs["bucket-role-policy"])["Statement"]
    (trust,) = json.loads(outputs["bucket-role-trust-policy"])["Statement"]
    assert ({"AWS": ROLE}, "sts:AssumeRole") == (trust["Principal"], trust["Action"])


def test_a_policy_that_iam_would_not_take_is_a_warning_that_says_to_split() -> None:
    inputs = {
        "policy_for": "\n".join(name for name in OPERATIONS if name not in ("plan", "policy")),
        "db_instance": "a-rather-long-identifier-of-an-instance",
        "service_role": SERVICE_ROLE,
        "kms_key_id": KEY,
        "copy_to_region": "eu-west-1",
        "copy_kms_key_id": "alias/there",
        "prefix": "a/rather/long/prefix/of/the/backups/of/all/our/databases",
        "keep": "7",
        "replica_bucket": "another-bucket-of-backups",
        "replica_region": "eu-west-1",
        "password_secret_id": "shop/db",
        "object_tags": "team=shop",
    }
    done = green(run(IDS, **inputs))
    size = length(json.loads(done.outputs["policy"]))
    assert size > MOST_MANAGED
    (warning,) = done.warnings
    assert f"{size:,} characters" in warning.message
    assert "run it once for each operation" in warning.message
    assert length(document([])) < 60


@pytest.mark.parametrize(
    ("region", "partition"),
    [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("eu-central-1", "aws")],
)
def test_each_partition_has_arns_of_its_own(region: str, partition: str) -> None:
    outputs = green(run(IDS, aws_region=region, kms_key_id="1")).outputs
    arns = re.findall(r"arn:[a-z-]+:", outputs["policy"] + outputs["trust-policy"])
    assert {f"arn:{partition}:"} == set(arns)


@pytest.mark.parametrize(
    ("inputs", "account"),
    [
        ({}, ACCOUNT),
        ({"role_to_assume": "", "allowed_account_ids": "111122223333"}, "111122223333"),
        ({"role_to_assume": "", "expected_bucket_owner": "444455556666"}, "444455556666"),
    ],
    ids=["role", "allowed", "owner"],
)
def test_the_account_comes_from_the_inputs(inputs: dict[str, str], account: str) -> None:
    (statement,) = printed("trust-policy", **inputs)["Statement"]
    assert f":{account}:" in statement["Principal"]["Federated"]


@pytest.mark.parametrize(
    "inputs",
    [
        {"role_to_assume": ""},
        {"role_to_assume": "", "allowed_account_ids": "111122223333,444455556666"},
        {
            "role_to_assume": "",
            "expected_bucket_owner": "444455556666",
            "bucket_role": "arn:aws:iam::444455556666:role/x",
        },
    ],
    ids=["nothing", "two", "the-buckets"],
)
def test_an_account_that_nobody_tells_is_asked_for(inputs: dict[str, str]) -> None:
    done = run(IDS, **inputs)
    assert 2 == done.exit_code
    the_error(done, "which AWS account", "role-to-assume: arn:aws:iam::")


def test_a_repository_that_nobody_tells_is_asked_for() -> None:
    done = run({"GITHUB_REPOSITORY": ""})
    assert 2 == done.exit_code
    the_error(done, "which repository", "trusted-repository: acme/shop")


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"bucket": ""}, "bucket: is missing"),
        ({"policy_for": "snapshot"}, "db-instance: is missing"),
        ({"policy_for": "export", "db_instance": "shop"}, "service-role: is missing"),
        ({"policy_for": "policy"}, "'policy' is no operation that needs a role"),
        ({"policy_for": "everything"}, "'everything' is no operation"),
        ({"iam_auth": "true"}, "user: is missing"),
        ({"trusted_repository": "acme/*"}, "trusted-repository: 'acme/*'"),
        ({"trusted_repository": "acme@1/shop"}, "trusted-repository: 'acme@1/shop'"),
        ({"trusted_repository": "acme/shop:ref:refs/heads/main"}, "trusted-repository"),
        ({"trusted_subject": "*"}, "trusted-subject: '*'"),
        ({"trusted_subject": "ref:refs/heads/*"}, "trusted-subject"),
        ({"trusted_subject": "environment:prod?"}, "trusted-subject"),
    ],
    ids=str,
)
def test_an_input_that_will_not_do_is_refused(inputs: dict[str, str], told: str) -> None:
    done = run(IDS, **inputs)
    assert 2 == done.exit_code, done.output
    the_error(done, told)


def test_wildcards_and_variables_in_names_mean_themselves() -> None:
    policy = printed(
        prefix="a*b", iam_auth="true", user='x*?${aws:username}"', policy_for="restore"
    )
    text = json.dumps(policy)
    assert "backups/a${*}b/*" in text
    user = 'x${*}${?}${$}{aws:username}"'
    assert [f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:*/{user}"] == [
        each["Resource"] for each in policy["Statement"] if each["Sid"] == "LogIn"
    ]


def test_what_is_a_pattern_comes_with_what_would_make_it_exact() -> None:
    done = green(run(IDS, password_secret_id="shop/db's", kms_key_id="alias/pg", iam_auth=""))
    assert "describe-secret --secret-id" in done.summary
    assert "describe-key --key-id alias/pg" in done.summary.replace("\\", "")
    exact = green(run(IDS, password_secret_id=SECRET, kms_key_id=KEY))
    assert "What would make it exact" not in exact.summary


def terminal(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backup", "policy", "--aws-region", REGION, "--bucket", "backups",
         "--role-to-assume", ROLE, "--trusted-repository", "acme@1/shop@2", *arguments],
        cwd=REPOSITORY, env={"PATH": os.environ["PATH"], **NOWHERE}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_terminal_prints_json_that_a_program_can_read() -> None:
    done = terminal("--json")
    assert (0, "") == (done.returncode, done.stderr)
    told = json.loads(done.stdout)
    assert wanted(replace(SCOPE, role=ROLE), "backup") == told["policy"]["Statement"]
    (statement,) = told["trust-policy"]["Statement"]
    assert "repo:acme@1/shop@2:ref:refs/heads/main" in str(statement)
    assert [] == told["patterns"]


def test_a_terminal_shows_both_documents_ready_to_copy() -> None:
    done = terminal("--policy-for", "list")
    shown = re.findall(r"^\{$.*?^\}$", done.stdout, re.S | re.M)
    policy, trust = map(json.loads, shown)
    assert ["ListBackups"] == [each["Sid"] for each in policy["Statement"]]
    assert "Federated" in str(trust)


def test_nobody_is_asked_anything_even_where_a_topic_is_named() -> None:
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:told"
    done = green(run(IDS, sns_topic_arn=topic, cloudwatch_namespace="PgBackup", notify_on="always"))
    assert [] == done.warnings
