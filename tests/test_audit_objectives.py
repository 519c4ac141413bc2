"""The audit's objectives: how old the backups are, how long ago one was proven, how fast it is."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.archive.catalogue import database_prefix, drill_key
from backup.archive.manifest import Manifest
from backup.aws.s3 import Bucket
from backup.aws.session import open_session
from backup.checks import Check, Status
from backup.operations.auditing import catalogue, objectives
from backup.settings import Selection, Settings
from backup.terminal import Terminal
from tests.audits import settings_of
from tests.buckets import put_backup, settle
from tests.findings import assert_bad, the_check
from tests.lab.aws import Ministack, Moto
from tests.lab.cloud import PREFIX, Cloud, listing, new_cloud, reading, writing
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer
from tests.lab.runner import run_action
from tests.manifests import manifest_of
from tests.steps import back_up, database_named, forget, green

yaml: Any = importlib.import_module("yaml")  # has no type information of its own

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
ODD = "yes"  # which YAML 1.1 takes for true


@dataclass(frozen=True)
class Stage:
    """A bucket whose backups and drills have the ages that a test gives them."""

    cloud: Cloud

    def put(
        self, hours: float, database: str = "shop", storage: str = "STANDARD", *, part: bool = False
    ) -> str:
        """A backup of that age; its id."""
        moment = NOW - timedelta(hours=hours)
        made = manifest_of(f"{moment:%Y%m%dT%H%M%SZ}-1f9c3a", database)
        selection = Selection(tables=("orders",)) if part else Selection()
        manifest: Manifest = replace(made, selection=selection)
        put_backup(self.cloud, manifest, storage)
        return manifest.id

    def drill(
        self,
        hours: float,
        backup_id: str,
        database: str = "shop",
        *,
        depth: str = "restore",
        verdict: str = "proven",
        seconds: float | None = 600.0,
    ) -> None:
        root = f"{database_prefix(PREFIX, database)}{backup_id}/"
        record = {"depth": depth, "verdict": verdict, "restore_seconds": seconds}
        key = drill_key(root, NOW - timedelta(hours=hours))
        self.write(key, json.dumps(record))

    def write(self, key: str, text: str) -> None:
        self.cloud.s3.put_object(Bucket=self.cloud.bucket, Key=key, Body=text.encode())

    def checks(self, *, as_role: bool = False, **inputs: str) -> list[Check]:
        return objectives.checks(*self.opened(as_role=as_role, **inputs), NOW)

    def check(self, id: str, database: str = "shop", **inputs: str) -> Check:
        return the_check(self.checks(as_role=False, **inputs), f"objectives.{id}", database)

    def opened(self, *, as_role: bool, **inputs: str) -> tuple[Bucket, Settings]:
        role = {"role_to_assume": self.cloud.role} if as_role else {}
        given = settings_of(bucket=self.cloud.bucket, **role, **inputs)
        token = self.cloud.issuer.token if as_role else None
        session = open_session(given.role, token, lambda _: None)
        return Bucket(session, given.bucket, connections=1), given


@pytest.fixture
def stage(
    ministack: Ministack, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Stage]:
    with new_cloud(ministack, issuer) as cloud:
        settle(cloud, monkeypatch, tmp_path)
        yield Stage(cloud)


@pytest.fixture
def archive(
    moto: Moto, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Stage]:
    """The double that knows storage classes."""
    with new_cloud(moto, issuer) as cloud:
        settle(cloud, monkeypatch, tmp_path)
        yield Stage(cloud)


def step_of(check: Check) -> dict[str, Any]:
    """The inputs that a fix gives a step."""
    lines = re.search(r"^with:\n(?:  .*\n?)+", check.fix, re.MULTILINE)
    assert lines is not None, check.fix
    given: dict[str, Any] = yaml.safe_load(lines[0])["with"]
    return given


def test_fresh_proven_backups_meet_every_objective(stage: Stage) -> None:
    for database in ("shop", "crm"):
        stage.drill(24, stage.put(25, database), database)
        stage.put(1, database)

    found = stage.checks()

    assert 6 == len(found)
    assert {Status.PASS} == {each.status for each in found}
    assert (
        "10 min 0 s measured on 2026-11-21" in the_check(found, "objectives.restore", "shop").reason
    )


def test_a_bucket_without_backups_fails(stage: Stage) -> None:
    (only,) = stage.checks()

    assert_bad(only, Status.FAIL, f"s3://{stage.cloud.bucket}/postgresql/", "gh workflow run")


def test_a_database_that_is_named_and_absent_fails(stage: Stage) -> None:
    stage.put(1, "crm")

    (only,) = stage.checks(database="shop")

    assert_bad(only, Status.FAIL, "no backup of it")
    assert "shop" in only.title


def test_one_database_that_is_behind_is_told_of_by_name(stage: Stage) -> None:
    stage.put(1, "crm")
    late = stage.put(27, "shop")

    found = stage.checks()

    assert Status.PASS is the_check(found, "objectives.age", "crm").status
    assert_bad(
        the_check(found, "objectives.age", "shop"),
        Status.FAIL,
        f"{late} is 27 h 0 min old",
        "26 h 0 min are allowed",
    )
    assert Status.PASS is stage.check("age", max_age_hours="28").status
    stage.put(0.1)  # what the workflow of the fix makes
    assert Status.PASS is stage.check("age").status


def test_a_retired_database_is_left_out_as_the_fix_says(stage: Stage) -> None:
    stage.put(1, "shop")
    stage.put(400, "retired")

    fix = step_of(stage.check("age", "retired"))

    assert {Status.PASS} == {
        each.status for each in stage.checks(**fix) if each.id == "objectives.age"
    }


def test_the_series_of_a_retired_database_is_left_out_with_it(stage: Stage) -> None:
    for hours in range(400, 500, 20):
        stage.put(hours, "retired")
        stage.put(hours - 399, "shop")
    console = Terminal(as_json=False, debug=False)

    everything, shop = (
        catalogue.checks(*stage.opened(as_role=False, **inputs), console, NOW)
        for inputs in ({}, {"database": "shop"})
    )

    assert_bad(the_check(everything, "catalogue.gaps"), Status.FAIL, "retired")
    assert Status.PASS is the_check(shop, "catalogue.gaps").status


def test_a_backup_of_a_part_does_not_count_for_the_whole(stage: Stage) -> None:
    stage.put(30)
    part = stage.put(1, part=True)

    assert_bad(stage.check("age"), Status.FAIL, part, "some schemas or tables alone")
    stage.put(3)
    assert Status.PASS is stage.check("age").status


def test_a_backup_whose_objects_are_gone_does_not_count(stage: Stage) -> None:
    backup_id = stage.put(1)
    stage.cloud.s3.delete_object(
        Bucket=stage.cloud.bucket, Key=f"{PREFIX}/shop/{backup_id}/archive/pack-0001.tar"
    )

    assert_bad(stage.check("age"), Status.FAIL, f"{backup_id} is not whole")
    stage.put(0.5)
    assert Status.PASS is stage.check("age").status


def test_a_backup_from_the_future_does_not_hide_that_there_is_none(stage: Stage) -> None:
    stage.put(-48)
    old = stage.put(48)

    assert_bad(stage.check("age"), Status.FAIL, old)


def test_a_database_without_a_drill_fails(stage: Stage) -> None:
    stage.put(1)

    found = stage.checks()

    assert_bad(the_check(found, "objectives.drill"), Status.FAIL, "no drill yet")
    assert_bad(the_check(found, "objectives.restore"), Status.FAIL, "no restore was measured")


def test_the_fix_of_a_missing_drill_is_a_step_for_that_database(stage: Stage) -> None:
    stage.put(1, ODD)

    given = step_of(stage.check("drill", ODD))

    assert {
        "operation": "verify",
        "bucket": stage.cloud.bucket,
        "prefix": PREFIX,
        "database": ODD,
        "backup-id": "latest",
    } == given


def test_a_real_backup_and_the_drill_of_the_fix_meet_every_objective(
    stage: Stage, postgres: PostgresServer
) -> None:
    cloud, name = stage.cloud, database_named(postgres, "audited", "CREATE TABLE t AS SELECT 1 x")
    cloud.allow(writing(cloud.bucket), listing(cloud.bucket), reading(cloud.bucket))
    green(back_up(cloud, postgres, name))
    forget(postgres, name)
    place = stage.opened(as_role=False)

    step = step_of(the_check(objectives.checks(*place, datetime.now(UTC)), "objectives.drill"))
    green(
        run_action(cloud.inputs | step, cloud.env | {"PG_BACKUP_CLIENTS": str(postgres.binaries)})
    )

    found = objectives.checks(*place, datetime.now(UTC))
    assert {Status.PASS} == {each.status for each in found}, found
    assert 3 == len(found)


@pytest.mark.parametrize(
    ("depth", "verdict"),
    [
        ("archive", "proven"),
        ("objects", "proven"),
        ("restore", "not proven"),
        ("restore", "failed"),
    ],
)
def test_only_a_proven_restore_is_a_drill(stage: Stage, depth: str, verdict: str) -> None:
    stage.drill(1, stage.put(2), depth=depth, verdict=verdict)

    assert_bad(stage.check("drill"), Status.FAIL, "no drill has proven a full restore")
    stage.drill(0.5, stage.put(2))
    assert Status.PASS is stage.check("drill").status


def test_the_drill_of_a_part_proves_and_measures_nothing(stage: Stage) -> None:
    stage.drill(1, stage.put(2, part=True))

    assert_bad(stage.check("drill"), Status.FAIL, "no drill has proven a full restore")
    assert_bad(stage.check("restore"), Status.FAIL, "no restore was measured yet")


def test_a_drill_long_ago_fails_and_one_before_newer_failures_counts(stage: Stage) -> None:
    stage.drill(36 * 24, stage.put(36 * 24))
    backup_id = stage.put(1)

    assert_bad(stage.check("drill"), Status.FAIL, "36 days ago", "35 days are allowed")
    assert Status.PASS is stage.check("drill", max_drill_age_days="40").status

    stage.drill(48, backup_id)
    stage.drill(1, backup_id, verdict="failed")
    assert Status.PASS is stage.check("drill").status


def test_a_drill_from_the_future_proves_nothing_today(stage: Stage) -> None:
    stage.drill(-48, stage.put(1))

    assert_bad(stage.check("drill"), Status.FAIL, "no drill has proven")
    assert_bad(stage.check("restore"), Status.FAIL, "no restore was measured yet")


def test_a_damaged_record_proves_nothing(stage: Stage) -> None:
    backup_id = stage.put(1)
    for number, text in enumerate(("{", "[]", '{"verdict": ["proven"]}', '{"depth": 1e999}')):
        key = drill_key(f"{PREFIX}/shop/{backup_id}/", NOW - timedelta(minutes=number))
        stage.write(key, text)

    assert_bad(stage.check("drill"), Status.FAIL, "no drill has proven")
    assert_bad(stage.check("restore"), Status.FAIL, "no restore was measured")


def test_a_restore_that_takes_too_long_fails(stage: Stage) -> None:
    stage.drill(1, stage.put(2), seconds=5 * 3600)

    found = stage.check("restore")

    assert_bad(found, Status.FAIL, "5 h 0 min measured", "4 h 0 min are allowed", "jobs: 4")
    assert Status.PASS is stage.check("restore", max_restore_minutes="301").status
    stage.drill(0.5, stage.put(2), seconds=3600)  # with more jobs
    assert Status.PASS is stage.check("restore").status


def test_a_failed_restore_measures_nothing(stage: Stage) -> None:
    backup_id = stage.put(3)
    stage.drill(2, backup_id, seconds=5 * 3600)
    stage.drill(1, backup_id, verdict="failed", seconds=10)

    assert_bad(stage.check("restore"), Status.FAIL, "5 h 0 min measured")


@pytest.mark.parametrize(
    ("storage", "tier", "status", "words"),
    [
        ("GLACIER_IR", "standard", Status.PASS, ""),
        ("GLACIER", "standard", Status.FAIL, "3 to 5 hours to thaw the newest backup out of"),
        ("GLACIER", "expedited", Status.PASS, "1 to 5 minutes to thaw"),
        ("DEEP_ARCHIVE", "expedited", Status.FAIL, "up to 12 hours to thaw"),
    ],
)
def test_thawing_counts_where_the_newest_backup_lies_in_an_archive(
    archive: Stage, storage: str, tier: str, status: Status, words: str
) -> None:
    backup_id = archive.put(1, storage=storage)
    archive.drill(0.5, backup_id)

    found = archive.check("restore", thaw_tier=tier)

    assert status is found.status
    assert words in found.reason


def test_a_new_backup_out_of_the_archive_is_the_fix_of_thawing(archive: Stage) -> None:
    archive.drill(1, archive.put(2, storage="GLACIER"))

    assert_bad(archive.check("restore"), Status.FAIL, "GLACIER_IR", "gh workflow run backup.yml")
    archive.put(0.5, storage="GLACIER_IR")
    assert Status.PASS is archive.check("restore").status


def test_intelligent_tiering_is_looked_into(archive: Stage) -> None:
    archive.drill(1, archive.put(2, storage="INTELLIGENT_TIERING"))

    assert Status.PASS is archive.check("restore").status
    assert [] != archive.cloud.proxy.seen("HEAD")


def instance_record(stage: Stage, identifier: str, hours: float, text: str) -> None:
    moment = NOW - timedelta(hours=hours)
    stage.write(f"{PREFIX}/rds/{identifier}/restores/{moment:%Y%m%dT%H%M%SZ}.json", text)


def test_the_newest_restore_of_each_instance_is_measured(stage: Stage) -> None:
    instance_record(stage, "shop-production", 9, '{"seconds": 99999, "checked": true}')
    instance_record(stage, "shop-production", 1, '{"seconds": 1800.5, "checked": true}')
    instance_record(stage, "crm", 1, '{"seconds": 20000, "checked": true}')

    found = stage.checks()

    shop = the_check(found, "objectives.instance", "shop-production")
    assert Status.PASS is shop.status
    assert "30 min 0 s measured on 2026-11-22" in shop.reason
    crm = the_check(found, "objectives.instance", "crm")
    assert_bad(crm, Status.FAIL, "5 h 33 min", "4 h 0 min")
    minutes = str(step_of(crm)["max-restore-minutes"])
    assert Status.PASS is stage.check("instance", "crm", max_restore_minutes=minutes).status


def test_only_the_instance_that_is_meant_is_measured(stage: Stage) -> None:
    instance_record(stage, "shop-production", 1, '{"seconds": 60, "checked": true}')
    instance_record(stage, "shop-production-2", 1, '{"seconds": 99999, "checked": true}')

    found = stage.checks(db_instance="shop-production")

    instances = [each for each in found if each.id == "objectives.instance"]
    assert [("Time to restore the instance shop-production", Status.PASS)] == [
        (each.title, each.status) for each in instances
    ]


def test_a_restore_that_nobody_logged_in_to_measures_nothing(stage: Stage) -> None:
    instance_record(stage, "crm", 9, '{"seconds": 7200, "checked": true}')
    for hours, text in enumerate(('{"seconds": 2, "checked": false}', '{"seconds": 1}'), 1):
        instance_record(stage, "crm", hours, text)
    instance_record(stage, "shop", 1, '{"seconds": 60, "checked": false}')

    found = stage.checks()

    assert "2 h 0 min measured" in the_check(found, "objectives.instance", "crm").reason
    unchecked = the_check(found, "objectives.instance", "shop")
    assert_bad(unchecked, Status.FAIL, "nobody logged in", "user: backup")


def test_an_instance_is_meant_in_whatever_letters_it_is_written(stage: Stage) -> None:
    instance_record(stage, "shop-production", 1, '{"seconds": 60, "checked": true}')

    assert (
        Status.PASS
        is stage.check("instance", "shop-production", db_instance="Shop-Production").status
    )


@pytest.mark.parametrize("text", ["{", "[]", '{"seconds": "soon"}', '{"seconds": -1}'])
def test_a_record_without_a_time_fails(stage: Stage, text: str) -> None:
    instance_record(stage, "crm", 1, text)

    assert_bad(stage.check("instance", "crm"), Status.FAIL, "says no time", "restore-instance")


def test_without_permission_to_list_all_is_unknown(stage: Stage) -> None:
    stage.put(1)
    stage.cloud.allow(reading(stage.cloud.bucket))

    found = stage.checks(as_role=True, db_instance="shop-production")

    assert 4 == len(found)
    for each in found:
        assert_bad(each, Status.UNKNOWN, "s3:ListBucket")


def test_without_permission_to_read_all_is_unknown(stage: Stage) -> None:
    stage.drill(1, stage.put(2))
    instance_record(stage, "shop-production", 1, '{"seconds": 60, "checked": true}')
    stage.cloud.allow(listing(stage.cloud.bucket))

    found = stage.checks(as_role=True, db_instance="shop-production")

    assert 4 == len(found)
    for each in found:
        assert_bad(each, Status.UNKNOWN, "s3:GetObject")


def test_an_old_backup_fails_whether_it_may_be_read_or_not(stage: Stage) -> None:
    stage.put(48)
    stage.cloud.allow(listing(stage.cloud.bucket))

    found = stage.checks(as_role=True)

    assert_bad(the_check(found, "objectives.age"), Status.FAIL, "is 2 days old")
