"""Scripted RDS: instances are restored, changed and deleted as RDS does it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from tests.lab.aws import REGION
from tests.lab.scripted import made
from tests.lab.scripted.asking import asking, refusal, state_of, states
from tests.lab.scripted.server import ScriptedAws

KEY = made.key_of(REGION)


@pytest.fixture
def rds(scripted: ScriptedAws) -> Any:
    return asking(scripted)


def test_a_restored_instance_has_the_default_of_everything_that_was_not_asked_for(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.add_instance()
    scripted.rds.add_snapshot("s")

    rds.restore_db_instance_from_db_snapshot(
        DBSnapshotIdentifier="s", DBInstanceIdentifier="shop-2"
    )

    (new,) = rds.describe_db_instances(DBInstanceIdentifier="shop-2")["DBInstances"]
    assert ["sg-default"] == [one["VpcSecurityGroupId"] for one in new["VpcSecurityGroups"]]
    assert "default.postgres17" == new["DBParameterGroups"][0]["DBParameterGroupName"]
    assert "default" == new["DBSubnetGroup"]["DBSubnetGroupName"]
    assert (False, False, False, 0, True) == (
        new["DeletionProtection"],
        new["MultiAZ"],
        new["IAMDatabaseAuthenticationEnabled"],
        new["MonitoringInterval"],
        new["PubliclyAccessible"],
    )
    assert (100, "gp3", True, KEY) == (
        new["AllocatedStorage"],
        new["StorageType"],
        new["StorageEncrypted"],
        new["KmsKeyId"],
    )
    assert "MaxAllocatedStorage" not in new


def test_a_restored_instance_has_what_was_asked_for_and_an_endpoint_once_it_is_available(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.endpoint = ("127.0.0.1", 15432)
    scripted.rds.add_instance()
    scripted.rds.add_snapshot("s")

    rds.restore_db_instance_from_db_snapshot(
        DBSnapshotIdentifier="s",
        DBInstanceIdentifier="shop-2",
        DBInstanceClass="db.t4g.micro",
        DBSubnetGroupName="private",
        DBParameterGroupName="shop-postgres17",
        VpcSecurityGroupIds=["sg-1", "sg-2"],
        MultiAZ=True,
        DeletionProtection=True,
        EnableIAMDatabaseAuthentication=True,
        EnableCloudwatchLogsExports=["postgresql"],
        Tags=[{"Key": "purpose", "Value": "drill"}],
    )
    (early,) = rds.describe_db_instances(DBInstanceIdentifier="shop-2")["DBInstances"]
    seen = states(lambda: state_of(rds, "shop-2"), "available")
    (new,) = rds.describe_db_instances(DBInstanceIdentifier="shop-2")["DBInstances"]

    assert "Endpoint" not in early
    assert ["creating", "backing-up", "available"] == seen
    assert ("127.0.0.1", 15432) == (new["Endpoint"]["Address"], new["Endpoint"]["Port"])
    assert ["sg-1", "sg-2"] == [one["VpcSecurityGroupId"] for one in new["VpcSecurityGroups"]]
    assert ("db.t4g.micro", "private", "shop-postgres17", True, True, True, False) == (
        new["DBInstanceClass"],
        new["DBSubnetGroup"]["DBSubnetGroupName"],
        new["DBParameterGroups"][0]["DBParameterGroupName"],
        new["MultiAZ"],
        new["DeletionProtection"],
        new["IAMDatabaseAuthenticationEnabled"],
        new["PubliclyAccessible"],
    )
    assert [{"Key": "purpose", "Value": "drill"}] == new["TagList"]


def test_a_restore_can_end_badly_and_is_refused_where_rds_refuses_it(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.add_instance()
    scripted.rds.add_snapshot("s")
    scripted.rds.add_snapshot("unfinished", state="creating")
    restore = rds.restore_db_instance_from_db_snapshot
    scripted.rds.restores.states = ("creating", "incompatible-restore")

    def refused(snapshot: str = "s", name: str = "new", **given: Any) -> str:
        return refusal(restore, DBSnapshotIdentifier=snapshot, DBInstanceIdentifier=name, **given)[
            0
        ]

    assert "DBInstanceAlreadyExists" == refused(name="shop")
    assert "DBSnapshotNotFound" == refused("nothing")
    assert "InvalidDBSnapshotState" == refused("unfinished")
    assert "DBParameterGroupNotFound" == refused(DBParameterGroupName="nothing")
    assert "DBSubnetGroupNotFoundFault" == refused(DBSubnetGroupName="nothing")
    restore(DBSnapshotIdentifier="s", DBInstanceIdentifier="shop-2")
    assert (
        "incompatible-restore"
        == states(lambda: state_of(rds, "shop-2"), "incompatible-restore")[-1]
    )


def test_a_point_in_time_must_lie_in_the_window_of_the_instance(
    scripted: ScriptedAws, rds: Any
) -> None:
    latest = datetime.datetime(2026, 11, 22, 10, 0, tzinfo=datetime.UTC)
    scripted.rds.add_instance(LatestRestorableTime=latest)
    scripted.rds.add_instance("careless", BackupRetentionPeriod=0)
    restore = rds.restore_db_instance_to_point_in_time
    pair = {"SourceDBInstanceIdentifier": "shop", "TargetDBInstanceIdentifier": "shop-2"}

    later = refusal(restore, **pair, RestoreTime=latest + datetime.timedelta(seconds=1))
    long_ago = refusal(restore, **pair, RestoreTime=latest - datetime.timedelta(days=15))
    both = refusal(restore, **pair, RestoreTime=latest, UseLatestRestorableTime=True)
    off = refusal(
        restore,
        SourceDBInstanceIdentifier="careless",
        TargetDBInstanceIdentifier="x",
        UseLatestRestorableTime=True,
    )
    restore(**pair, RestoreTime=latest - datetime.timedelta(hours=1, milliseconds=250))

    assert ["InvalidRestoreFault"] * 2 == [later[0], long_ago[0]]
    assert "InvalidParameterCombination" == both[0]
    assert ("PointInTimeRestoreNotEnabled", 400) == off[:2]
    asked = scripted.asked("rds:RestoreDBInstanceToPointInTime")[-1].input["RestoreTime"]
    assert latest - datetime.timedelta(hours=1, milliseconds=250) == asked
    assert "available" == states(lambda: state_of(rds, "shop-2"), "available")[-1]


def test_backups_that_outlive_their_instance_can_be_restored(
    scripted: ScriptedAws, rds: Any
) -> None:
    lost = scripted.rds.add_instance().description["DbiResourceId"]
    scripted.rds.add_snapshot("rds:shop", kind="automated")
    scripted.rds.lose()

    (backup,) = rds.describe_db_instance_automated_backups(DBInstanceIdentifier="shop")[
        "DBInstanceAutomatedBackups"
    ]
    rds.restore_db_instance_to_point_in_time(
        SourceDbiResourceId=lost,
        TargetDBInstanceIdentifier="shop-2",
        UseLatestRestorableTime=True,
    )

    assert ("retained", lost) == (backup["Status"], backup["DbiResourceId"])
    assert backup["RestoreWindow"]["EarliestTime"] < backup["RestoreWindow"]["LatestTime"]
    assert "creating" == state_of(rds, "shop-2")
    assert (
        "DBInstanceNotFound" == refusal(rds.describe_db_instances, DBInstanceIdentifier="shop")[0]
    )


def test_a_modified_instance_is_available_before_it_begins_to_change(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.add_instance()

    rds.modify_db_instance(
        DBInstanceIdentifier="shop",
        BackupRetentionPeriod=35,
        DeletionProtection=False,
        CloudwatchLogsExportConfiguration={"DisableLogTypes": ["upgrade"]},
        ApplyImmediately=True,
    )
    (at_once,) = rds.describe_db_instances(DBInstanceIdentifier="shop")["DBInstances"]
    seen = states(lambda: state_of(rds, "shop"), "modifying") + states(
        lambda: state_of(rds, "shop"), "available"
    )
    (then,) = rds.describe_db_instances(DBInstanceIdentifier="shop")["DBInstances"]

    assert (14, {"BackupRetentionPeriod": 35}, False) == (
        at_once["BackupRetentionPeriod"],
        at_once["PendingModifiedValues"],
        at_once["DeletionProtection"],
    )
    assert ["available", "modifying", "modifying", "available"] == seen
    assert (35, {}, ["postgresql"]) == (
        then["BackupRetentionPeriod"],
        then["PendingModifiedValues"],
        then["EnabledCloudwatchLogsExports"],
    )


def test_a_protected_instance_is_not_deleted_and_another_goes_in_time(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.add_instance()
    protected = refusal(rds.delete_db_instance, DBInstanceIdentifier="shop", SkipFinalSnapshot=True)
    scripted.rds.add_instance("drill", DeletionProtection=False)

    rds.delete_db_instance(DBInstanceIdentifier="drill", SkipFinalSnapshot=True)
    during = [state_of(rds, "drill") for _ in range(2)]

    assert "InvalidParameterCombination" == protected[0]
    assert ["deleting"] * 2 == during
    assert (
        "DBInstanceNotFound" == refusal(rds.describe_db_instances, DBInstanceIdentifier="drill")[0]
    )
