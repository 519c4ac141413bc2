"""`operation: export`: a snapshot as Parquet in S3, started, followed and recorded."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime, timedelta

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from tests.lab.aws import REGION, REPOSITORY
from tests.lab.cloud import Cloud
from tests.lab.runner import ActionRun
from tests.lab.scripted.made import key_of
from tests.lab.scripted.server import ScriptedAws
from tests.lab.stage import the_error
from tests.lab.sts import ACCOUNT
from tests.snapshots import allow_reading, record_of, records, run, start
from tests.steps import green

ROLE = f"arn:aws:iam::{ACCOUNT}:role/pg-backup-export"
INPUTS = {"service_role": ROLE, "kms_key_id": key_of(REGION)}
SCHEMA = json.loads((REPOSITORY / "docs/export.schema.json").read_text())


def export(cloud: Cloud, scripted: ScriptedAws, **inputs: str) -> ActionRun:
    return run(cloud, scripted, "export", **(INPUTS | inputs))


@pytest.fixture
def shop(cloud: Cloud, scripted: ScriptedAws) -> ScriptedAws:
    """An instance with a snapshot of yesterday and one of today, by RDS itself."""
    allow_reading(cloud)
    scripted.rds.add_instance("shop")
    now = datetime.now(UTC)
    scripted.rds.add_snapshot("yesterday", created=now - timedelta(days=1))
    scripted.rds.add_snapshot("rds:shop-today", kind="automated", created=now)
    return scripted


def test_the_newest_snapshot_is_exported_and_told(cloud: Cloud, shop: ScriptedAws) -> None:
    made = green(export(cloud, shop))

    (call,) = shop.asked("rds:StartExportTask")
    name = made.outputs["export-id"]
    arn = f"arn:aws:rds:{REGION}:{ACCOUNT}:snapshot:rds:shop-today"
    assert {
        "ExportTaskIdentifier": name,
        "SourceArn": arn,
        "S3BucketName": cloud.bucket,
        "S3Prefix": "postgresql/rds/shop/exports",
        "IamRoleArn": ROLE,
        "KmsKeyId": key_of(REGION),
    } == call.input
    assert f"s3://{cloud.bucket}/postgresql/rds/shop/exports/{name}/" == made.outputs["s3-uri"]
    assert ("rds:shop-today", arn) == (made.outputs["snapshot-id"], made.outputs["snapshot-arn"])
    assert "IN_PROGRESS" in made.output
    assert "42 GiB" in made.summary
    assert "It cannot be restored to a database" in made.summary


def test_a_named_snapshot_and_named_parts_are_exported(cloud: Cloud, shop: ScriptedAws) -> None:
    green(export(cloud, shop, snapshot_id="yesterday", export_only="shop.public\nshop.crm.orders"))

    (call,) = shop.asked("rds:StartExportTask")
    assert call.input["SourceArn"].endswith(":snapshot:yesterday")
    assert ["shop.public", "shop.crm.orders"] == call.input["ExportOnly"]


def test_a_snapshot_of_a_cluster_is_exported(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_cluster("ledger", members=1)
    green(run(cloud, scripted, "snapshot", db_cluster="ledger", snapshot_id="first"))

    made = green(export(cloud, scripted, db_cluster="ledger"))

    assert ":cluster-snapshot:first" in made.outputs["snapshot-arn"]


def test_the_catalogue_has_a_record_of_it(cloud: Cloud, shop: ScriptedAws) -> None:
    made = green(export(cloud, shop))

    record = record_of(cloud, "rds/shop/exports/")
    Draft202012Validator(SCHEMA, format_checker=FormatChecker()).validate(record)
    assert ("COMPLETE", made.outputs["s3-uri"], 42) == (
        record["status"],
        record["uri"],
        record["extracted_gib"],
    )
    listed = green(run(cloud, shop, "list"))
    assert [] == json.loads(listed.outputs["backups"])
    assert "| shop | export |" in listed.summary


def test_without_waiting_the_run_ends_and_rds_goes_on(cloud: Cloud, shop: ScriptedAws) -> None:
    made = green(export(cloud, shop, wait="none"))

    assert "⏳ rds:shop-today: RDS goes on with the export" in made.summary
    assert [] == shop.asked("rds:DescribeExportTasks")
    assert "STARTING" == record_of(cloud, "rds/shop/exports/")["status"]


def test_a_run_that_waits_no_longer_says_that_rds_goes_on(cloud: Cloud, shop: ScriptedAws) -> None:
    shop.rds.pace.describes_per_state = 10**6

    made = export(cloud, shop, wait="1s")

    assert 4 == made.exit_code
    the_error(made, "is not ready after 1.0 s", "RDS goes on with the export", "cancel-export-task")
    assert made.outputs["export-id"]
    assert 1 == len(records(cloud, "rds/shop/exports/"))


def test_a_run_that_is_cancelled_says_what_goes_on(cloud: Cloud, shop: ScriptedAws) -> None:
    shop.rds.pace.describes_per_state = 10**6

    with start(cloud, shop, "export", **INPUTS) as running:
        running.wait_for(r"export shop-\S+ is STARTING \(")
        running.send(signal.SIGTERM)
        made = running.finish()

    assert 143 == made.exit_code
    the_error(made, "RDS goes on with the export", "cancel-export-task")


def test_an_export_that_fails_is_told_in_the_words_of_rds(cloud: Cloud, shop: ScriptedAws) -> None:
    shop.rds.exports.states = ("STARTING", "FAILED")
    shop.rds.exports.failure = "The S3 bucket is full of holes."

    made = export(cloud, shop)

    assert (4, {}) == (made.exit_code, made.outputs)
    the_error(made, "is FAILED", "The S3 bucket is full of holes.")
    assert [] == records(cloud, "rds/shop/exports/")


def test_without_any_snapshot_there_is_nothing_to_export(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")

    made = export(cloud, scripted)

    assert 2 == made.exit_code
    the_error(made, "there is no snapshot of shop")


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("IamRoleNotFound", "service-role"),
        ("IamRoleMissingPermissions", "export.rds.amazonaws.com"),
        ("KMSKeyNotAccessibleFault", "kms-key-id"),
        ("InvalidS3BucketFault", "bucket"),
        ("InvalidExportOnly", "export-only"),
    ],
)
def test_what_rds_refuses_is_told_with_the_input_to_correct(
    cloud: Cloud, shop: ScriptedAws, code: str, word: str
) -> None:
    shop.fail("rds:StartExportTask", code, "it is wrong")

    made = export(cloud, shop)

    assert 2 == made.exit_code
    the_error(made, code, word)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("rds:StartExportTask", f"arn:aws:rds:{REGION}:{ACCOUNT}:snapshot:*"),
        ("iam:PassRole", ROLE),
        ("rds:DescribeExportTasks", "*"),
    ],
)
def test_a_denial_names_the_line_to_add(
    cloud: Cloud, shop: ScriptedAws, action: str, resource: str
) -> None:
    shop.deny(action)

    made = export(cloud, shop)

    assert 3 == made.exit_code
    the_error(made, f'"Action": "{action}", "Resource": "{resource}"')


def test_a_snapshot_that_is_not_ready_is_refused(cloud: Cloud, shop: ScriptedAws) -> None:
    shop.rds.add_snapshot("half", state="creating")

    made = export(cloud, shop, snapshot_id="half")

    assert 2 == made.exit_code
    the_error(made, "the snapshot half cannot be used: it is creating")
    assert [] == shop.asked("rds:StartExportTask")
