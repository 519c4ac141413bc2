"""What the operations on backups ask of AWS."""

from __future__ import annotations

from collections.abc import Iterator

from backup.aws.permissions import TAG, UNTAGGED, WRITE_KMS
from backup.aws.policy import Grant, PolicyScope, literal, on_key, on_read_keys


def backup(scope: PolicyScope) -> tuple[Grant, ...]:
    write = ("s3:PutObject", "s3:AbortMultipartUpload")
    objects = (scope.objects(),)
    tagging = Grant("TagNewBackups", (TAG,), objects, UNTAGGED)
    awaiting = _listing("AwaitReplica", (scope.replica_arn,), scope)
    return (
        Grant("WriteBackups", write, objects),
        *((tagging,) if scope.tags_objects else ()),
        listing(scope),
        *((awaiting,) if scope.awaits_replica else ()),
        *on_key("EncryptBackups", WRITE_KMS, scope),
        *logging_in(scope),
    )


def list_backups(scope: PolicyScope) -> tuple[Grant, ...]:
    return (listing_of_read(scope),)


def collect(scope: PolicyScope) -> tuple[Grant, ...]:
    """Of the bucket that is written to, whatever is read elsewhere."""
    return (listing(scope),)


def restore(scope: PolicyScope) -> tuple[Grant, ...]:
    thaw = Grant("ThawBackups", ("s3:RestoreObject",), scope.read_objects())
    return (
        Grant("ReadBackups", ("s3:GetObject",), scope.read_objects()),
        listing_of_read(scope),
        *on_read_keys("DecryptBackups", ("kms:Decrypt",), scope),
        *((thaw,) if scope.thaws else ()),
        *logging_in(scope),
    )


def verify(scope: PolicyScope) -> tuple[Grant, ...]:
    return (
        *restore(scope),
        Grant("KeepTheResult", ("s3:PutObject",), scope.read_objects("*/drills/*")),
        *on_read_keys("EncryptTheResult", ("kms:GenerateDataKey",), scope),
    )


def listing(scope: PolicyScope) -> Grant:
    return _listing("ListBackups", (scope.bucket_arn,), scope)


def listing_of_read(scope: PolicyScope) -> Grant:
    return _listing("ListBackups", scope.read_buckets, scope)


def _listing(sid: str, buckets: tuple[str, ...], scope: PolicyScope) -> Grant:
    prefix = literal(scope.prefix)
    condition = {"StringLike": {"s3:prefix": [prefix, f"{prefix}/*"]}} if prefix else {}
    return Grant(sid, ("s3:ListBucket",), buckets, condition)


def logging_in(scope: PolicyScope) -> tuple[Grant, ...]:
    read_secret, connect = ("secretsmanager:GetSecretValue",), ("rds-db:connect",)
    return (
        *((Grant("ReadPassword", read_secret, (scope.secret_arn,)),) if scope.secret_arn else ()),
        *((Grant("LogIn", connect, (scope.login_arn,)),) if scope.login_arn else ()),
        *_tunnel(scope),
    )


def _tunnel(scope: PolicyScope) -> Iterator[Grant]:
    if scope.tunnel_secret_arn:
        action = "secretsmanager:GetSecretValue"
        yield Grant("ReadTunnelKey", (action,), (scope.tunnel_secret_arn,))
    if scope.bastion_arn:
        # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-connect-configure-IAM-role.html
        condition = {"StringEquals": {"ec2:osuser": scope.bastion_user or ""}}
        action = "ec2-instance-connect:SendSSHPublicKey"
        yield Grant("OpenTunnel", (action,), (scope.bastion_arn,), condition)
