"""storage.yaml deployed: what its bucket refuses, and what it lets the action do."""

from __future__ import annotations

import os
from typing import Any

import pytest

from backup.aws.grants import PolicyScope, needed
from backup.aws.s3 import Bucket
from backup.store import StoredPart
from tests.audits import KEYS, logged_in, settings_of
from tests.lab.aws import REGION, Ministack
from tests.lab.cloud import PREFIX
from tests.lab.sts import ACCOUNT
from tests.storage_stacks import (
    StorageStack,
    new_storage,
    refusal,
    user_keys,
)
from tests.test_s3 import GenerousBody, crc

DENIED, TAKEN = "AccessDenied", "PreconditionFailed"
ONCE = {"IfNoneMatch": "*"}
SSE = {"algorithm": "ServerSideEncryption", "key": "SSEKMSKeyId"}


@pytest.fixture(scope="module")
def storage(ministack: Ministack) -> StorageStack:
    return new_storage(ministack)


@pytest.fixture(scope="module")
def anyone(storage: StorageStack) -> Any:
    """Whom IAM lets do everything: what is refused, the bucket refuses."""
    return storage.user()


@pytest.fixture
def place(storage: StorageStack, request: pytest.FixtureRequest) -> dict[str, str]:
    name = request.node.name.translate(str.maketrans("[]/", "___"))
    return {"Bucket": storage.bucket, "Key": f"{PREFIX}/shop/{name}"}


class TestNothingIsWrittenOver:
    def test_an_object_is_made_once(self, anyone: Any, place: dict[str, str]) -> None:
        assert "" == refusal(anyone.put_object, **place, **ONCE, Body=b"first")
        assert TAKEN == refusal(anyone.put_object, **place, **ONCE, Body=b"second")
        assert b"first" == anyone.get_object(**place)["Body"].read()

    def test_and_not_without_saying_so(self, anyone: Any, place: dict[str, str]) -> None:
        assert DENIED == refusal(anyone.put_object, **place, Body=b"first")

    @pytest.mark.parametrize(("more", "code"), [({}, DENIED), (ONCE, "")], ids=["bare", "once"])
    def test_an_upload_in_parts_says_so_at_its_end(
        self, anyone: Any, place: dict[str, str], more: dict[str, str], code: str
    ) -> None:
        upload = place | {"UploadId": anyone.create_multipart_upload(**place)["UploadId"]}
        part = anyone.upload_part(**upload, PartNumber=1, Body=b"x")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        done = anyone.complete_multipart_upload
        assert code == refusal(done, **upload, MultipartUpload=parts, **more)

    def test_a_copy_made_in_s3_is_refused(self, anyone: Any, place: dict[str, str]) -> None:
        anyone.put_object(**place, **ONCE, Body=b"first")
        onto = place | {"Key": f"{place['Key']}-again"}
        assert DENIED == refusal(anyone.copy_object, **onto, CopySource=dict(place))

    def test_rds_may_write_its_exports(self, anyone: Any, storage: StorageStack) -> None:
        key = f"{PREFIX}/rds/shop/exports/one/part-0.parquet"
        assert "" == refusal(anyone.put_object, Bucket=storage.bucket, Key=key, Body=b"PAR1")


class TestEncryption:
    def test_what_says_nothing_gets_the_buckets_key(
        self, anyone: Any, place: dict[str, str], storage: StorageStack
    ) -> None:
        anyone.put_object(**place, **ONCE, Body=b"x")
        head = anyone.head_object(**place)
        assert ("aws:kms", storage.outputs["KmsKeyId"]) == (
            head["ServerSideEncryption"],
            head["SSEKMSKeyId"],
        )

    @pytest.mark.parametrize("in_parts", [False, True], ids=["whole", "in parts"])
    def test_another_encryption_or_key_is_refused(
        self, anyone: Any, place: dict[str, str], storage: StorageStack, in_parts: bool
    ) -> None:
        other = storage.double.client("kms").create_key()["KeyMetadata"]["Arn"]
        begin = anyone.create_multipart_upload if in_parts else anyone.put_object
        arguments = place | ({} if in_parts else {"Body": b"x", **ONCE})
        own = {SSE["algorithm"]: "aws:kms", SSE["key"]: storage.outputs["KmsKeyId"]}

        assert DENIED == refusal(begin, **arguments, **{SSE["algorithm"]: "AES256"})
        assert DENIED == refusal(begin, **arguments, **{**own, SSE["key"]: other})
        assert "" == refusal(begin, **arguments, **own)

    def test_a_key_that_the_writer_keeps_is_refused(
        self, anyone: Any, place: dict[str, str]
    ) -> None:
        customers = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "0" * 32}
        assert DENIED == refusal(anyone.put_object, **place, **ONCE, Body=b"x", **customers)

    def test_with_keys_of_s3_those_of_kms_are_refused(self, ministack: Ministack) -> None:
        stack = new_storage(ministack, Encryption="s3")
        place = {"Bucket": stack.bucket, "Key": f"{PREFIX}/x", "Body": b"x", **ONCE}
        put = stack.user().put_object
        assert DENIED == refusal(put, **place, **{SSE["algorithm"]: "aws:kms", SSE["key"]: "k"})
        assert "" == refusal(put, **place, **{SSE["algorithm"]: "AES256"})
        assert "KmsKeyId" not in stack.outputs


def test_plain_http_is_refused(storage: StorageStack, place: dict[str, str]) -> None:
    client = storage.user()
    assert "" == refusal(client.list_objects_v2, Bucket=storage.bucket)

    def came_by_http(request: Any, **_others: Any) -> None:
        request.headers["x-forwarded-proto"] = "http"

    client.meta.events.register("before-send.s3", came_by_http)
    assert DENIED == refusal(client.list_objects_v2, Bucket=storage.bucket)
    assert DENIED == refusal(client.put_object, **place, **ONCE, Body=b"x")


def test_a_tier_is_given_once(anyone: Any, place: dict[str, str], storage: StorageStack) -> None:
    anyone.put_object(**place, **ONCE, Body=b"x", Tagging="retention-tier=yearly")
    daily = {"TagSet": [{"Key": "retention-tier", "Value": "daily"}]}

    assert DENIED == refusal(anyone.put_object_tagging, **place, Tagging=daily)
    assert DENIED == refusal(anyone.delete_object_tagging, **place)

    tags = storage.owner.get_object_tagging(**place)["TagSet"]
    assert [{"Key": "retention-tier", "Value": "yearly"}] == tags


def test_the_action_backs_up_with_its_own_policy_and_reads_nothing(
    storage: StorageStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = storage.outputs["KmsKeyId"]
    scope = PolicyScope(
        "aws", REGION, ACCOUNT, storage.bucket, PREFIX, kms_key_arn=key, tags_objects=True
    )
    grants = [grant.statement() for grant in needed("backup", scope)]
    access, secret = user_keys(storage.double, grants)
    settings = settings_of(
        bucket=storage.bucket, kms_key_id=key, object_tags="retention-tier=weekly"
    )
    keys = {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}
    session = logged_in(
        monkeypatch, settings, KEYS | keys | {"AWS_ENDPOINT_URL": storage.double.url}
    )
    bucket, data = Bucket(session, settings.bucket, connections=1), os.urandom(70_000)
    name = f"{PREFIX}/shop/backed-up"

    upload = bucket.begin(name)
    part = bucket.put_part(name, upload, 1, GenerousBody(data), len(data), crc(data))
    bucket.complete(name, upload, [StoredPart(1, part.etag, crc(data))], len(data), crc(data))
    bucket.put_if_absent(f"{name}.json", b"{}", "application/json")

    writer = storage.double.client("s3", access_key=access, secret_key=secret)
    for each in (name, f"{name}.json"):
        where = {"Bucket": storage.bucket, "Key": each}
        tags = storage.owner.get_object_tagging(**where)["TagSet"]
        assert [{"Key": "retention-tier", "Value": "weekly"}] == tags
        assert DENIED == refusal(writer.get_object, **where)
        assert DENIED == refusal(writer.delete_object, **where)
        assert DENIED == refusal(writer.put_object, **where, Body=b"over")
        assert TAKEN == refusal(writer.put_object, **where, **ONCE, Body=b"over")


def test_a_lock_can_be_put_on_later(ministack: Ministack) -> None:
    bucket = new_storage(ministack).bucket
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockDays": "7"}
    locked = new_storage(ministack, Bucket=bucket, **lock)

    client, key = locked.user(), f"{PREFIX}/locked"
    made = client.put_object(Bucket=bucket, Key=key, **ONCE, Body=b"x")
    version = {"Bucket": bucket, "Key": key, "VersionId": made["VersionId"]}
    bypass = {"BypassGovernanceRetention": True}
    assert DENIED == refusal(client.delete_object, **version, **bypass)
