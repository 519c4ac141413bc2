"""Both regions deployed: what is copied and what is not, and what an audit says of the buckets."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime

import pytest

from backup.checks import Check, Status
from backup.operations.auditing.bucket import checks
from tests.audited_bucket import by_id
from tests.audits import KEYS, logged_in, settings_of
from tests.lab.aws import REGION, Ministack
from tests.lab.cloud import PREFIX
from tests.lab.stacks import StackError
from tests.lab.sts import ACCOUNT
from tests.storage_stacks import StorageStack, new_replica, new_storage, refusal, replica_elsewhere

SECOND, OTHER_ACCOUNT = "eu-west-1", "999988887777"
DENIED = "AccessDenied"
ONCE = {"IfNoneMatch": "*"}


@pytest.fixture(scope="module")
def storage(ministack: Ministack) -> StorageStack:
    return new_storage(ministack)


class TestAudit:
    @staticmethod
    def of(stack: StorageStack, monkeypatch: pytest.MonkeyPatch, **inputs: str) -> dict[str, Check]:
        settings = settings_of(bucket=stack.bucket, **inputs)
        env = KEYS | {"AWS_ENDPOINT_URL": stack.double.url}
        session = logged_in(monkeypatch, settings, env).in_region(inputs.get("aws_region", REGION))
        return by_id(checks(session, settings, datetime.now(UTC)))

    @staticmethod
    def not_green(found: dict[str, Check]) -> dict[str, str]:
        return {id: each.reason for id, each in found.items() if each.status is not Status.PASS}

    @pytest.mark.parametrize("tier", ["", "auto"])
    def test_by_default_a_lock_and_a_second_region_are_left_to_wish_for(
        self, storage: StorageStack, monkeypatch: pytest.MonkeyPatch, tier: str
    ) -> None:
        inputs = {"retention_tier": tier, "kms_key_id": storage.outputs["KmsKeyId"]}
        found = self.of(storage, monkeypatch, **inputs)
        unmet = {"bucket.object-lock", "bucket.replication"}
        assert unmet == self.not_green(found).keys(), self.not_green(found)
        assert {Status.WARN} == {found[id].status for id in unmet}

    @pytest.mark.parametrize("tier", ["", "auto"])
    @pytest.mark.parametrize("encryption", ["kms", "s3"])
    def test_with_both_regions_and_a_lock_it_is_green(
        self, ministack: Ministack, monkeypatch: pytest.MonkeyPatch, encryption: str, tier: str
    ) -> None:
        lock = {"Encryption": encryption, "ObjectLockMode": "GOVERNANCE"}
        replica = new_replica(ministack, SECOND, **lock)
        key = replica.outputs.get("KmsKeyId", "")
        copies = {"ReplicaBucket": replica.bucket, "ReplicaKmsKeyArn": key}
        stack = new_storage(ministack, **lock, **copies)

        assert {} == self.not_green(self.of(stack, monkeypatch, retention_tier=tier))
        inputs = {"retention_tier": tier, "aws_region": SECOND}
        unmet = self.not_green(self.of(replica, monkeypatch, **inputs))
        assert {"bucket.replication"} == unmet.keys()


@pytest.fixture(scope="module")
def replica(ministack: Ministack) -> StorageStack:
    return new_replica(ministack, SECOND)


@pytest.fixture(scope="module")
def source(ministack: Ministack, replica: StorageStack) -> StorageStack:
    """A stack that was there before, and is told of the second region."""
    alone = new_storage(ministack)
    copies = {
        "ReplicaBucket": replica.outputs["ReplicaBucket"],
        "ReplicaKmsKeyArn": replica.outputs["KmsKeyId"],
    }
    return new_storage(ministack, Bucket=alone.bucket, **copies)


class TestReplication:
    def test_the_two_regions_are_what_the_outputs_say(
        self, source: StorageStack, replica: StorageStack
    ) -> None:
        assert (REGION, SECOND) == (source.outputs["AwsRegion"], replica.outputs["ReplicaRegion"])
        for stack, region in ((source, REGION), (replica, SECOND)):
            where = stack.owner.get_bucket_location(Bucket=stack.bucket)
            assert region == where["LocationConstraint"]
            assert f":kms:{region}:" in stack.outputs["KmsKeyId"]

    def test_what_is_written_is_copied_with_its_tags(
        self, source: StorageStack, replica: StorageStack
    ) -> None:
        key = f"{PREFIX}/shop/copied"
        where = {"Bucket": source.bucket, "Key": key}
        source.user().put_object(**where, **ONCE, Body=b"x", Tagging="retention-tier=monthly")

        assert "COMPLETED" == source.owner.head_object(**where)["ReplicationStatus"]
        there = {"Bucket": replica.bucket, "Key": key}
        assert b"x" == replica.owner.get_object(**there)["Body"].read()
        tags = replica.owner.get_object_tagging(**there)["TagSet"]
        assert [{"Key": "retention-tier", "Value": "monthly"}] == tags

    def test_what_is_deleted_here_stays_there(
        self, source: StorageStack, replica: StorageStack
    ) -> None:
        key = f"{PREFIX}/shop/deleted"
        source.user().put_object(Bucket=source.bucket, Key=key, **ONCE, Body=b"x")

        source.owner.delete_object(Bucket=source.bucket, Key=key)

        assert "NoSuchKey" == refusal(source.owner.get_object, Bucket=source.bucket, Key=key)
        assert b"x" == replica.owner.get_object(Bucket=replica.bucket, Key=key)["Body"].read()

    def test_a_copy_is_not_written_over_either(self, replica: StorageStack) -> None:
        put, where = replica.user().put_object, {"Bucket": replica.bucket, "Key": f"{PREFIX}/x"}
        assert DENIED == refusal(put, **where, Body=b"x")
        assert "" == refusal(put, **where, **ONCE, Body=b"x")

    def test_the_role_of_the_rule_is_the_stacks(self, source: StorageStack) -> None:
        told = source.owner.get_bucket_replication(Bucket=source.bucket)
        role = told["ReplicationConfiguration"]["Role"]
        assert f"arn:aws:iam::{ACCOUNT}:role/pg-backup-replication/{source.bucket}" == role
        iam = source.double.client("iam")
        policy = iam.get_role_policy(RoleName=source.bucket, PolicyName="replicate")
        assert "s3:ReplicateDelete" not in json.dumps(policy["PolicyDocument"])

    def test_another_account_takes_the_copies_of_one_bucket_alone(
        self, ministack: Ministack
    ) -> None:
        first = f"storage-{secrets.token_hex(4)}"
        role = f"arn:aws:iam::{ACCOUNT}:role/pg-backup-replication/{first}"
        there = replica_elsewhere(ministack, OTHER_ACCOUNT, SECOND, SourceRoleArn=role)
        copies = {
            "ReplicaBucket": there["ReplicaBucket"],
            "ReplicaKmsKeyArn": there["KmsKeyId"],
        }
        for name, status in ((first, "COMPLETED"), (f"{first}-other", "FAILED")):
            stack = new_storage(ministack, Bucket=name, **copies)
            where = {"Bucket": name, "Key": f"{PREFIX}/{status}"}
            stack.user().put_object(**where, **ONCE, Body=b"x")
            assert status == stack.owner.head_object(**where)["ReplicationStatus"]

        assert OTHER_ACCOUNT == there["ExpectedBucketOwner"]
        owner = ministack.client("s3", access_key=OTHER_ACCOUNT)
        listed = owner.list_objects_v2(Bucket=there["ReplicaBucket"])["Contents"]
        assert [f"{PREFIX}/COMPLETED"] == [each["Key"] for each in listed]

    def test_without_a_key_for_the_copies_the_stack_is_refused(
        self, ministack: Ministack, replica: StorageStack
    ) -> None:
        with pytest.raises(StackError, match="ReplicaKmsKeyArn is needed"):
            new_storage(ministack, ReplicaBucket=replica.bucket)
