"""Steps of the doctor: the bucket, and writes to it such as a backup makes.

What is written stays: the role needs no permission to delete, and has none.
"""

from __future__ import annotations

import io
import json
import re
import secrets
from datetime import UTC, datetime

from backup.archive.retention import TAG, TIERS
from backup.aws.checksums import crc64nvme_of
from backup.aws.s3 import Bucket, Encryption
from backup.aws.session import AwsSession
from backup.checks import Answer, Check, Known, Unanswered, ask
from backup.console import Console
from backup.errors import AlreadyWritten, BackupError, StorageError
from backup.operations.auditing.setup_course import Course, Step, failed, passed, warned
from backup.operations.auditing.shell import s3api
from backup.operations.opening import first_bucket
from backup.settings import BucketSettings, Settings

# KMS.NotFoundException, or "… is not authorized to perform: kms:GenerateDataKey on …".
_OF_THE_KEY = re.compile(r"AWS says K(?:MS|ms)|\bkms:[A-Z]")
_TRIAL = {
    "format": 1,
    "made_by": "operation: audit, scope: setup",
    "purpose": "shows that this role may write here; no backup, and never read again",
}


def look_at_bucket(
    course: Course, run: Settings, session: AwsSession | None, console: Console
) -> None:
    """Whether it is there, and takes what a backup writes."""
    settings = run.bucket

    def open_bucket() -> Bucket:
        assert session is not None  # noqa: S101 - the step rests on the role
        bucket = first_bucket(session, run, console).bucket(connections=2)
        if settings.retention_tier:  # whichever it will be, the tag has to be allowed
            bucket = bucket.tagged(TAG, TIERS[0])
        bucket.check()
        return bucket

    def told(bucket: Bucket) -> Check:
        region = session.region if session else ""
        owned = f", and is account {owner}'s" if (owner := settings.expected_owner) else ""
        if isinstance(listing(bucket), Unanswered):
            unseen = "whether it is there shows at the write, for this role may not list it"
            return passed(Step.BUCKET, f"S3 answers in {region}; {unseen}")
        return passed(Step.BUCKET, f"s3://{settings.name} is there, in {region}{owned}")

    def listing(bucket: Bucket) -> Answer[object]:
        root = f"{settings.prefix}/" if settings.prefix else ""
        return ask(lambda: next(bucket.list(root), None))

    bucket = course.look(Step.BUCKET, open_bucket, told, (Step.ROLE,))
    if course.ready(Step.LISTING, Step.BUCKET) and bucket:
        course.add(_judge_listing(listing(bucket)))
    _look_at_writing(course, settings, session.region if session else "", bucket)
    _look_at_parts(course, settings, bucket)


def _judge_listing(listing: Answer[object]) -> Check:
    if isinstance(listing, Known):
        return passed(Step.LISTING, "earlier backups can be seen, and compared with new ones")
    lost = "a backup works without it, but is not compared with the one before"
    error = listing.error
    return warned(Step.LISTING, f"{error.message} ({error.detail}): {lost}", error.hint)


def _look_at_writing(
    course: Course, settings: BucketSettings, region: str, bucket: Bucket | None
) -> None:
    """One small object, with the key and the tags of a backup's; then once more, to be refused."""
    if bucket is None:
        course.ready(Step.KEY, Step.BUCKET)
        course.ready(Step.WRITE, Step.BUCKET)
        return
    key = _trial_key(settings, "json")
    try:
        encryption = bucket.put_if_absent(key, _content(), "application/json")
    except BackupError as error:
        if _OF_THE_KEY.search(error.detail):
            course.fail(Step.KEY, error)
            course.ready(Step.WRITE, Step.KEY)
        else:
            course.fail(Step.WRITE, error)
            course.ready(Step.KEY, Step.WRITE)
        return
    course.add(_encryption(settings, region, encryption))
    course.look(
        Step.WRITE, lambda: _write_again(bucket, key), lambda told: passed(Step.WRITE, told)
    )


def _write_again(bucket: Bucket, key: str) -> str:
    """Raises StorageError where the store replaces an object that it was told not to."""
    try:
        bucket.put_if_absent(key, _content(), "application/json")
    except AlreadyWritten:
        return (
            f"{bucket.uri(key)} is written, and a second write of it is refused; it stays there"
            " for the bucket's lifecycle to expire, for this action never deletes"
        )
    raise StorageError(
        f"{bucket.uri(key)} could be written twice",
        detail="the store ignores If-None-Match: two runs could write over one another",
        hint="use S3, or a store that knows conditional writes; see"
        " https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html",
    )


def _encryption(settings: BucketSettings, region: str, found: Encryption) -> Check:
    wanted = settings.kms_key_id
    if wanted and not found.algorithm.startswith("aws:kms"):
        return failed(
            Step.KEY,
            f"{wanted} was asked for, and the object is encrypted with"
            f" {found.algorithm or 'nothing that the store would tell of'}",
            "leave kms-key-id out where the store has no KMS",
        )
    if not found.algorithm:
        return warned(
            Step.KEY,
            "the store does not say that it encrypts",
            s3api(
                settings,
                region,
                "put-bucket-encryption",
                "--server-side-encryption-configuration",
                '{"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}',
            ),
        )
    by = f"{found.algorithm} {found.key_arn}".strip()
    whose = "kms-key-id" if wanted else "the bucket's default"
    return passed(Step.KEY, f"objects are encrypted with {by}, {whose}")


def _look_at_parts(course: Course, settings: BucketSettings, bucket: Bucket | None) -> None:
    if not course.ready(Step.UPLOAD, Step.BUCKET) or bucket is None:
        return
    if not course.holds(Step.KEY):
        course.ready(Step.UPLOAD, Step.KEY)
        return
    key = _trial_key(settings, "parts")
    body = _content()

    def try_upload() -> str:
        upload_id = bucket.begin(key)
        try:
            bucket.put_part(key, upload_id, 1, io.BytesIO(body), len(body), crc64nvme_of(body))
        finally:
            bucket.abort(key, upload_id)
        number = len(settings.tags) + (settings.retention_tier is not None)
        tags = f", with {number} tags" if number else ""
        return f"an upload of one part was begun{tags} and aborted: nothing of it stays"

    course.look(Step.UPLOAD, try_upload, lambda told: passed(Step.UPLOAD, told))


def _trial_key(settings: BucketSettings, suffix: str) -> str:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"setup/{moment}-{secrets.token_hex(3)}.{suffix}"
    return f"{settings.prefix}/{name}" if settings.prefix else name


def _content() -> bytes:
    made = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return (json.dumps(_TRIAL | {"time": made}, indent=2) + "\n").encode()
