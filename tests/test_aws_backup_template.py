"""aws-backup.yaml: what is backed up, how long it stays, and that nobody takes it away."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from backup.options import OPTIONS
from tests.lab.alarm_rules import faults
from tests.lab.aws import REPOSITORY, Ministack
from tests.lab.stacks import delete, deploy
from tests.lab.sts import ACCOUNT
from tests.lab.templates import ResolvedTemplate, TemplateError, read_template, resolve

TOPIC = f"arn:aws:sns:eu-central-1:{ACCOUNT}:pg-backup"
SECOND = f"arn:aws:backup:eu-west-1:{ACCOUNT}:backup-vault:pg-backup"
POLICIES = "arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyFor"


def whole(**parameters: str) -> ResolvedTemplate:
    return resolve("aws-backup", TopicArn=TOPIC, DestinationVaultArn=SECOND, **parameters)


def one(template: ResolvedTemplate, kind: str) -> dict[str, Any]:
    [found] = template.of_type(kind).values()
    return found


def rules(template: ResolvedTemplate) -> dict[str, dict[str, Any]]:
    plan = one(template, "AWS::Backup::BackupPlan")["BackupPlan"]
    return {rule["RuleName"]: rule for rule in plan["BackupPlanRule"]}


def test_there_is_a_daily_and_a_monthly_backup_and_each_has_its_own_retention() -> None:
    by_name = rules(whole(DailyRetentionDays="40", MonthlyRetentionDays="400"))

    assert {"daily", "monthly"} == by_name.keys()
    assert {"DeleteAfterDays": "40"} == by_name["daily"]["Lifecycle"]
    assert {"DeleteAfterDays": "400"} == by_name["monthly"]["Lifecycle"]
    assert "cron(0 3 * * ? *)" == by_name["daily"]["ScheduleExpression"]
    assert "cron(0 4 1 * ? *)" == by_name["monthly"]["ScheduleExpression"]
    for rule in by_name.values():
        assert "pg-backup" == rule["TargetBackupVault"]


def test_nothing_is_moved_to_a_cold_storage_that_rds_does_not_have() -> None:
    for rule in rules(whole()).values():
        assert "MoveToColdStorageAfterDays" not in json.dumps(rule)


def test_every_backup_is_copied_and_stays_as_long_there_as_here() -> None:
    for rule in rules(whole()).values():
        [copy] = rule["CopyActions"]
        assert SECOND == copy["DestinationBackupVaultArn"]
        assert rule["Lifecycle"] == copy["Lifecycle"]
    for rule in rules(resolve("aws-backup")).values():
        assert "CopyActions" not in rule


@pytest.mark.parametrize(
    ("mode", "lock"),
    [
        ("governance", {"MinRetentionDays": "7"}),
        ("compliance", {"MinRetentionDays": "7", "ChangeableForDays": "3"}),
        ("off", None),
    ],
)
def test_the_vault_is_locked_in_the_mode_that_is_chosen(
    mode: str, lock: dict[str, str] | None
) -> None:
    vault = one(whole(LockMode=mode), "AWS::Backup::BackupVault")
    assert lock == vault.get("LockConfiguration")


def test_the_lock_takes_each_retention_that_the_plan_gives_by_default() -> None:
    lock = one(whole(), "AWS::Backup::BackupVault")["LockConfiguration"]
    for rule in rules(whole()).values():
        assert int(rule["Lifecycle"]["DeleteAfterDays"]) >= int(lock["MinRetentionDays"])
    # What operation snapshot makes by aws-backup has no end, and a maximum would refuse it.
    assert "MaxRetentionDays" not in lock


def test_a_compliance_lock_that_cannot_be_undone_is_chosen_and_can_be_for_three_days() -> None:
    parameters = read_template("aws-backup")["Parameters"]
    assert "governance" == parameters["LockMode"]["Default"]
    with pytest.raises(TemplateError, match="ChangeableForDays"):
        whole(ChangeableForDays="2")


def test_nobody_deletes_a_recovery_point_or_shortens_its_retention() -> None:
    policy = one(whole(), "AWS::Backup::BackupVault")["AccessPolicy"]
    assert [
        {
            "Sid": "NobodyDeletes", "Effect": "Deny", "Principal": "*",
            "Action": ["backup:DeleteRecoveryPoint", "backup:DisassociateRecoveryPoint",
                       "backup:UpdateRecoveryPointLifecycle"],
            "Resource": "*",
        }
    ] == policy["Statement"]  # fmt: skip


def test_instances_and_clusters_with_the_tag_are_chosen_and_nothing_else() -> None:
    chosen = one(whole(TagKey="tier", TagValue="gold"), "AWS::Backup::BackupSelection")
    selection = chosen["BackupSelection"]
    assert ["arn:aws:rds:*:*:db:*", "arn:aws:rds:*:*:cluster:*"] == selection["Resources"]
    # Conditions narrow Resources; ListOfTags would widen them.
    assert "ListOfTags" not in selection
    assert {
        "StringEquals": [{"ConditionKey": "aws:ResourceTag/tier", "ConditionValue": "gold"}]
    } == selection["Conditions"]


def test_restores_are_tested_from_this_vault_alone_and_of_what_is_tagged() -> None:
    template = whole()
    plan = one(template, "AWS::Backup::RestoreTestingPlan")
    chosen = template.of_type("AWS::Backup::RestoreTestingSelection").values()

    assert {
        "Algorithm": "LATEST_WITHIN_WINDOW", "RecoveryPointTypes": ["SNAPSHOT"],
        "SelectionWindowDays": 7,
        "IncludeVaults": [f"arn:aws:backup:eu-central-1:{ACCOUNT}:backup-vault:pg-backup"],
    } == plan["RecoveryPointSelection"]  # fmt: skip
    assert {"RDS", "Aurora"} == {each["ProtectedResourceType"] for each in chosen}
    for each in chosen:
        tagged = {"StringEquals": [{"Key": "aws:ResourceTag/pg-backup", "Value": "true"}]}
        assert tagged == each["ProtectedResourceConditions"]
        assert "<RestoreTestPlan>" == each["RestoreTestingPlanName"]
    without = whole(RestoreTests="false").of_type("AWS::Backup::RestoreTestingPlan")
    assert {} == without


def test_aws_backup_alone_takes_the_role_with_the_policies_that_aws_keeps() -> None:
    role = one(whole(), "AWS::IAM::Role")
    [statement] = role["AssumeRolePolicyDocument"]["Statement"]
    assert {"Service": "backup.amazonaws.com"} == statement["Principal"]
    assert [f"{POLICIES}Backup", f"{POLICIES}Restores"] == role["ManagedPolicyArns"]
    assert "Policies" not in role


def test_a_vault_of_a_second_region_is_a_vault_with_key_and_lock_and_no_more() -> None:
    template = resolve("aws-backup", Plan="false", TopicArn=TOPIC, DestinationVaultArn=SECOND)
    kinds = sorted(each["Type"] for each in template.resources.values())
    assert ["AWS::Backup::BackupVault", "AWS::KMS::Key"] == kinds
    assert {"BackupVault", "VaultArn"} == template.outputs.keys()


# Metric, and when it rings.
ALARMS = {
    "JobsFailed": ("NumberOfBackupJobsFailed", "GreaterThanThreshold", 0, "notBreaching"),
    "JobsMissing": ("NumberOfBackupJobsCompleted", "LessThanThreshold", 1, "breaching"),
    "CopiesFailed": ("NumberOfCopyJobsFailed", "GreaterThanThreshold", 0, "notBreaching"),
    "RestoresFailed": ("NumberOfRestoreJobsFailed", "GreaterThanThreshold", 0, "notBreaching"),
}


@pytest.mark.parametrize("name", ALARMS)
def test_a_job_that_fails_or_does_not_come_is_told(name: str) -> None:
    alarm = whole().of_type("AWS::CloudWatch::Alarm")[name]
    [query] = [each["MetricStat"] for each in alarm.get("Metrics", []) if "MetricStat" in each] or [
        {"Metric": alarm, "Period": alarm["Period"], "Stat": alarm["Statistic"]}
    ]
    metric, periods = query["Metric"], int(alarm["EvaluationPeriods"])

    assert ALARMS[name] == (
        metric["MetricName"], alarm["ComparisonOperator"], alarm["Threshold"],
        alarm["TreatMissingData"],
    )  # fmt: skip
    assert ("AWS/Backup", "Sum", 3600) == (metric["Namespace"], query["Stat"], query["Period"])
    assert [{"Name": "BackupVaultName", "Value": "pg-backup"}] == metric["Dimensions"]
    assert [TOPIC] == alarm["AlarmActions"] == alarm["OKActions"]
    assert [] == faults(3600, periods, int(alarm["DatapointsToAlarm"]))
    assert periods == (26 if name == "JobsMissing" else 1)
    anchor = alarm["AlarmName"].removeprefix("stack-")
    assert alarm["AlarmDescription"].endswith(f"See docs/monitoring.md#{anchor}.")
    assert f"\n### {anchor}\n" in (REPOSITORY / "docs/monitoring.md").read_text()


def test_alarms_are_for_what_there_is() -> None:
    assert ALARMS.keys() == whole().of_type("AWS::CloudWatch::Alarm").keys()
    assert {} == resolve("aws-backup").of_type("AWS::CloudWatch::Alarm")
    alone = resolve("aws-backup", TopicArn=TOPIC, RestoreTests="false")
    assert {"JobsFailed", "JobsMissing"} == alone.of_type("AWS::CloudWatch::Alarm").keys()


def test_the_outputs_are_what_operation_snapshot_takes() -> None:
    names = {option.name for option in OPTIONS}
    assert {"backup-vault", "service-role"} <= names
    assert {"BackupVault", "ServiceRole", "VaultArn"} == whole().outputs.keys()


@pytest.fixture
def stack(ministack: Ministack) -> Iterator[str]:
    name = f"plan-{secrets.token_hex(4)}"
    yield name
    delete(ministack, name)


def test_the_deployed_stack_is_what_aws_backup_gives_back(ministack: Ministack, stack: str) -> None:
    vault = f"vault-{stack}"
    outputs = deploy(ministack, "aws-backup", stack, {
        "BackupVault": vault, "TopicArn": TOPIC, "LockMode": "compliance",
    })  # fmt: skip
    client = ministack.client("backup")

    told = client.describe_backup_vault(BackupVaultName=vault)
    assert (True, 7) == (told["Locked"], told["MinRetentionDays"])
    assert told["LockDate"] > told["CreationDate"]
    policy = json.loads(client.get_backup_vault_access_policy(BackupVaultName=vault)["Policy"])
    assert ["Deny"] == [each["Effect"] for each in policy["Statement"]]
    [plan] = [
        each
        for each in client.list_backup_plans()["BackupPlansList"]
        if each["BackupPlanName"] == stack
    ]
    rules_told = client.get_backup_plan(BackupPlanId=plan["BackupPlanId"])["BackupPlan"]["Rules"]
    assert [(vault, 35), (vault, 365)] == [
        (each["TargetBackupVaultName"], int(each["Lifecycle"]["DeleteAfterDays"]))
        for each in rules_told
    ]
    [selection] = client.list_backup_selections(BackupPlanId=plan["BackupPlanId"])[
        "BackupSelectionsList"
    ]
    assert outputs["ServiceRole"] == selection["IamRoleArn"]
    tested = client.get_restore_testing_plan(RestoreTestingPlanName=stack.replace("-", "_"))
    chosen = tested["RestoreTestingPlan"]["RecoveryPointSelection"]
    assert [outputs["VaultArn"]] == chosen["IncludeVaults"]
    # A policy that is changed, and a lock that is taken away while that can be.
    deploy(ministack, "aws-backup", stack, {"LockMode": "off"})
    assert client.describe_backup_vault(BackupVaultName=vault)["Locked"] is False
