"""`operation: snapshot` where something fails: what is said, and what exists all the same."""

from __future__ import annotations

import signal

import pytest

from tests.lab.aws import REGION
from tests.lab.cloud import Cloud
from tests.lab.runner import ActionRun
from tests.lab.scripted.server import ScriptedAws
from tests.lab.stage import the_error
from tests.lab.sts import ACCOUNT
from tests.snapshots import ELSEWHERE, KEY_ELSEWHERE, record_of, records, run, start, thing
from tests.steps import green


def take(cloud: Cloud, scripted: ScriptedAws, **inputs: str) -> ActionRun:
    return run(cloud, scripted, "snapshot", **inputs)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("stopped", ("start it: aws rds start-db-instance --db-instance-identifier shop",)),
        ("storage-full", ("modify-db-instance", "--allocated-storage")),
        ("incompatible-parameters", ("describe-events", "--source-identifier shop")),
        ("inaccessible-encryption-credentials", ("KMS key",)),
    ],
)
def test_an_instance_that_will_not_be_available_is_refused_with_its_state(
    cloud: Cloud, scripted: ScriptedAws, state: str, words: tuple[str, ...]
) -> None:
    scripted.rds.add_instance("shop", state=state)

    made = take(cloud, scripted)

    assert (4, {}) == (made.exit_code, made.outputs)
    the_error(made, f"no snapshot of shop can be taken: it is {state}", *words)
    assert [] == scripted.asked("rds:CreateDBSnapshot")
    assert [] == records(cloud)


def test_an_instance_that_breaks_while_it_is_waited_for_is_refused(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    scripted.rds.put_into(["modifying", "incompatible-parameters"])

    made = take(cloud, scripted)

    assert 4 == made.exit_code
    the_error(made, "shop is incompatible-parameters")
    assert [] == scripted.asked("rds:CreateDBSnapshot")


def test_a_busy_instance_is_refused_where_nobody_waits(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop", state="modifying")

    made = take(cloud, scripted, wait="none")

    assert 4 == made.exit_code
    the_error(made, "it is modifying", "wait: 2h")


def test_a_name_that_is_taken_is_refused(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")
    scripted.rds.add_snapshot("before-1")

    made = take(cloud, scripted, snapshot_id="before-1")

    assert (2, {}) == (made.exit_code, made.outputs)
    the_error(made, "cannot take the snapshot before-1", "DBSnapshotAlreadyExists", "snapshot-id")


def test_an_answer_that_was_lost_does_not_make_the_name_a_taken_one(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    scripted.lose_answer("rds:CreateDBSnapshot")

    made = green(take(cloud, scripted, snapshot_id="before-1"))

    assert "before-1" == made.outputs["snapshot-id"]
    assert 2 == len(scripted.asked("rds:CreateDBSnapshot"))


def test_a_full_quota_is_told_with_what_mends_it(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")
    scripted.rds.snapshots.quota = 0

    made = take(cloud, scripted)

    assert 4 == made.exit_code
    the_error(made, "SnapshotQuotaExceeded", "keep: 10", "Service Quotas")


def test_a_snapshot_that_fails_is_no_snapshot(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")
    scripted.rds.snapshots.states = ("creating", "failed")

    made = take(cloud, scripted, snapshot_id="before-1")

    assert (4, {}) == (made.exit_code, made.outputs)
    the_error(made, "snapshot before-1 is failed", "describe-db-snapshots")
    assert [] == records(cloud)


@pytest.mark.parametrize(
    ("action", "resources"),
    [
        ("rds:DescribeDBInstances", ("db:shop",)),
        ("rds:CreateDBSnapshot", ("db:shop", "snapshot:*")),
        ("rds:AddTagsToResource", ("snapshot:*",)),
    ],
)
def test_a_denial_before_the_snapshot_names_the_line_to_add(
    cloud: Cloud, scripted: ScriptedAws, action: str, resources: tuple[str, ...]
) -> None:
    scripted.rds.add_instance("shop")
    scripted.deny(action)

    made = take(cloud, scripted)

    assert (3, {}) == (made.exit_code, made.outputs)
    arns = [f'"arn:aws:rds:{REGION}:{ACCOUNT}:{resource}"' for resource in resources]
    message = the_error(made, f'"{action}"', *arns)
    assert "AWS goes on" not in message


def test_a_denial_while_it_waits_says_that_the_snapshot_goes_on(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    scripted.deny("rds:DescribeDBSnapshots")

    made = take(cloud, scripted, snapshot_id="before-1")

    assert 3 == made.exit_code
    the_error(made, "rds:DescribeDBSnapshots", "AWS goes on making the snapshot before-1")
    assert "before-1" == made.outputs["snapshot-id"]


def test_throttling_while_it_waits_is_waited_out(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")
    scripted.throttle("rds:DescribeDBSnapshots", times=5)

    made = green(take(cloud, scripted))

    assert "out of sight (AWS says Throttling" in made.output


def test_throttling_that_lasts_ends_the_run(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")
    scripted.throttle("rds:CreateDBSnapshot", times=99)

    made = take(cloud, scripted)

    assert 4 == made.exit_code
    the_error(made, "Throttling", "run it again in a while")


def test_a_copy_that_is_denied_leaves_the_snapshot_and_says_so(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    scripted.deny("rds:CopyDBSnapshot")

    made = take(
        cloud, scripted, snapshot_id="before-1", copy_to_region=ELSEWHERE,
        copy_kms_key_id=KEY_ELSEWHERE, keep="1",
    )  # fmt: skip

    assert 3 == made.exit_code
    the_error(
        made,
        f"cannot copy the snapshot before-1 to {ELSEWHERE}",
        "the snapshot before-1 is made and can be restored",
        f"arn:aws:rds:{ELSEWHERE}:{ACCOUNT}:snapshot:*",
        f"arn:aws:rds:{REGION}:{ACCOUNT}:snapshot:*",
    )
    assert ("before-1", "") == (made.outputs["snapshot-id"], made.outputs["copy-arn"])
    assert "⚠️ shop has a snapshot: before-1" in made.summary
    assert record_of(cloud)["snapshot"]["copy"] is None
    assert [] == scripted.asked("rds:DeleteDBSnapshot")


def test_an_encrypted_copy_without_a_key_is_refused_before_anything_is_made(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")

    made = take(cloud, scripted, copy_to_region=ELSEWHERE)

    assert (2, {}) == (made.exit_code, made.outputs)
    the_error(made, "it is encrypted", "copy-kms-key-id", ELSEWHERE)
    assert [] == scripted.asked("rds:CreateDBSnapshot")


def test_a_key_that_cannot_be_used_is_named(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")
    scripted.rds.keys.inaccessible.add(KEY_ELSEWHERE)

    made = take(cloud, scripted, copy_to_region=ELSEWHERE, copy_kms_key_id=KEY_ELSEWHERE)

    assert 2 == made.exit_code
    the_error(made, "KMSKeyNotAccessibleFault", "kms:CreateGrant", "can be restored")


def test_a_copy_that_fails_is_not_told_as_one(cloud: Cloud, scripted: ScriptedAws) -> None:
    scripted.rds.add_instance("shop")
    scripted.rds.snapshots.copy_states = ("creating", "failed")

    made = take(
        cloud, scripted, snapshot_id="before-1", copy_to_region=ELSEWHERE,
        copy_kms_key_id=KEY_ELSEWHERE,
    )  # fmt: skip

    assert 4 == made.exit_code
    the_error(made, f"copy in {ELSEWHERE} is failed", "before-1 is made and can be restored")
    assert "" == made.outputs["copy-arn"]


def test_a_run_that_waits_no_longer_says_that_aws_goes_on(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop")
    scripted.rds.pace.describes_per_state = 10**6

    made = take(cloud, scripted, snapshot_id="before-1", wait="1s")

    assert 4 == made.exit_code
    the_error(
        made,
        "snapshot before-1 is not ready after 1.0 s",
        "AWS goes on making the snapshot before-1",
        "raise wait",
    )
    assert "before-1" == made.outputs["snapshot-id"]
    assert "⏳" in made.summary
    assert 1 == len(records(cloud))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_cancelled_says_what_goes_on(
    cloud: Cloud, scripted: ScriptedAws, how: signal.Signals
) -> None:
    scripted.rds.add_instance("shop")
    scripted.rds.pace.describes_per_state = 10**6

    with start(cloud, scripted, "snapshot", snapshot_id="before-1") as running:
        running.wait_for("snapshot before-1 is creating")
        running.send(how)
        made = running.finish()

    assert (128 + how, {}) == (made.exit_code, made.outputs)
    the_error(made, f"interrupted by {how.name}", "AWS goes on making the snapshot before-1")
    assert "creating" == thing(scripted, "before-1").course.state
    assert [] == made.leftovers


def test_a_run_that_is_cancelled_before_it_began_says_that(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    scripted.rds.add_instance("shop", state="modifying")

    with start(cloud, scripted, "snapshot") as running:
        running.wait_for("shop is modifying: ")
        running.send(signal.SIGTERM)
        made = running.finish()

    the_error(made, "no snapshot was begun")
