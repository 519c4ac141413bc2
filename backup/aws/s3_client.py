"""How S3 is reached, and what a refusal of it is about."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from typing import Any

from backup.aws.permissions import PERMISSIONS, partition
from backup.aws.refusals import Attempt, explained
from backup.aws.session import AwsSession
from backup.errors import StorageError
from backup.settings import BucketSettings

# Attempts at one request, with pauses that grow to 20 s: they outlast about a minute of outage.
ATTEMPTS = 10


def open_client(session: AwsSession, connections: int, silence_seconds: int) -> Any:
    """A botocore client of at most `connections` sockets; a silence of that length is a failure."""
    with explained(Attempt("cannot reach S3", session.region, unreachable=StorageError)):
        return session.client("s3", _config(connections, silence_seconds))


def attempt_at(
    session: AwsSession, settings: BucketSettings, message: str, operation: str, key: str
) -> Attempt:
    """What an operation of S3 on a key needs. `{uri}` in the message is the object's."""
    region = session.region
    permission = PERMISSIONS[operation]
    arn = f"arn:{partition(region)}:s3:::{settings.name}"
    root = f"{arn}/{settings.prefix}" if settings.prefix else arn
    objects = tuple(f"{root}/{below}" for below in _places(settings, operation, key))
    return Attempt(
        message=message.format(uri=f"s3://{settings.name}/{key}"),
        region=region,
        actions=permission.actions + (permission.with_tags if settings.tags else ()),
        resource=arn if permission.on_bucket else objects if objects[1:] else objects[0],
        kms_actions=permission.with_kms if settings.kms_key_id else (),
        kms_resource=key_arn(session, settings.kms_key_id or ""),
        bucket=settings.name,
        inputs=("replica-bucket", "replica-region")
        if settings.replica_of
        else ("bucket", "aws-region"),
        expected_owner=settings.expected_owner,
        unreachable=StorageError,
    )


def _places(settings: BucketSettings, operation: str, key: str) -> tuple[str, ...]:
    """Patterns below the prefix, as narrow as what the operation is for."""
    # A role that drills writes nothing but what it found out.
    if operation == "PutObject" and "/drills/" in key:
        return ("*/drills/*",)
    if operation not in ("GetObject", "HeadObject"):
        return ("*",)
    below = key.removeprefix(f"{settings.prefix}/")
    is_meant = any(fnmatchcase(below, pattern) for pattern in settings.read_below)
    return settings.read_below if is_meant else ("*",)


def key_arn(session: AwsSession, key: str) -> str:
    """The ARN of a key that is named by id, alias or ARN; empty for none."""
    region = session.region
    if not key or key.startswith("arn:"):
        return key
    name = key if key.startswith("alias/") else f"key/{key}"
    return f"arn:{partition(region)}:kms:{region}:{session.account}:{name}"


def _config(connections: int, silence_seconds: int) -> Any:
    from botocore.config import Config

    # AWS_ENDPOINT_URL means an S3-compatible store, which seldom has a host name per bucket.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    retries: dict[str, Any] = {"mode": "standard"}
    if not os.environ.get("AWS_MAX_ATTEMPTS"):
        retries["total_max_attempts"] = ATTEMPTS
    return Config(
        s3={
            # Over https the checksums guard the bytes; a SHA-256 of each body would double the
            # cost of sending it.
            "payload_signing_enabled": False,
            "addressing_style": "path" if endpoint else "auto",
        },
        request_checksum_calculation="when_required",
        # The digests of the manifest are checked, whatever the store says of its checksums.
        response_checksum_validation="when_required",
        retries=retries,
        connect_timeout=10,
        read_timeout=silence_seconds,
        max_pool_connections=connections,
        tcp_keepalive=True,
    )
