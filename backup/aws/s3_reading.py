"""A bucket for whoever only reads: nothing here can write, change or delete an object."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

from backup.aws.refusals import Attempt, error_code, explained, wrong_region
from backup.aws.s3_client import attempt_at, open_client
from backup.aws.session import AwsSession
from backup.errors import AccessError, StorageError
from backup.settings import BucketSettings

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 20.0

# Of these nothing can be read before it is thawed; GLACIER is Glacier Flexible Retrieval.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/archived-objects.html
ARCHIVED_CLASSES = ("GLACIER", "DEEP_ARCHIVE")


@dataclass(frozen=True, slots=True)
class ListedObject:
    key: str
    size: int
    modified: datetime
    storage_class: str


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """A multipart upload that was begun, and neither completed nor aborted."""

    key: str
    id: str
    begun: datetime


@dataclass(frozen=True, slots=True)
class ObjectState:
    """What S3 tells of an object without its bytes.

    `archive_tier` is set for what INTELLIGENT_TIERING has archived: ARCHIVE_ACCESS or
    DEEP_ARCHIVE_ACCESS. `crc64nvme` is of the whole object in base64, None where S3 has none.
    `replication` is PENDING, COMPLETED, FAILED or REPLICA; empty where no rule has met it.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """

    size: int
    storage_class: str
    archive_tier: str
    thawing: bool
    thawed_until: datetime | None
    crc64nvme: str | None
    replication: str

    @property
    def archive(self) -> str:
        """The archive that the object lies in: a storage class or tier; empty for none."""
        return self.storage_class if self.storage_class in ARCHIVED_CLASSES else self.archive_tier

    @property
    def is_readable(self) -> bool:
        return not self.archive or self.thawed_until is not None


class ReadableBucket:
    """One bucket, reached through `connections` sockets at the most. See `ObjectReader`."""

    # A GET is answered within a second, so a silence of this length is a connection that died.
    _silence_seconds: ClassVar[int] = 20

    def __init__(self, session: AwsSession, settings: BucketSettings, connections: int) -> None:
        self._client = open_client(session, connections, self._silence_seconds)
        self._settings = settings
        self._session = session
        self._common: dict[str, str] = {"Bucket": settings.name}
        if settings.expected_owner:
            self._common["ExpectedBucketOwner"] = settings.expected_owner

    @property
    def region(self) -> str:
        return self._session.region

    @property
    def replica_of(self) -> str | None:
        """The bucket that S3 copies into this one; None where this is the first."""
        return self._settings.replica_of

    def uri(self, key: str) -> str:
        return f"s3://{self._settings.name}/{key}"

    def check(self) -> None:
        """Find out, with one small request, whether the bucket is there, and in this region.

        Raises InputError or AccessError. A role that may write and not list passes.
        """
        from botocore.exceptions import ClientError

        attempt = self._attempt("cannot use {uri}", "ListObjectsV2", self._settings.prefix)
        with explained(attempt):
            try:
                answer = self._list_one(self._common)
            except ClientError as error:
                if error_code(error) != "AccessDenied":
                    raise
                self._check_owner()
                return
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        region = headers.get("x-amz-bucket-region", self._session.region)
        # botocore follows S3's redirects: a wrong region works, and pays for it at each request.
        if region != self._session.region:
            raise wrong_region(attempt, region, "")

    def _list_one(self, common: dict[str, str]) -> Any:
        return self._client.list_objects_v2(**common, Prefix=self._settings.prefix, MaxKeys=1)

    def _check_owner(self) -> None:
        """S3 says the same for another owner as for a missing permission; asking again tells."""
        from botocore.exceptions import ClientError

        owner = self._settings.expected_owner
        if not owner:
            return
        try:
            self._list_one({"Bucket": self._settings.name})
        except ClientError:
            return
        raise AccessError(
            f"bucket {self._settings.name!r} does not belong to account {owner}",
            detail="S3 refuses requests that name this owner, and answers those that do not",
            hint="correct expected-bucket-owner, or `bucket`: someone else may own that name",
        )

    def list(self, prefix: str, after: str = "") -> Iterator[ListedObject]:
        """The visible objects whose key begins with `prefix` and sorts behind `after`, in order."""
        with explained(self._attempt("cannot list {uri}", "ListObjectsV2", prefix)):
            pages = self._client.get_paginator("list_objects_v2")
            start = {"StartAfter": after} if after else {}
            for page in pages.paginate(**self._common, Prefix=prefix, **start):
                for entry in page.get("Contents", ()):
                    yield ListedObject(
                        str(entry["Key"]),
                        int(entry["Size"]),
                        entry["LastModified"],
                        str(entry.get("StorageClass", "STANDARD")),
                    )

    def open_uploads(self, prefix: str) -> Iterator[OpenUpload]:
        """The uploads under way, or left behind, whose key begins with `prefix`."""
        with explained(
            self._attempt("cannot list uploads to {uri}", "ListMultipartUploads", prefix)
        ):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(**self._common, Prefix=prefix):
                for entry in page.get("Uploads", ()):
                    yield OpenUpload(str(entry["Key"]), str(entry["UploadId"]), entry["Initiated"])

    def read(self, key: str) -> bytes:
        """A whole object, checked against the checksum that S3 keeps of it; for small ones."""
        return self._get(key, None)

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, all `size` of them; they are held in memory once."""
        return self._get(key, (offset, size)) if size else b""

    def head(self, key: str) -> ObjectState:
        with self._asking("cannot look at {uri}", "HeadObject", key):
            answer = self._client.head_object(**self._common, Key=key, ChecksumMode="ENABLED")
        thaw = str(answer.get("Restore", ""))
        until = re.search(r'expiry-date="([^"]+)"', thaw)
        return ObjectState(
            size=int(answer["ContentLength"]),
            storage_class=str(answer.get("StorageClass", "STANDARD")),
            archive_tier=str(answer.get("ArchiveStatus", "")),
            thawing='ongoing-request="true"' in thaw,
            thawed_until=parsedate_to_datetime(until[1]) if until else None,
            crc64nvme=answer.get("ChecksumCRC64NVME"),
            replication=str(answer.get("ReplicationStatus", "")),
        )

    def thaw(self, key: str, tier: str, days: int | None) -> None:
        """Ask for a readable copy of an archived object for some days; it comes hours later.

        `tier` is Standard, Bulk or Expedited; `days` must be None for INTELLIGENT_TIERING, which
        moves the object instead. What is under way already stays under way.
        https://docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreObject.html
        """
        from botocore.exceptions import ClientError

        request: dict[str, Any] = {"GlacierJobParameters": {"Tier": tier}}
        if days is not None:
            request["Days"] = days
        with self._asking("cannot thaw {uri}", "RestoreObject", key):
            try:
                self._client.restore_object(**self._common, Key=key, RestoreRequest=request)
            except ClientError as error:
                if error_code(error) != "RestoreAlreadyInProgress":
                    raise

    def _get(self, key: str, span: tuple[int, int] | None) -> bytes:
        """An object, or (offset, size) of it; asked for again when the answer breaks off."""
        from botocore.exceptions import ClientError

        request: dict[str, Any] = self._common | {"Key": key}
        if span:
            request["Range"] = f"bytes={span[0]}-{sum(span) - 1}"
        else:
            request["ChecksumMode"] = "ENABLED"
        attempts = int(self._client.meta.config.retries["total_max_attempts"])
        pause = _FIRST_PAUSE_SECONDS
        while True:
            attempts -= 1
            with self._asking("cannot read {uri}", "GetObject", key):
                try:
                    answer = self._client.get_object(**request)
                except ClientError as error:
                    if span and error_code(error) == "InvalidRange":
                        raise self._too_short(key, span, "") from error
                    raise
            if span:
                self._check_range(key, span, answer)
            body = _read_body(answer["Body"])
            if isinstance(body, bytes):
                return body
            if attempts <= 0:
                raise self._broken_off(key, body)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _check_range(self, key: str, span: tuple[int, int], answer: Any) -> None:
        """Whether the body to come is the range that was asked for. Closes it where it is not."""
        offset, size = span
        said = str(answer.get("ContentRange", ""))
        told = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", said)
        first, last = (int(told[1]), int(told[2])) if told else (-1, -1)
        if (first, last) == (offset, offset + size - 1) and answer["ContentLength"] == size:
            return
        answer["Body"].close()
        if first == offset and offset <= last < offset + size - 1:
            raise self._too_short(key, span, said)
        raise self._not_s3(f"it was asked for bytes {offset} to {offset + size - 1} of {key}, and"
                           f" sent {said or 'the whole object'}")  # fmt: skip

    def _too_short(self, key: str, span: tuple[int, int], said: str) -> StorageError:
        return StorageError(
            f"{self.uri(key)} is too short",
            detail=f"the manifest places bytes up to {sum(span)} in it"
            + (f", and S3 has {said}" if said else ", and S3 has none there"),
            hint="another object lies in its place: restore another backup (operation: list), or"
            " an earlier version of the object where the bucket keeps versions",
        )

    @contextmanager
    def _asking(self, message: str, operation: str, key: str) -> Iterator[None]:
        """Explain what S3 says of an object that should be there."""
        from botocore.exceptions import ClientError

        with explained(self._attempt(message, operation, key)):
            try:
                yield
            except ClientError as error:
                if error_code(error) not in ("NoSuchKey", "404"):
                    raise
                raise StorageError(
                    f"{self.uri(key)} is missing",
                    detail="it was deleted by hand, or a lifecycle rule has expired it"
                    + (
                        f", or S3 has not replicated it from s3://{self.replica_of} yet: most"
                        " objects take 15 minutes"
                        if self.replica_of
                        else ""
                    ),
                    hint="restore another backup (operation: list), or an earlier version of the"
                    " object where the bucket keeps versions; let rules expire whole backups",
                ) from error

    def _broken_off(self, key: str, error: Exception) -> StorageError:
        return StorageError(
            f"cannot read {self.uri(key)}",
            detail=f"no answer arrived whole: {' '.join(str(error).split())}",
            hint="the network path to S3 loses connections: run it again, or raise"
            " AWS_MAX_ATTEMPTS",
        )

    def _not_s3(self, detail: str) -> StorageError:
        return StorageError(
            f"the store at {self._client.meta.endpoint_url} did not answer as S3 does",
            detail=detail,
            hint="check AWS_ENDPOINT_URL, and the proxies on the way to S3",
        )

    def _attempt(self, message: str, operation: str, key: str) -> Attempt:
        return attempt_at(self._session, self._settings, message, operation, key)


def _read_body(body: Any) -> bytes | Exception:
    """The whole body, or what broke it off. Read at once, it is one copy, its length checked."""
    from botocore.exceptions import BotoCoreError
    from urllib3.exceptions import HTTPError

    try:
        return bytes(body.read())
    except (BotoCoreError, HTTPError) as error:
        return error
    finally:
        body.close()
