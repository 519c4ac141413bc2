"""Backups are read from the second region: when told to, and where the first is out of reach."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backup.archive.catalogue import database_prefix
from backup.archive.manifest import encode
from tests.lab.aws import REGION, Ministack
from tests.lab.cloud import PREFIX
from tests.lab.faults import Answer, FaultProxy, Reset
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun
from tests.lab.stage import Stage, stage, the_error
from tests.manifests import OBJECTS, manifest_of
from tests.replicas import ORDERS, REPLICA_REGION, Replica, second_region
from tests.restores import assert_restored, assert_same, target
from tests.steps import database_named

DATABASE = "mirrored"
READING = "Reading from the replica"


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> str:
    return database_named(postgres, DATABASE, ORDERS)


@pytest.fixture
def shop(postgres: PostgresServer, strict: Ministack, database: str) -> Iterator[Stage]:
    with stage(postgres, strict, database) as ready:
        yield ready


@pytest.fixture
def replica(shop: Stage) -> Iterator[Replica]:
    """One backup, in both buckets; the role may verify from both, and no more."""
    with second_region(shop.cloud) as made:
        made.replicate()
        made.may("backup")
        assert 0 == shop.run().exit_code
        made.may("verify", read_from="auto")
        yield made


def inputs(shop: Stage, replica: Replica, operation: str, **others: str) -> dict[str, str]:
    given = {"operation": operation, "database": shop.database, **replica.inputs, **others}
    return shop.cloud.inputs | {name.replace("_", "-"): each for name, each in given.items()}


def first_asked(shop: Stage) -> int:
    """How often the first bucket was asked anything since the backup."""
    return len(shop.cloud.proxy.seen("*", f"^/{shop.cloud.bucket}"))


def titles(run: ActionRun) -> list[str]:
    return [each.title for each in run.warnings]


def put_young(replica: Replica, database: str, minutes: int, *without: str) -> str:
    """A backup by hand in the replica alone, taken so long ago, but for some objects; its id."""
    moment = datetime.now(UTC) - timedelta(minutes=minutes)
    name = f"{moment:%Y%m%dT%H%M%SZ}-abcdef"
    manifest = replace(manifest_of(name, database), finished=moment)
    root = f"{database_prefix(PREFIX, database)}{name}/"
    for key, body in {**OBJECTS, "manifest.json": encode(manifest)}.items():
        if key not in without:
            replica.s3.put_object(Bucket=replica.name, Key=root + key, Body=body)
    return name


def test_a_restore_from_the_replica_asks_the_first_bucket_nothing(
    shop: Stage, replica: Replica
) -> None:
    before = first_asked(shop)
    with target(shop.server, "from_replica") as name:
        given = inputs(shop, replica, "restore", read_from="replica")
        run = shop.run(given | {"target-url": shop.server.url(name)})
        assert_restored(run, shop, name)
        assert_same(shop.server, shop.database, name)
    assert before == first_asked(shop)
    assert run.outputs["s3-uri"].startswith(f"s3://{replica.name}/")
    assert [] == titles(run)


@pytest.mark.parametrize(
    "lose",
    [
        lambda shop: shop.cloud.proxy.add(Reset(), pattern=f"^/{shop.cloud.bucket}"),
        lambda shop: shop.cloud.proxy.add(
            Answer(503, "ServiceUnavailable", "Reduce your request rate."),
            pattern=f"^/{shop.cloud.bucket}",
        ),
        lambda shop: shop.cloud.proxy.add(
            Answer(500, "InternalError", "We encountered an internal error."),
            pattern=f"^/{shop.cloud.bucket}",
        ),
        lambda shop: shop.cloud.proxy.add(
            Answer(404, "NoSuchBucket", "The specified bucket does not exist"),
            pattern=f"^/{shop.cloud.bucket}",
        ),
    ],
    ids=["reset", "503", "500", "no-bucket"],
)
def test_the_replica_takes_the_place_of_a_bucket_that_is_out_of_reach(
    shop: Stage, replica: Replica, lose: Callable[[Stage], object]
) -> None:
    lose(shop)
    run = shop.run(inputs(shop, replica, "verify", verify_depth="objects"))
    assert 0 == run.exit_code, run.output
    assert [f"{READING} s3://{replica.name} in {REPLICA_REGION}"] == titles(run)
    (warning,) = run.warnings
    assert f"cannot use s3://{shop.cloud.bucket}/" in warning.message
    (kept,) = [key for key in replica.objects() if "/drills/" in key]
    record = json.loads(replica.s3.get_object(Bucket=replica.name, Key=kept)["Body"].read())
    assert "proven" == record["verdict"], record
    shop.cloud.proxy.clear()
    assert [] == [key for key in shop.cloud.objects() if "/drills/" in key]


def test_a_bucket_that_is_not_to_be_replaced_is_not(shop: Stage, replica: Replica) -> None:
    shop.cloud.proxy.add(Reset(), pattern=f"^/{shop.cloud.bucket}")
    run = shop.run(inputs(shop, replica, "list", read_from="bucket"))
    assert 5 == run.exit_code
    assert 0 == replica.requests()


@pytest.mark.parametrize(
    ("fault", "exit_code"),
    [
        (Answer(403, "AccessDenied", "Access Denied"), 3),
        (Answer(403, "RequestTimeTooSkewed", "The difference is too large."), 3),
    ],
    ids=["denied", "clock"],
)
def test_a_bucket_that_refuses_stays_the_one_that_is_meant(
    shop: Stage, replica: Replica, fault: Answer, exit_code: int
) -> None:
    before = replica.requests()
    shop.cloud.proxy.add(fault, pattern=f"^/{shop.cloud.bucket}")
    run = shop.run(inputs(shop, replica, "list"))
    assert exit_code == run.exit_code, run.output
    assert [] == titles(run)
    assert before == replica.requests()


def test_an_audit_tells_of_a_bucket_that_refuses_and_goes_on(shop: Stage, replica: Replica) -> None:
    fault = Answer(403, "RequestTimeTooSkewed", "The difference is too large.")
    shop.cloud.proxy.add(fault, pattern=f"^/{shop.cloud.bucket}")
    run = shop.run(inputs(shop, replica, "audit", fail_on="never"))
    assert 0 == run.exit_code, run.output
    assert f"Audit of s3://{shop.cloud.bucket}" in run.summary
    assert int(run.outputs["checks-unknown"]) > 5


def test_an_object_that_is_gone_from_the_first_bucket_is_not_taken_from_the_replica(
    shop: Stage, replica: Replica
) -> None:
    (pack,) = [key for key in shop.cloud.objects() if key.endswith(".tar")]
    shop.cloud.proxy.add(
        Answer(404, "NoSuchKey", "The specified key does not exist."), pattern=f"{pack}"
    )
    before = replica.requests()
    with target(shop.server, "not_from_replica") as name:
        given = inputs(shop, replica, "restore") | {"target-url": shop.server.url(name)}
        run = shop.run(given)
    assert 5 == run.exit_code, run.output
    assert "is missing" in the_error(run)
    assert before == replica.requests()


def test_with_both_out_of_reach_the_error_tells_of_both(shop: Stage, replica: Replica) -> None:
    shop.cloud.proxy.add(Reset())
    run = shop.run(inputs(shop, replica, "list"))
    assert 5 == run.exit_code
    the_error(run, f"cannot use s3://{shop.cloud.bucket}/", f"cannot use s3://{replica.name}/")


def test_a_role_that_may_not_read_the_replica_is_told_the_line_to_add(
    shop: Stage, replica: Replica
) -> None:
    replica.may("verify")
    run = shop.run(inputs(shop, replica, "list", read_from="replica"))
    assert 3 == run.exit_code
    the_error(run, "s3:ListBucket", f'"arn:aws:s3:::{replica.name}"')


def test_the_login_does_not_hang_on_the_lost_region(shop: Stage, replica: Replica) -> None:
    """STS of the first region does not answer; that of the second does."""
    with FaultProxy(shop.cloud.sts.url) as lost:
        fault = lost.add(Reset(), times=2)  # as often as the first region is asked
        run = shop.run(inputs(shop, replica, "list"), {"AWS_ENDPOINT_URL_STS": lost.url})
    assert 0 == run.exit_code, run.output
    assert 2 == fault.hits
    assert [f"Logging in to AWS in {REPLICA_REGION}"] == titles(run)


def test_a_restore_from_the_replica_logs_in_there(shop: Stage, replica: Replica) -> None:
    with FaultProxy(shop.cloud.sts.url) as sts:
        given = inputs(shop, replica, "list", read_from="replica")
        run = shop.run(given, {"AWS_ENDPOINT_URL_STS": sts.url})
        signed = [each.headers.get("authorization", "") for each in sts.records]
    assert 0 == run.exit_code, run.output
    scopes = [each for each in signed if each]
    assert scopes and all(f"/{REPLICA_REGION}/sts/" in each for each in scopes)
    assert not any(f"/{REGION}/" in each for each in scopes)


def test_list_and_audit_look_at_the_replica(shop: Stage, replica: Replica) -> None:
    only_there = put_young(replica, shop.database, 90)
    listed = shop.run(inputs(shop, replica, "list", read_from="replica"))
    assert only_there in [each["id"] for each in json.loads(listed.outputs["backups"])]

    replica.may("audit", read_from="replica", role=shop.cloud.role)
    audited = shop.run(inputs(shop, replica, "audit", read_from="replica", fail_on="never"))
    assert 0 == audited.exit_code, audited.output
    assert f"Audit of s3://{replica.name}" in audited.summary
    assert "The bucket keeps versions" in audited.summary
    assert "Backups are replicated to another bucket" not in audited.summary
    assert "No backup is missing in the series" in audited.summary


def test_a_backup_whose_objects_have_not_come_is_told_so_and_not_called_damaged(
    shop: Stage, replica: Replica
) -> None:
    late = put_young(replica, shop.database, 5, "archive/3349.dat.zst")
    with target(shop.server, "too_early") as name:
        given = inputs(shop, replica, "restore", read_from="replica", backup_id=late)
        run = shop.run(given | {"target-url": shop.server.url(name)})
        assert 5 == run.exit_code, run.output
        the_error(
            run,
            f"backup {late} is not yet replicated whole: 1 of 2 objects are missing",
            "archive/3349.dat.zst",
            "Nothing says that it is damaged",
            "backup-id: latest",
        )
        assert [] == shop.server.sql("SELECT 1 FROM pg_class WHERE relname = 'orders'", name)


def test_a_drill_of_what_has_not_come_proves_nothing_and_fails_nothing(
    shop: Stage, replica: Replica
) -> None:
    late = put_young(replica, shop.database, 5, "archive/3349.dat.zst")
    run = shop.run(inputs(shop, replica, "verify", read_from="replica", backup_id=late))
    assert 0 != run.exit_code
    assert "not proven" == run.outputs["verdict"]
    assert "is not yet replicated whole" in the_error(run)


def test_latest_is_the_newest_that_has_come_whole(shop: Stage, replica: Replica) -> None:
    (whole,) = [json.loads(shop.cloud.read(key))["id"] for key in shop.cloud.manifests()]
    late = [
        put_young(replica, shop.database, minutes, lacking)
        for minutes, lacking in ((-1, "archive/3349.dat.zst"), (-2, "archive/pack-0001.tar"))
    ]
    run = shop.run(inputs(shop, replica, "verify", read_from="replica", verify_depth="objects"))
    assert 0 == run.exit_code, run.output
    assert whole == run.outputs["backup-id"]
    assert {f"Backup {each} is not whole in the replica" for each in late} == set(titles(run))
    assert f"{whole} is taken in its place" in run.warnings[-1].message
    assert "read-from: bucket" in run.warnings[-1].message


def test_where_none_has_come_whole_the_newest_is_told_of(shop: Stage, replica: Replica) -> None:
    late = put_young(replica, "other", 5, "archive/3349.dat.zst")
    run = shop.run(
        inputs(
            shop, replica, "verify", read_from="replica", database="other", verify_depth="objects"
        )
    )
    assert 0 != run.exit_code
    assert f"backup {late} is not yet replicated whole" in the_error(run)
    assert [] == titles(run)


def test_what_has_not_come_for_days_never_will(shop: Stage, replica: Replica) -> None:
    old = put_young(replica, shop.database, 3 * 24 * 60, "archive/3349.dat.zst")
    run = shop.run(inputs(shop, replica, "verify", read_from="replica", backup_id=old))
    assert 6 == run.exit_code
    assert "failed" == run.outputs["verdict"]
    assert f"backup {old} is not whole" in the_error(run)
