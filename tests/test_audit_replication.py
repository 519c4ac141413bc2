"""The audit of a bucket's replication: the rule, and whether the newest backups have arrived."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backup.checks import Status
from tests.audited_bucket import Audited
from tests.audits import apply
from tests.buckets import put_backup
from tests.findings import assert_bad
from tests.lab.cloud import PREFIX, Cloud
from tests.lab.faults import Header
from tests.lab.httpd import HttpService, Request, Response, answering
from tests.lab.sts import ACCOUNT
from tests.manifests import manifest_of

NEWER = "20261123T020000Z-0a1b2c"


@pytest.fixture
def audited(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Audited:
    return Audited(cloud, monkeypatch)


@pytest.fixture
def replicated(audited: Audited) -> Audited:
    """A bucket that is replicated as its audit said."""
    apply(audited.checks()["bucket.replication"].fix, audited.env)
    return audited


@pytest.fixture
def batch(audited: Audited) -> Iterator[HttpService]:
    """S3 Batch Replication: writes what a job selects once more, and so begins to copy it."""

    def answer(request: Request) -> Response:
        assert "POST" == request.method
        body = request.body.decode()
        assert "<S3ReplicateObject" in body
        assert {"FAILED", "NONE"} == set(
            re.findall(r"<ObjectReplicationStatuses><member>.*</ObjectReplicationStatuses>", body)
            and re.findall(r"<member>(FAILED|NONE)</member>", body)
        )
        for prefix in re.findall(r"<MatchAnyPrefix><member>(.*?)</member>", body):
            for key in audited.cloud.objects(prefix):
                content = audited.cloud.read(key)
                audited.s3.put_object(Bucket=audited.cloud.bucket, Key=key, Body=content)
        text = b"<CreateJobResult><JobId>1</JobId></CreateJobResult>"
        return Response(200, text, {"Content-Type": "application/xml"})

    service = HttpService(answering(answer))
    yield service
    service.close()


def replica(audited: Audited) -> str:
    return f"{audited.cloud.bucket}-replica"


def version(audited: Audited, bucket: str, status: str) -> None:
    audited.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


def replicate(audited: Audited, *rules: dict[str, Any]) -> None:
    """A configuration of somebody else's, into the bucket `…-replica`."""
    audited.cloud.double.make_bucket(replica(audited))
    version(audited, replica(audited), "Enabled")
    version(audited, audited.cloud.bucket, "Enabled")
    destination = {"Bucket": f"arn:aws:s3:::{replica(audited)}"}
    configuration = {
        "Role": f"arn:aws:iam::{ACCOUNT}:role/theirs",
        "Rules": [{"Status": "Enabled", "Destination": destination} | each for each in rules],
    }
    audited.s3.put_bucket_replication(
        Bucket=audited.cloud.bucket, ReplicationConfiguration=configuration
    )


def configuration(audited: Audited) -> dict[str, Any]:
    answer = audited.s3.get_bucket_replication(Bucket=audited.cloud.bucket)
    found: dict[str, Any] = answer["ReplicationConfiguration"]
    return found


def test_the_fix_makes_a_bucket_to_which_backups_are_copied(replicated: Audited) -> None:
    root = put_backup(replicated.cloud, manifest_of())

    found = replicated.checks()

    assert f"to {replica(replicated)}" == found["bucket.replication"].reason
    assert Status.PASS is found["bucket.replication-state"].status
    copied = replicated.s3.list_objects_v2(Bucket=replica(replicated), Prefix=root)
    assert 3 == copied["KeyCount"]
    place = replicated.s3.get_bucket_location(Bucket=replica(replicated))
    assert "eu-west-1" == place["LocationConstraint"]


def test_copies_that_go_elsewhere_than_restores_look_for_them_are_no_replica(
    replicated: Audited,
) -> None:
    there = {"replica_bucket": replica(replicated), "replica_region": "eu-west-1"}
    assert Status.PASS is replicated.checks(**there)["bucket.replication"].status

    found = replicated.checks(**there | {"replica_bucket": "another"})["bucket.replication"]

    assert Status.FAIL is found.status
    assert f"copied to {replica(replicated)}, and replica-bucket is another" in found.reason
    assert f"replica-bucket: {replica(replicated)}" == found.fix


def test_a_bucket_encrypted_with_a_customers_key_is_copied_with_keys(audited: Audited) -> None:
    key = audited.cloud.double.client("kms").create_key()["KeyMetadata"]["Arn"]

    audited.mended("bucket.replication", Status.WARN, kms_key_id=key)

    (rule,) = configuration(audited)["Rules"]
    criteria = {"SseKmsEncryptedObjects": {"Status": "Enabled"}}
    assert criteria == rule["SourceSelectionCriteria"]
    encryption = rule["Destination"]["EncryptionConfiguration"]
    assert encryption["ReplicaKmsKeyID"].startswith("arn:aws:kms:eu-west-1:")
    iam = audited.cloud.double.client("iam")
    name = f"{audited.cloud.bucket}-replication"
    policy = iam.get_role_policy(RoleName=name, PolicyName="replicate")["PolicyDocument"]
    assert key in [each["Resource"] for each in policy["Statement"]]


def test_a_rule_that_leaves_out_what_a_key_encrypts_copies_no_backup(audited: Audited) -> None:
    replicate(audited, {"ID": "all", "Priority": 1, "Filter": {"Prefix": ""},
                        "DeleteMarkerReplication": {"Status": "Disabled"}})  # fmt: skip
    assert Status.PASS is audited.checks()["bucket.replication"].status
    key = audited.cloud.double.client("kms").create_key()["KeyMetadata"]["Arn"]

    audited.mended("bucket.replication", Status.WARN, "encrypted with a key", kms_key_id=key)

    assert 2 == len(configuration(audited)["Rules"])


@pytest.mark.parametrize(
    "theirs",
    [
        {"ID": "logs", "Priority": 7, "Filter": {"Prefix": "logs/"}},
        {"ID": "pg-backups", "Priority": 1, "Filter": {"Prefix": f"{PREFIX}/shop/"}},
    ],
)
def test_rules_for_other_objects_stay(audited: Audited, theirs: dict[str, Any]) -> None:
    marks = {"DeleteMarkerReplication": {"Status": "Disabled"}}
    replicate(audited, theirs | marks)
    role = configuration(audited)["Role"]
    before = configuration(audited)["Rules"]

    audited.mended("bucket.replication", Status.WARN, "no enabled rule takes in all")

    after = configuration(audited)
    assert before == after["Rules"][:1]
    assert role == after["Role"]
    assert theirs["Priority"] + 1 == after["Rules"][1]["Priority"]
    assert theirs["ID"] != after["Rules"][1]["ID"]


def test_rules_of_the_old_form_become_rules_of_the_new_one(audited: Audited) -> None:
    replicate(audited, {"ID": "old", "Prefix": "logs/"})

    audited.mended("bucket.replication", Status.WARN)

    old = configuration(audited)["Rules"][0]
    assert "Prefix" not in old
    assert {"Prefix": "logs/"} == old["Filter"]
    assert {"Status": "Enabled"} == old["DeleteMarkerReplication"]


def test_a_disabled_rule_counts_for_nothing(replicated: Audited) -> None:
    known = configuration(replicated)
    known["Rules"][0]["Status"] = "Disabled"
    replicated.s3.put_bucket_replication(
        Bucket=replicated.cloud.bucket, ReplicationConfiguration=known
    )
    assert Status.WARN is replicated.checks()["bucket.replication"].status


def test_backups_that_could_not_be_copied_are_copied_by_the_fix(
    replicated: Audited, batch: HttpService
) -> None:
    version(replicated, replica(replicated), "Suspended")
    root = put_backup(replicated.cloud, manifest_of())

    before = replicated.checks()["bucket.replication-state"]
    assert_bad(before, Status.FAIL, "failed: 3 objects", f"{root}manifest.json")

    version(replicated, replica(replicated), "Enabled")
    run_job(replicated, before.fix, batch)
    assert Status.PASS is replicated.checks()["bucket.replication-state"].status


def test_backups_from_before_the_rule_are_copied_by_the_fix(
    audited: Audited, batch: HttpService
) -> None:
    put_backup(audited.cloud, manifest_of())
    apply(audited.checks()["bucket.replication"].fix, audited.env)

    before = audited.checks()["bucket.replication-state"]
    assert_bad(before, Status.WARN, "never begun: 3 objects")

    run_job(audited, before.fix, batch)
    assert Status.PASS is audited.checks()["bucket.replication-state"].status


def run_job(audited: Audited, fix: str, batch: HttpService) -> None:
    """S3's control plane has a host name for each account: the job goes there by proxy."""
    away = {"AWS_ENDPOINT_URL_S3_CONTROL": "http://s3-control.test", "HTTP_PROXY": batch.url}
    apply(fix, audited.env | away)


def test_only_the_newest_backup_of_a_database_is_looked_at(audited: Audited) -> None:
    put_backup(audited.cloud, manifest_of())
    apply(audited.checks()["bucket.replication"].fix, audited.env)
    put_backup(audited.cloud, manifest_of(NEWER))

    assert Status.PASS is audited.checks()["bucket.replication-state"].status


def test_a_copy_under_way_is_late_after_three_hours(replicated: Audited) -> None:
    put_backup(replicated.cloud, manifest_of())
    pending = Header("x-amz-replication-status", "PENDING")
    replicated.cloud.proxy.add(pending, method="HEAD")
    env, now = {"AWS_ENDPOINT_URL_S3": replicated.cloud.proxy.url}, datetime.now(UTC)

    found = replicated.checks(env, now + timedelta(hours=2))
    assert Status.PASS is found["bucket.replication-state"].status

    found = replicated.checks(env, now + timedelta(hours=4))
    assert_bad(found["bucket.replication-state"], Status.WARN, "late: 3 objects")


@pytest.mark.parametrize("action", ["s3:ListBucket", "s3:GetObject"])
def test_a_state_that_may_not_be_looked_at_is_unknown(replicated: Audited, action: str) -> None:
    put_backup(replicated.cloud, manifest_of())

    found = replicated.as_role(action)

    assert_bad(found["bucket.replication-state"], Status.UNKNOWN, f'"{action}"')
    assert Status.PASS is found["bucket.replication"].status
