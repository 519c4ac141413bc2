"""Scripted RDS: snapshots take time, are listed, tagged, copied and deleted as RDS does it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.lab.aws import REGION
from tests.lab.scripted import made
from tests.lab.scripted.asking import arn, asking, refusal, state_of, state_of_snapshot, states
from tests.lab.scripted.server import ScriptedAws

ELSEWHERE = "eu-west-1"


@pytest.fixture
def rds(scripted: ScriptedAws) -> Any:
    return asking(scripted)


def test_a_snapshot_is_being_created_before_it_is_available(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.add_instance()

    made_now = rds.create_db_snapshot(DBSnapshotIdentifier="Before-1", DBInstanceIdentifier="shop")
    seen = states(lambda: state_of_snapshot(rds, "before-1"), "available")

    assert ("creating", 0) == (
        made_now["DBSnapshot"]["Status"],
        made_now["DBSnapshot"]["PercentProgress"],
    )
    assert ["creating", "available"] == seen


def test_states_pass_by_the_clock_where_a_test_says_so(scripted: ScriptedAws, rds: Any) -> None:
    scripted.rds.add_instance()
    scripted.rds.seconds_per_state = 0.3

    rds.create_db_snapshot(DBSnapshotIdentifier="s", DBInstanceIdentifier="shop")
    at_once = {state_of_snapshot(rds, "s") for _ in range(5)}
    time.sleep(0.35)

    assert {"creating"} == at_once
    assert "available" == state_of_snapshot(rds, "s")


def test_an_instance_is_backing_up_while_its_snapshot_is_made(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.add_instance()
    rds.create_db_snapshot(DBSnapshotIdentifier="s", DBInstanceIdentifier="shop")

    during = state_of(rds, "shop")
    second = refusal(rds.create_db_snapshot, DBSnapshotIdentifier="t", DBInstanceIdentifier="shop")
    states(lambda: state_of_snapshot(rds, "s"), "available")

    assert "backing-up" == during
    assert ("InvalidDBInstanceState", 400) == second[:2]
    assert "available" == state_of(rds, "shop")


def test_a_snapshot_can_fail(scripted: ScriptedAws, rds: Any) -> None:
    scripted.rds.add_instance()
    scripted.rds.snapshots.states = ("creating", "failed")

    rds.create_db_snapshot(DBSnapshotIdentifier="s", DBInstanceIdentifier="shop")

    assert ["creating", "failed"] == states(lambda: state_of_snapshot(rds, "s"), "failed")


def test_tags_come_from_the_instance_and_the_call_and_can_be_changed(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.add_instance()
    tags = [{"Key": "release", "Value": "1.2"}]
    rds.create_db_snapshot(DBSnapshotIdentifier="s", DBInstanceIdentifier="shop", Tags=tags)
    name = arn("snapshot:s")

    rds.add_tags_to_resource(ResourceName=name, Tags=[{"Key": "kept", "Value": "yes"}])
    rds.remove_tags_from_resource(ResourceName=name, TagKeys=["team"])

    (told,) = rds.describe_db_snapshots(DBSnapshotIdentifier="s")["DBSnapshots"]
    assert [*tags, {"Key": "kept", "Value": "yes"}] == told["TagList"]
    assert told["TagList"] == rds.list_tags_for_resource(ResourceName=name)["TagList"]


def test_snapshots_are_listed_by_page_type_instance_and_filter(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.add_instance()
    scripted.rds.add_instance("other")
    for number in range(25):
        scripted.rds.add_snapshot(f"manual-{number:02}")
    scripted.rds.add_snapshot("rds:shop-2026-11-22-01-00", kind="automated")
    scripted.rds.add_snapshot("of-other", "other")
    pages = rds.get_paginator("describe_db_snapshots")

    def names(**given: Any) -> list[str]:
        found = pages.paginate(PaginationConfig={"PageSize": 20}, **given)
        return [one["DBSnapshotIdentifier"] for page in found for one in page["DBSnapshots"]]

    assert 27 == len(names())
    assert ["rds:shop-2026-11-22-01-00"] == names(SnapshotType="automated")
    assert ["of-other"] == names(DBInstanceIdentifier="other")
    by_arn = [{"Name": "db-instance-id", "Values": ["other"]}]
    assert ["of-other"] == names(Filters=by_arn)
    first = rds.describe_db_snapshots(MaxRecords=20)
    assert 20 == len(first["DBSnapshots"]) and first["Marker"]
    assert "InvalidParameterValue" == refusal(rds.describe_db_snapshots, MaxRecords=5)[0]
    assert "InvalidParameterValue" == refusal(rds.describe_db_snapshots, Marker="x")[0]
    wrong = [{"Name": "colour", "Values": ["red"]}]
    assert "InvalidParameterValue" == refusal(rds.describe_db_snapshots, Filters=wrong)[0]


def test_a_copy_to_another_region_takes_the_arn_and_a_key_of_that_region(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.add_instance()
    scripted.rds.add_snapshot("s")
    there = asking(scripted, region=ELSEWHERE)
    asked = {
        "SourceDBSnapshotIdentifier": arn("snapshot:s"),
        "TargetDBSnapshotIdentifier": "s-copy",
        "SourceRegion": REGION,
        "CopyTags": True,
    }

    without_key = refusal(there.copy_db_snapshot, **asked)
    foreign_key = refusal(there.copy_db_snapshot, **asked, KmsKeyId=made.key_of(REGION))
    copy = there.copy_db_snapshot(**asked, KmsKeyId=made.key_of(ELSEWHERE))["DBSnapshot"]

    assert "InvalidParameterCombination" == without_key[0]
    assert "KMSKeyNotAccessibleFault" == foreign_key[0]
    assert (arn("snapshot:s-copy", ELSEWHERE), REGION, made.key_of(ELSEWHERE), True) == (
        copy["DBSnapshotArn"],
        copy["SourceRegion"],
        copy["KmsKeyId"],
        copy["Encrypted"],
    )
    assert [{"Key": "team", "Value": "shop"}] == copy["TagList"]
    assert ["creating", "available"] == states(
        lambda: state_of_snapshot(there, "s-copy"), "available"
    )
    assert (
        "DBSnapshotNotFound" == refusal(rds.describe_db_snapshots, DBSnapshotIdentifier="s-copy")[0]
    )


def test_only_a_manual_snapshot_that_is_there_can_be_deleted(
    scripted: ScriptedAws, rds: Any
) -> None:
    scripted.rds.add_instance()
    scripted.rds.add_snapshot("s")
    scripted.rds.add_snapshot("rds:shop", kind="automated")

    rds.delete_db_snapshot(DBSnapshotIdentifier="s")

    assert "DBSnapshotNotFound" == refusal(rds.delete_db_snapshot, DBSnapshotIdentifier="s")[0]
    automated = refusal(rds.delete_db_snapshot, DBSnapshotIdentifier="rds:shop")
    assert ("InvalidDBSnapshotState", 400) == automated[:2]


def test_errors_have_the_codes_and_statuses_of_the_model(scripted: ScriptedAws, rds: Any) -> None:
    scripted.rds.add_instance()
    scripted.rds.add_snapshot("s")
    create = rds.create_db_snapshot

    with pytest.raises(rds.exceptions.DBInstanceNotFoundFault):
        rds.describe_db_instances(DBInstanceIdentifier="nothing")
    missing = refusal(create, DBSnapshotIdentifier="t", DBInstanceIdentifier="nothing")
    twice = refusal(create, DBSnapshotIdentifier="s", DBInstanceIdentifier="shop")
    badly_named = refusal(create, DBSnapshotIdentifier="a--b", DBInstanceIdentifier="shop")
    scripted.rds.snapshots.quota = 1
    too_many = refusal(create, DBSnapshotIdentifier="t", DBInstanceIdentifier="shop")
    scripted.rds.put_into(["storage-full"])
    full = refusal(create, DBSnapshotIdentifier="t", DBInstanceIdentifier="shop")

    assert ("DBInstanceNotFound", 404) == missing[:2]
    assert ("DBSnapshotAlreadyExists", 400) == twice[:2]
    assert ("InvalidParameterValue", 400) == badly_named[:2]
    assert ("SnapshotQuotaExceeded", 400) == too_many[:2]
    assert "SnapshotQuotaExceeded" == full[0]
    assert "storage-full" == state_of(rds, "shop")
