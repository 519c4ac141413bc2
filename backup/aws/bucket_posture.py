"""How a bucket is set up: what S3 says of its settings, and nothing of its objects.

Each question is a method that raises AccessError, InputError or StorageError.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from backup.aws.bucket_rules import Lifecycle, Replication, read_lifecycle, read_replication
from backup.aws.object_filter import ObjectFilter, object_filter
from backup.aws.permissions import partition
from backup.aws.refusals import Attempt, Remedy, error_code, explained
from backup.aws.s3_client import open_client
from backup.aws.session import AwsSession
from backup.errors import StorageError
from backup.settings import BucketSettings

_SILENCE_SECONDS = 20

_OTHER_STORE = Remedy(
    StorageError,
    "a store that is compatible with S3 need not have every setting of it: its own documentation"
    " says what takes the place of this one",
)
_REMEDIES = dict.fromkeys(("NotImplemented", "MethodNotAllowed"), _OTHER_STORE)

PUBLIC_ACCESS_BLOCKS = (
    "BlockPublicAcls",
    "IgnorePublicAcls",
    "BlockPublicPolicy",
    "RestrictPublicBuckets",
)


@dataclass(frozen=True, slots=True)
class Encryption:
    """`algorithm` is AES256, aws:kms or aws:kms:dsse; `key_id` None means AWS's own key."""

    algorithm: str
    key_id: str | None


@dataclass(frozen=True, slots=True)
class ObjectLock:
    """`mode` is GOVERNANCE, COMPLIANCE, or empty where nothing is locked by default."""

    mode: str
    days: int


class BucketPosture:
    """The settings of one bucket."""

    def __init__(self, session: AwsSession, settings: BucketSettings) -> None:
        self._client = open_client(session, connections=1, silence_seconds=_SILENCE_SECONDS)
        self._region = session.region
        self._settings = settings
        self._common: dict[str, str] = {"Bucket": settings.name}
        if settings.expected_owner:
            self._common["ExpectedBucketOwner"] = settings.expected_owner

    @property
    def arn(self) -> str:
        return f"arn:{partition(self._region)}:s3:::{self._settings.name}"

    def versioning(self) -> str:
        """Enabled, Suspended, or empty where it never was enabled."""
        answer = self._read(
            "versioning", "s3:GetBucketVersioning", self._client.get_bucket_versioning
        )
        return str(answer.get("Status", ""))

    def encryption(self) -> Encryption | None:
        """How an object is encrypted of which the writer says nothing; None where it is not."""
        answer = self._read(
            "default encryption",
            "s3:GetEncryptionConfiguration",
            self._client.get_bucket_encryption,
            absent="ServerSideEncryptionConfigurationNotFoundError",
        )
        rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", ())
        for rule in rules:
            if default := rule.get("ApplyServerSideEncryptionByDefault"):
                return Encryption(str(default["SSEAlgorithm"]), default.get("KMSMasterKeyID"))
        return None

    def public_access_blocks(self) -> frozenset[str]:
        """Those of PUBLIC_ACCESS_BLOCKS that are on."""
        answer = self._read(
            "public access block",
            "s3:GetBucketPublicAccessBlock",
            self._client.get_public_access_block,
            absent="NoSuchPublicAccessBlockConfiguration",
        )
        told = answer.get("PublicAccessBlockConfiguration", {})
        return frozenset(name for name in PUBLIC_ACCESS_BLOCKS if told.get(name))

    def ownership(self) -> str:
        """BucketOwnerEnforced, BucketOwnerPreferred, ObjectWriter, or empty where not set."""
        answer = self._read(
            "ownership controls",
            "s3:GetBucketOwnershipControls",
            self._client.get_bucket_ownership_controls,
            absent="OwnershipControlsNotFoundError",
        )
        rules = answer.get("OwnershipControls", {}).get("Rules", ())
        return str(rules[0]["ObjectOwnership"]) if rules else ""

    def policy(self) -> dict[str, Any] | None:
        """The bucket policy's document; None where there is none."""
        answer = self._read(
            "policy",
            "s3:GetBucketPolicy",
            self._client.get_bucket_policy,
            absent="NoSuchBucketPolicy",
        )
        if "Policy" not in answer:
            return None
        document: dict[str, Any] = json.loads(answer["Policy"])
        return document

    def lifecycle(self) -> Lifecycle:
        return read_lifecycle(
            self._read(
                "lifecycle rules",
                "s3:GetLifecycleConfiguration",
                self._client.get_bucket_lifecycle_configuration,
                absent="NoSuchLifecycleConfiguration",
            )
        )

    def object_lock(self) -> ObjectLock | None:
        """None where the bucket locks nothing."""
        answer = self._read(
            "Object Lock",
            "s3:GetBucketObjectLockConfiguration",
            self._client.get_object_lock_configuration,
            absent="ObjectLockConfigurationNotFoundError",
        )
        told = answer.get("ObjectLockConfiguration", {})
        if told.get("ObjectLockEnabled") != "Enabled":
            return None
        default = told.get("Rule", {}).get("DefaultRetention", {})
        days = int(default.get("Days") or 365 * int(default.get("Years") or 0))
        return ObjectLock(str(default.get("Mode", "")), days)

    def replication(self) -> Replication | None:
        answer = self._read(
            "replication",
            "s3:GetReplicationConfiguration",
            self._client.get_bucket_replication,
            absent="ReplicationConfigurationNotFoundError",
        )
        return read_replication(answer) if "ReplicationConfiguration" in answer else None

    def log_bucket(self) -> str | None:
        """Where the server access log goes; None where none is written."""
        answer = self._read("access log", "s3:GetBucketLogging", self._client.get_bucket_logging)
        target = answer.get("LoggingEnabled", {}).get("TargetBucket")
        return str(target) if target else None

    def metrics(self) -> tuple[ObjectFilter, ...]:
        """What requests are counted for in CloudWatch."""
        found: list[ObjectFilter] = []
        page: dict[str, str] = {}
        while True:
            answer = self._read(
                "request metrics",
                "s3:GetMetricsConfiguration",
                self._client.list_bucket_metrics_configurations,
                **page,
            )
            found += [object_filter(each) for each in answer.get("MetricsConfigurationList", ())]
            if not answer.get("IsTruncated"):
                return tuple(found)
            page = {"ContinuationToken": answer["NextContinuationToken"]}

    def _read(
        self,
        subject: str,
        action: str,
        call: Callable[..., Any],
        *,
        absent: str | None = None,
        **page: str,
    ) -> dict[str, Any]:
        """S3's answer; an empty one where its error is `absent`, which means not set."""
        from botocore.exceptions import ClientError

        attempt = Attempt(
            message=f"cannot read the {subject} of bucket {self._settings.name}",
            region=self._region,
            actions=(action,),
            resource=self.arn,
            bucket=self._settings.name,
            expected_owner=self._settings.expected_owner,
            unreachable=StorageError,
            remedies=_REMEDIES,
        )
        with explained(attempt):
            try:
                answer: dict[str, Any] = call(**self._common, **page)
            except ClientError as error:
                if error_code(error) != absent:
                    raise
                return {}
        return answer
