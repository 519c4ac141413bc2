"""`keep`: which snapshots `operation: snapshot` deletes, and which it never does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.lab.aws import REGION
from tests.lab.cloud import Cloud
from tests.lab.runner import ActionRun
from tests.lab.scripted.server import ScriptedAws
from tests.lab.stage import the_error
from tests.snapshots import ELSEWHERE, KEY_ELSEWHERE, OWN, resource_id, run, thing
from tests.steps import green


def take(cloud: Cloud, scripted: ScriptedAws, keep: int, **inputs: str) -> ActionRun:
    return run(cloud, scripted, "snapshot", keep=str(keep), snapshot_id="newest", **inputs)


def add(
    scripted: ScriptedAws,
    name: str,
    days: int,
    *,
    instance: str = "shop",
    region: str = REGION,
    state: str = "available",
    source_id: str | None = None,
    tags: dict[str, str] | None = None,
) -> None:
    """A snapshot of that age, by default with the tags that the action gives its own."""
    own = {
        f"{OWN}created-by": "pg-backup-action",
        f"{OWN}source": instance,
        f"{OWN}source-id": source_id or resource_id(scripted, instance),
        f"{OWN}snapshot": name,
    }
    told = [{"Key": key, "Value": value} for key, value in (tags or own).items()]
    created = datetime.now(UTC) - timedelta(days=days)
    scripted.rds.add_snapshot(
        name, instance, region=region, state=state, created=created, TagList=told
    )


def left(scripted: ScriptedAws, region: str = REGION, kind: str = "snapshot") -> set[str]:
    return set(scripted.rds.estate.all(kind, region))


def test_older_ones_of_the_action_go_beyond_the_number(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")
    for days in (4, 1, 3, 2):
        add(scripted, f"old-{days}", days)

    made = green(take(cloud, scripted, keep=3))

    assert {"newest", "old-1", "old-2"} == left(scripted)
    assert "2 older snapshots" in made.summary
    assert "snapshot:old-4" in made.summary


def test_the_newest_one_stays_whatever_happens(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")
    add(scripted, "old", 1)

    green(take(cloud, scripted, keep=1))

    assert {"newest"} == left(scripted)


def test_without_the_number_nothing_goes(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")
    for days in range(1, 5):
        add(scripted, f"old-{days}", days)

    green(run(cloud, scripted, "snapshot", snapshot_id="newest"))

    assert 5 == len(left(scripted))
    assert [] == scripted.asked("rds:DescribeDBSnapshots")[0].input.get("Filters", [])
    assert [] == scripted.asked("rds:DeleteDBSnapshot")


def test_what_someone_else_made_stays(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")
    scripted.rds.add_instance("crm")
    add(scripted, "untagged", 9, tags={"team": "shop"})
    add(scripted, "shop-named-like-ours-20260101t000000z", 9, tags={"team": "shop"})
    shop = {f"{OWN}source": "shop", f"{OWN}source-id": resource_id(scripted)}
    add(
        scripted, "other-tool", 9,
        tags=shop | {f"{OWN}created-by": "other", f"{OWN}snapshot": "other-tool"},
    )  # fmt: skip
    add(scripted, "of-crm", 9, instance="crm")
    add(
        scripted, "inherited", 9,
        tags=shop | {f"{OWN}created-by": "pg-backup-action", f"{OWN}snapshot": "another"},
    )  # fmt: skip
    add(
        scripted, "of-crm-with-our-tags", 9, instance="crm",
        tags=shop | {f"{OWN}created-by": "pg-backup-action",
                     f"{OWN}snapshot": "of-crm-with-our-tags"},
    )  # fmt: skip
    scripted.rds.add_snapshot("rds:shop-2026-01-01", kind="automated")
    add(scripted, "not-ready", 9, state="copying")
    add(scripted, "failed", 9, state="failed")
    others = left(scripted)
    add(scripted, "ours", 9)

    green(take(cloud, scripted, keep=1))

    assert others | {"newest"} == left(scripted)


def test_those_of_a_lost_instance_stay_when_another_has_taken_its_name(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    add(scripted, "before-the-loss", 9, source_id="db-THELOSTONE")
    add(scripted, "old", 1)

    green(take(cloud, scripted, keep=1))

    assert {"before-the-loss", "newest"} == left(scripted)


def test_those_of_an_instance_of_the_same_name_in_the_region_of_the_copies_stay(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    scripted.rds.add_instance("shop", region=ELSEWHERE)
    there = resource_id(scripted, "shop", ELSEWHERE)
    add(scripted, "its-own", 9, region=ELSEWHERE, source_id=there)
    add(scripted, "old-copy", 1, region=ELSEWHERE)

    green(take(cloud, scripted, keep=1, copy_to_region=ELSEWHERE, copy_kms_key_id=KEY_ELSEWHERE))

    assert {"its-own", "newest"} == left(scripted, ELSEWHERE)


def test_more_snapshots_than_fit_on_a_page_are_looked_at(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    scripted.rds.estate.page_size = 3
    for days in range(1, 9):
        add(scripted, f"old-{days}", days)

    green(take(cloud, scripted, keep=2))

    assert {"newest", "old-1"} == left(scripted)


def test_copies_are_kept_in_the_same_number(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")
    scripted.rds.add_instance("shop", region=ELSEWHERE)
    add(scripted, "old-1", 1, region=ELSEWHERE)
    add(scripted, "old-2", 2, region=ELSEWHERE)

    green(take(cloud, scripted, keep=2, copy_to_region=ELSEWHERE, copy_kms_key_id=KEY_ELSEWHERE))

    assert {"newest", "old-1"} == left(scripted, ELSEWHERE)


def test_snapshots_of_clusters_are_kept_in_the_same_way(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_cluster("ledger", members=1)
    first = green(run(cloud, scripted, "snapshot", db_cluster="ledger", snapshot_id="first"))

    green(run(cloud, scripted, "snapshot", db_cluster="ledger", snapshot_id="second", keep="1"))

    assert "first" == first.outputs["snapshot-id"]
    assert {"second"} == left(scripted, kind="cluster-snapshot")


def test_a_role_that_may_not_delete_is_told_what_to_add_and_has_its_snapshot(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    add(scripted, "old", 1)
    scripted.deny("rds:DeleteDBSnapshot")

    made = take(cloud, scripted, keep=1)

    assert 3 == made.exit_code
    the_error(made, "rds:DeleteDBSnapshot", "snapshot:*")
    assert "newest" == made.outputs["snapshot-id"]


def test_what_cannot_be_deleted_right_now_is_left_to_the_next_run(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    add(scripted, "old", 1)
    scripted.fail("rds:DeleteDBSnapshot", "InvalidDBSnapshotState", "it is being copied")

    made = green(take(cloud, scripted, keep=1))

    (warning,) = made.warnings
    assert "Old snapshots are still there" == warning.title
    assert {"old", "newest"} == left(scripted)


def test_one_that_cannot_be_deleted_does_not_keep_the_others(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    add(scripted, "in-use", 3)
    add(scripted, "old", 2)
    scripted.fail("rds:DeleteDBSnapshot", "InvalidDBSnapshotState", "it is in use", times=1)

    made = green(take(cloud, scripted, keep=1))

    assert ["Old snapshots are still there"] == [each.title for each in made.warnings]
    assert {"in-use", "newest"} == left(scripted)


def test_a_late_copy_of_an_old_one_is_old(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")
    add(scripted, "old", 9)
    add(scripted, "yesterday", 1)
    thing(scripted, "old").description["SnapshotCreateTime"] = datetime.now(UTC)

    green(take(cloud, scripted, keep=2))

    assert {"yesterday", "newest"} == left(scripted)


def test_one_that_someone_deletes_at_the_same_time_is_no_trouble(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    add(scripted, "old", 1)
    scripted.fail("rds:DeleteDBSnapshot", "DBSnapshotNotFound", "old not found", times=1)

    green(take(cloud, scripted, keep=1))
