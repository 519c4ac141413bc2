"""The scripted AWS itself: it speaks the API's own form, refuses on demand, enforces policies."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore import xform_name
from botocore.config import Config

from tests.lab.aws import REGION, client
from tests.lab.scripted import made
from tests.lab.scripted.asking import arn, asking, refusal
from tests.lab.scripted.needs import RESOURCES
from tests.lab.scripted.scalars import WireFault
from tests.lab.scripted.server import ScriptedAws
from tests.lab.scripted.wire import service_model
from tests.lab.sts import ACCOUNT

KEY = made.key_of(REGION)
EXPORT_ROLE = f"arn:aws:iam::{ACCOUNT}:role/rds-export"
SNAPSHOT = {"DBSnapshotIdentifier": "s", "DBInstanceIdentifier": "shop"}


@pytest.fixture
def rds(scripted: ScriptedAws) -> Any:
    return asking(scripted)


def allow(
    *actions: str, resource: str | list[str] = "*", condition: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


def test_exactly_the_operations_that_are_answered_are_written_down_with_what_they_need(
    scripted: ScriptedAws,
) -> None:
    answered = {
        f"{service}:{operation}"
        for service in ("rds", "backup", "ec2", "ec2-instance-connect")
        for operation in service_model(service).operation_names
        if any(hasattr(script, xform_name(operation)) for script in scripted.scripts(service))
    }

    assert set(RESOURCES) == answered


def test_a_wrong_request_is_kept_for_the_end_of_the_test() -> None:
    with ScriptedAws() as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
        scope = f"Credential=test/20261122/{REGION}/rds/aws4_request"
        body = "Action=DescribeDBInstances&Version=2014-10-31&Colour=red"
        connection.request("POST", "/", body, {"Authorization": scope})
        status = connection.getresponse().status
        unscripted = refusal(asking(server).describe_reserved_db_instances)

    assert 400 == status
    assert ("WireFault", 400) == unscripted[:2]
    assert [
        "DescribeDBInstancesMessage: unknown ['Colour']",
        "it is not written down what rds:DescribeReservedDBInstances needs permission for",
    ] == server.wrong


def test_an_action_is_denied_in_the_words_of_iam(scripted: ScriptedAws, rds: Any) -> None:
    scripted.rds.add_instance()
    scripted.deny("rds:CreateDBSnapshot")
    scripted.deny("backup:DescribeBackupVault")
    scripted.deny("ec2:DescribeSubnets")

    code, status, text = refusal(rds.create_db_snapshot, **SNAPSHOT)
    backup = refusal(asking(scripted, "backup").describe_backup_vault, BackupVaultName="v")
    network = refusal(asking(scripted, "ec2").describe_subnets)

    assert ("AccessDenied", 403) == (code, status)
    assert (
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/pg-backup/session is not authorized to perform:"
        f" rds:CreateDBSnapshot on resource: {arn('snapshot:s')}"
        " because no identity-based policy allows the rds:CreateDBSnapshot action"
    ) == text
    assert ("AccessDeniedException", 403) == backup[:2]
    assert ("UnauthorizedOperation", 403) == network[:2]
    assert {} == dict(scripted.rds.estate.all("snapshot", REGION))


def test_an_action_can_be_denied_in_the_middle(scripted: ScriptedAws, rds: Any) -> None:
    scripted.rds.add_instance()
    scripted.deny("rds:DescribeDBInstances", after=2)

    rds.describe_db_instances()
    rds.describe_db_instances()

    assert "AccessDenied" == refusal(rds.describe_db_instances)[0]
    assert "AccessDenied" == refusal(rds.describe_db_instances)[0]


def test_a_throttled_client_gets_through_by_trying_again(scripted: ScriptedAws) -> None:
    scripted.rds.add_instance()
    scripted.throttle("rds:DescribeDBInstances", times=2)
    patient = client(
        "rds", scripted.url, config=Config(retries={"mode": "standard", "max_attempts": 5})
    )

    answer = patient.describe_db_instances()

    assert 2 == answer["ResponseMetadata"]["RetryAttempts"]
    assert 3 == len(scripted.asked("rds:DescribeDBInstances"))


def test_any_other_error_can_be_had(scripted: ScriptedAws, rds: Any) -> None:
    scripted.fail("rds:DescribeDBInstances", "InternalFailure", "oh", status=500, times=1)
    scripted.fail("rds:DescribeDBSnapshots", "DBSnapshotNotFound", "gone")

    assert ("InternalFailure", 500, "oh") == refusal(rds.describe_db_instances)
    assert [] == rds.describe_db_instances()["DBInstances"]
    assert ("DBSnapshotNotFound", 404, "gone") == refusal(rds.describe_db_snapshots)


def test_a_policy_is_enforced_on_every_resource_of_a_call(scripted: ScriptedAws, rds: Any) -> None:
    scripted.rds.add_instance()
    create = "rds:CreateDBSnapshot"
    scripted.allow_only([allow(create, resource=arn("db:shop"))])
    one = refusal(rds.create_db_snapshot, **SNAPSHOT)
    scripted.allow_only([allow(create, resource=[arn("db:shop"), arn("snapshot:*")])])

    rds.create_db_snapshot(**SNAPSHOT)

    assert arn("snapshot:s") in one[2]
    elsewhere = asking(scripted, region="eu-west-1")
    assert "AccessDenied" == refusal(elsewhere.create_db_snapshot, **SNAPSHOT)[0]


def test_tags_of_request_and_resource_are_conditions(scripted: ScriptedAws, rds: Any) -> None:
    scripted.rds.add_instance()
    scripted.rds.add_snapshot("ours", TagList=[{"Key": "by", "Value": "action"}])
    scripted.rds.add_snapshot("theirs")
    tagged = {
        "StringEquals": {"aws:RequestTag/by": "action"},
        "ForAllValues:StringLike": {"aws:TagKeys": ["by", "release*"]},
    }
    scripted.allow_only(
        [
            allow("rds:CreateDBSnapshot"),
            allow("rds:AddTagsToResource", condition=tagged),
            allow("rds:DeleteDBSnapshot", condition={"StringLike": {"aws:ResourceTag/by": "act*"}}),
        ]
    )

    def create(**tags: str) -> Any:
        return {**SNAPSHOT, "Tags": [{"Key": key, "Value": text} for key, text in tags.items()]}

    untagged = refusal(rds.create_db_snapshot, **create(by="hand"))
    odd_key = refusal(rds.create_db_snapshot, **create(by="action", colour="red"))
    rds.create_db_snapshot(**create(by="action", release="1.2"))
    theirs = refusal(rds.delete_db_snapshot, DBSnapshotIdentifier="theirs")
    rds.delete_db_snapshot(DBSnapshotIdentifier="ours")

    assert "rds:AddTagsToResource" in untagged[2]
    assert "rds:AddTagsToResource" in odd_key[2]
    assert "rds:DeleteDBSnapshot" in theirs[2]


def test_a_role_that_is_passed_and_a_key_that_is_used_need_permission(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.add_instance()
    scripted.rds.add_snapshot("s")
    start = allow("rds:StartExportTask")
    passed = {"StringEquals": {"iam:PassedToService": "export.rds.amazonaws.com"}}
    pass_role = allow("iam:PassRole", resource=EXPORT_ROLE, condition=passed)
    grant = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    keys = [
        allow("kms:DescribeKey", resource=KEY),
        allow("kms:CreateGrant", resource=KEY, condition=grant),
    ]
    asked = {
        "ExportTaskIdentifier": "e",
        "SourceArn": arn("snapshot:s"),
        "S3BucketName": "b",
        "IamRoleArn": EXPORT_ROLE,
        "KmsKeyId": KEY,
    }

    for statements, missing in (
        ([start, *keys], "iam:PassRole"),
        ([start, pass_role, keys[1]], "kms:DescribeKey"),
        ([start, pass_role, keys[0]], "kms:CreateGrant"),
        ([pass_role, *keys], "rds:StartExportTask"),
    ):
        scripted.allow_only(statements)
        assert f"perform: {missing} on" in refusal(rds.start_export_task, **asked)[2]
    scripted.allow_only([start, pass_role, *keys])
    rds.start_export_task(**asked)


def test_an_explicit_deny_wins(scripted: ScriptedAws, rds: Any) -> None:
    deny = {"Effect": "Deny", "Action": "rds:Describe*", "Resource": "*"}
    scripted.allow_only([allow("rds:*"), deny])

    assert "with an explicit deny" in refusal(rds.describe_db_instances)[2]


def test_a_policy_that_is_not_understood_is_no_policy(scripted: ScriptedAws) -> None:
    with pytest.raises(WireFault):
        scripted.allow_only([{"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}])
