"""What cannot be restored is refused before anything is made; what fails later says what stands."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.lab.aws import REGION
from tests.lab.cloud import Cloud, listing, reading
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun
from tests.lab.scripted.calls import Call
from tests.lab.scripted.server import ScriptedAws
from tests.lab.stage import the_error, wait_until
from tests.lab.sts import ACCOUNT
from tests.recoveries import ELSEWHERE, Recovery, aws, commands, recovery
from tests.steps import green


@pytest.fixture
def lost(cloud: Cloud, scripted: ScriptedAws, postgres: PostgresServer) -> Iterator[Recovery]:
    with recovery(cloud, scripted, postgres) as ready:
        scripted.rds.add_instance("shop")
        scripted.rds.add_snapshot("nightly")
        yield ready


def refused(lost: Recovery, run: ActionRun, *words: str) -> str:
    """Exit code 2, one error, and nothing was made."""
    assert 2 == run.exit_code, run.output
    assert [] == lost.made()
    assert {} == run.outputs
    return the_error(run, *words)


def test_a_name_that_is_taken(lost: Recovery) -> None:
    lost.aws.rds.add_instance("other")
    run = lost.run(new_instance="Other")
    refused(lost, run, "there is a other in", "never touched", "new-instance:")


def test_the_old_ones_name_while_it_is_there(lost: Recovery) -> None:
    refused(lost, lost.run(new_instance="shop"), "there is a shop in", "never touched")


def test_a_time_outside_the_window(lost: Recovery) -> None:
    latest = lost.instance("shop")["LatestRestorableTime"]
    run = lost.run(restore_time="2020-01-01T00:00Z")
    earliest = latest - timedelta(days=14)
    refused(
        lost,
        run,
        "shop cannot be restored to 2020-01-01T00:00:00Z",
        f"from {earliest:%Y-%m-%dT%H:%M:%SZ} to {latest:%Y-%m-%dT%H:%M:%SZ}",
    )
    assert [] == lost.aws.asked("rds:RestoreDBInstanceToPointInTime")


def test_a_time_after_the_window(lost: Recovery) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    run = lost.run(restore_time=f"{tomorrow:%Y-%m-%dT%H:%MZ}")
    refused(lost, run, "it can be restored to any second from")


def test_a_point_in_time_of_an_instance_without_automated_backups(lost: Recovery) -> None:
    lost.aws.rds.add_instance("shop", BackupRetentionPeriod=0)
    run = lost.run(restore_time="latest")
    refused(lost, run, "no automated backups", "snapshot-id: latest, in place of restore-time")


@pytest.mark.parametrize("state", ["creating", "failed"])
def test_a_snapshot_that_is_not_available(lost: Recovery, state: str) -> None:
    lost.aws.rds.add_snapshot("half", state=state)
    run = lost.run(snapshot_id="half")
    refused(lost, run, f"the snapshot half cannot be used: it is {state}")


def test_no_snapshot_that_is_available(lost: Recovery) -> None:
    lost.aws.rds.add_instance("billing")
    lost.aws.rds.add_snapshot("half", "billing", state="creating")
    run = lost.run(db_instance="billing")
    refused(lost, run, "there is no snapshot of billing", "half is creating", "restore-time")


def test_a_snapshot_that_does_not_exist(lost: Recovery) -> None:
    run = lost.run(snapshot_id="nigthly")
    refused(lost, run, "snapshot nigthly", "the newest of shop are nightly")


def test_a_snapshot_of_another_engine(lost: Recovery) -> None:
    lost.aws.rds.add_snapshot("foreign", Engine="mysql", EngineVersion="8.0.40")
    run = lost.run(snapshot_id="foreign")
    refused(lost, run, "is not of a PostgreSQL", "its engine is mysql")


def test_a_snapshot_of_another_instance(lost: Recovery) -> None:
    lost.aws.rds.add_instance("billing")
    lost.aws.rds.add_snapshot("of-billing", "billing")
    run = lost.run(snapshot_id="of-billing")
    refused(lost, run, "is not one of shop", "taken of billing", "db-instance: billing")


def test_a_snapshot_of_another_region(lost: Recovery) -> None:
    arn = f"arn:aws:rds:{ELSEWHERE}:123456789012:snapshot:copy"
    run = lost.run(snapshot_id=arn)
    refused(lost, run, f"it lies in {ELSEWHERE}", f"aws-region: {ELSEWHERE}")


def test_a_subnet_group_that_is_not_there(lost: Recovery) -> None:
    run = lost.run(db_subnet_group="privat")
    refused(lost, run, "there is no subnet group privat", "db-subnet-group", "vpc-security-groups")


def test_a_parameter_group_that_is_not_there(lost: Recovery) -> None:
    run = lost.run(db_parameter_group="tuend")
    refused(lost, run, "no parameter group tuend", "default.postgres17")


def test_a_parameter_group_of_a_later_major_version(lost: Recovery) -> None:
    lost.aws.rds.add_snapshot("before-upgrade", EngineVersion="16.10")
    run = lost.run(snapshot_id="before-upgrade")
    refused(lost, run, "does not go with snapshot before-upgrade", "db-parameter-group", "16")
    green(lost.run(snapshot_id="before-upgrade", db_parameter_group="default.postgres16"))


@pytest.mark.parametrize(
    ("arn", "word"),
    [
        ("arn:aws:backup:{region}:{account}:recovery-point:continuous:db-1F9C3A", "restore-time"),
        ("arn:aws:rds:{region}:{account}:cluster-snapshot:nightly", "db-cluster in place of"),
        ("arn:aws:rds:{region}", "is not the ARN of a snapshot"),
    ],
)
def test_an_arn_of_something_else(lost: Recovery, arn: str, word: str) -> None:
    run = lost.run(snapshot_id=arn.format(region=REGION, account=ACCOUNT))
    refused(lost, run, word)


def test_an_instance_of_a_cluster(lost: Recovery) -> None:
    lost.aws.rds.add_cluster("aurora")
    run = lost.run(db_instance="aurora-1")
    refused(lost, run, "is an instance of the cluster aurora", "db-cluster: aurora")


def test_an_instance_that_nobody_knows(lost: Recovery) -> None:
    run = lost.run(db_instance="shpo")
    refused(lost, run, "nobody knows what shpo was", "postgresql/rds/shpo/", "db-instance")


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"user": ""}, "user: is missing, and a way to log in is given"),
        ({"user": "", "password": "", "iam_auth": "true"}, "user: is missing"),
        ({"host": "db.example.org"}, "host: is not known yet"),
        ({"restore_time": "latest", "snapshot_id": "nightly"}, "restore-time: is given beside"),
        ({"db_instance": ""}, "db-instance: is missing"),
    ],
)
def test_inputs_that_do_not_go_together(lost: Recovery, given: dict[str, str], word: str) -> None:
    refused(lost, lost.run(**given), word)


def test_a_login_that_cannot_be_known_is_refused_before_anything_is_made(lost: Recovery) -> None:
    run = lost.run(user="", password="", password_secret_id="not-there")
    assert 3 == run.exit_code, run.output
    the_error(run, "cannot read the secret not-there", "secretsmanager:GetSecretValue")
    assert [] == lost.made()


def test_an_instance_that_is_gone_comes_back_under_its_own_name(lost: Recovery) -> None:
    lost.record()
    lost.aws.rds.lose("shop", retain=False)
    run = green(lost.run(new_instance="shop"))
    told = lost.instance("shop")
    assert "db.r6g.large" == told["DBInstanceClass"]
    assert [{"VpcSecurityGroupId": "sg-0database", "Status": "active"}] == told["VpcSecurityGroups"]
    assert "it is gone from this region" in run.summary
    assert "shop-old" not in run.summary


def test_a_gone_instance_whose_backups_were_retained_goes_back_to_a_point_in_time(
    lost: Recovery,
) -> None:
    lost.record()
    resource = lost.instance("shop")["DbiResourceId"]
    lost.aws.rds.lose("shop", retain=True)
    green(lost.run(restore_time="latest", new_instance="shop-again"))
    (asked,) = lost.aws.asked("rds:RestoreDBInstanceToPointInTime")
    assert resource == asked.input["SourceDbiResourceId"]
    assert "SourceDBInstanceIdentifier" not in asked.input


def test_a_record_that_cannot_be_read_is_no_record(lost: Recovery) -> None:
    key = lost.record()
    lost.cloud.s3.put_object(Bucket=lost.cloud.bucket, Key=key, Body=b"{}")
    lost.aws.rds.lose("shop")
    run = lost.run()
    assert 5 == run.exit_code, run.output
    the_error(run, "is no record of an instance")
    assert [] == lost.made()


def test_a_record_that_cannot_be_read_does_not_hide_an_earlier_one(lost: Recovery) -> None:
    lost.record()
    later = "postgresql/rds/shop/20991231T000000Z.json"
    lost.cloud.s3.put_object(Bucket=lost.cloud.bucket, Key=later, Body=b'{"format": 2}')
    lost.aws.rds.lose("shop")
    run = green(lost.run(new_instance="shop"))
    assert "the record of" in run.summary


def test_throttling_is_waited_out(lost: Recovery) -> None:
    lost.aws.throttle("rds:DescribeDBInstances", times=2, after=3)
    lost.aws.throttle("rds:RestoreDBInstanceFromDBSnapshot", times=1)
    green(lost.run(new_instance="shop-again"))


def test_a_service_that_is_ill_for_a_while_does_not_end_the_wait(lost: Recovery) -> None:
    lost.aws.fail(
        "rds:DescribeDBInstances", "InternalFailure", "Try again", status=500, times=7, after=2
    )
    run = green(lost.run(new_instance="shop-again"))
    assert "shop-again is out of sight" in run.output


def test_an_answer_that_was_lost_is_no_name_that_was_taken(lost: Recovery) -> None:
    lost.aws.lose_answer("rds:RestoreDBInstanceFromDBSnapshot")
    green(lost.run(new_instance="shop-again"))
    assert 2 == len(lost.aws.asked("rds:RestoreDBInstanceFromDBSnapshot"))


def test_an_instance_that_is_busy_as_soon_as_it_is_available_is_asked_again(
    lost: Recovery,
) -> None:
    lost.aws.fail(
        "rds:ModifyDBInstance", "InvalidDBInstanceState",
        "Database instance is not in available state.", status=400, times=3,
    )  # fmt: skip
    green(lost.run(new_instance="shop-again"))
    assert lost.instance("shop-again")["DeletionProtection"]
    assert 5 == len(lost.aws.asked("rds:ModifyDBInstance"))


def test_a_setting_that_rds_refuses_leaves_no_instance_unprotected(lost: Recovery) -> None:
    lost.aws.fail(
        "rds:ModifyDBInstance", "InvalidParameterCombination",
        "Performance Insights not supported for this configuration.", status=400, after=1,
    )  # fmt: skip
    run = lost.run(new_instance="shop-again")
    assert 0 != run.exit_code, run.output
    the_error(run, "Performance Insights not supported", "RDS has made shop-again")
    assert lost.instance("shop-again")["DeletionProtection"]


def test_an_instance_that_never_takes_an_order_is_told_of_at_the_bound(lost: Recovery) -> None:
    lost.aws.fail(
        "rds:ModifyDBInstance", "InvalidDBInstanceState",
        "Database instance is not in available state.", status=400,
    )  # fmt: skip
    run = lost.run(new_instance="shop-again", wait="4s")
    assert 4 == run.exit_code, run.output
    the_error(run, "is not ready after 4.0 s", "RDS has made shop-again", "modify-db-instance")


def test_an_option_group_that_is_gone_is_named_with_the_line_that_makes_it(lost: Recovery) -> None:
    lost.aws.fail(
        "rds:RestoreDBInstanceFromDBSnapshot", "OptionGroupNotFoundFault",
        "Specified OptionGroupName: shop-options not found.", status=404,
    )  # fmt: skip
    run = lost.run(new_instance="shop-again")
    refused_by_rds = the_error(run, "shop-options not found", "create-option-group")
    assert 2 == run.exit_code, refused_by_rds
    assert "RDS has made" not in refused_by_rds


def test_a_restore_that_is_denied_names_the_policy_line_and_made_nothing(lost: Recovery) -> None:
    lost.aws.deny("rds:RestoreDBInstanceFromDBSnapshot")
    run = lost.run(new_instance="shop-again")
    assert 3 == run.exit_code, run.output
    error = the_error(run, '"Action": "rds:RestoreDBInstanceFromDBSnapshot"')
    assert "RDS has made" not in error
    assert ["shop"] == lost.identifiers()


def test_a_denial_in_the_middle_says_what_stands_and_how_to_go_on(lost: Recovery) -> None:
    lost.aws.deny("rds:ModifyDBInstance")
    run = lost.run(new_instance="shop-again")
    assert 3 == run.exit_code, run.output
    error = the_error(
        run, '"Action": "rds:ModifyDBInstance"', "RDS has made shop-again, or goes on with it",
        "shop was not touched", "to go on with it by hand",
    )  # fmt: skip
    lost.aws.faults.clear()
    wait, modify, _ = commands(error)
    aws(lost, wait)
    aws(lost, modify)
    told = lost.instance("shop-again")
    assert (60, True) == (told["MonitoringInterval"], told["DeletionProtection"])


def test_what_a_denial_left_can_be_taken_away(lost: Recovery) -> None:
    lost.aws.deny("rds:DescribeDBInstances", after=3)
    run = lost.run(new_instance="shop-again")
    assert 3 == run.exit_code, run.output
    error = the_error(
        run, '"Action": "rds:DescribeDBInstances"', "RDS has made shop-again, or goes on with it"
    )
    lost.aws.faults.clear()
    assert ["shop", "shop-again"] == lost.identifiers()
    *_, delete = commands(error)
    aws(lost, delete)
    wait_until(lambda: ["shop"] == lost.identifiers())


def test_a_role_that_may_not_be_passed_is_named(lost: Recovery) -> None:
    role = lost.instance("shop")["MonitoringRoleArn"]
    lost.aws.allow_only([{"Effect": "Allow", "Action": "rds:*", "Resource": "*"},
                         {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}])  # fmt: skip
    run = lost.run(new_instance="shop-again")
    assert 3 == run.exit_code, run.output
    the_error(run, f'"Action": "iam:PassRole", "Resource": "{role}"', "and bills for it")


@pytest.mark.parametrize(
    ("state", "word"),
    [("incompatible-restore", "parameter group"), ("failed", "RDS could not make it")],
)
def test_a_state_that_it_never_comes_out_of_ends_the_wait(
    lost: Recovery, state: str, word: str
) -> None:
    lost.aws.rds.restores.states = ("creating", state)
    run = lost.run(new_instance="shop-again")
    assert 4 == run.exit_code, run.output
    the_error(
        run, f"shop-again is {state}", word, "describe-events", "shop was not touched",
        "aws rds delete-db-instance",
    )  # fmt: skip


def test_the_bound_of_the_wait(lost: Recovery) -> None:
    lost.aws.rds.seconds_per_state = 600
    run = lost.run(new_instance="shop-again", wait="1s")
    assert 4 == run.exit_code, run.output
    the_error(run, "is not ready after 1.0 s", "it is creating", "raise wait", "to go on with it")


def test_sigterm_while_waiting_says_what_goes_on(lost: Recovery) -> None:
    lost.aws.rds.seconds_per_state = 600
    with lost.start(new_instance="shop-again") as running:
        running.wait_for("shop-again is creating")
        running.send(signal.SIGTERM)
        run = running.finish()
    assert 143 == run.exit_code, run.output
    the_error(
        run,
        "RDS has made shop-again, or goes on with it",
        "shop was not touched",
        "aws rds delete-db-instance",
    )


def test_sigterm_before_anything_is_made_says_so(lost: Recovery) -> None:
    lost.aws.throttle("rds:DescribeDBSnapshots", times=99)
    with lost.start(new_instance="shop-again") as running:
        wait_until(lambda: lost.aws.asked("rds:DescribeDBSnapshots"))
        running.send(signal.SIGTERM)
        run = running.finish()
    assert 143 == run.exit_code, run.output
    the_error(run, "nothing was made")


def test_a_login_that_is_refused_is_red_and_the_instance_stands(lost: Recovery) -> None:
    run = lost.run(new_instance="shop-again", password="of last year")
    assert 3 == run.exit_code, run.output
    the_error(
        run, "refused the login of user postgres", "those of the moment that was restored",
        "RDS has made shop-again, or goes on with it", "aws rds delete-db-instance",
    )  # fmt: skip
    assert [] == lost.kept()


def test_an_endpoint_that_nobody_can_reach(lost: Recovery) -> None:
    lost.aws.rds.endpoint = ("127.0.0.1", 1)
    run = lost.run(new_instance="shop-again")
    assert 4 == run.exit_code, run.output
    the_error(run, "as private as the old one", "shop was not touched")


def test_a_bucket_that_may_not_be_written_is_a_warning(lost: Recovery) -> None:
    lost.cloud.allow(listing(lost.cloud.bucket), reading(lost.cloud.bucket))
    run = green(lost.run(new_instance="shop-again"))
    assert ["The time of the restore was not kept"] == [each.title for each in run.warnings]
    assert "s3:PutObject" in run.warnings[0].message


def test_settings_that_rds_leaves_otherwise_are_told(
    lost: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = lost.aws.rds.instances.modify_db_instance

    def deaf(call: Call) -> Mapping[str, Any]:
        lacking = {name: value for name, value in call.input.items() if "Window" not in name}
        return real(Call(call.service, call.operation, call.region, lacking))

    monkeypatch.setattr(lost.aws.rds.instances, "modify_db_instance", deaf)
    run = green(lost.run(new_instance="shop-again"))
    assert "maintenance window" in run.summary
    assert ["maintenance window is not as it was asked for"] == [t.title for t in run.warnings]
