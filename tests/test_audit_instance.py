"""The audit of an instance: each check passes, fails with a fix that mends it, or is denied."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.aws.grants import PolicyScope, needed
from backup.checks import Status
from backup.operations.auditing.instance import TITLES, checks
from tests.audited_instance import NOW, Audited, audited_instance
from tests.audits import apply, logged_in, settings_of, statuses
from tests.lab.aws import REGION, Ministack, Moto
from tests.lab.scripted.server import ScriptedAws
from tests.lab.sts import ACCOUNT


@pytest.fixture
def audited(
    scripted: ScriptedAws, moto: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Audited:
    return audited_instance(scripted, moto, monkeypatch, tmp_path)


def test_a_well_kept_instance_passes_every_check(audited: Audited) -> None:
    audited.aws.rds.add_instance()
    audited.aws.rds.add_snapshot("shop-v1")
    audited.free("shop", 60)
    found = audited.checks(release=NOW - timedelta(hours=1))
    assert list(TITLES) == statuses(found, Status.PASS), found
    assert [] == [check for check in found.values() if check.fix]


def test_without_an_instance_there_is_nothing_to_check(audited: Audited) -> None:
    audited.inputs = {}
    assert {} == audited.checks()


def test_an_instance_that_is_not_there_fails(audited: Audited) -> None:
    settings = settings_of(db_instance="lost")
    session = logged_in(audited.monkeypatch, settings, audited.env)
    (found,) = checks(session, settings, {}, NOW)
    assert ("instance.exists", Status.FAIL) == (found.id, found.status)
    assert "db-instance" in found.fix


WRONG: list[tuple[str, Status, dict[str, Any], str]] = [
    ("instance.retention", Status.FAIL, {"BackupRetentionPeriod": 3}, "3 days"),
    ("instance.retention", Status.FAIL, {"BackupRetentionPeriod": 0}, "are off"),
    ("instance.public", Status.FAIL, {"PubliclyAccessible": True}, "public address"),
    ("instance.deletion-protection", Status.FAIL, {"DeletionProtection": False}, "one call"),
    ("instance.multi-az", Status.WARN, {"MultiAZ": False}, "zone"),
    ("instance.iam-login", Status.WARN, {"IAMDatabaseAuthenticationEnabled": False}, "passwords"),
    ("instance.minor-upgrades", Status.WARN, {"AutoMinorVersionUpgrade": False}, "minor version"),
    ("instance.storage", Status.WARN, {"MaxAllocatedStorage": 0}, "stays at 100 GiB"),
    ("instance.storage", Status.WARN, {"MaxAllocatedStorage": 105}, "105 GiB only"),
]


@pytest.mark.parametrize(
    ("id", "status", "setting", "words"), WRONG, ids=[f"{each[0]}-{each[3]}" for each in WRONG]
)
def test_a_setting_that_is_wrong_is_named_and_its_fix_mends_it(
    audited: Audited, id: str, status: Status, setting: dict[str, Any], words: str
) -> None:
    audited.aws.rds.add_instance(**setting)
    audited.mended(id, status, words)


def test_a_fix_of_one_setting_leaves_the_others_alone(audited: Audited) -> None:
    thing = audited.aws.rds.add_instance(DeletionProtection=False)
    before = dict(thing.description)
    audited.mended("instance.deletion-protection", Status.FAIL)
    assert before | {"DeletionProtection": True} == thing.description


def test_a_moment_that_no_longer_moves_is_mended_by_the_start_of_a_stopped_instance(
    audited: Audited,
) -> None:
    old = NOW - timedelta(days=2)
    audited.aws.rds.add_instance(state="stopped", LatestRestorableTime=old)
    audited.mended("instance.restorable", Status.FAIL, "48 h ago", "stopped")


def test_a_full_disk_ships_no_logs_and_is_mended_by_more_room(audited: Audited) -> None:
    old = NOW - timedelta(minutes=50)
    thing = audited.aws.rds.add_instance(state="storage-full", LatestRestorableTime=old)
    check = audited.checks()["instance.restorable"]
    assert "storage-full" in check.reason
    apply(check.fix, audited.env)
    audited.settle()
    assert 125 == thing.description["AllocatedStorage"]


def test_a_moment_that_no_longer_moves_without_a_known_cause_leads_to_a_snapshot(
    audited: Audited,
) -> None:
    old = NOW - timedelta(minutes=50)
    audited.aws.rds.add_instance(LatestRestorableTime=old)
    check = audited.checks()["instance.restorable"]
    assert Status.FAIL == check.status
    apply(check.fix, audited.env)
    assert 1 == len(audited.aws.asked("rds:CreateDBSnapshot"))
    assert 1 == len(audited.aws.asked("rds:DescribeEvents"))


@pytest.mark.parametrize("age_minutes", [0, 14])
def test_a_moment_of_the_last_minutes_is_fresh(audited: Audited, age_minutes: int) -> None:
    latest = datetime.now(UTC) - timedelta(minutes=age_minutes)
    audited.aws.rds.add_instance(LatestRestorableTime=latest)
    assert Status.PASS == audited.checks()["instance.restorable"].status


def test_a_release_without_a_snapshot_fails_until_one_is_taken(audited: Audited) -> None:
    release = NOW - timedelta(hours=1)
    audited.aws.rds.add_instance()
    audited.aws.rds.add_snapshot("shop-v1", created=release - timedelta(days=9))
    # Automated snapshots go with the instance: they are no safety net.
    audited.aws.rds.add_snapshot("rds:shop", kind="automated", created=NOW)
    check = audited.checks(release=release)["instance.snapshot"]
    assert Status.FAIL == check.status
    assert f"the newest is of {release - timedelta(days=9):%Y-%m-%d %H:%M} UTC" in check.reason
    apply(check.fix, audited.env)
    assert Status.FAIL == audited.checks(release=release)["instance.snapshot"].status
    for _ in range(8):
        audited.rds().describe_db_snapshots()
    assert Status.PASS == audited.checks(release=release)["instance.snapshot"].status


def test_a_snapshot_of_aws_backup_counts_for_a_release(audited: Audited) -> None:
    audited.aws.rds.add_instance()
    audited.aws.rds.add_snapshot("awsbackup:job-1", kind="awsbackup", created=NOW)
    found = audited.checks(release=NOW - timedelta(hours=1))
    assert Status.PASS == found["instance.snapshot"].status


def test_a_copy_of_an_older_snapshot_is_as_old_as_that(audited: Audited) -> None:
    release = NOW - timedelta(hours=1)
    audited.aws.rds.add_instance()
    old = release - timedelta(days=9)
    audited.aws.rds.add_snapshot("shop-copy", created=old, SnapshotCreateTime=NOW)
    assert Status.FAIL == audited.checks(release=release)["instance.snapshot"].status


def test_without_a_release_no_snapshot_is_asked_for(audited: Audited) -> None:
    audited.aws.rds.add_instance()
    assert "instance.snapshot" not in audited.checks()


def test_an_instance_that_is_not_encrypted_is_mended_by_an_encrypted_copy(audited: Audited) -> None:
    audited.aws.rds.seconds_per_state = 0
    audited.aws.rds.add_instance(StorageEncrypted=False)
    check = audited.checks()["instance.encryption"]
    assert Status.FAIL == check.status
    apply(check.fix, audited.env)
    audited.inputs = {"db_instance": "shop-encrypted"}
    found = audited.checks()
    assert Status.PASS == found["instance.encryption"].status
    kept = ("public", "deletion-protection", "multi-az", "iam-login", "subnets", "tls")
    assert {Status.PASS} == {found[f"instance.{name}"].status for name in kept}


def test_a_disk_with_little_room_fails_and_its_fix_makes_room(audited: Audited) -> None:
    audited.aws.rds.add_instance("small", AllocatedStorage=100, MaxAllocatedStorage=110)
    audited.inputs = {"db_instance": "small"}
    audited.free("small", 9)
    check = audited.checks()["instance.free-storage"]
    assert Status.FAIL == check.status
    assert "9%" in check.reason
    apply(check.fix, audited.env)
    audited.settle()
    audited.free("small", 34)
    found = audited.checks()
    assert Status.PASS == found["instance.storage"].status
    told = audited.rds().describe_db_instances(DBInstanceIdentifier="small")["DBInstances"][0]
    assert (125, 250) == (told["AllocatedStorage"], told["MaxAllocatedStorage"])


def test_an_instance_without_samples_has_no_check_of_its_room(audited: Audited) -> None:
    audited.aws.rds.add_instance("fresh")
    audited.inputs = {"db_instance": "fresh"}
    assert "instance.free-storage" not in audited.checks()


DENIED: list[tuple[str, list[str]]] = [
    ("rds:DescribeDBInstances", list(TITLES)),
    ("rds:DescribeDBSnapshots", ["instance.snapshot"]),
    ("ec2:DescribeRouteTables", ["instance.subnets"]),
    ("rds:DescribeDBParameters", ["instance.tls", "instance.parameters"]),
    ("rds:DescribeDBEngineVersions", ["instance.version"]),
    ("rds:DescribeDBMajorEngineVersions", ["instance.support"]),
]


@pytest.mark.parametrize(("action", "unknown"), DENIED, ids=[action for action, _ in DENIED])
def test_a_denied_question_leaves_its_checks_unknown_and_names_the_permission(
    audited: Audited, action: str, unknown: list[str]
) -> None:
    audited.aws.rds.add_instance()
    audited.aws.rds.add_snapshot("shop-v1", created=NOW)
    audited.free("shop", 60)
    audited.aws.deny(action)
    found = audited.checks(release=NOW - timedelta(hours=1))
    assert unknown == statuses(found, Status.UNKNOWN)
    for id in unknown:
        assert f'"Action": "{action}"' in found[id].fix
    others = [id for id in TITLES if id not in unknown]
    assert others == statuses(found, Status.PASS)


@pytest.mark.parametrize(
    ("action", "unknown"),
    [
        ("rds:DescribeDBClusters", [id for id in TITLES if id != "instance.snapshot"]),
        ("rds:DescribeDBClusterParameters", ["instance.tls", "instance.parameters"]),
    ],
)
def test_a_denied_question_about_a_cluster_names_the_permission(
    audited: Audited, action: str, unknown: list[str]
) -> None:
    audited.inputs = {"db_cluster": "shop"}
    audited.aws.rds.add_cluster()
    audited.aws.deny(action)
    found = audited.checks()
    assert unknown == statuses(found, Status.UNKNOWN)
    assert all(f'"Action": "{action}"' in found[id].fix for id in unknown)


def test_a_denied_metric_leaves_the_room_on_the_disk_unknown(
    audited: Audited, ministack: Ministack
) -> None:
    audited.aws.rds.add_instance()
    iam = ministack.client("iam")
    iam.create_user(UserName="may-nothing")
    key = iam.create_access_key(UserName="may-nothing")["AccessKey"]
    audited.more = {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "AWS_ENDPOINT_URL_CLOUDWATCH": ministack.url,
    }
    found = audited.checks()
    assert ["instance.free-storage"] == statuses(found, Status.UNKNOWN)
    assert '"Action": "cloudwatch:GetMetricStatistics"' in found["instance.free-storage"].fix


def test_an_audit_of_an_instance_asks_for_what_its_policy_allows_and_for_nothing_else(
    audited: Audited,
) -> None:
    audited.aws.rds.add_instance()
    assert_exact(audited, PolicyScope(**SCOPE, instance="shop"))


def test_an_audit_of_a_cluster_asks_for_what_its_policy_allows_and_for_nothing_else(
    audited: Audited,
) -> None:
    audited.inputs = {"db_cluster": "shop"}
    audited.aws.rds.add_cluster(Engine="postgres", EngineVersion="17.6")
    assert_exact(audited, PolicyScope(**SCOPE, cluster="shop"))


SCOPE: Any = {
    "partition": "aws",
    "region": REGION,
    "account": ACCOUNT,
    "bucket": "backups",
    "prefix": "postgresql",
}


AREA = ("AuditInstance", "AuditAroundIt")


def assert_exact(audited: Audited, scope: PolicyScope) -> None:
    """The policy for this area allows the audit's calls, and each of its actions is called."""
    granted = [grant for grant in needed("audit", scope) if grant.sid in AREA]
    audited.aws.allow_only([grant.statement() for grant in granted])
    assert [] == statuses(audited.checks(release=NOW), Status.UNKNOWN)
    asked = {call.action for call in audited.aws.calls} | {"cloudwatch:GetMetricStatistics"}
    assert {action for grant in granted for action in grant.actions} == asked
