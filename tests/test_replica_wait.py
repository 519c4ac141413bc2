"""A backup that waits for its copy in the second region, and says what came of it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from backup.aws.grants import needed
from tests.lab.aws import Ministack
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun
from tests.lab.stage import Stage, stage, the_error
from tests.replicas import ORDERS, Replica, later, second_region
from tests.steps import database_named

DATABASE = "replicated"


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> str:
    return database_named(postgres, DATABASE, ORDERS)


@pytest.fixture
def shop(postgres: PostgresServer, strict: Ministack, database: str) -> Iterator[Stage]:
    with stage(postgres, strict, database) as ready:
        yield ready


@pytest.fixture
def replica(shop: Stage) -> Iterator[Replica]:
    with second_region(shop.cloud) as made:
        made.may("backup", awaits_replica=True, tags_objects=True)
        yield made


def waiting(shop: Stage, replica: Replica, wait: str = "60s", **others: str) -> dict[str, str]:
    return shop.inputs(**replica.inputs, replica_wait=wait, **others)


def assert_made(run: ActionRun, shop: Stage, exit_code: int, *words: str) -> str:
    """The backup is there and counts, and the run is red all the same; the error."""
    assert exit_code == run.exit_code, run.output
    (manifest,) = shop.cloud.manifests()
    assert f"s3://{shop.cloud.bucket}/{manifest}" == run.outputs["manifest-uri"]
    assert "false" == run.outputs["replicated"]
    assert "and not seen in the replica" in run.summary
    return the_error(run, *words)


def test_a_backup_is_green_once_every_object_is_in_the_replica(
    shop: Stage, replica: Replica
) -> None:
    replica.replicate()
    run = shop.run(waiting(shop, replica))
    assert 0 == run.exit_code, run.output
    assert shop.cloud.objects() == replica.objects()
    assert "true" == run.outputs["replicated"]
    assert 0 <= float(run.outputs["replication-seconds"]) < 60
    assert (
        f"s3://{replica.name} in eu-west-1: {len(replica.objects())} objects after" in run.summary
    )
    assert "Wait for the replica" in run.summary


def test_a_role_that_writes_reads_nothing_to_know_of_its_copy(
    shop: Stage, replica: Replica
) -> None:
    replica.replicate()
    assert 0 == shop.run(waiting(shop, replica)).exit_code
    read = [
        each.path
        for each in shop.cloud.proxy.seen("GET") + shop.cloud.proxy.seen("HEAD")
        if each.path.rstrip("/") not in (f"/{shop.cloud.bucket}", f"/{replica.name}")
    ]
    assert [] == read


def test_a_copy_that_comes_late_is_waited_for(shop: Stage, replica: Replica) -> None:
    with later(lambda: replica.requests() >= 3, replica.copy_all):
        run = shop.run(waiting(shop, replica))
    assert 0 == run.exit_code, run.output
    assert "true" == run.outputs["replicated"]
    assert float(run.outputs["replication-seconds"]) >= 2
    # The time of the backup is not that of the wait.
    assert float(run.outputs["duration-seconds"]) + 2 < run.seconds


def test_a_copy_that_never_comes_makes_the_run_red_and_not_the_backup(
    shop: Stage, replica: Replica
) -> None:
    run = shop.run(waiting(shop, replica, "2s"))
    error = assert_made(run, shop, 6, "not replicated within 2.0 s", "nothing of it has arrived")
    assert f"aws s3api head-object --bucket {shop.cloud.bucket} --key" in error
    assert "bucket.replication" in error
    assert f"of {len(shop.cloud.objects())} objects are not in s3://{replica.name}" in error


def test_a_copy_that_failed_is_told_like_one_that_is_late(shop: Stage, replica: Replica) -> None:
    replica.replicate()
    # S3 cannot write a replica where no versions are kept.
    replica.s3.put_bucket_versioning(
        Bucket=replica.name, VersioningConfiguration={"Status": "Suspended"}
    )
    run = shop.run(waiting(shop, replica, "2s"))
    assert_made(run, shop, 6, "FAILED: it never will by itself")
    (manifest,) = shop.cloud.manifests()
    head = shop.cloud.s3.head_object(Bucket=shop.cloud.bucket, Key=manifest)
    assert "FAILED" == head["ReplicationStatus"]


@pytest.mark.parametrize("lacking", ["toc", "manifest.json", "retention-tier/"])
def test_a_copy_that_lacks_one_object_names_it(shop: Stage, replica: Replica, lacking: str) -> None:
    lacking = "archive/pack" if lacking == "toc" else lacking
    with later(lambda: replica.requests() >= 1, lambda: replica.copy_all(lacking)):
        run = shop.run(waiting(shop, replica, "4s", retention_tier="weekly"))
    error = assert_made(run, shop, 6, "some of it has arrived")
    assert lacking in error.partition("are not in")[2].splitlines()[0]


def test_an_object_of_another_size_is_no_copy(shop: Stage, replica: Replica) -> None:
    def other() -> None:
        replica.copy_all()
        (manifest,) = shop.cloud.manifests()
        replica.s3.put_object(Bucket=replica.name, Key=manifest, Body=b"{}")

    with later(lambda: replica.requests() >= 1, other):
        run = shop.run(waiting(shop, replica, "4s"))
    assert_made(run, shop, 6, "manifest.json")


def test_a_role_that_may_not_list_the_replica_is_told_the_line_to_add(
    shop: Stage, replica: Replica
) -> None:
    replica.replicate()
    replica.may("backup")
    run = shop.run(waiting(shop, replica))
    error = assert_made(run, shop, 3, "s3:ListBucket", f'"arn:aws:s3:::{replica.name}"')
    assert "whether it is replicated nobody could see" in error


def test_a_replica_that_does_not_exist_is_not_waited_for(shop: Stage, replica: Replica) -> None:
    replica.s3.delete_bucket(Bucket=replica.name)
    run = shop.run(waiting(shop, replica, "10min"))
    assert_made(run, shop, 2, "there is no bucket", "correct `replica-bucket`")


def test_without_replica_wait_the_replica_is_asked_nothing(shop: Stage, replica: Replica) -> None:
    replica.may("backup")
    run = shop.run(shop.inputs(**replica.inputs))
    assert 0 == run.exit_code, run.output
    assert 0 == replica.requests()
    assert "replicated" not in run.outputs


def test_a_wait_can_be_cancelled_and_the_backup_counts(shop: Stage, replica: Replica) -> None:
    with shop.start(waiting(shop, replica, "10min")) as running:
        running.wait_for(r"0 of \d+ objects are in")
        running.send(signal.SIGTERM)
        run = running.finish()
    assert 143 == run.exit_code
    (manifest,) = shop.cloud.manifests()
    backup_id = json.loads(shop.cloud.read(manifest))["id"]
    the_error(run, f"backup {backup_id} is made and counts", replica.name)


def test_a_backup_can_be_drilled_at_once_from_the_replica(shop: Stage, replica: Replica) -> None:
    replica.replicate()
    backup = needed("backup", replica.scope(awaits_replica=True))
    drill = needed("verify", replica.scope(read_from="replica"))
    shop.cloud.allow(*(each.statement() for each in (*backup, *drill)))
    run = shop.run(
        waiting(shop, replica, verify="true", verify_depth="objects", read_from="replica")
    )
    assert 0 == run.exit_code, run.output
    assert ("true", "proven") == (run.outputs["replicated"], run.outputs["verdict"])
    assert [key for key in replica.objects() if "/drills/" in key]
