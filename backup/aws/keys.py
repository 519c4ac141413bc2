"""Keys of KMS: whether they can be used, and whether their material changes with time."""

from __future__ import annotations

from dataclasses import dataclass

from backup.aws.refusals import Attempt, Remedy, explained
from backup.aws.s3_client import key_arn
from backup.aws.session import AwsSession, short_of_patience
from backup.errors import AccessError, InputError

_REMEDIES = {
    "NotFoundException": Remedy(
        InputError, "correct kms-key-id, or the bucket's default encryption: no such key is here"
    )
}


@dataclass(frozen=True, slots=True)
class Key:
    """`state` is Enabled, Disabled, PendingDeletion …; `origin` is AWS_KMS for KMS's own material.

    https://docs.aws.amazon.com/kms/latest/APIReference/API_KeyMetadata.html
    """

    arn: str
    state: str
    origin: str
    is_of_aws: bool


def describe_key(session: AwsSession, name: str) -> Key:
    """The key of an id, an ARN or an alias. Raises AccessError, InputError."""
    attempt = _attempt(
        session, f"cannot look at KMS key {name}", "DescribeKey", key_arn(session, name)
    )
    with explained(attempt):
        told = session.client("kms", short_of_patience()).describe_key(KeyId=name)["KeyMetadata"]
    return Key(
        arn=str(told["Arn"]),
        state=str(told["KeyState"]),
        origin=str(told["Origin"]),
        is_of_aws=told["KeyManager"] == "AWS",
    )


def rotates(session: AwsSession, key: Key) -> bool:
    """Whether KMS makes new material for it every year, or as often as it was told."""
    attempt = _attempt(
        session, f"cannot see whether {key.arn} is rotated", "GetKeyRotationStatus", key.arn
    )
    with explained(attempt):
        answer = session.client("kms", short_of_patience()).get_key_rotation_status(KeyId=key.arn)
    return bool(answer["KeyRotationEnabled"])


def _attempt(session: AwsSession, message: str, operation: str, arn: str) -> Attempt:
    return Attempt(
        message=message,
        region=session.region,
        actions=(f"kms:{operation}",),
        resource=arn,
        kms_actions=(f"kms:{operation}",),
        kms_resource=arn,
        failure=AccessError,
        remedies=_REMEDIES,
    )
