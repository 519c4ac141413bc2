"""An audit with the fleet's file: every database of it, by what was promised of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.archive.catalogue import database_prefix, drill_key
from backup.archive.manifest import encode
from backup.settings import Selection
from tests.fleets import FILE, Workspace
from tests.lab.cloud import PREFIX, Cloud, listing, reading
from tests.lab.stage import the_error
from tests.manifests import OBJECTS, manifest_of


@dataclass(frozen=True)
class Stage:
    """A bucket whose backups and drills have the ages that a test gives them."""

    workspace: Workspace
    cloud: Cloud

    def of(self, *databases: str, more: str = "") -> None:
        self.workspace.write(
            f"defaults:\n  bucket: {self.cloud.bucket}\n{more}databases:\n"
            + "".join(f"  - {each}\n" for each in databases)
        )

    def put(
        self, database: str, hours: float, *, drilled: float | None = None, seconds: float = 600.0
    ) -> None:
        """A backup of that age, and a proven drill of it so many hours ago."""
        moment = datetime.now(UTC) - timedelta(hours=hours)
        made = manifest_of(f"{moment:%Y%m%dT%H%M%SZ}-1f9c3a", database)
        manifest = replace(made, selection=Selection())
        root = f"{database_prefix(PREFIX, database)}{manifest.id}/"
        objects = {root + name: body for name, body in OBJECTS.items()}
        objects[f"{root}manifest.json"] = encode(manifest)
        if drilled is not None:
            record = {"depth": "restore", "verdict": "proven", "restore_seconds": seconds}
            when = datetime.now(UTC) - timedelta(hours=drilled)
            objects[drill_key(root, when)] = json.dumps(record).encode()
        for key, body in objects.items():
            self.cloud.s3.put_object(Bucket=self.cloud.bucket, Key=key, Body=body)

    def checks(self, **inputs: str) -> list[dict[str, Any]]:
        given = self.cloud.inputs | {
            "operation": "audit",
            "fleet-file": FILE,
            "fail-on": "never",
            "report-file": "audit.json",
        }
        given |= {name.replace("_", "-"): text for name, text in inputs.items()}
        run = self.workspace.run(given)
        assert 0 == run.exit_code, run.output
        told = json.loads((self.workspace.folder / "audit.json").read_text())
        found: list[dict[str, Any]] = told["checks"]
        return found

    def objectives(self, **inputs: str) -> dict[tuple[str, str], str]:
        """The status of each objective, by its kind and its database."""
        return {
            (each["id"].removeprefix("objectives."), each["title"].split()[-1]): each["status"]
            for each in self.checks(**inputs)
            if each["area"] == "objectives"
        }


@pytest.fixture
def stage(cloud: Cloud, tmp_path: Path) -> Iterator[Stage]:
    cloud.allow(listing(cloud.bucket), reading(cloud.bucket))
    yield Stage(Workspace(tmp_path, {**cloud.env, "AWS_MAX_ATTEMPTS": "2"}), cloud)


def the(checks: list[dict[str, Any]], id: str, word: str = "") -> dict[str, Any]:
    (found,) = [each for each in checks if each["id"] == id and word in each["title"]]
    return found


def test_a_database_of_the_file_that_was_never_backed_up_fails(stage: Stage) -> None:
    stage.of("database: shop", "database: crm")
    stage.put("shop", 1, drilled=0.5)

    checks = stage.checks()

    assert "pass" == the(checks, "objectives.age", "shop")["status"]
    missed = the(checks, "objectives.age", "crm")
    assert ("fail", "there is no backup of it") == (missed["status"], missed["reason"])
    assert f"take it out of {FILE}" in missed["fix"]


def test_each_database_is_held_to_what_was_promised_of_it(stage: Stage) -> None:
    stage.of(
        "database: shop",
        "{database: crm, max-age-hours: 60, max-drill-age-days: 90, max-restore-minutes: 30}",
        "{database: zoo, max-restore-minutes: 5}",
        more="  max-age-hours: 12\n",
    )
    stage.put("crm", 50 * 24, drilled=49 * 24, seconds=1200)
    for name in ("shop", "crm", "zoo"):
        stage.put(name, 20, drilled=None if name == "crm" else 10)

    found = stage.objectives(max_age_hours="24")

    # The file's defaults go before what the audit's step gives for all.
    assert {
        ("age", "shop"): "fail",
        ("age", "crm"): "pass",
        ("age", "zoo"): "fail",
        ("drill", "shop"): "pass",
        ("drill", "crm"): "pass",
        ("drill", "zoo"): "pass",
        ("restore", "shop"): "pass",
        ("restore", "crm"): "pass",
        ("restore", "zoo"): "fail",
    } == found

    stage.of("database: shop")
    assert "pass" == stage.objectives(max_age_hours="24")["age", "shop"]
    assert "fail" == stage.objectives(max_age_hours="18")["age", "shop"]


def test_a_series_that_the_file_does_not_name_warns_and_is_held_to_nothing(stage: Stage) -> None:
    stage.of("database: shop")
    stage.put("shop", 1, drilled=0.5)
    for hours in range(400, 500, 20):
        stage.put("retired", hours)

    checks = stage.checks()

    unknown = the(checks, "catalogue.fleet")
    assert "warn" == unknown["status"]
    assert f"{FILE} does not name retired" == unknown["reason"]
    assert '- database: "retired"' in unknown["fix"]
    assert [] == [each for each in checks if "retired" in each["title"]]
    assert "pass" == the(checks, "catalogue.gaps")["status"]

    stage.of("database: shop", "database: retired")
    assert "pass" == the(stage.checks(), "catalogue.fleet")["status"]


def test_a_group_is_audited_by_itself_and_the_others_are_known(stage: Stage) -> None:
    stage.of("{database: shop, group: eu}", "{database: crm, group: us}")
    stage.put("shop", 1, drilled=0.5)
    stage.put("crm", 100)

    checks = stage.checks(fleet_group="eu")

    assert [] == [each for each in checks if "crm" in each["title"] + each["reason"]]
    assert "pass" == the(checks, "catalogue.fleet")["status"]
    assert "fail" == stage.objectives(fleet_group="us")["age", "crm"]


def test_a_database_whose_backups_lie_elsewhere_is_not_passed_over(stage: Stage) -> None:
    stage.of("database: shop", "{database: crm, bucket: another-bucket}")
    stage.put("shop", 1, drilled=0.5)
    stage.put("crm", 1, drilled=0.5)  # not the one that the file means

    checks = stage.checks()

    missed = the(checks, "objectives.age", "crm")
    assert "fail" == missed["status"]
    assert "s3://another-bucket/postgresql" in missed["reason"]
    assert "fleet-group: another-bucket" in missed["fix"]
    assert "does not name crm" in the(checks, "catalogue.fleet")["reason"]


def test_who_may_not_list_learns_that_the_fleet_was_not_looked_at(stage: Stage) -> None:
    stage.of("database: shop", "database: crm")
    stage.cloud.allow(reading(stage.cloud.bucket))

    checks = stage.checks()

    for id in ("objectives.age", "catalogue.fleet"):
        assert "unknown" == the(checks, id)["status"]
        assert "s3:ListBucket" in the(checks, id)["fix"]


def test_a_file_with_a_fault_ends_the_audit_before_it_begins(stage: Stage) -> None:
    stage.of("database: shop", "{database: crm, max-age-hours: soon}")

    run = stage.workspace.run(stage.cloud.inputs | {"operation": "audit", "fleet-file": FILE})

    assert 2 == run.exit_code
    the_error(run, f"{FILE}:5: crm: max-age-hours: 'soon' will not do")
    assert [] == stage.cloud.sts.exchanges


def test_for_an_audit_a_file_needs_nothing_but_names(stage: Stage) -> None:
    stage.workspace.write("databases:\n  - database: shop\n")
    stage.put("shop", 1, drilled=0.5)

    assert "pass" == stage.objectives()["age", "shop"]
