"""A bucket as the archive needs it: nothing is visible before it is complete and checked.

Every object carries a checksum that S3 itself verifies: CRC64NVME of each part and of the whole
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html).
A store that does not know it gets Content-MD5, which every store checks.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from urllib.parse import urlencode

from backup.aws.checksums import crc64nvme_of, md5_of, md5_of_part
from backup.aws.refusals import error_code, explained, sent_before
from backup.aws.s3_client import ATTEMPTS
from backup.aws.s3_reading import ReadableBucket
from backup.aws.session import AwsSession
from backup.errors import AlreadyWritten
from backup.settings import BucketSettings
from backup.store import PartBody, StoredPart

_CONFLICT_PAUSE_SECONDS = 0.5
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
_IF_ABSENT = {"IfNoneMatch": "*"}


@dataclass(frozen=True, slots=True)
class Encryption:
    """How S3 says that it keeps an object: AES256, aws:kms …; empty where it does not say."""

    algorithm: str = ""
    key_arn: str = ""


class Bucket(ReadableBucket):
    """A bucket that is written to as well. See `ObjectStore`."""

    # Completing a large object takes S3 a while.
    _silence_seconds: ClassVar[int] = 60

    def __init__(self, session: AwsSession, settings: BucketSettings, connections: int) -> None:
        super().__init__(session, settings, connections)
        self._checks_crc64nvme = True  # until the store shows that it does not
        # Of completions, until a store shows that it does not know it there.
        self._if_absent = dict(_IF_ABSENT)

    def tagged(self, tag: str, value: str) -> Bucket:
        """The same bucket; what is written through it bears one tag more."""
        other = copy.copy(self)
        other._settings = replace(self._settings, tags=(*self._settings.tags, (tag, value)))
        return other

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
        """Make the object visible, unless there is one. Raises AlreadyWritten if there is.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
        """
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
        request = self._common | whole | self._if_absent
        request |= {"Key": key, "UploadId": upload_id, "MultipartUpload": {"Parts": listed}}
        with explained(self._attempt("cannot complete {uri}", "CompleteMultipartUpload", key)):
            self._complete(request, key, size)

    def _complete(self, request: dict[str, Any], key: str, size: int) -> None:
        """Raises AlreadyWritten, or botocore's ClientError."""
        from botocore.exceptions import ClientError

        conflict: ClientError | None = None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._told(self._client.complete_multipart_upload(**request), "ETag")
                return
            except ClientError as error:
                code = error_code(error)
                is_gone, is_taken = code == "NoSuchUpload", code == "PreconditionFailed"
                # Ours, if the answer to an earlier attempt was lost.
                was_sent = is_gone or (is_taken and (sent_before(error) or conflict))
                if was_sent and self._size_of(key) == size:
                    return
                if is_taken:
                    raise self._exists(key) from error
                if is_gone and conflict:
                    raise conflict from error
                if attempt == ATTEMPTS:
                    raise
                if code == "NotImplemented" and request.pop("IfNoneMatch", None):
                    # No S3 does, and ids are unique: the manifest alone is kept from a second one.
                    self._if_absent = {}
                    continue
                # An attempt whose answer was lost may still be at work.
                if code != "ConditionalRequestConflict":
                    raise
                conflict = error
            time.sleep(_CONFLICT_PAUSE_SECONDS * attempt)
        raise AssertionError("the last attempt returns or raises")

    def abort(self, key: str, upload_id: str) -> None:
        from botocore.exceptions import ClientError

        with explained(self._attempt("cannot abort {uri}", "AbortMultipartUpload", key)):
            try:
                self._client.abort_multipart_upload(**self._common, Key=key, UploadId=upload_id)
            except ClientError as error:
                if error_code(error) != "NoSuchUpload":
                    raise

    def put_if_absent(self, key: str, body: bytes, content_type: str) -> Encryption:
        """Write one small object, unless there is one. Raises AlreadyWritten if there is.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        from botocore.exceptions import ClientError

        checksum = (
            {"ChecksumCRC64NVME": crc64nvme_of(body)}
            if self._checks_crc64nvme
            else {"ContentMD5": md5_of(body)}
        )
        arguments = self._common | self._new_object() | checksum
        arguments |= {"Key": key, "Body": body, "ContentType": content_type} | _IF_ABSENT
        with explained(self._attempt("cannot write {uri}", "PutObject", key)):
            was_sent = 0  # an attempt whose answer was lost may still be at work: a conflict
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    answer = self._client.put_object(**arguments)
                    self._told(answer, "ETag")
                    return Encryption(
                        str(answer.get("ServerSideEncryption", "")),
                        str(answer.get("SSEKMSKeyId", "")),
                    )
                except ClientError as error:
                    code = error_code(error)
                    was_sent += sent_before(error)
                    if code == "PreconditionFailed":
                        # Ours, if an earlier attempt was sent and its answer lost.
                        if was_sent and self._size_of(key) == len(body):
                            return Encryption()
                        raise self._exists(key) from error
                    # "a conflicting operation occurs during the upload": S3 wants it sent again.
                    if code != "ConditionalRequestConflict" or attempt == ATTEMPTS:
                        raise
                time.sleep(_CONFLICT_PAUSE_SECONDS * attempt)
        raise AssertionError("the last attempt returns or raises")

    def _told(self, answer: Any, name: str) -> str:
        """What S3 always answers; a proxy's login page with status 200 does not."""
        if not answer.get(name):
            raise self._not_s3(f"its answer was a success without {name}")
        return str(answer[name])

    def _size_of(self, key: str) -> int | None:
        """Size of a visible object, or None. Listing needs no permission to read."""
        sizes = {entry.key: entry.size for entry in self.list(key)}
        return sizes.get(key)

    def _exists(self, key: str) -> AlreadyWritten:
        return AlreadyWritten(
            f"{self.uri(key)} exists already",
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


# What S3-compatible stores answer to a checksum algorithm they have not heard of.
_UNKNOWN_CHECKSUM = {"InvalidRequest", "InvalidArgument", "NotImplemented", "InvalidChecksum",
                     "XAmzContentChecksumMismatch", "InvalidRequestParameter"}  # fmt: skip
