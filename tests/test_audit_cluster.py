"""The audit of a cluster: what is its own, and what is its members'."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.checks import Status
from backup.operations.auditing.instance import TITLES, checks
from tests.audited_instance import NOW, Audited, audited_instance, ids
from tests.audits import apply, logged_in, settings_of, statuses
from tests.lab.aws import Moto
from tests.lab.scripted.server import ScriptedAws


@pytest.fixture
def audited(
    scripted: ScriptedAws, moto: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Audited:
    return audited_instance(scripted, moto, monkeypatch, tmp_path)


def test_a_well_kept_cluster_passes_every_check(audited: Audited) -> None:
    audited.inputs = {"db_cluster": "shop"}
    audited.aws.rds.add_cluster()
    audited.rds().create_db_cluster_snapshot(
        DBClusterIdentifier="shop", DBClusterSnapshotIdentifier="shop-v1"
    )
    for _ in range(8):
        audited.rds().describe_db_cluster_snapshots()
    found = audited.checks(release=NOW - timedelta(hours=1))
    # Aurora has no disk of its own to run full.
    assert [id for id in TITLES if id != "instance.free-storage"] == statuses(found, Status.PASS)


def test_a_cluster_without_instances_fails(audited: Audited) -> None:
    audited.aws.rds.add_cluster(members=0)
    settings = settings_of(db_cluster="shop")
    session = logged_in(audited.monkeypatch, settings, audited.env)
    (found,) = checks(session, settings, {}, NOW)
    assert ("instance.exists", Status.FAIL) == (found.id, found.status)
    apply(found.fix, audited.env)
    assert {"instance.exists"}.isdisjoint(ids(checks(session, settings, {}, NOW)))


def test_a_stopped_cluster_is_started(audited: Audited) -> None:
    audited.inputs = {"db_cluster": "shop"}
    audited.aws.rds.add_cluster(state="stopped", LatestRestorableTime=NOW - timedelta(days=2))
    audited.mended("instance.restorable", Status.FAIL, "stopped")


def test_a_cluster_that_is_not_encrypted_is_mended_by_an_encrypted_copy(audited: Audited) -> None:
    audited.aws.rds.seconds_per_state = 0
    cluster = audited.aws.rds.add_cluster(StorageEncrypted=False)
    del cluster.description["KmsKeyId"]
    audited.inputs = {"db_cluster": "shop"}
    check = audited.checks()["instance.encryption"]
    assert Status.FAIL == check.status
    apply(check.fix, audited.env)
    audited.inputs = {"db_cluster": "shop-encrypted"}
    found = audited.checks()
    assert Status.PASS == found["instance.encryption"].status
    assert Status.PASS == found["instance.deletion-protection"].status


def test_tls_of_a_cluster_is_mended_in_the_group_of_the_cluster(audited: Audited) -> None:
    audited.inputs = {"db_cluster": "shop"}
    audited.aws.rds.add_cluster()
    audited.aws.rds.add_parameter_group(
        "shop-aurora-postgresql16",
        kind="cluster-pg",
        family="aurora-postgresql16",
        parameters={"rds.force_ssl": "0"},
    )
    check = audited.mended("instance.tls", Status.FAIL)
    assert "modify-db-cluster-parameter-group" in check.fix


def test_parameters_of_a_cluster_that_wait_for_a_restart_are_not_in_force(
    audited: Audited,
) -> None:
    audited.inputs = {"db_cluster": "shop"}
    cluster = audited.aws.rds.add_cluster(members=2)
    cluster.description["DBClusterMembers"][1]["DBClusterParameterGroupStatus"] = "pending-reboot"
    name = cluster.description["DBClusterParameterGroup"]
    parameters = {"rds.force_ssl": "1"}
    audited.aws.rds.add_parameter_group(
        name, kind="cluster-pg", family="aurora-postgresql16", parameters=parameters
    )
    check = audited.checks()["instance.tls"]
    assert Status.WARN == check.status
    assert "--db-instance-identifier shop-2" in check.fix
    assert "shop-1" not in check.fix


def test_tls_of_a_cluster_with_a_default_group_is_mended_by_a_group_of_its_own(
    audited: Audited,
) -> None:
    audited.inputs = {"db_cluster": "shop"}
    name, family = "default.aurora-postgresql16", "aurora-postgresql16"
    audited.aws.rds.add_cluster(DBClusterParameterGroup=name)
    audited.aws.rds.add_parameter_group(name, kind="cluster-pg", family=family, parameters={})
    check = audited.mended("instance.tls", Status.FAIL)
    assert "create-db-cluster-parameter-group" in check.fix


def test_a_group_of_a_member_wins_over_that_of_its_cluster(audited: Audited) -> None:
    audited.inputs = {"db_cluster": "shop"}
    audited.aws.rds.add_cluster()
    group = "shop-aurora-postgresql16"
    audited.aws.rds.add_parameter_group(
        group, family="aurora-postgresql16", parameters={"autovacuum": "0"}
    )
    words = f"autovacuum is 0 in {group}"
    check = audited.mended("instance.parameters", Status.FAIL, words)
    assert "modify-db-parameter-group" in check.fix


def test_a_cluster_in_one_zone_is_mended_by_a_reader(audited: Audited) -> None:
    audited.inputs = {"db_cluster": "shop"}
    audited.aws.rds.add_cluster(members=1, MultiAZ=False)
    check = audited.checks()["instance.multi-az"]
    assert Status.WARN == check.status
    apply(check.fix, audited.env)
    assert Status.PASS == audited.checks()["instance.multi-az"].status


def test_what_a_member_of_a_cluster_lacks_is_mended_at_the_member(audited: Audited) -> None:
    audited.inputs = {"db_cluster": "shop"}
    audited.aws.rds.add_cluster()
    reader = audited.aws.rds.estate.find("db", "eu-central-1", "shop-2")
    assert reader is not None
    reader.description |= {"PubliclyAccessible": True, "AutoMinorVersionUpgrade": False}
    check = audited.mended("instance.public", Status.FAIL, "shop-2")
    assert "shop-1" not in check.fix
    audited.mended("instance.minor-upgrades", Status.WARN, "shop-2")


@pytest.mark.parametrize(
    ("id", "setting"),
    [
        ("instance.retention", {"BackupRetentionPeriod": 1}),
        ("instance.deletion-protection", {"DeletionProtection": False}),
        ("instance.iam-login", {"IAMDatabaseAuthenticationEnabled": False}),
    ],
)
def test_what_a_cluster_lacks_is_mended_at_the_cluster(
    audited: Audited, id: str, setting: dict[str, Any]
) -> None:
    audited.inputs = {"db_cluster": "shop"}
    audited.aws.rds.add_cluster(**setting)
    before = audited.checks()[id]
    assert "modify-db-cluster" in before.fix
    apply(before.fix, audited.env)
    audited.settle()
    assert Status.PASS == audited.checks()[id].status


def test_a_multi_az_cluster_is_judged_as_a_whole(audited: Audited) -> None:
    audited.inputs = {"db_cluster": "shop"}
    cluster = audited.aws.rds.add_cluster(
        Engine="postgres",
        EngineVersion="17.6",
        DBClusterInstanceClass="db.r6gd.large",
        AutoMinorVersionUpgrade=False,
        PubliclyAccessible=True,
        DBClusterParameterGroup="shop-aurora-postgresql16",
        MultiAZ=True,
    )
    for number in (1, 2):
        audited.free(f"shop-{number}", 50)
    found = audited.checks()
    assert Status.PASS == found["instance.multi-az"].status
    assert Status.PASS == found["instance.storage"].status
    assert Status.PASS == found["instance.free-storage"].status
    assert "operation: restore-instance" in found["instance.public"].fix
    apply(found["instance.minor-upgrades"].fix, audited.env)
    assert cluster.description["AutoMinorVersionUpgrade"] is True
