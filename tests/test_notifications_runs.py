"""What every kind of run tells and measures: drills, restores, snapshots, audits, a cancel."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests import snapshots
from tests.buckets import put_backup
from tests.fleets import Workspace
from tests.lab.aws import Ministack, Moto
from tests.lab.cloud import Cloud, listing, reading, writing
from tests.lab.postgres import PostgresServer
from tests.lab.runner import run_action
from tests.lab.scripted.server import ScriptedAws
from tests.lab.stage import Stage, assert_nothing_half_done, stage, wait_until
from tests.lab.tcp import TcpProxy
from tests.lab.webhook import Hook
from tests.listeners import Listeners, listeners
from tests.manifests import manifest_of
from tests.recoveries import recovery
from tests.steps import back_up, database_named, forget, green


@pytest.fixture
def told(moto: Moto) -> Iterator[Listeners]:
    with listeners(moto) as running:
        yield running


def names(told: Listeners) -> dict[str, list[float]]:
    """The values of every metric, whatever it is about."""
    return {f"{name} {of}": values for (name, _, of), values in told.metrics().items()}


def test_a_backup_that_is_drilled_and_restored_measures_all_three(
    cloud: Cloud, postgres: PostgresServer, told: Listeners
) -> None:
    cloud.allow(writing(cloud.bucket), listing(cloud.bucket), reading(cloud.bucket))
    name = database_named(postgres, "measured", "CREATE TABLE t AS SELECT 1 AS x")
    inputs = told.inputs(verify="true", notify_on="always")
    run = green(back_up(cloud, postgres, name, inputs, told.env))
    found = names(told)

    assert [1] == found["BackupSucceeded Database=measured"]
    assert [1] == found["DrillSucceeded Database=measured"]
    (seconds,) = found["RestoreSeconds Database=measured"]
    assert float(run.outputs["restore-seconds"]) == pytest.approx(seconds, abs=0.1)
    (body,) = told.hook.told
    assert run.outputs["backup-id"] in body["what"]

    restore = cloud.inputs | {"operation": "restore", "database": name}
    env = cloud.env | told.env | {"PG_BACKUP_CLIENTS": str(postgres.binaries)}
    target = {"target-url": postgres.url("measured again"), "create-database": "true"}
    green(run_action(restore | target | told.inputs(), env))
    refused = run_action(restore | target | told.inputs(), env)  # it exists by now
    forget(postgres, "measured again")
    forget(postgres, name)

    assert 0 != refused.exit_code
    assert [0.5] == names(told)["RestoreSucceeded Database=measured"], "one of two"
    assert f"restore of {name}" in told.hook.told[-1]["subject"]


def test_a_drill_that_cannot_be_made_leaves_the_backup_good(
    cloud: Cloud, postgres: PostgresServer, told: Listeners
) -> None:
    """The role may not read: the backup is made, and its drill is not."""
    name = database_named(postgres, "undrilled", "CREATE TABLE t AS SELECT 1 AS x")
    run = back_up(cloud, postgres, name, told.inputs(verify="true"), told.env)
    forget(postgres, name)

    assert 3 == run.exit_code, run.output
    found = names(told)
    assert ([1], [0]) == (
        found["BackupSucceeded Database=undrilled"],
        found["DrillSucceeded Database=undrilled"],
    )
    (body,) = told.hook.told
    assert "failed" == body["outcome"]


def test_snapshots_are_counted_by_instance(
    cloud: Cloud, scripted: ScriptedAws, told: Listeners
) -> None:
    scripted.rds.add_instance("shop")
    inputs = cloud.inputs | told.inputs(operation="snapshot", wait="60s", notify_on="always")
    env = snapshots.env(cloud, scripted) | told.env
    green(run_action(inputs | {"db-instance": "shop"}, env))
    assert {"SnapshotSucceeded Instance=shop": [1]} == names(told)

    missing = run_action(inputs | {"db-instance": "gone"}, env)

    assert 0 != missing.exit_code
    assert [0] == names(told)["SnapshotSucceeded Instance=gone"]
    good, bad = told.hook.told
    assert ("shop", None) == (good["instance"], good["database"])
    assert "snapshot of gone" in bad["subject"]


def test_a_restored_instance_is_measured_to_its_first_answer(
    cloud: Cloud, scripted: ScriptedAws, postgres: PostgresServer, told: Listeners
) -> None:
    with recovery(cloud, scripted, postgres) as lost:
        scripted.rds.add_instance("shop")
        scripted.rds.add_snapshot("before", created=datetime.now(UTC) - timedelta(hours=9))
        lost.more_env |= told.env
        run = green(lost.run(**told.inputs()))
        late = lost.run(**told.inputs(new_instance="too-late", max_restore_minutes="0.0001"))

    found = names(told)
    assert (0, 6) == (run.exit_code, late.exit_code)
    assert [0.5] == found["RestoreSucceeded Instance=shop"], "one of two was in time"
    both = [float(each.outputs["restore-seconds"]) for each in (run, late)]
    assert [pytest.approx(sum(both) / 2, abs=0.1)] == found["RestoreSeconds Instance=shop"]


def test_an_audit_measures_its_findings_and_the_ages(cloud: Cloud, told: Listeners) -> None:
    cloud.allow(listing(cloud.bucket), reading(cloud.bucket))
    now = datetime.now(UTC)
    for database, hours in (("shop", 5), ("stock", 50)):
        made = now - timedelta(hours=hours)
        manifest = manifest_of(f"{made:%Y%m%dT%H%M%SZ}-1f9c3a", database)
        root = put_backup(cloud, replace(manifest, selection=type(manifest.selection)()))
        if database == "shop":
            record = {"depth": "restore", "verdict": "proven", "restore_seconds": 61.5}
            key = f"{root}drills/{now - timedelta(hours=1):%Y%m%dT%H%M%SZ}.json"
            cloud.s3.put_object(Bucket=cloud.bucket, Key=key, Body=json.dumps(record).encode())

    run = run_action(cloud.inputs | {"operation": "audit"} | told.inputs(), cloud.env | told.env)

    assert 6 == run.exit_code, run.output
    found = names(told)
    hour = 3600.0
    assert {
        "NewestBackupAge Database=shop": [pytest.approx(5 * hour, abs=120)],
        "NewestBackupAge Database=stock": [pytest.approx(50 * hour, abs=120)],
        "NewestDrillAge Database=shop": [pytest.approx(hour, abs=120)],
        "AuditFindings Status=fail": [float(run.outputs["checks-failed"])],
        "AuditFindings Status=warn": [float(run.outputs["checks-warned"])],
        "AuditFindings Status=unknown": [float(run.outputs["checks-unknown"])],
    } == found
    (body,) = told.hook.told
    assert f"audit of s3://{cloud.bucket}/postgresql: the audit is red" in body["subject"]


def test_a_fleet_that_is_collected_measures_each_database(
    cloud: Cloud, told: Listeners, tmp_path: Path
) -> None:
    made = datetime.now(UTC) - timedelta(hours=3)
    put_backup(cloud, manifest_of(f"{made:%Y%m%dT%H%M%SZ}-1f9c3a", "shop"))
    workspace = Workspace(tmp_path, cloud.env | told.env)
    workspace.write("databases:\n  - database: shop\n  - database: stock\n")

    run = workspace.collect(**cloud.inputs | told.inputs())

    assert 6 == run.exit_code, run.output
    assert [] == run.warnings
    age = pytest.approx(3 * 3600, abs=120)
    assert {"NewestBackupAge Database=shop": [age]} == names(told)
    (body,) = told.hook.told
    assert "FAILED: collect of .github/pg-backups.yml: " in body["subject"]


@pytest.fixture
def slow(noisy: PostgresServer, strict: Ministack) -> Iterator[Stage]:
    """A dump that takes half a minute."""
    with TcpProxy(noisy.port) as network, stage(noisy, strict, "shop") as ready:
        ready.port = network.port
        network.bucket.rate = 4_000_000
        yield ready


@pytest.mark.parametrize(
    ("number", "most"), [(signal.SIGINT, 7.4), (signal.SIGTERM, 2.45)], ids=lambda s: str(s)
)
@pytest.mark.parametrize("listens", [True, False])
def test_a_cancelled_run_is_told_in_the_time_that_is_left(
    slow: Stage, told: Listeners, number: signal.Signals, most: float, listens: bool
) -> None:
    if not listens:
        told.hook.answers = [told.hook.silence]
    inputs = slow.inputs() | told.inputs(sns_topic_arn="", cloudwatch_namespace="")
    with slow.start(inputs) as running:
        wait_until(slow.parts_seen)
        sent = time.monotonic()
        running.send(number)
        run = running.finish()
    took = time.monotonic() - sent

    error = assert_nothing_half_done(run, slow, 128 + number)
    assert took < most, run.output
    (body,) = told.hook.told
    assert f"interrupted by {signal.Signals(number).name}" == body["what"] in error
    assert "nothing was published" in body["remedy"]
    assert listens == (not run.warnings), run.output


def test_a_cancelled_run_still_reaches_topic_and_metrics(slow: Stage, told: Listeners) -> None:
    with slow.start(slow.inputs() | told.inputs(), told.env) as running:
        wait_until(slow.parts_seen)
        running.send(signal.SIGINT)
        run = running.finish()

    assert 130 == run.exit_code, run.output
    assert ["FAILED"] == [mail.subject.partition(":")[0] for mail in told.mails()]
    assert {"BackupSucceeded Database=shop": [0]} == names(told)


def test_a_topic_that_never_answers_does_not_keep_a_cancelled_run(
    slow: Stage, told: Listeners
) -> None:
    with Hook() as aws:
        aws.answers = [aws.silence]
        silent = {f"AWS_ENDPOINT_URL_{service}": aws.url for service in ("SNS", "CLOUDWATCH")}
        with slow.start(slow.inputs() | told.inputs(webhook_url=""), silent) as running:
            wait_until(slow.parts_seen)
            sent = time.monotonic()
            running.send(signal.SIGINT)
            run = running.finish()

    assert time.monotonic() - sent < 7.4, run.output
    assert_nothing_half_done(run, slow, 130)
    texts = {warning.message.splitlines()[0] for warning in run.warnings}
    assert {"the topic was not told", "the metrics were not sent"} == texts


def test_who_hears_of_nothing_is_not_logged_in_for(cloud: Cloud, told: Listeners) -> None:
    """A good run, and only failures are wanted: one login, which is the run's own."""
    inputs = cloud.inputs | {"operation": "list"} | told.inputs(cloudwatch_namespace="")

    green(run_action(inputs, cloud.env | told.env))

    assert 1 == len(cloud.sts.exchanges)
