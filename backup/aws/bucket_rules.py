"""A bucket's rules of lifecycle and replication, each with the document that S3 keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backup.aws.object_filter import ObjectFilter, object_filter

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Transition:
    """`days` is None for one on a date, which archives nothing that comes later."""

    days: int | None
    storage_class: str


@dataclass(frozen=True, slots=True)
class LifecycleRule:
    """An enabled rule. `expires_on` is a date from which all that it meets is deleted.

    `noncurrent_days` is None where noncurrent versions stay, or some of them do.
    """

    id: str
    meant: ObjectFilter
    transitions: tuple[Transition, ...]
    expiry_days: int | None
    expires_on: datetime | None
    abort_days: int | None
    noncurrent_days: int | None


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """`rules` are the enabled ones; `documents` are all, as S3 gave them.

    `minimum_size` is what S3 calls the transition default minimum object size.
    """

    rules: tuple[LifecycleRule, ...]
    documents: tuple[Document, ...]
    minimum_size: str | None


@dataclass(frozen=True, slots=True)
class ReplicationRule:
    """An enabled rule; `destination` is the bucket's ARN.

    `takes_kms`: objects that are encrypted with a key of KMS are copied too.
    """

    meant: ObjectFilter
    destination: str
    takes_kms: bool


@dataclass(frozen=True, slots=True)
class Replication:
    """`rules` are the enabled ones; `document` is the whole configuration."""

    rules: tuple[ReplicationRule, ...]
    document: Document


def read_lifecycle(answer: Document) -> Lifecycle:
    """From GetBucketLifecycleConfiguration.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_LifecycleRule.html
    """
    documents = tuple(answer.get("Rules", ()))
    return Lifecycle(
        rules=tuple(_lifecycle_rule(each) for each in documents if each["Status"] == "Enabled"),
        documents=documents,
        minimum_size=answer.get("TransitionDefaultMinimumObjectSize"),
    )


def read_replication(answer: Document) -> Replication:
    """From GetBucketReplication.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_ReplicationRule.html
    """
    document: Document = answer["ReplicationConfiguration"]
    rules = (each for each in document.get("Rules", ()) if each["Status"] == "Enabled")
    return Replication(
        rules=tuple(
            ReplicationRule(
                object_filter(each), str(each["Destination"]["Bucket"]), _takes_kms(each)
            )
            for each in rules
        ),
        document=document,
    )


def _takes_kms(document: Document) -> bool:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-config-for-kms-objects.html"""
    criteria = document.get("SourceSelectionCriteria") or {}
    told: Document = criteria.get("SseKmsEncryptedObjects") or {}
    return told.get("Status") == "Enabled"


def _lifecycle_rule(document: Document) -> LifecycleRule:
    expiration = document.get("Expiration") or {}
    abort = document.get("AbortIncompleteMultipartUpload") or {}
    noncurrent = document.get("NoncurrentVersionExpiration") or {}
    return LifecycleRule(
        id=str(document.get("ID", "")),
        meant=object_filter(document),
        transitions=tuple(
            Transition(each.get("Days"), str(each["StorageClass"]))
            for each in document.get("Transitions", ())
        ),
        expiry_days=expiration.get("Days"),
        expires_on=expiration.get("Date"),
        abort_days=abort.get("DaysAfterInitiation"),
        noncurrent_days=None
        if noncurrent.get("NewerNoncurrentVersions")
        else noncurrent.get("NoncurrentDays"),
    )
