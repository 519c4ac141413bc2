"""A bucket as the archive needs it: nothing is visible before it is complete and checked.

Every object carries a checksum that S3 itself verifies: CRC64NVME of each part and of the whole
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html).
A store that does not know it gets Content-MD5, which every store checks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from backup.aws.checksums import crc64nvme_of, md5_of, md5_of_part
from backup.aws.refusals import (
    PERMISSIONS,
    Attempt,
    error_code,
    explained,
    partition,
    sent_before,
    wrong_region,
)
from backup.aws.session import AwsSession
from backup.errors import AccessError, StorageError
from backup.settings import BucketSettings
from backup.store import PartBody, StoredPart

# Attempts at one request, with pauses that grow to 20 s: they outlast about a minute of outage.
_ATTEMPTS = 10
_CONFLICT_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class ListedObject:
    key: str
    size: int
    modified: datetime
    storage_class: str


class Bucket:
    """One bucket, reached through `connections` sockets at the most. See `ObjectStore`."""

    def __init__(self, session: AwsSession, settings: BucketSettings, connections: int) -> None:
        with explained(Attempt("cannot reach S3", session.region, unreachable=StorageError)):
            self._client = session.client("s3", _config(connections))
        self._settings = settings
        self._session = session
        self._checks_crc64nvme = True  # until the store shows that it does not
        self._common: dict[str, str] = {"Bucket": settings.name}
        if settings.expected_owner:
            self._common["ExpectedBucketOwner"] = settings.expected_owner

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

    def begin(self, key: str) -> str:
        from botocore.exceptions import ClientError

        arguments = self._common | {"Key": key} | self._new_object()
        with explained(self._attempt("cannot begin {uri}", "CreateMultipartUpload", key)):
            if self._checks_crc64nvme:
                try:
                    answer = self._client.create_multipart_upload(
                        **arguments, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
                    )
                    self._checks_crc64nvme = answer.get("ChecksumAlgorithm") == "CRC64NVME"
                    return self._told(answer, "UploadId")
                except ClientError as error:
                    if error_code(error) not in _UNKNOWN_CHECKSUM:
                        raise
            # Asked the same without the checksum: if that is refused too, this is the reason.
            answer = self._client.create_multipart_upload(**arguments)
            self._checks_crc64nvme = False
            return self._told(answer, "UploadId")

    def put_part(
        self, key: str, upload_id: str, number: int, body: PartBody, size: int, crc64nvme: str
    ) -> StoredPart:
        checksum = (
            {"ChecksumCRC64NVME": crc64nvme}
            if self._checks_crc64nvme
            else {"ContentMD5": md5_of_part(body)}
        )
        message = f"cannot send part {number} of {{uri}}"
        with explained(self._attempt(message, "UploadPart", key)):
            answer = self._client.upload_part(
                **self._common,
                **checksum,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=body,
                ContentLength=size,
            )
        return StoredPart(number, self._told(answer, "ETag"), crc64nvme)

    def complete(
        self, key: str, upload_id: str, parts: Sequence[StoredPart], size: int, crc64nvme: str
    ) -> None:
        from botocore.exceptions import ClientError

        listed: list[dict[str, Any]] = [{"PartNumber": p.number, "ETag": p.etag} for p in parts]
        whole: dict[str, Any] = {}
        if self._checks_crc64nvme:
            for entry, part in zip(listed, parts, strict=True):
                entry["ChecksumCRC64NVME"] = part.crc64nvme
            whole = {
                "ChecksumType": "FULL_OBJECT",
                "ChecksumCRC64NVME": crc64nvme,
                "MpuObjectSize": size,
            }
        with explained(self._attempt("cannot complete {uri}", "CompleteMultipartUpload", key)):
            try:
                answer = self._client.complete_multipart_upload(
                    **self._common,
                    **whole,
                    Key=key,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": listed},
                )
                self._told(answer, "ETag")
            except ClientError as error:
                # The answer to an earlier attempt was lost, and the upload is no more.
                if error_code(error) != "NoSuchUpload" or self._size_of(key) != size:
                    raise

    def abort(self, key: str, upload_id: str) -> None:
        from botocore.exceptions import ClientError

        with explained(self._attempt("cannot abort {uri}", "AbortMultipartUpload", key)):
            try:
                self._client.abort_multipart_upload(**self._common, Key=key, UploadId=upload_id)
            except ClientError as error:
                if error_code(error) != "NoSuchUpload":
                    raise

    def put_if_absent(self, key: str, body: bytes, content_type: str) -> None:
        """Write one small object, unless there is one. Raises StorageError if there is.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        from botocore.exceptions import ClientError

        checksum = (
            {"ChecksumCRC64NVME": crc64nvme_of(body)}
            if self._checks_crc64nvme
            else {"ContentMD5": md5_of(body)}
        )
        arguments = self._common | self._new_object() | checksum
        arguments |= {"Key": key, "Body": body, "ContentType": content_type, "IfNoneMatch": "*"}
        with explained(self._attempt("cannot write {uri}", "PutObject", key)):
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    self._told(self._client.put_object(**arguments), "ETag")
                    return
                except ClientError as error:
                    code = error_code(error)
                    if code == "PreconditionFailed":
                        # Ours, if an earlier attempt was sent and its answer lost.
                        if sent_before(error) and self._size_of(key) == len(body):
                            return
                        raise self._exists(key) from error
                    # "a conflicting operation occurs during the upload": S3 wants it sent again.
                    if code != "ConditionalRequestConflict" or attempt == _ATTEMPTS:
                        raise
                time.sleep(_CONFLICT_PAUSE_SECONDS * attempt)

    def read(self, key: str) -> bytes:
        """A whole object; for small ones."""
        with explained(self._attempt("cannot read {uri}", "GetObject", key)):
            answer = self._client.get_object(**self._common, Key=key)
            return bytes(answer["Body"].read())

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """The visible objects whose key begins with `prefix`, in key order."""
        with explained(self._attempt("cannot list {uri}", "ListObjectsV2", prefix)):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(**self._common, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    yield ListedObject(
                        str(entry["Key"]),
                        int(entry["Size"]),
                        entry["LastModified"],
                        str(entry.get("StorageClass", "STANDARD")),
                    )

    def _told(self, answer: Any, name: str) -> str:
        """What S3 always answers; a proxy's login page with status 200 does not."""
        if not answer.get(name):
            raise StorageError(
                f"the store at {self._client.meta.endpoint_url} did not answer as S3 does",
                detail=f"its answer was a success without {name}",
                hint="check AWS_ENDPOINT_URL, and the proxies on the way to S3",
            )
        return str(answer[name])

    def _size_of(self, key: str) -> int | None:
        """Size of a visible object, or None. Listing needs no permission to read."""
        sizes = {entry.key: entry.size for entry in self.list(key)}
        return sizes.get(key)

    def _exists(self, key: str) -> StorageError:
        return StorageError(
            f"s3://{self._settings.name}/{key} exists already",
            detail="someone else has written it; published objects are never changed",
            hint="run the backup again: it takes a new id",
        )

    def _new_object(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if self._settings.kms_key_id:
            arguments["ServerSideEncryption"] = "aws:kms"
            arguments["SSEKMSKeyId"] = self._settings.kms_key_id
            # One call to KMS for many objects, and not for each:
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-key.html
            arguments["BucketKeyEnabled"] = True
        if self._settings.tags:
            arguments["Tagging"] = urlencode(self._settings.tags)
        return arguments

    def _attempt(self, message: str, operation: str, key: str) -> Attempt:
        settings, region = self._settings, self._session.region
        permission = PERMISSIONS[operation]
        arn = f"arn:{partition(region)}:s3:::{settings.name}"
        objects = f"{arn}/{settings.prefix}/*" if settings.prefix else f"{arn}/*"
        return Attempt(
            message=message.format(uri=f"s3://{settings.name}/{key}"),
            region=region,
            actions=permission.actions + (permission.with_tags if settings.tags else ()),
            resource=arn if permission.on_bucket else objects,
            kms_actions=permission.with_kms if settings.kms_key_id else (),
            kms_resource=self._key_arn(),
            bucket=settings.name,
            expected_owner=settings.expected_owner,
            unreachable=StorageError,
        )

    def _key_arn(self) -> str:
        key, region = self._settings.kms_key_id or "", self._session.region
        if not key or key.startswith("arn:"):
            return key
        name = key if key.startswith("alias/") else f"key/{key}"
        return f"arn:{partition(region)}:kms:{region}:{self._session.account}:{name}"


# What S3-compatible stores answer to a checksum algorithm they have not heard of.
_UNKNOWN_CHECKSUM = {"InvalidRequest", "InvalidArgument", "NotImplemented", "InvalidChecksum",
                     "XAmzContentChecksumMismatch", "InvalidRequestParameter"}  # fmt: skip


def _config(connections: int) -> Any:
    from botocore.config import Config

    # AWS_ENDPOINT_URL means an S3-compatible store, which seldom has a host name per bucket.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    retries: dict[str, Any] = {"mode": "standard"}
    if not os.environ.get("AWS_MAX_ATTEMPTS"):
        retries["total_max_attempts"] = _ATTEMPTS
    return Config(
        s3={
            # Over https the checksums guard the bytes; a SHA-256 of each body would double the
            # cost of sending it.
            "payload_signing_enabled": False,
            "addressing_style": "path" if endpoint else "auto",
        },
        request_checksum_calculation="when_required",
        retries=retries,
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=connections,
        tcp_keepalive=True,
    )
