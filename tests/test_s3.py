"""The bucket against real S3 servers, and against one that fails on purpose."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from awscrt.checksums import crc64nvme

from backup.aws.s3 import Bucket
from backup.aws.s3_reading import ListedObject
from backup.aws.session import AwsSession, open_session
from backup.errors import AccessError, AlreadyWritten, BackupError, InputError, StorageError
from backup.settings import BucketSettings, RoleSettings
from backup.store import StoredPart
from tests.lab.aws import REGION, Ministack, Moto, open_uploads, visible_objects
from tests.lab.faults import (
    ERROR_IN_200,
    INTERNAL_ERROR,
    SLOW_DOWN,
    Answer,
    FaultProxy,
    Reset,
)
from tests.lab.httpd import HttpService, Request, Response, answering
from tests.lab.issuer import Issuer
from tests.lab.sts import ACCOUNT, ROLE, Sts

NAME = "backups"
ARN = f"arn:aws:s3:::{NAME}"
SETTINGS = BucketSettings(
    name=NAME, prefix="postgresql", kms_key_id=None, expected_owner=None, tags=()
)
AMBIENT = RoleSettings(REGION, None, "pg-backup-action", 3600, "sts.amazonaws.com", None, ())
PARTS = (os.urandom(5 << 20), os.urandom(70_000))
WHOLE = b"".join(PARTS)


class GenerousBody:
    """A part that hands out more than it is asked for, as the archive's parts do."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(max(size, 256 << 10) if size >= 0 else size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def crc(data: bytes) -> str:
    return base64.b64encode(crc64nvme(data).to_bytes(8, "big")).decode()


def send(bucket: Bucket, key: str) -> tuple[str, list[StoredPart]]:
    """Begin an upload and send both parts."""
    upload = bucket.begin(key)
    parts = [
        bucket.put_part(key, upload, number, GenerousBody(part), len(part), crc(part))
        for number, part in enumerate(PARTS, start=1)
    ]
    return upload, parts


def store(bucket: Bucket, key: str) -> None:
    upload, parts = send(bucket, key)
    bucket.complete(key, upload, parts, len(WHOLE), crc(WHOLE))


@pytest.fixture(scope="module")
def ministack() -> Iterator[Ministack]:
    with Ministack() as double:
        double.make_bucket(NAME)
        yield double


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")


@dataclass
class Lab:
    """ministack behind a proxy that can fail; nothing in `key` collides between tests."""

    cloud: Ministack
    proxy: FaultProxy
    session: AwsSession
    key: str

    def bucket(self, settings: BucketSettings = SETTINGS) -> Bucket:
        return Bucket(self.session, settings, 4)

    def visible(self) -> dict[str, int]:
        return visible_objects(self.cloud.client("s3"), NAME, self.key)

    def open_uploads(self) -> list[str]:
        return [key for key in open_uploads(self.cloud.client("s3"), NAME) if key == self.key]


@pytest.fixture(scope="module")
def session(ministack: Ministack) -> AwsSession:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", ministack.url)
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        return open_session(AMBIENT, None, lambda _: None)


@pytest.fixture
def lab(
    ministack: Ministack,
    session: AwsSession,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Lab]:
    with FaultProxy(ministack.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", ministack.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        yield Lab(ministack, proxy, session, f"postgresql/{request.node.name}/archive/1.dat")


def refused(call: Callable[[], object]) -> BackupError:
    with pytest.raises(BackupError) as caught:
        call()
    return caught.value


def test_an_object_is_invisible_until_completed_and_then_whole_with_its_checksum(lab: Lab) -> None:
    bucket = lab.bucket()
    upload, parts = send(bucket, lab.key)
    assert {} == lab.visible()

    bucket.complete(lab.key, upload, parts, len(WHOLE), crc(WHOLE))

    assert WHOLE == bucket.read(lab.key)
    head = lab.cloud.client("s3").head_object(Bucket=NAME, Key=lab.key, ChecksumMode="ENABLED")
    assert (crc(WHOLE), "FULL_OBJECT") == (head["ChecksumCRC64NVME"], head["ChecksumType"])
    assert [] == lab.open_uploads()


def test_the_broad_double_takes_an_object_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with Moto() as moto:
        moto.make_bucket(NAME)
        monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
        bucket = Bucket(open_session(AMBIENT, None, lambda _: None), SETTINGS, 4)
        bucket.check()
        store(bucket, "postgresql/one")
        bucket.put_if_absent("postgresql/manifest.json", b"{}", "application/json")

        assert WHOLE == bucket.read("postgresql/one")
        head = moto.client("s3").head_object(
            Bucket=NAME, Key="postgresql/one", ChecksumMode="ENABLED"
        )
        assert crc(WHOLE) == head["ChecksumCRC64NVME"]


def test_a_part_that_is_not_what_its_checksum_says_is_refused(lab: Lab) -> None:
    bucket = lab.bucket()
    upload = bucket.begin(lab.key)

    error = refused(lambda: bucket.put_part(lab.key, upload, 1, GenerousBody(b"x"), 1, crc(b"y")))

    assert 5 == error.exit_code
    assert "BadDigest" in error.detail
    assert "are not those that were sent" in error.hint


def test_an_object_that_is_not_what_its_checksum_says_stays_invisible(lab: Lab) -> None:
    bucket = lab.bucket()
    upload, parts = send(bucket, lab.key)

    refused(lambda: bucket.complete(lab.key, upload, parts, len(WHOLE), crc(b"another")))

    assert {} == lab.visible()


def test_an_aborted_upload_leaves_nothing_and_may_be_aborted_twice(lab: Lab) -> None:
    bucket = lab.bucket()
    upload, _ = send(bucket, lab.key)

    bucket.abort(lab.key, upload)
    bucket.abort(lab.key, upload)

    assert ({}, []) == (lab.visible(), lab.open_uploads())


@pytest.mark.parametrize(
    "fault", [SLOW_DOWN, INTERNAL_ERROR, Reset(), Reset(after_forwarding=True)], ids=repr
)
def test_a_part_is_sent_again_from_its_start(lab: Lab, fault: Answer | Reset) -> None:
    lab.key = f"postgresql/again/{secrets.token_hex(4)}.dat"
    bucket = lab.bucket()
    lab.proxy.add(fault, method="PUT", pattern="partNumber=1", times=2)

    store(bucket, lab.key)

    assert WHOLE == bucket.read(lab.key)
    assert 3 == len(lab.proxy.seen("PUT", r"partNumber=1\b"))


def test_an_error_inside_a_200_is_tried_again(lab: Lab) -> None:
    lab.proxy.add(ERROR_IN_200, method="POST", pattern="uploadId=", times=1)

    store(lab.bucket(), lab.key)

    assert {lab.key: len(WHOLE)} == lab.visible()


def test_a_completion_whose_answer_was_lost_counts_as_done(lab: Lab) -> None:
    gone = Answer(404, "NoSuchUpload", "The specified upload does not exist.")
    lab.proxy.add(Reset(after_forwarding=True), method="POST", pattern="uploadId=", times=1)
    lab.proxy.add(gone, method="POST", pattern="uploadId=")

    store(lab.bucket(), lab.key)

    assert {lab.key: len(WHOLE)} == lab.visible()


TAKEN = Answer(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
CONFLICT = Answer(409, "ConditionalRequestConflict", "A conflicting operation occurred.")


def test_a_completion_says_that_nothing_may_be_written_over(lab: Lab) -> None:
    store(lab.bucket(), lab.key)

    [completion] = lab.proxy.seen("POST", "uploadId=")
    assert "*" == completion.headers["if-none-match"]


def test_an_object_is_never_written_over_by_another_upload(lab: Lab) -> None:
    bucket = lab.bucket()
    upload, parts = send(bucket, lab.key)
    lab.cloud.client("s3").put_object(Bucket=NAME, Key=lab.key, Body=b"someone else's")

    error = refused(lambda: bucket.complete(lab.key, upload, parts, len(WHOLE), crc(WHOLE)))

    assert isinstance(error, AlreadyWritten)
    assert f"s3://{NAME}/{lab.key} exists already" == error.message
    assert b"someone else's" == bucket.read(lab.key)


def test_an_object_of_the_same_size_is_someone_elses_where_nothing_was_sent_before(
    lab: Lab,
) -> None:
    bucket = lab.bucket()
    upload, parts = send(bucket, lab.key)
    lab.cloud.client("s3").put_object(Bucket=NAME, Key=lab.key, Body=bytes(len(WHOLE)))

    error = refused(lambda: bucket.complete(lab.key, upload, parts, len(WHOLE), crc(WHOLE)))

    assert isinstance(error, AlreadyWritten)


def test_an_object_in_the_way_counts_as_done_if_it_is_ours(lab: Lab) -> None:
    """The first answer is lost, and S3 meets the object that the first attempt has made."""
    lab.proxy.add(Reset(after_forwarding=True), method="POST", pattern="uploadId=", times=1)
    lab.proxy.add(TAKEN, method="POST", pattern="uploadId=")

    store(lab.bucket(), lab.key)

    assert {lab.key: len(WHOLE)} == lab.visible()
    assert [0, 412] == [each.status for each in lab.proxy.seen("POST", "uploadId=")]


def test_an_object_in_the_way_is_not_ours_if_it_has_another_size(lab: Lab) -> None:
    bucket = lab.bucket()
    upload, parts = send(bucket, lab.key)
    lab.cloud.client("s3").put_object(Bucket=NAME, Key=lab.key, Body=b"someone else's")
    lab.proxy.add(Reset(), method="POST", pattern="uploadId=", times=1)

    error = refused(lambda: bucket.complete(lab.key, upload, parts, len(WHOLE), crc(WHOLE)))

    assert isinstance(error, AlreadyWritten)


def test_a_completion_that_meets_a_conflict_is_sent_again(lab: Lab) -> None:
    lab.proxy.add(CONFLICT, method="POST", pattern="uploadId=", times=2)

    store(lab.bucket(), lab.key)

    assert {lab.key: len(WHOLE)} == lab.visible()
    assert [409, 409, 200] == [each.status for each in lab.proxy.seen("POST", "uploadId=")]


@pytest.mark.parametrize(
    "then", [TAKEN, Answer(404, "NoSuchUpload", "It does not exist.")], ids=lambda each: each.code
)
def test_a_completion_still_at_work_behind_a_conflict_counts_as_done(
    lab: Lab, then: Answer
) -> None:
    lab.key += then.code
    conflict = replace(CONFLICT, instead=False)  # the double completes, and the answer is lost
    lab.proxy.add(conflict, method="POST", pattern="uploadId=", times=1)
    lab.proxy.add(then, method="POST", pattern="uploadId=")

    store(lab.bucket(), lab.key)

    assert {lab.key: len(WHOLE)} == lab.visible()


def test_an_upload_that_a_conflict_ended_says_so(lab: Lab) -> None:
    lab.proxy.add(CONFLICT, method="POST", pattern="uploadId=", times=1)
    gone = Answer(404, "NoSuchUpload", "The specified upload does not exist.")
    lab.proxy.add(gone, method="POST", pattern="uploadId=")
    bucket = lab.bucket()
    upload, parts = send(bucket, lab.key)

    error = refused(lambda: bucket.complete(lab.key, upload, parts, len(WHOLE), crc(WHOLE)))

    assert "ConditionalRequestConflict" in error.detail
    assert "run the backup again" in error.hint
    assert {} == lab.visible()


def test_a_store_that_cannot_complete_on_a_condition_completes_without(lab: Lab) -> None:
    unknown = Answer(501, "NotImplemented", "A header you provided implies functionality ...")
    lab.proxy.add(unknown, method="POST", pattern="uploadId=", times=1)
    bucket = lab.bucket()

    store(bucket, lab.key)
    store(bucket, f"{lab.key}.more")

    sent = lab.proxy.seen("POST", "uploadId=")
    assert [501, 200, 200] == [each.status for each in sent]
    assert ["*", None, None] == [each.headers.get("if-none-match") for each in sent]


def test_an_upload_that_someone_else_aborted_is_an_error_with_a_cause(lab: Lab) -> None:
    bucket = lab.bucket()
    upload, parts = send(bucket, lab.key)
    lab.cloud.client("s3").abort_multipart_upload(Bucket=NAME, Key=lab.key, UploadId=upload)

    error = refused(lambda: bucket.complete(lab.key, upload, parts, len(WHOLE), crc(WHOLE)))

    assert 5 == error.exit_code
    assert "AbortIncompleteMultipartUpload" in error.hint


def test_a_store_that_stays_busy_is_an_error_that_says_how_often_it_was_asked(lab: Lab) -> None:
    lab.proxy.add(SLOW_DOWN)

    error = refused(lambda: lab.bucket().begin(lab.key))

    assert isinstance(error, StorageError)
    assert "SlowDown: Please reduce your request rate. (sent 3 times)" in error.detail


def test_a_manifest_is_written_once_and_never_over_another(lab: Lab) -> None:
    bucket = lab.bucket()
    bucket.put_if_absent(lab.key, b"first", "application/json")

    error = refused(lambda: bucket.put_if_absent(lab.key, b"secnd", "application/json"))

    assert isinstance(error, StorageError)
    assert f"s3://{NAME}/{lab.key} exists already" == error.message
    assert b"first" == bucket.read(lab.key)


def test_a_manifest_whose_answer_was_lost_counts_as_written(lab: Lab) -> None:
    lab.proxy.add(Reset(after_forwarding=True), method="PUT", times=1)
    bucket = lab.bucket()

    bucket.put_if_absent(lab.key, b"mine", "application/json")

    assert b"mine" == bucket.read(lab.key)
    assert [0, 412] == [record.status for record in lab.proxy.seen("PUT")]


def test_a_manifest_of_someone_else_is_not_taken_for_a_lost_answer(lab: Lab) -> None:
    bucket = lab.bucket()
    bucket.put_if_absent(lab.key, b"someone else's", "application/json")
    lab.proxy.add(Reset(), method="PUT", times=1)

    error = refused(lambda: bucket.put_if_absent(lab.key, b"mine", "application/json"))

    assert "exists already" in error.message


def test_a_conflicting_write_is_sent_again(lab: Lab) -> None:
    conflict = Answer(409, "ConditionalRequestConflict", "A conflicting operation occurred.")
    lab.proxy.add(conflict, method="PUT", times=2)
    bucket = lab.bucket()

    bucket.put_if_absent(lab.key, b"mine", "application/json")

    assert b"mine" == bucket.read(lab.key)


def test_a_manifest_still_at_work_behind_a_conflict_counts_as_written(lab: Lab) -> None:
    """The first answer is lost, the second attempt meets the first, the third what it has made."""
    lab.proxy.add(Reset(after_forwarding=True), method="PUT", times=1)
    lab.proxy.add(CONFLICT, method="PUT", times=1)
    bucket = lab.bucket()

    bucket.put_if_absent(lab.key, b"mine", "application/json")

    assert b"mine" == bucket.read(lab.key)
    assert [0, 409, 412] == [record.status for record in lab.proxy.seen("PUT")]


def test_a_manifest_that_won_a_conflict_is_someone_elses(lab: Lab) -> None:
    bucket = lab.bucket()
    bucket.put_if_absent(lab.key, b"else", "application/json")
    lab.proxy.add(CONFLICT, method="PUT", times=1)

    error = refused(lambda: bucket.put_if_absent(lab.key, b"mine", "application/json"))

    assert isinstance(error, AlreadyWritten)


PAGE = (
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{next}<Contents>'
    "<Key>{key}</Key><Size>{size}</Size><LastModified>2026-11-22T02:00:00Z</LastModified>"
    "<StorageClass>{storage_class}</StorageClass></Contents></ListBucketResult>"
)
TRUNCATED = "<IsTruncated>true</IsTruncated><NextContinuationToken>more</NextContinuationToken>"


def test_a_listing_goes_over_all_pages_in_order(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    first = PAGE.format(next=TRUNCATED, key="postgresql/a", size=7, storage_class="STANDARD")
    second = PAGE.format(next="", key="postgresql/b", size=8, storage_class="GLACIER_IR")

    def answer(request: Request) -> Response:
        page = second if request.query.get("continuation-token") == ["more"] else first
        return Response(200, page.encode(), {"Content-Type": "application/xml"})

    moment = datetime(2026, 11, 22, 2, tzinfo=UTC)
    with contextlib.closing(HttpService(answering(answer))) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", service.url)
        listed = list(lab.bucket().list("postgresql/"))

    assert [
        ListedObject("postgresql/a", 7, moment, "STANDARD"),
        ListedObject("postgresql/b", 8, moment, "GLACIER_IR"),
    ] == listed


def test_tags_key_and_owner_are_on_each_object(lab: Lab) -> None:
    key_arn = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd"
    bucket = lab.bucket(
        replace(
            SETTINGS,
            kms_key_id=key_arn,
            expected_owner=ACCOUNT,
            tags=(("team", "shop & co"), ("kind", "backup")),
        )
    )
    store(bucket, lab.key)
    bucket.put_if_absent(f"{lab.key}.json", b"{}", "application/json")

    s3 = lab.cloud.client("s3")
    for key in (lab.key, f"{lab.key}.json"):
        tags = s3.get_object_tagging(Bucket=NAME, Key=key)["TagSet"]
        assert {"team": "shop & co", "kind": "backup"} == {tag["Key"]: tag["Value"] for tag in tags}
        head = s3.head_object(Bucket=NAME, Key=key)
        assert ("aws:kms", key_arn) == (head["ServerSideEncryption"], head["SSEKMSKeyId"])
    owners = {record.headers.get("x-amz-expected-bucket-owner") for record in lab.proxy.records}
    assert {ACCOUNT} == owners


@pytest.mark.parametrize(
    "refusal",
    [
        Answer(400, "InvalidRequest", "Checksum algorithm provided is unsupported."),
        Answer(501, "NotImplemented", "A header you provided implies functionality ..."),
    ],
    ids=lambda refusal: refusal.code,
)
def test_a_store_without_crc64nvme_checks_md5_instead(lab: Lab, refusal: Answer) -> None:
    lab.key += refusal.code
    lab.proxy.add(refusal, method="POST", pattern="uploads", times=1)
    bucket = lab.bucket()

    store(bucket, lab.key)
    bucket.put_if_absent(f"{lab.key}.json", b"{}", "application/json")

    assert WHOLE == bucket.read(lab.key)
    puts = lab.proxy.seen("PUT")
    assert 3 == len(puts)
    assert all("content-md5" in record.headers for record in puts)
    assert not any("x-amz-checksum-crc64nvme" in record.headers for record in puts)


def test_the_md5_of_the_fallback_is_checked_by_the_store(lab: Lab) -> None:
    lab.proxy.add(
        Answer(400, "InvalidRequest", "unsupported"), method="POST", pattern="uploads", times=1
    )
    bucket = lab.bucket()
    upload = bucket.begin(lab.key)

    class Changing(GenerousBody):
        """Bytes that differ from one reading to the next, as on failing memory."""

        def seek(self, offset: int, whence: int = 0, /) -> int:
            self._file = io.BytesIO(b"changed")
            return super().seek(offset, whence)

    error = refused(
        lambda: bucket.put_part(lab.key, upload, 1, Changing(b"at first"[:7]), 7, crc(b"at first"))
    )

    assert "BadDigest" in error.detail


def test_a_bucket_that_is_not_there_is_bad_input(lab: Lab) -> None:
    error = refused(lab.bucket(replace(SETTINGS, name="no-such-bucket-here")).check)

    assert isinstance(error, InputError)
    assert "there is no bucket 'no-such-bucket-here'" in error.detail
    assert f"aws s3 mb s3://no-such-bucket-here --region {REGION}" in error.hint


def test_a_bucket_of_another_owner_is_told_from_a_missing_permission(lab: Lab) -> None:
    error = refused(lab.bucket(replace(SETTINGS, expected_owner="999999999999")).check)

    assert isinstance(error, AccessError)
    assert f"bucket {NAME!r} does not belong to account 999999999999" == error.message


MALFORMED = (
    "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is "
    "malformed; the region 'eu-central-1' is wrong; expecting 'us-west-2'</Message>"
    "<Region>us-west-2</Region></Error>"
)
REDIRECT = (
    "<Error><Code>PermanentRedirect</Code><Message>The bucket you are attempting to access must "
    "be addressed using the specified endpoint.</Message></Error>"
)
LISTED = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></ListBucketResult>'


@pytest.mark.parametrize(
    ("settings", "option"),
    [(SETTINGS, "aws-region"), (replace(SETTINGS, replica_of="first"), "replica-region")],
    ids=["bucket", "replica"],
)
@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (400, MALFORMED, {}),
        (301, REDIRECT, {"x-amz-bucket-region": "us-west-2"}),
        (200, LISTED, {"x-amz-bucket-region": "us-west-2"}),
    ],
    ids=["malformed", "redirect", "followed"],
)
def test_a_bucket_in_another_region_is_named_with_it(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: str,
    headers: dict[str, str],
    settings: BucketSettings,
    option: str,
) -> None:
    def answer(request: Request) -> Response:
        assert request.method == "GET"
        return Response(status, body.encode(), {"Content-Type": "application/xml", **headers})

    with contextlib.closing(HttpService(answering(answer))) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", service.url)
        error = refused(lab.bucket(settings).check)

    assert isinstance(error, InputError)
    assert f"bucket {NAME!r} is not in {REGION} but in us-west-2" == error.detail
    assert f"{option}: us-west-2" == error.hint


def test_an_unreachable_store_is_a_storage_error_with_a_remedy(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")

    error = refused(lab.bucket().check)

    assert isinstance(error, StorageError)
    assert "check DNS, firewall and VPC endpoints" in error.hint


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        ("ExpiredToken", AccessError, "role-to-assume"),
        ("RequestTimeTooSkewed", AccessError, "clock"),
        ("SignatureDoesNotMatch", AccessError, "AWS_SECRET_ACCESS_KEY"),
        ("EntityTooLarge", StorageError, "other limits than S3"),
        ("KMS.DisabledException", InputError, "enable the KMS key"),
        ("KMS.NotFoundException", InputError, "correct kms-key-id"),
    ],
)
def test_each_refusal_of_s3_has_its_class_and_its_remedy(
    lab: Lab, code: str, kind: type[BackupError], remedy: str
) -> None:
    lab.proxy.add(Answer(400, code, "Refused."))

    error = refused(lambda: lab.bucket().begin(lab.key))

    assert kind is type(error)
    assert f"AWS says {code}: Refused." in error.detail
    assert remedy in error.hint


def test_a_denied_key_is_answered_with_its_statement_even_for_an_alias(lab: Lab) -> None:
    text = f"User: {ROLE} is not authorized to perform: kms:GenerateDataKey on this resource"
    lab.proxy.add(Answer(403, "AccessDenied", text))
    bucket = lab.bucket(replace(SETTINGS, kms_key_id="alias/backup"))

    statement = json.loads(refused(lambda: bucket.begin(lab.key)).hint.splitlines()[-1])

    assert ["kms:GenerateDataKey", "kms:Decrypt"] == statement["Action"]
    assert f"arn:aws:kms:{REGION}:ACCOUNT_ID:key/*" == statement["Resource"]
    assert {"kms:ResourceAliases": "alias/backup"} == statement["Condition"][
        "ForAnyValue:StringEquals"
    ]


@pytest.fixture
def as_role(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., AwsSession]]:
    """A session of a role that may do what is given, and nothing else."""
    with Issuer() as issuer, Sts(issuer.jwks_url, lab.cloud.url) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)

        def become(*actions: str, resource: str = f"{ARN}/*") -> AwsSession:
            lab.cloud.make_role(
                [{"Effect": "Allow", "Action": list(actions), "Resource": resource}]
            )
            return open_session(replace(AMBIENT, arn=ROLE), issuer.token, lambda _: None)

        yield become


def test_a_role_that_may_write_but_not_list_passes_the_check_and_backs_up(
    lab: Lab, as_role: Callable[..., AwsSession]
) -> None:
    lab.session = as_role("s3:PutObject", "s3:AbortMultipartUpload")
    bucket = lab.bucket()

    bucket.check()
    store(bucket, lab.key)

    assert {lab.key: len(WHOLE)} == lab.visible()


OBJECTS = f"{ARN}/postgresql/*"
# A tier that an object has must stay, so tags are for new objects alone.
WRITING: list[dict[str, Any]] = [
    {"Action": "s3:PutObject", "Resource": OBJECTS},
    {
        "Action": "s3:PutObjectTagging",
        "Resource": OBJECTS,
        "Condition": {"Null": {"s3:ExistingObjectTag/retention-tier": "true"}},
    },
]


@pytest.mark.parametrize(
    ("call", "statements"),
    [
        (lambda b, k: b.begin(k), WRITING),
        (
            lambda b, k: b.abort(k, "u"),
            [{"Action": "s3:AbortMultipartUpload", "Resource": OBJECTS}],
        ),
        (lambda b, k: b.read(k), [{"Action": "s3:GetObject", "Resource": OBJECTS}]),
        (lambda b, k: list(b.list(k)), [{"Action": "s3:ListBucket", "Resource": ARN}]),
        (lambda b, k: b.put_if_absent(k, b"", "text/plain"), WRITING),
    ],
    ids=["begin", "abort", "read", "list", "put_if_absent"],
)
def test_a_denied_request_is_answered_with_the_statement_that_allows_it(
    lab: Lab,
    as_role: Callable[..., AwsSession],
    call: Callable[[Bucket, str], object],
    statements: list[dict[str, Any]],
) -> None:
    lab.session = as_role("s3:ListAllMyBuckets", resource="*")
    bucket = lab.bucket(replace(SETTINGS, tags=(("team", "shop"),)))

    error = refused(lambda: call(bucket, "postgresql/denied"))

    assert isinstance(error, AccessError)
    printed = [json.loads(line) for line in error.hint.splitlines()[1:]]
    assert [{"Effect": "Allow"} | each for each in statements] == printed
