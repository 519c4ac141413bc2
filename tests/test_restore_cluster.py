"""An Aurora cluster comes back with its instances, and an instance in another region."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.lab.aws import REGION
from tests.lab.cloud import Cloud
from tests.lab.postgres import PostgresServer
from tests.lab.scripted.made import key_of
from tests.lab.scripted.server import ScriptedAws
from tests.lab.scripted.surroundings import automated_backup
from tests.lab.stage import the_error, wait_until
from tests.lab.sts import ACCOUNT
from tests.recoveries import ELSEWHERE, Recovery, aws, commands, recovery, settings_of
from tests.steps import green

OF_CLUSTER = (
    "Engine", "EngineVersion", "DBClusterParameterGroup", "DBSubnetGroup", "VpcSecurityGroups",
    "BackupRetentionPeriod", "PreferredBackupWindow", "PreferredMaintenanceWindow", "KmsKeyId",
    "IAMDatabaseAuthenticationEnabled", "EnabledCloudwatchLogsExports", "CopyTagsToSnapshot",
    "DeletionProtection", "StorageEncrypted",
)  # fmt: skip


@pytest.fixture
def lost(cloud: Cloud, scripted: ScriptedAws, postgres: PostgresServer) -> Iterator[Recovery]:
    with recovery(cloud, scripted, postgres) as ready:
        yield ready


def of_cluster(lost: Recovery, identifier: str) -> dict[str, object]:
    told = lost.cluster(identifier)
    return {name: told.get(name) for name in OF_CLUSTER}


def test_a_cluster_comes_back_with_its_writer_and_its_readers(lost: Recovery) -> None:
    lost.aws.rds.add_cluster("shop", members=2)
    lost.snapshot_cluster("shop", "nightly")
    run = green(lost.run(db_instance="", db_cluster="shop", new_instance="again"))
    assert of_cluster(lost, "shop") == of_cluster(lost, "again")
    members = lost.cluster("again")["DBClusterMembers"]
    assert [("again-1", True), ("again-2", False)] == [
        (each["DBInstanceIdentifier"], each["IsClusterWriter"]) for each in members
    ]
    for old, new in (("shop-1", "again-1"), ("shop-2", "again-2")):
        before, after = lost.instance(old), lost.instance(new)
        for name in ("DBInstanceClass", "PromotionTier", "MonitoringInterval",
                     "PerformanceInsightsEnabled", "CACertificateIdentifier"):  # fmt: skip
            assert before[name] == after[name], name
        assert after["PubliclyAccessible"] is False
        assert "available" == after["DBInstanceStatus"]
    assert "again" == run.outputs["new-instance-id"]
    assert "2 tables" in run.summary
    assert ["cluster"] == [kept["kind"] for kept in lost.kept()]


def test_a_cluster_that_is_busy_as_soon_as_it_is_available_is_asked_again(lost: Recovery) -> None:
    lost.aws.rds.add_cluster("shop", members=1)
    lost.snapshot_cluster("shop", "nightly")
    busy = ("InvalidDBClusterStateFault", "DB cluster is not available")
    for action in ("rds:CreateDBInstance", "rds:ModifyDBCluster"):
        lost.aws.fail(action, *busy, status=400, times=2)
    green(lost.run(db_instance="", db_cluster="shop", new_instance="again"))
    assert lost.cluster("again")["DeletionProtection"]


def test_a_cluster_goes_back_to_a_point_in_time(lost: Recovery) -> None:
    lost.aws.rds.add_cluster("shop", members=1)
    moment = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    green(
        lost.run(
            db_instance="", db_cluster="shop", new_instance="again",
            restore_time=f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        )
    )  # fmt: skip
    (asked,) = lost.aws.asked("rds:RestoreDBClusterToPointInTime")
    assert ("shop", moment) == (
        asked.input["SourceDBClusterIdentifier"],
        asked.input["RestoreToTime"],
    )


def test_a_time_outside_the_clusters_window(lost: Recovery) -> None:
    lost.aws.rds.add_cluster("shop", members=1)
    run = lost.run(db_instance="", db_cluster="shop", restore_time="2020-01-01")
    assert 2 == run.exit_code, run.output
    the_error(run, "it can be restored to any second from")
    assert [] == lost.made()


def test_a_cluster_that_is_gone_comes_back_from_its_record(lost: Recovery) -> None:
    lost.aws.rds.add_cluster("shop", members=2)
    lost.snapshot_cluster("shop", "nightly")
    lost.record(is_cluster=True)
    lost.aws.rds.lose_cluster("shop")
    green(lost.run(db_instance="", db_cluster="shop", new_instance="shop"))
    assert ["shop-1", "shop-2"] == lost.identifiers()
    assert "db.r6g.large" == lost.instance("shop-1")["DBInstanceClass"]


def test_an_instance_whose_parameter_group_is_gone_takes_the_default_and_that_is_told(
    lost: Recovery,
) -> None:
    lost.aws.rds.add_cluster("shop", members=1)
    lost.snapshot_cluster("shop", "nightly")
    del lost.aws.rds.estate.all("pg", REGION)["shop-aurora-postgresql16"]
    run = green(lost.run(db_instance="", db_cluster="shop", new_instance="again"))
    (asked,) = lost.aws.asked("rds:CreateDBInstance")
    assert "DBParameterGroupName" not in asked.input
    assert "again-1 has the default parameter group" in run.summary


def test_a_multi_az_cluster_comes_back_whole_and_rds_makes_its_instances(lost: Recovery) -> None:
    lost.aws.rds.add_parameter_group("multi", kind="cluster-pg", family="postgres17")
    lost.aws.rds.add_cluster(
        "shop", members=0, Engine="postgres", EngineVersion="17.5",
        DBClusterInstanceClass="db.m6gd.large", StorageType="io1", Iops=3000,
        DBClusterParameterGroup="multi",
    )  # fmt: skip
    lost.aws.rds.add_parameter_group("multi", kind="cluster-pg", family="postgres17")
    lost.snapshot_cluster("shop", "nightly")
    run = green(lost.run(db_instance="", db_cluster="shop", new_instance="again", wait="1min"))
    (asked,) = lost.aws.asked("rds:RestoreDBClusterFromSnapshot")
    assert ("db.m6gd.large", "io1", 3000, False) == tuple(
        asked.input[name]
        for name in ("DBClusterInstanceClass", "StorageType", "Iops", "PubliclyAccessible")
    )
    assert [] == lost.aws.asked("rds:CreateDBInstance")
    assert "✅ again answered" in run.summary


def test_a_cluster_is_not_begun_without_waiting(lost: Recovery) -> None:
    lost.aws.rds.add_cluster("shop", members=1)
    lost.snapshot_cluster("shop", "nightly")
    run = lost.run(db_instance="", db_cluster="shop", wait="none")
    assert 2 == run.exit_code, run.output
    the_error(run, "without waiting", "wait: 2h")


def test_a_cluster_without_instances_says_how_to_go_on_and_how_to_remove_it(
    lost: Recovery,
) -> None:
    lost.aws.rds.add_cluster("shop", members=1)
    lost.snapshot_cluster("shop", "nightly")
    lost.aws.deny("rds:CreateDBInstance")
    run = lost.run(db_instance="", db_cluster="shop", new_instance="again")
    assert 3 == run.exit_code, run.output
    error = the_error(
        run, '"Action": "rds:CreateDBInstance"', "RDS has made again, or goes on with it"
    )
    lost.aws.faults.clear()
    create = next(line for line in commands(error) if "create-db-instance" in line)
    aws(lost, create)
    assert ["again-1", "shop-1"] == lost.identifiers()


def test_the_lines_that_take_a_cluster_away_do_so(lost: Recovery) -> None:
    lost.aws.rds.add_cluster("shop", members=1)
    lost.snapshot_cluster("shop", "nightly")
    run = green(lost.run(db_instance="", db_cluster="shop", new_instance="again"))
    for line in commands(run.summary.split("To take it away again", 1)[1]):
        if " wait " not in line:  # the AWS CLI's own, which looks every 30 s
            aws(lost, line)
    wait_until(lambda: ["shop-1"] == lost.identifiers())
    clusters = lost.client().describe_db_clusters
    wait_until(lambda: 1 == len(clusters()["DBClusters"]))


@pytest.fixture
def abroad(lost: Recovery) -> Recovery:
    """A snapshot that was copied to another region, a record, and groups there."""
    lost.aws.rds.add_instance("shop")
    lost.aws.rds.add_snapshot("nightly")
    lost.record()
    lost.client(ELSEWHERE).copy_db_snapshot(
        SourceDBSnapshotIdentifier=f"arn:aws:rds:{REGION}:{ACCOUNT}:snapshot:nightly",
        TargetDBSnapshotIdentifier="nightly-copy",
        KmsKeyId=key_of(ELSEWHERE),
        SourceRegion=REGION,
    )
    for _ in range(9):
        lost.client(ELSEWHERE).describe_db_snapshots()
    lost.aws.rds.add_subnet_group("over-there", region=ELSEWHERE)
    lost.aws.rds.add_parameter_group("shop-postgres17", region=ELSEWHERE)
    return lost


def test_it_comes_back_in_another_region(abroad: Recovery) -> None:
    before = settings_of(abroad.instance("shop"))
    run = green(
        abroad.run(
            aws_region=ELSEWHERE,
            db_subnet_group="over-there",
            vpc_security_groups="sg-over-there",
            new_instance="shop",
        )
    )
    told = abroad.instance("shop", ELSEWHERE)
    after = settings_of(told)
    changed = {name for name in before if before[name] != after[name]}
    assert {
        "KmsKeyId", "VpcSecurityGroups", "subnets", "PerformanceInsightsKMSKeyId"
    } == changed  # fmt: skip
    assert key_of(ELSEWHERE) == told["KmsKeyId"]
    assert "Performance Insights are encrypted with the region's own key" in run.summary
    assert [ELSEWHERE] == [kept["region"] for kept in abroad.kept()]


def test_replicated_backups_are_restored_to_their_last_second(abroad: Recovery) -> None:
    here = abroad.instance("shop")
    arn = f"arn:aws:rds:{ELSEWHERE}:{ACCOUNT}:auto-backup:ab-1f9c3a"
    replica = automated_backup(here, "replicating") | {"DBInstanceAutomatedBackupsArn": arn}
    held = {"backup": replica, "instance": {**here, "KmsKeyId": key_of(ELSEWHERE)}}
    abroad.aws.rds.estate.add("auto-backup", ELSEWHERE, "ab-1f9c3a", held, "replicating")
    green(
        abroad.run(
            aws_region=ELSEWHERE,
            db_subnet_group="over-there",
            vpc_security_groups="sg-over-there",
            restore_time="latest",
        )
    )
    (asked,) = abroad.aws.asked("rds:RestoreDBInstanceToPointInTime")
    assert arn == asked.input["SourceDBInstanceAutomatedBackupsArn"]
    assert "SourceDbiResourceId" not in asked.input


def test_another_region_needs_a_network_of_its_own(abroad: Recovery) -> None:
    run = abroad.run(aws_region=ELSEWHERE)
    assert 2 == run.exit_code, run.output
    the_error(
        run, "2 inputs cannot be used", f"db-subnet-group: is missing, and that of shop is one of"
        f" {REGION}, not of {ELSEWHERE}", "vpc-security-groups: is missing",
    )  # fmt: skip
    assert ["CopyDBSnapshot"] == abroad.made()


def test_another_region_without_the_parameter_group(abroad: Recovery) -> None:
    del abroad.aws.rds.estate.all("pg", ELSEWHERE)["shop-postgres17"]
    run = abroad.run(aws_region=ELSEWHERE, db_subnet_group="over-there", vpc_security_groups="sg-1")
    assert 2 == run.exit_code, run.output
    the_error(run, "no parameter group shop-postgres17", "db-parameter-group")
