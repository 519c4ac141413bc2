"""The KMS keys of the backups: that of the bucket's default encryption, and `kms-key-id`."""

from __future__ import annotations

from backup.aws.bucket_posture import Encryption
from backup.aws.keys import Key, describe_key, rotates
from backup.aws.session import AwsSession
from backup.checks import Answer, Check, Known, Unanswered, ask, failed, passed, warned
from backup.operations.auditing.shell import aws
from backup.settings import BucketSettings

_KEY = ("bucket.key", "The KMS key can be used")
_ROTATION = ("bucket.key-rotation", "The KMS key is rotated")


def key_of(settings: BucketSettings, encryption: Answer[Encryption | None]) -> str | None:
    """What names the key of new backups: an id, ARN or alias; None for AWS's own, or unknown."""
    default = encryption.value if isinstance(encryption, Known) else None
    return settings.kms_key_id or (default.key_id if default else None)


def checks(
    session: AwsSession, key: str | None, encryption: Answer[Encryption | None]
) -> list[Check]:
    """Two checks of that key."""
    if key:
        return _of_key(session, key)
    if isinstance(encryption, Unanswered):
        return [encryption.check(*each) for each in (_KEY, _ROTATION)]
    none = "the key is AWS's own, which keeps and rotates it"
    return [passed(*_KEY, none), passed(*_ROTATION, none)]


def _of_key(session: AwsSession, key: str) -> list[Check]:
    answer = ask(lambda: describe_key(session, key))
    if isinstance(answer, Unanswered):
        return [answer.check(*each) for each in (_KEY, _ROTATION)]
    return [_usable(session, answer.value), _rotated(session, answer.value)]


def _usable(session: AwsSession, key: Key) -> Check:
    if key.state == "Enabled":
        return passed(*_KEY, f"{key.arn} is enabled")
    reason = f"{key.arn} is {key.state}: backups can neither be written nor read"
    named = ("--region", session.region, "--key-id", key.arn)
    fix = [aws("kms", "enable-key", *named)]
    if key.state == "PendingDeletion":
        fix.insert(0, aws("kms", "cancel-key-deletion", *named))
    return failed(*_KEY, reason, "\n".join(fix))


def _rotated(session: AwsSession, key: Key) -> Check:
    if key.is_of_aws:
        return passed(*_ROTATION, f"{key.arn} is AWS's own, which rotates it every year")
    if key.origin != "AWS_KMS":
        # https://docs.aws.amazon.com/kms/latest/developerguide/rotate-keys.html
        reason = f"the material of {key.arn} is {key.origin}: KMS cannot rotate it, its owner can"
        return passed(*_ROTATION, reason)
    answer = ask(lambda: rotates(session, key))
    if isinstance(answer, Unanswered):
        return answer.check(*_ROTATION)
    if answer.value:
        return passed(*_ROTATION, f"{key.arn} is rotated by KMS")
    fix = aws("kms", "enable-key-rotation", "--region", session.region, "--key-id", key.arn)
    return warned(*_ROTATION, f"{key.arn} keeps its material for ever", fix)
