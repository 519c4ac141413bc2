"""`operation: collect`: what counts as a fresh backup, and what a role that is denied is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.archive.catalogue import database_prefix
from tests.fleets import Workspace
from tests.lab.aws import REGION
from tests.lab.cloud import PREFIX, Cloud, listing, role_of, writing
from tests.lab.github_api import TOKEN, GitHub, github
from tests.lab.runner import ActionRun
from tests.lab.stage import the_error
from tests.lab.sts import Trust
from tests.permissions import SCOPE, policy


@dataclass
class Fleet:
    """A bucket that a test fills, and the file of the databases that should be in it."""

    workspace: Workspace
    cloud: Cloud
    hub: GitHub

    def of(self, *databases: str, more: str = "") -> None:
        self.workspace.write(
            f"defaults:\n  aws-region: {REGION}\n  bucket: {self.cloud.bucket}\n"
            f"  role-to-assume: {self.cloud.role}\n{more}databases:\n"
            + "".join(f"  - {each}\n" for each in databases)
        )

    def put(self, database: str, hours: float, prefix: str = PREFIX, bucket: str = "") -> str:
        """A backup of that age; its id."""
        moment = datetime.now(UTC) - timedelta(hours=hours)
        backup_id = f"{moment:%Y%m%dT%H%M%SZ}-1f9c3a"
        root = f"{database_prefix(prefix, database)}{backup_id}/"
        for name in ("archive/pack-0001.tar", "manifest.json"):
            self.cloud.s3.put_object(
                Bucket=bucket or self.cloud.bucket, Key=root + name, Body=bytes(2048)
            )
        return backup_id

    def collect(self, **inputs: str) -> ActionRun:
        return self.workspace.collect(**inputs)

    def begin(self, hours_ago: float = 0) -> Callable[[], ActionRun]:
        """A run that began then; its closing job has a token to ask when that was."""
        run = self.hub.ran(hours_ago, None)
        job = self.workspace.told(**self.hub.env, GITHUB_RUN_ID=str(run.id))
        return lambda: job.collect(github_token=TOKEN)


@pytest.fixture
def fleet(cloud: Cloud, tmp_path: Path) -> Iterator[Fleet]:
    cloud.allow(*policy("collect", replace(SCOPE, bucket=cloud.bucket)))  # and nothing else
    with github() as hub:
        yield Fleet(Workspace(tmp_path, {**cloud.env, "AWS_MAX_ATTEMPTS": "2"}), cloud, hub)


def standings(run: ActionRun) -> dict[str, str]:
    """How each database stands, as the log tells it; the same as the outputs tell."""
    found = {}
    for line in run.log.visible.splitlines():
        word, _, rest = line.partition("  ")
        if word in ("fresh", "missing", "unknown"):
            found[rest.partition("  ")[0]] = word
    bad = {name for name, word in found.items() if word != "fresh"}
    assert bad == set(json.loads(run.outputs["missing"]))
    assert (6 if bad else 0) == run.exit_code, run.output
    return found


def backups(run: ActionRun) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(run.outputs["backups"])}


def test_a_backup_of_every_database_is_green(fleet: Fleet) -> None:
    fleet.of("database: shop", "database: crm")
    ids = {name: fleet.put(name, 2) for name in ("shop", "crm")}
    fleet.put("shop", 50)
    fleet.put("nobody knows it", 1)

    run = fleet.collect()

    assert {"shop": "fresh", "crm": "fresh"} == standings(run)
    told = backups(run)
    assert ids == {name: each["id"] for name, each in told.items()}
    assert 2048 == told["shop"]["stored-bytes"]
    assert 7200 <= told["shop"]["age-seconds"] < 7300
    assert told["shop"]["manifest-uri"].endswith(f"/shop/{ids['shop']}/manifest.json")
    assert f"| ✅ fresh | shop | {ids['shop']} | 2 h 0 min | 2.0 KiB |  |" in run.summary


def test_a_database_without_a_backup_is_missing_and_stands_first(fleet: Fleet) -> None:
    fleet.of("database: shop", "database: crm", "database: zoo")
    fleet.put("shop", 1)
    old = fleet.put("zoo", 27)

    run = fleet.collect()

    assert {"shop": "fresh", "crm": "missing", "zoo": "missing"} == standings(run)
    error = the_error(run, "2 of 3 databases of the fleet without a fresh backup")
    assert "MISSING: crm: there is no backup of it" in error
    assert "MISSING: zoo: it is older than 26 h 0 min (max-age-hours)" in error
    heading, *rows = run.summary.splitlines()
    assert heading.startswith(
        "## ❌ 2 of 3 databases of the fleet without a fresh backup: crm, zoo"
    )
    told = [row for row in rows if row.startswith(("| ❌", "| ✅"))]
    assert ["crm", "zoo", "shop"] == [row.split(" | ")[1] for row in told]
    assert old in told[1] and "27 h 0 min" in told[1]
    assert old == backups(run)["zoo"]["id"]
    assert "gh run rerun 1234567890 --failed" in run.summary


def test_each_database_may_have_an_age_of_its_own(fleet: Fleet) -> None:
    fleet.of("database: shop", "{database: crm, max-age-hours: 200}")
    for name in ("shop", "crm"):
        fleet.put(name, 100)

    assert {"shop": "missing", "crm": "fresh"} == standings(fleet.collect())


def test_a_backup_from_before_this_run_does_not_count(fleet: Fleet) -> None:
    fleet.of("database: shop", "database: crm")
    for name in ("shop", "crm"):
        fleet.put(name, 1)  # yesterday's, as far as this run is concerned
    time.sleep(2)  # S3 and GitHub tell whole seconds
    collect = fleet.begin()
    fleet.put("crm", 0)

    run = collect()

    assert {"shop": "missing", "crm": "fresh"} == standings(run)
    the_error(run, "MISSING: shop: none was made in this run")
    assert "when this run began" in run.summary
    # Without the token nobody knows when the run began.
    assert {"shop": "fresh", "crm": "fresh"} == standings(fleet.collect())


def test_a_backup_of_a_run_that_began_too_long_ago_does_not_count(fleet: Fleet) -> None:
    """Some days later the failed jobs of a run can still be run again."""
    fleet.of("database: shop")
    fleet.put("shop", 30)

    assert {"shop": "missing"} == standings(fleet.begin(31)())


def test_a_token_that_may_not_ask_is_told_of_and_red(fleet: Fleet) -> None:
    fleet.of("database: shop")
    fleet.put("shop", 1)
    fleet.hub.permissions.discard("actions")

    run = fleet.begin(1)()

    assert 3 == run.exit_code
    the_error(run, "cannot read when run", "actions: read")
    assert "fresh" in run.summary

    fleet.of("database: shop", "database: crm")
    run = fleet.begin(1)()

    assert {"shop": "fresh", "crm": "missing"} == standings(run)
    assert ["actions: read" in each.message for each in run.warnings] == [True]


def test_what_is_no_backup_does_not_count(fleet: Fleet) -> None:
    fleet.of("database: shop", "database: crm")
    fleet.put("shop", -48)  # a name from the future would look fresh for ever
    moment = datetime.now(UTC)
    key = f"{PREFIX}/crm/{moment:%Y%m%dT%H%M%SZ}-1f9c3a/archive/pack-0001.tar"
    fleet.cloud.s3.put_object(Bucket=fleet.cloud.bucket, Key=key, Body=b"x")
    key = f"{PREFIX}/crm/outcomes/backup/{moment:%Y%m%dT%H%M%SZ}-good.json"
    fleet.cloud.s3.put_object(Bucket=fleet.cloud.bucket, Key=key, Body=b"x")

    assert {"shop": "missing", "crm": "missing"} == standings(fleet.collect())


def test_only_the_young_keys_of_a_series_are_listed(fleet: Fleet) -> None:
    fleet.of("database: shop")
    fleet.put("shop", 1)
    for hours in range(30, 300, 24):
        fleet.put("shop", hours)

    fleet.collect()

    requests = [each.query for each in fleet.cloud.proxy.seen("GET", "list-type=2")]
    assert ["start-after" in each for each in requests] == [False, True]
    assert "max-keys=1" in requests[0].lower()


def test_a_group_is_collected_by_itself(fleet: Fleet) -> None:
    fleet.of("{database: shop, group: eu}", "{database: crm, group: us}")
    fleet.put("shop", 1)

    assert {"shop": "fresh"} == standings(fleet.collect(fleet_group="eu"))
    assert {"crm": "missing"} == standings(fleet.collect(fleet_group="us"))


def test_prefixes_and_hostile_names_are_told_apart(fleet: Fleet) -> None:
    fleet.of(
        "database: shop", "{name: other, database: shop, prefix: other}", '{database: "a/b%2F|"}'
    )
    fleet.cloud.allow(listing(fleet.cloud.bucket))
    fleet.put("shop", 1, "other")
    fleet.put("a/b%2F|", 1)

    run = fleet.collect()

    assert {"shop": "missing", "other": "fresh", "a/b%2F|": "fresh"} == standings(run)
    assert "a/b%2F\\|" in run.summary


def test_every_role_logs_in_once_and_one_that_is_denied_stops_none_of_the_rest(
    fleet: Fleet,
) -> None:
    cloud, double = fleet.cloud, fleet.cloud.double
    other = f"{cloud.bucket}-us"
    double.make_bucket(other)
    trust = Trust(role_of(other))
    double.make_role([writing(other)], trust)  # it may write there, and not list
    cloud.sts.trust = [Trust(cloud.role), trust]
    cloud.allow(listing(cloud.bucket), listing(f"no-such-{cloud.bucket}"))
    there = f"bucket: {other}, role-to-assume: '{role_of(other)}'"
    stranger = f"bucket: {other}, role-to-assume: '{role_of('stranger')}'"
    fleet.of(
        "database: shop",
        "{database: shop-2, prefix: elsewhere}",
        f"{{database: crm, {there}}}",
        f"{{database: crm-2, {there}}}",
        f"{{database: zoo, {stranger}}}",
        f"{{database: gone, bucket: no-such-{cloud.bucket}}}",
    )
    fleet.put("shop", 1)
    fleet.put("shop-2", 1, "elsewhere")
    fleet.put("crm", 1, bucket=other)

    run = fleet.collect()

    assert {
        "shop": "fresh",
        "shop-2": "fresh",
        "crm": "unknown",
        "crm-2": "unknown",
        "zoo": "unknown",
        "gone": "missing",
    } == standings(run)
    error = the_error(run, "4 of 6 databases of the fleet without a fresh backup")
    assert 1 == error.count(f'"s3:ListBucket", "Resource": "arn:aws:s3:::{other}"')
    assert "unknown: zoo: " in error and role_of("stranger") in error
    assert f"no-such-{cloud.bucket}" in error
    roles = [each.role for each in cloud.sts.exchanges]
    assert sorted([cloud.role, role_of(other)]) == sorted(roles)

    # A role for all of them goes before what the file says.
    cloud.allow(listing(cloud.bucket), listing(other))
    told = standings(fleet.collect(role_to_assume=cloud.role))
    assert ("fresh", "missing", "missing") == (told["crm"], told["crm-2"], told["zoo"])


def test_a_store_that_nobody_can_reach_leaves_the_databases_unknown(fleet: Fleet) -> None:
    fleet.of("database: shop", "database: crm")

    run = fleet.workspace.told(AWS_ENDPOINT_URL_S3="http://127.0.0.1:9").collect()

    assert {"shop": "unknown", "crm": "unknown"} == standings(run)
    assert "## ❔ 2 of 2 databases" in run.summary


def test_a_file_with_a_fault_is_told_of_with_its_line(fleet: Fleet) -> None:
    fleet.of("database: shop", "{database: crm, jobs: many}")

    run = fleet.collect()

    assert 2 == run.exit_code
    the_error(run, "pg-backups.yml:7: crm: jobs: 'many' will not do")
    assert [] == fleet.cloud.sts.exchanges


def test_the_file_need_not_say_how_to_reach_the_databases(fleet: Fleet) -> None:
    """What the jobs of a fleet are given by their step, a closing job needs not."""
    fleet.of("database: shop")
    fleet.put("shop", 1)

    assert 2 == fleet.workspace.plan().exit_code
    assert {"shop": "fresh"} == standings(fleet.collect())
