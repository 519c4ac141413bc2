"""Scripted RDS: clusters, exports, and what stands around instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.aws import REGION
from tests.lab.scripted import made
from tests.lab.scripted.asking import arn, asking, refusal, state_of, states
from tests.lab.scripted.server import ScriptedAws
from tests.lab.sts import ACCOUNT

ELSEWHERE = "eu-west-1"
EXPORT_ROLE = f"arn:aws:iam::{ACCOUNT}:role/rds-export"
BACKUP_ROLE = f"arn:aws:iam::{ACCOUNT}:role/backup-service"


@pytest.fixture
def rds(scripted: ScriptedAws) -> Any:
    return asking(scripted)


def test_a_cluster_is_restored_without_members_and_takes_them_once_it_is_available(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.add_cluster()
    rds.create_db_cluster_snapshot(
        DBClusterSnapshotIdentifier="s", DBClusterIdentifier="shop", Tags=[{"Key": "a"}]
    )

    def snapshot() -> str:
        told = rds.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier="s")
        return str(told["DBClusterSnapshots"][0]["Status"])

    def cluster() -> str:
        (told,) = rds.describe_db_clusters(DBClusterIdentifier="shop-new")["DBClusters"]
        return str(told["Status"])

    member = {
        "DBInstanceIdentifier": "shop-new-1",
        "DBClusterIdentifier": "shop-new",
        "DBInstanceClass": "db.r6g.large",
        "Engine": "aurora-postgresql",
    }
    taken = states(snapshot, "available")
    rds.restore_db_cluster_from_snapshot(
        DBClusterIdentifier="shop-new",
        SnapshotIdentifier="s",
        Engine="aurora-postgresql",
        DBSubnetGroupName="private",
        DeletionProtection=True,
    )
    early = refusal(rds.create_db_instance, **member)
    restored = states(cluster, "available")
    rds.create_db_instance(**member)
    (told,) = rds.describe_db_clusters(DBClusterIdentifier="shop-new")["DBClusters"]

    assert ["creating", "available"] == taken == restored
    assert ("InvalidDBClusterStateFault", 400) == early[:2]
    assert [("shop-new-1", True)] == [
        (one["DBInstanceIdentifier"], one["IsClusterWriter"]) for one in told["DBClusterMembers"]
    ]
    assert (True, False, "private") == (
        told["DeletionProtection"],
        told["IAMDatabaseAuthenticationEnabled"],
        told["DBSubnetGroup"],
    )
    assert "available" == states(lambda: state_of(rds, "shop-new-1"), "available")[-1]


def test_a_cluster_is_restored_to_a_point_in_time_changed_and_deleted(
    scripted: ScriptedAws, rds: Any
) -> None:
    source = scripted.rds.add_cluster().description
    pair = {"SourceDBClusterIdentifier": "shop", "DBClusterIdentifier": "new"}
    restore = rds.restore_db_cluster_to_point_in_time

    too_late = refusal(restore, **pair, RestoreToTime="2100-01-01T00:00:00Z")
    restore(**pair, RestoreToTime=source["LatestRestorableTime"])
    scripted.rds.put_into(["available"], "new", kind="cluster")
    rds.modify_db_cluster(DBClusterIdentifier="new", BackupRetentionPeriod=21)
    scripted.rds.put_into(["available"], "new", kind="cluster")
    (told,) = rds.describe_db_clusters(Filters=[{"Name": "db-cluster-id", "Values": ["new"]}])[
        "DBClusters"
    ]
    rds.delete_db_cluster(DBClusterIdentifier="new", SkipFinalSnapshot=True)
    protected = refusal(rds.delete_db_cluster, DBClusterIdentifier="shop", SkipFinalSnapshot=True)

    assert "InvalidRestoreFault" == too_late[0]
    assert 21 == told["BackupRetentionPeriod"]
    assert "InvalidParameterCombination" == protected[0]


def test_a_cluster_snapshot_is_copied_and_deleted(scripted: ScriptedAws, rds: Any) -> None:
    scripted.rds.add_cluster()
    rds.create_db_cluster_snapshot(DBClusterSnapshotIdentifier="s", DBClusterIdentifier="shop")
    scripted.rds.put_into(["available"], "s", kind="cluster-snapshot")
    there = asking(scripted, region=ELSEWHERE)

    copy = there.copy_db_cluster_snapshot(
        SourceDBClusterSnapshotIdentifier=arn("cluster-snapshot:s"),
        TargetDBClusterSnapshotIdentifier="copy",
        KmsKeyId="alias/backups",
        SourceRegion=REGION,
    )["DBClusterSnapshot"]
    rds.delete_db_cluster_snapshot(DBClusterSnapshotIdentifier="s")

    assert arn("cluster-snapshot:s") == copy["SourceDBClusterSnapshotArn"]
    assert copy["KmsKeyId"].startswith(f"arn:aws:kms:{ELSEWHERE}:{ACCOUNT}:key/")
    assert (
        "DBClusterSnapshotNotFoundFault"
        == refusal(rds.describe_db_cluster_snapshots, DBClusterSnapshotIdentifier="s")[0]
    )


def test_an_export_starts_makes_progress_and_is_complete_failed_or_cancelled(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.add_instance()
    scripted.rds.add_snapshot("s")
    exports = scripted.rds.exports
    exports.buckets = {"exports"}
    asked = {
        "SourceArn": arn("snapshot:s"),
        "S3BucketName": "exports",
        "IamRoleArn": EXPORT_ROLE,
        "KmsKeyId": made.key_of(REGION),
    }

    def state(name: str) -> Callable[[], str]:
        def told() -> str:
            found = rds.describe_export_tasks(ExportTaskIdentifier=name)["ExportTasks"]
            return str(found[0]["Status"])

        return told

    rds.start_export_task(ExportTaskIdentifier="one", **asked)
    complete = states(state("one"), "COMPLETE")
    exports.states = ("STARTING", "FAILED")
    rds.start_export_task(ExportTaskIdentifier="two", **asked)
    failed = states(state("two"), "FAILED")
    rds.start_export_task(ExportTaskIdentifier="three", **asked)
    rds.cancel_export_task(ExportTaskIdentifier="three")
    cancelled = states(state("three"), "CANCELED")
    one, two = rds.describe_export_tasks()["ExportTasks"][:2]

    assert ["STARTING", "IN_PROGRESS", "COMPLETE"] == complete
    assert ["STARTING", "FAILED"] == failed
    assert ["CANCELING", "CANCELED"] == cancelled
    assert (42, 100) == (one["TotalExtractedDataInGB"], one["PercentProgress"])
    assert exports.failure == two["FailureCause"]
    elsewhere = {**asked, "S3BucketName": "nowhere"}
    assert (
        "InvalidS3BucketFault"
        == refusal(rds.start_export_task, ExportTaskIdentifier="four", **elsewhere)[0]
    )
    assert (
        "ExportTaskAlreadyExists"
        == refusal(rds.start_export_task, ExportTaskIdentifier="one", **asked)[0]
    )
    assert (
        "InvalidExportTaskStateFault"
        == refusal(rds.cancel_export_task, ExportTaskIdentifier="one")[0]
    )


def test_groups_parameters_versions_and_maintenance_are_told(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.add_instance()
    scripted.rds.add_parameter_group("shop-postgres17", parameters={"fsync": "0"})
    scripted.rds.surroundings.maintenance[arn("db:shop")] = [
        {"Action": "system-update", "Description": "New Operating System update is available"}
    ]
    scripted.rds.surroundings.deprecated.add("13.22")

    (group,) = rds.describe_db_subnet_groups(DBSubnetGroupName="private")["DBSubnetGroups"]
    (family,) = rds.describe_db_parameter_groups(DBParameterGroupName="shop-postgres17")[
        "DBParameterGroups"
    ]
    ours = rds.describe_db_parameters(DBParameterGroupName="shop-postgres17", Source="user")
    default = rds.describe_db_parameters(DBParameterGroupName="default.postgres17")
    offered = rds.describe_db_engine_versions(Engine="postgres")["DBEngineVersions"]
    (old,) = rds.describe_db_engine_versions(
        Engine="postgres", EngineVersion="13.22", IncludeAll=True
    )["DBEngineVersions"]
    (pending,) = rds.describe_pending_maintenance_actions()["PendingMaintenanceActions"]

    assert made.VPC == group["VpcId"]
    assert "postgres17" == family["DBParameterGroupFamily"]
    assert {"fsync": "0"} == {
        one["ParameterName"]: one["ParameterValue"] for one in ours["Parameters"]
    }
    assert {"system"} == {one["Source"] for one in default["Parameters"]}
    assert "13.22" not in [one["EngineVersion"] for one in offered]
    assert "deprecated" == old["Status"]
    assert arn("db:shop") == pending["ResourceIdentifier"]
    assert (
        "DBParameterGroupNotFound"
        == refusal(rds.describe_db_parameters, DBParameterGroupName="nothing")[0]
    )
