"""What the operations on backups ask of AWS."""

from __future__ import annotations

from collections.abc import Iterator

from backup.aws.permissions import WRITE_KMS
from backup.aws.policy import Grant, PolicyScope, on_key


def backup(scope: PolicyScope) -> tuple[Grant, ...]:
    write = ("s3:PutObject", "s3:AbortMultipartUpload")
    tagging = ("s3:PutObjectTagging",) if scope.tags_objects else ()
    return (
        Grant("WriteBackups", write + tagging, (scope.objects(),)),
        listing(scope),
        *on_key("EncryptBackups", WRITE_KMS, scope),
        *logging_in(scope),
    )


def list_backups(scope: PolicyScope) -> tuple[Grant, ...]:
    return (listing(scope),)


def restore(scope: PolicyScope) -> tuple[Grant, ...]:
    return (
        *reading(scope),
        *((Grant("ThawBackups", ("s3:RestoreObject",), (scope.objects(),)),) * scope.thaws),
        *logging_in(scope),
    )


def verify(scope: PolicyScope) -> tuple[Grant, ...]:
    return (
        *restore(scope),
        Grant("KeepTheResult", ("s3:PutObject",), (scope.objects("*/drills/*"),)),
        *on_key("EncryptTheResult", ("kms:GenerateDataKey",), scope),
    )


def reading(scope: PolicyScope) -> tuple[Grant, ...]:
    read = Grant("ReadBackups", ("s3:GetObject",), (scope.objects(),))
    return (read, listing(scope), *on_key("DecryptBackups", ("kms:Decrypt",), scope))


def listing(scope: PolicyScope) -> Grant:
    prefixes = [scope.prefix, f"{scope.prefix}/*"]
    condition = {"StringLike": {"s3:prefix": prefixes}} if scope.prefix else {}
    return Grant("ListBackups", ("s3:ListBucket",), (scope.bucket_arn,), condition)


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
