"""A lost instance comes back as a new one that is what the old one was, and it answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backup.aws.grants import PolicyScope, needed
from tests.lab.aws import REGION
from tests.lab.cloud import Cloud
from tests.lab.postgres import PostgresServer
from tests.lab.scripted.server import ScriptedAws
from tests.lab.stage import wait_until
from tests.lab.sts import ACCOUNT
from tests.recoveries import Recovery, aws, commands, recovery, settings_of
from tests.schemas import validator
from tests.steps import green


@pytest.fixture
def lost(cloud: Cloud, scripted: ScriptedAws, postgres: PostgresServer) -> Iterator[Recovery]:
    with recovery(cloud, scripted, postgres) as ready:
        scripted.rds.add_instance("shop")
        now = datetime.now(UTC).replace(microsecond=0)
        for name, kind, age in (
            ("before-1-2", "manual", timedelta(days=3)),
            ("rds:shop-nightly", "automated", timedelta(hours=9)),
            ("half-done", "manual", timedelta(minutes=1)),
        ):
            state = "creating" if name == "half-done" else "available"
            scripted.rds.add_snapshot(name, kind=kind, state=state, created=now - age)
        yield ready


def test_the_newest_snapshot_becomes_a_new_instance_with_the_old_ones_settings(
    lost: Recovery,
) -> None:
    before = lost.instance("shop")
    run = green(lost.run(new_instance="shop-again"))
    told = lost.instance("shop-again")
    assert settings_of(before) == settings_of(told)
    assert "available" == told["DBInstanceStatus"]
    assert before | {"LatestRestorableTime": 0} == lost.instance("shop") | {
        "LatestRestorableTime": 0
    }
    (asked,) = lost.aws.asked("rds:RestoreDBInstanceFromDBSnapshot")
    assert asked.input["DBSnapshotIdentifier"].endswith(":snapshot:rds:shop-nightly")
    assert "shop-again" == run.outputs["new-instance-id"]
    assert "127.0.0.1" == run.outputs["endpoint"]
    assert float(run.outputs["restore-seconds"]) > 0


def test_the_new_instance_is_protected_and_never_public(lost: Recovery) -> None:
    lost.aws.rds.add_instance("shop", PubliclyAccessible=True, DeletionProtection=False)
    green(lost.run(new_instance="shop-again"))
    told = lost.instance("shop-again")
    assert (True, False) == (told["DeletionProtection"], told["PubliclyAccessible"])


def test_it_is_named_after_the_old_one_and_the_time(lost: Recovery) -> None:
    run = green(lost.run())
    name = run.outputs["new-instance-id"]
    assert name.startswith(f"shop-{datetime.now(UTC):%Y%m}")
    assert ["shop", name] == lost.identifiers()


def test_a_named_snapshot_is_taken_and_its_moment_is_told(lost: Recovery) -> None:
    run = green(lost.run(snapshot_id="before-1-2", new_instance="shop-again"))
    (asked,) = lost.aws.asked("rds:RestoreDBInstanceFromDBSnapshot")
    assert asked.input["DBSnapshotIdentifier"].endswith(":snapshot:before-1-2")
    assert f"{datetime.now(UTC) - timedelta(days=3):%Y-%m-%d}" in run.summary


def test_an_automated_snapshot_is_asked_for_as_rds_wants_it(lost: Recovery) -> None:
    green(lost.run(snapshot_id="rds:shop-nightly"))
    kinds = [call.input.get("SnapshotType") for call in lost.aws.asked("rds:DescribeDBSnapshots")]
    assert ["automated"] == kinds


def test_a_recovery_point_of_aws_backup_is_a_snapshot_of_rds(lost: Recovery) -> None:
    thing = lost.aws.rds.add_snapshot("awsbackup:job-1f9c3a", kind="awsbackup")
    green(lost.run(snapshot_id=thing.description["DBSnapshotArn"], new_instance="shop-again"))
    assert ["shop", "shop-again"] == lost.identifiers()


def test_the_newest_may_be_one_of_aws_backup(lost: Recovery) -> None:
    lost.aws.rds.add_snapshot("awsbackup:job-1", kind="awsbackup")
    run = green(lost.run(new_instance="shop-again"))
    assert "snapshot awsbackup:job-1" in run.summary


def test_the_newest_is_never_one_of_another_engine_that_had_the_name(lost: Recovery) -> None:
    lost.aws.rds.add_snapshot("foreign", Engine="mysql", EngineVersion="8.0.40")
    run = green(lost.run(new_instance="shop-again"))
    assert "snapshot rds:shop-nightly" in run.summary


def test_a_point_in_time_within_the_window(lost: Recovery) -> None:
    moment = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    green(lost.run(restore_time=f"{moment:%Y-%m-%dT%H:%M:%SZ}", new_instance="shop-again"))
    (asked,) = lost.aws.asked("rds:RestoreDBInstanceToPointInTime")
    assert "shop" == asked.input["SourceDBInstanceIdentifier"]
    assert moment == asked.input["RestoreTime"]
    assert settings_of(lost.instance("shop")) == settings_of(lost.instance("shop-again"))


def test_the_latest_point_in_time(lost: Recovery) -> None:
    green(lost.run(restore_time="latest", new_instance="shop-again"))
    (asked,) = lost.aws.asked("rds:RestoreDBInstanceToPointInTime")
    assert asked.input["UseLatestRestorableTime"] is True
    assert "RestoreTime" not in asked.input


def test_tags_are_copied_given_and_say_where_it_comes_from(lost: Recovery) -> None:
    own = {"Key": "pg-backup-action:created-by", "Value": "pg-backup-action"}
    amazon = {"Key": "aws:cloudformation:stack-name", "Value": "shop"}
    lost.aws.rds.add_instance("shop", TagList=[own, amazon, {"Key": "team", "Value": "shop"}])
    green(lost.run(new_instance="shop-again", tags="reason=drill"))
    tags = {tag["Key"]: tag["Value"] for tag in lost.instance("shop-again")["TagList"]}
    assert {
        "team": "shop",
        "reason": "drill",
        "pg-backup-action:restored-from": "rds:shop-nightly",
    } == tags


def test_no_more_tags_are_asked_for_than_rds_takes(lost: Recovery) -> None:
    tags = [{"Key": f"z-{number:02}", "Value": "x"} for number in range(50)]
    lost.aws.rds.add_instance("shop", TagList=tags)
    lost.aws.rds.add_snapshot("of-today")
    green(lost.run(new_instance="shop-again", tags="team=shop"))
    given = {each["Key"] for each in lost.instance("shop-again")["TagList"]}
    assert 50 == len(given)
    assert {"team", "pg-backup-action:restored-from"} <= given


def test_what_a_restore_cannot_copy_is_told(lost: Recovery) -> None:
    secret, role = "arn:aws:secretsmanager:eu-central-1:1:secret:rds!db-1", "arn:aws:iam::1:role/s3"
    lost.aws.rds.add_instance(
        "shop",
        AllocatedStorage=100,
        MaxAllocatedStorage=105,
        MasterUserSecret={"SecretArn": secret, "SecretStatus": "active"},
        AssociatedRoles=[{"RoleArn": role, "FeatureName": "s3Import", "Status": "ACTIVE"}],
        DomainMemberships=[{"Domain": "d-1234567890", "Status": "joined"}],
        DedicatedLogVolume=True,
        DatabaseInsightsMode="advanced",
    )
    lost.aws.rds.add_snapshot("of-today")
    lost.record()
    lost.aws.rds.lose("shop")
    run = green(lost.run(new_instance="shop-again"))
    for word in ("Secrets Manager", f"{role} for s3Import", "d-1234567890", "log volume",
                 "Insights, advanced", "does not grow by itself"):  # fmt: skip
        assert word in run.summary
        assert any(word in warning.message for warning in run.warnings), word


@pytest.mark.parametrize(("most", "asked"), [(109, None), (110, 110)])
def test_storage_grows_as_far_as_before_where_rds_takes_that(
    lost: Recovery, most: int, asked: int | None
) -> None:
    lost.aws.rds.add_instance("shop", AllocatedStorage=100, MaxAllocatedStorage=most)
    lost.aws.rds.add_snapshot("of-today")
    green(lost.run(new_instance="shop-again"))
    _, change = lost.aws.asked("rds:ModifyDBInstance")
    assert asked == change.input.get("MaxAllocatedStorage")


def test_inputs_replace_the_old_ones_network_and_parameters(lost: Recovery) -> None:
    lost.aws.rds.add_subnet_group("other")
    lost.aws.rds.add_parameter_group("tuned")
    green(
        lost.run(
            new_instance="shop-again",
            db_subnet_group="other",
            vpc_security_groups="sg-1\nsg-2",
            db_parameter_group="tuned",
        )
    )
    told = lost.instance("shop-again")
    assert "other" == told["DBSubnetGroup"]["DBSubnetGroupName"]
    assert ["sg-1", "sg-2"] == [each["VpcSecurityGroupId"] for each in told["VpcSecurityGroups"]]
    assert "tuned" == told["DBParameterGroups"][0]["DBParameterGroupName"]


@pytest.mark.parametrize(
    ("storage", "asked"),
    [
        ({"StorageType": "gp3", "AllocatedStorage": 100}, {"StorageType": "gp3"}),
        (
            {
                "StorageType": "gp3",
                "AllocatedStorage": 400,
                "Iops": 12000,
                "StorageThroughput": 500,
            },
            {"StorageType": "gp3", "Iops": 12000, "StorageThroughput": 500},
        ),
        (
            {"StorageType": "io2", "AllocatedStorage": 100, "Iops": 5000, "StorageThroughput": 0},
            {"StorageType": "io2", "Iops": 5000},
        ),
    ],
)
def test_iops_are_asked_for_only_where_rds_lets_them_be(
    lost: Recovery, storage: dict[str, Any], asked: dict[str, Any]
) -> None:
    lost.aws.rds.add_instance("shop", **storage)
    lost.aws.rds.add_snapshot("of-now")
    green(lost.run(snapshot_id="of-now", new_instance="shop-again"))
    (call,) = lost.aws.asked("rds:RestoreDBInstanceFromDBSnapshot")
    given = {name: call.input.get(name) for name in ("StorageType", "Iops", "StorageThroughput")}
    assert asked == {name: value for name, value in given.items() if value is not None}


def test_what_a_restore_cannot_set_is_set_afterwards_and_waited_for(lost: Recovery) -> None:
    run = green(lost.run(new_instance="shop-again"))
    protected, asked = lost.aws.asked("rds:ModifyDBInstance")
    alone = {"DBInstanceIdentifier", "ApplyImmediately", "DeletionProtection"}
    assert alone == set(protected.input)
    assert {
        "DBInstanceIdentifier": "shop-again",
        "ApplyImmediately": True,
        "MaxAllocatedStorage": 500,
        "MonitoringInterval": 60,
        "PreferredMaintenanceWindow": "tue:03:00-tue:03:30",
    }.items() <= asked.input.items()
    assert asked.input["EnablePerformanceInsights"] is True
    assert "Not as it was asked for" not in run.summary


def test_it_logs_in_and_tells_what_is_there(lost: Recovery) -> None:
    run = green(lost.run(new_instance="shop-again"))
    assert "2 tables" in run.summary
    ((version,),) = lost.server.sql("SHOW server_version")
    assert version.split()[0] == run.outputs["server-version"]
    assert "✅ shop-again answered after" in run.summary


def test_the_summary_shows_how_to_let_the_applications_know(lost: Recovery) -> None:
    run = green(lost.run(new_instance="shop-again"))
    for line in (
        "psql 'host=127.0.0.1",
        "--db-instance-identifier shop --new-db-instance-identifier shop-old",
        "--db-instance-identifier shop-again --new-db-instance-identifier shop",
        "aws rds delete-db-instance",
    ):
        assert line in run.summary


def test_the_lines_that_take_it_away_again_do_so(lost: Recovery) -> None:
    run = green(lost.run(new_instance="shop-again"))
    for line in commands(run.summary.split("To take it away again", 1)[1]):
        if " wait " not in line:  # the AWS CLI's own, which looks every 30 s
            aws(lost, line)
    wait_until(lambda: ["shop"] == lost.identifiers())


def test_the_measured_time_is_kept(lost: Recovery) -> None:
    run = green(lost.run(new_instance="shop-again"))
    (kept,) = lost.kept()
    validator("instance-restore").validate(kept)
    assert (1, "instance", "shop", "shop-again", True) == (
        kept["format"], kept["kind"], kept["source"], kept["new_identifier"], kept["checked"]
    )  # fmt: skip
    assert float(run.outputs["restore-seconds"]) == pytest.approx(kept["seconds"], abs=0.1)
    assert "rds:shop-nightly" == kept["restored_from"]["id"]


def test_without_a_login_it_says_plainly_that_nothing_was_checked(lost: Recovery) -> None:
    run = green(lost.run(new_instance="shop-again", user="", password=""))
    assert "⚠️ shop-again is available" in run.summary
    assert "was not checked" in run.summary
    assert ["Nobody will log in to the new instance"] == [each.title for each in run.warnings]
    assert "password-secret-id" in run.warnings[0].message
    assert [False] == [kept["checked"] for kept in lost.kept()]


def test_a_promise_that_was_missed_is_red_and_the_instance_stands(lost: Recovery) -> None:
    run = lost.run(new_instance="shop-again", max_restore_minutes="0.0001")
    assert 6 == run.exit_code, run.output
    assert "took longer than was promised" in run.errors[0].message
    assert ["shop", "shop-again"] == lost.identifiers()
    assert 1 == len(lost.kept())


def test_without_waiting_it_begins_and_says_what_is_left(lost: Recovery) -> None:
    run = green(lost.run(new_instance="shop-again", wait="none"))
    assert ["RestoreDBInstanceFromDBSnapshot"] == lost.made()
    assert "aws rds wait db-instance-available" in run.summary
    assert "aws rds modify-db-instance" in run.summary
    assert [] == lost.kept()


def test_parameters_that_wait_for_a_reboot_are_told(lost: Recovery) -> None:
    lost.aws.rds.restores.parameter_status = "pending-reboot"
    run = green(lost.run(new_instance="shop-again"))
    assert "Waits for a reboot" in run.summary
    assert f"aws rds reboot-db-instance --region {REGION}" in run.summary


@pytest.mark.parametrize("time", ["", "latest"])
def test_the_documented_policy_lets_it_run(lost: Recovery, time: str) -> None:
    told = lost.instance("shop")
    scope = PolicyScope(
        "aws", REGION, ACCOUNT, lost.cloud.bucket, "postgresql", instance="shop",
        monitoring_role=told["MonitoringRoleArn"], instance_key_arn=told["KmsKeyId"],
    )  # fmt: skip
    policy = [grant.statement() for grant in needed("restore-instance", scope)]
    lost.aws.allow_only(policy)
    of_s3 = [each for each in policy if "s3:" in str(each["Action"])]
    lost.cloud.allow(*of_s3)
    run = green(lost.run(restore_time=time))
    assert [] == run.warnings


def test_earlier_restores_are_shown_as_a_history(lost: Recovery) -> None:
    green(lost.run(new_instance="shop-a"))
    run = green(lost.run(new_instance="shop-b"))
    assert 2 == len(lost.kept())
    assert "Minutes to restore it" in run.summary
