"""`operation: snapshot` by RDS: what is made, waited for, copied and told."""

from __future__ import annotations

import json
import re

import pytest

from tests.lab.aws import REGION, Moto
from tests.lab.cloud import Cloud, writing
from tests.lab.runner import ActionRun, start_action
from tests.lab.scripted.server import ScriptedAws
from tests.lab.stage import the_error
from tests.lab.sts import ACCOUNT
from tests.snapshots import (
    ELSEWHERE,
    KEY_ELSEWHERE,
    OWN,
    env,
    record_of,
    records,
    resource_id,
    run,
    tags,
    thing,
)
from tests.steps import green

NAME = r"shop-0000000-\d{8}t\d{6}z"


def take(cloud: Cloud, scripted: ScriptedAws, **inputs: str) -> ActionRun:
    return run(cloud, scripted, "snapshot", **inputs)


def test_a_snapshot_is_taken_waited_for_and_told(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")

    made = green(take(cloud, scripted, tags="ticket=OPS-7"))

    name = made.outputs["snapshot-id"]
    assert re.fullmatch(NAME, name)
    arn = f"arn:aws:rds:{REGION}:{ACCOUNT}:snapshot:{name}"
    assert (arn, "") == (made.outputs["snapshot-arn"], made.outputs["copy-arn"])
    there = thing(scripted, name)
    assert "available" == there.course.state
    assert {
        "team": "shop",  # the instance's own
        "ticket": "OPS-7",
        f"{OWN}created-by": "pg-backup-action",
        f"{OWN}source": "shop",
        f"{OWN}source-id": resource_id(scripted),
        f"{OWN}snapshot": name,
        f"{OWN}release": "0000000",
    } == tags(there.description)
    assert f"snapshot {name} is creating (0 %)" in made.output
    assert f"snapshot {name} is available" in made.output
    assert f"✅ shop has a snapshot: {name}" in made.summary


def test_tags_of_the_instance_are_taken_on_as_far_as_there_is_room(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    own = {"team": "shop", "aws:cloudformation:stack-name": "s", f"{OWN}snapshot": "inherited"}
    many = own | {f"z-{number:02}": "x" for number in range(47)}
    told = [{"Key": key, "Value": value} for key, value in many.items()]
    scripted.rds.add_instance("shop", TagList=told)

    made = green(take(cloud, scripted, tags="team=ours"))

    name = made.outputs["snapshot-id"]
    given = tags(thing(scripted, name).description)
    assert ("ours", name) == (given["team"], given[f"{OWN}snapshot"])
    assert 50 == len(given)
    assert "aws:cloudformation:stack-name" not in given


def test_tags_of_an_instance_that_does_not_copy_them_stay_there(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop", CopyTagsToSnapshot=False)

    made = green(take(cloud, scripted))

    assert "team" not in tags(thing(scripted, made.outputs["snapshot-id"]).description)


def test_the_name_holds_the_tag_that_is_released(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")
    inputs = cloud.inputs | {"operation": "snapshot", "db-instance": "Shop"}
    release = {"GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "releases/v1.4_2 (hot)"}

    with start_action(inputs, env(cloud, scripted) | release) as running:
        made = green(running.finish())

    name = made.outputs["snapshot-id"]
    assert re.fullmatch(r"shop-releases-v1-4-2-hot-\d{8}t\d{6}z", name)
    assert "releases/v1.4_2 -hot-" == tags(thing(scripted, name).description)[f"{OWN}release"]


def test_a_record_of_the_instance_is_kept_and_is_no_backup(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")

    made = green(take(cloud, scripted, snapshot_id="Before-1"))

    record = record_of(cloud)
    assert {
        "id": "before-1",
        "arn": made.outputs["snapshot-arn"],
        "via": "rds",
        "vault": None,
        "copy": None,
    } == record["snapshot"]
    assert "shop-postgres17" == record["database"]["parameter_group"]
    listed = green(run(cloud, scripted, "list"))
    assert [] == json.loads(listed.outputs["backups"])
    assert "snapshot" in listed.summary


def test_a_role_that_may_not_write_the_record_still_has_its_snapshot(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    cloud.allow(writing(cloud.bucket, "elsewhere"))

    made = green(take(cloud, scripted))

    (warning,) = made.warnings
    assert "The record of the instance was not kept" == warning.title
    assert "s3:PutObject" in warning.message
    assert made.outputs["snapshot-id"]


def test_a_cluster_is_taken_whole_with_its_members_in_the_record(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_cluster("ledger", members=2)

    made = green(take(cloud, scripted, db_cluster="ledger"))

    name = made.outputs["snapshot-id"]
    assert "available" == thing(scripted, name, kind="cluster-snapshot").course.state
    record = record_of(cloud, "rds/ledger/")
    assert "cluster" == record["kind"]
    assert ["ledger-1", "ledger-2"] == [each["identifier"] for each in record["members"]]


def test_a_long_name_of_a_cluster_leaves_room_for_the_time(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    identifier = "a" * 63
    scripted.rds.add_cluster(identifier, members=1)

    made = green(take(cloud, scripted, db_cluster=identifier))

    assert 63 == len(made.outputs["snapshot-id"])
    assert re.search(r"-\d{8}t\d{6}z$", made.outputs["snapshot-id"])


def test_a_copy_is_made_in_another_region_with_a_key_of_its_own(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")

    made = green(take(cloud, scripted, copy_to_region=ELSEWHERE, copy_kms_key_id=KEY_ELSEWHERE))

    name = made.outputs["snapshot-id"]
    copy = thing(scripted, name, ELSEWHERE)
    assert copy.description["DBSnapshotArn"] == made.outputs["copy-arn"]
    assert ("available", KEY_ELSEWHERE) == (copy.course.state, copy.description["KmsKeyId"])
    assert name == tags(copy.description)[f"{OWN}snapshot"]
    assert {"id": name, "arn": made.outputs["copy-arn"], "region": ELSEWHERE} == (
        record_of(cloud)["snapshot"]["copy"]
    )
    assert [ELSEWHERE] == [call.region for call in scripted.asked("rds:CopyDBSnapshot")]


def test_a_cluster_is_copied_too(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_cluster("ledger", members=1)

    made = green(
        take(
            cloud, scripted, db_cluster="ledger", copy_to_region=ELSEWHERE,
            copy_kms_key_id=KEY_ELSEWHERE,
        )
    )  # fmt: skip

    copy = thing(scripted, made.outputs["snapshot-id"], ELSEWHERE, "cluster-snapshot")
    assert "available" == copy.course.state


def test_an_unencrypted_snapshot_is_copied_without_a_key(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop", StorageEncrypted=False)

    made = green(take(cloud, scripted, copy_to_region=ELSEWHERE))

    assert made.outputs["copy-arn"]


def test_without_waiting_the_run_ends_at_once_and_says_so(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")

    made = green(take(cloud, scripted, wait="none"))

    assert "⏳ shop: AWS goes on making" in made.summary
    assert [] == scripted.asked("rds:DescribeDBSnapshots")
    assert "creating" == thing(scripted, made.outputs["snapshot-id"]).course.state
    assert 1 == len(records(cloud))


@pytest.mark.parametrize("state", ["backing-up", "modifying", "upgrading"])
def test_an_instance_that_is_busy_is_waited_for(
    cloud: Cloud, scripted: ScriptedAws, state: str
) -> None:
    scripted.rds.add_instance("shop")
    scripted.rds.put_into([state, "available"])

    made = green(take(cloud, scripted))

    assert f"shop is {state}" in made.output
    assert made.outputs["snapshot-id"]


def test_an_instance_that_gets_busy_in_between_is_waited_for(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    scripted.fail(
        "rds:CreateDBSnapshot", "InvalidDBInstanceState", "it is backing up", status=400, times=2
    )

    green(take(cloud, scripted))

    assert 3 == len(scripted.asked("rds:CreateDBSnapshot"))


def test_an_instance_that_is_not_there_is_named(cloud: Cloud, scripted: ScriptedAws) -> None:
    made = take(cloud, scripted)

    assert 2 == made.exit_code
    the_error(made, "cannot look at the instance shop", "DBInstanceNotFound", "db-instance")


def test_a_member_of_a_cluster_is_refused_with_the_cluster_to_name(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_cluster("ledger", members=1)

    made = take(cloud, scripted, db_instance="ledger-1")

    assert 2 == made.exit_code
    the_error(made, "member of the cluster ledger", "db-cluster: ledger")


def test_another_engine_is_refused(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop", Engine="mysql")

    made = take(cloud, scripted)

    assert 2 == made.exit_code
    the_error(made, "shop is no PostgreSQL", "mysql")


def test_the_broad_double_takes_a_snapshot_too(moto: Moto, cloud: Cloud) -> None:
    """A server that somebody else wrote understands the requests."""
    rds = moto.client("rds")
    rds.create_db_instance(
        DBInstanceIdentifier="broad", DBInstanceClass="db.t4g.micro", Engine="postgres",
        AllocatedStorage=20, MasterUsername="postgres", MasterUserPassword="secret-1",
    )  # fmt: skip
    inputs = cloud.inputs | {"operation": "snapshot", "db-instance": "broad", "keep": "1"}
    broad = {"AWS_ENDPOINT_URL_RDS": moto.url, "PG_BACKUP_POLL_SECONDS": "0.01"}

    with start_action(inputs, cloud.env | broad) as running:
        made = green(running.finish())

    (there,) = rds.describe_db_snapshots(DBInstanceIdentifier="broad", SnapshotType="manual")[
        "DBSnapshots"
    ]
    assert there["DBSnapshotIdentifier"] == made.outputs["snapshot-id"]
    assert there["DBSnapshotArn"] == made.outputs["snapshot-arn"]
