"""Permissions: the IAM actions behind the operations of S3, and statements ready to paste."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Permission:
    """The IAM actions behind one operation of S3, and those it adds for tags and a KMS key.

    `on_bucket`: the resource is the bucket itself, not the objects under the prefix.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuAndPermissions.html
    """

    actions: tuple[str, ...]
    with_tags: tuple[str, ...] = ()
    with_kms: tuple[str, ...] = ()
    on_bucket: bool = False


WRITE_KMS = ("kms:GenerateDataKey", "kms:Decrypt")
TAG = "s3:PutObjectTagging"
# Who may tag an object anew could have the bucket's lifecycle delete it early.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/tagging-and-policies.html
UNTAGGED = {"Null": {"s3:ExistingObjectTag/retention-tier": "true"}}

PERMISSIONS: dict[str, Permission] = {
    "ListObjectsV2": Permission(("s3:ListBucket",), on_bucket=True),
    "ListMultipartUploads": Permission(("s3:ListBucketMultipartUploads",), on_bucket=True),
    "GetObject": Permission(("s3:GetObject",), with_kms=("kms:Decrypt",)),
    # For the checksum of an encrypted object, its key is asked for too.
    "HeadObject": Permission(("s3:GetObject",), with_kms=("kms:Decrypt",)),
    "RestoreObject": Permission(("s3:RestoreObject",)),
    "PutObject": Permission(("s3:PutObject",), (TAG,), WRITE_KMS),
    "CreateMultipartUpload": Permission(("s3:PutObject",), (TAG,), WRITE_KMS),
    "UploadPart": Permission(("s3:PutObject",), with_kms=WRITE_KMS),
    "CompleteMultipartUpload": Permission(("s3:PutObject",), with_kms=("kms:Decrypt",)),
    "AbortMultipartUpload": Permission(("s3:AbortMultipartUpload",)),
}


def partition(region: str) -> str:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html"""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


def statement(actions: tuple[str, ...], resource: str | tuple[str, ...]) -> str:
    """One statement of an IAM policy, on one line, ready to paste."""
    listed = list(actions) if len(actions) > 1 else actions[0]
    return json.dumps({"Effect": "Allow", "Action": listed, "Resource": resource})


def statements(actions: tuple[str, ...], resource: str | tuple[str, ...]) -> list[str]:
    """The same for several actions: tags are for what has no tier yet, and a statement of their
    own."""
    others = tuple(each for each in actions if each != TAG)
    written = [statement(others, resource)] if others else []
    if TAG in actions:
        tagging = {"Effect": "Allow", "Action": TAG, "Resource": resource, "Condition": UNTAGGED}
        written.append(json.dumps(tagging))
    return written


def key_statement(actions: tuple[str, ...], key_arn: str) -> str:
    """The same for a KMS key. IAM knows keys by ARN: an alias becomes a condition.

    https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html
    """
    head, separator, alias = key_arn.partition(":alias/")
    if not separator:
        return statement(actions, key_arn)
    condition = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": f"alias/{alias}"}}
    return json.dumps(
        {
            "Effect": "Allow",
            "Action": list(actions),
            "Resource": f"{head}:key/*",
            "Condition": condition,
        }
    )
