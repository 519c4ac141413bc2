"""A bucket of its own in a double, a role that may write to it, and what a job is told of both."""

from __future__ import annotations

import functools
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.lab.aws import REGION, Ministack, Moto, open_uploads, visible_objects
from tests.lab.faults import FaultProxy
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer
from tests.lab.sts import ACCOUNT, Sts, Trust

PREFIX = "postgresql"  # the action's default


def writing(bucket: str, prefix: str = PREFIX) -> dict[str, Any]:
    """All that writing a backup takes."""
    return {
        "Effect": "Allow",
        "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
        "Resource": f"arn:aws:s3:::{bucket}/{prefix}/*" if prefix else f"arn:aws:s3:::{bucket}/*",
    }


def listing(bucket: str) -> dict[str, Any]:
    """What comparing with earlier backups takes on top."""
    return {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}"}


def reading(bucket: str) -> dict[str, Any]:
    """What reading a backup takes, besides `listing`."""
    return {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}


@dataclass(frozen=True)
class Cloud:
    """`proxy` sees every request to S3, and `sts` checks every id token of `issuer`."""

    double: Ministack | Moto
    issuer: Issuer
    sts: Sts
    proxy: FaultProxy
    bucket: str

    @property
    def role(self) -> str:
        return role_of(self.bucket)

    @property
    def env(self) -> dict[str, str]:
        """The job's variables: the runner's for id tokens, the SDK's for endpoints."""
        return self.issuer.env | {
            "AWS_ENDPOINT_URL": self.double.url,
            "AWS_ENDPOINT_URL_S3": self.proxy.url,
            "AWS_ENDPOINT_URL_STS": self.sts.url,
        }

    @property
    def inputs(self) -> dict[str, str]:
        return {"aws-region": REGION, "role-to-assume": self.role, "bucket": self.bucket}

    @functools.cached_property
    def s3(self) -> Any:
        """A client that may do everything, past the proxy."""
        return self.double.client("s3")

    def allow(self, *statements: Mapping[str, Any]) -> None:
        """Replace the role's policy."""
        self.double.make_role(statements, Trust(self.role))

    def objects(self, prefix: str = "") -> dict[str, int]:
        return visible_objects(self.s3, self.bucket, prefix)

    def open_uploads(self) -> list[str]:
        return open_uploads(self.s3, self.bucket)

    def read(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        """An object, or `size` of its bytes fetched with one ranged GET."""
        ranged = {} if size is None else {"Range": f"bytes={offset}-{offset + size - 1}"}
        body: bytes = self.s3.get_object(Bucket=self.bucket, Key=key, **ranged)["Body"].read()
        return body

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Every manifest by its key, the oldest first."""
        return {
            key: json.loads(self.read(key))
            for key in sorted(self.objects())
            if key.endswith("/manifest.json")
        }


def role_of(bucket: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{bucket}"


@contextmanager
def new_cloud(
    double: Ministack | Moto,
    issuer: Issuer,
    statements: Sequence[Mapping[str, Any]] | None = None,
) -> Iterator[Cloud]:
    """A new bucket and its role; without `statements` the role may write and list."""
    bucket = f"backups-{secrets.token_hex(4)}"
    double.make_bucket(bucket)
    trust = Trust(role_of(bucket))
    given = (writing(bucket), listing(bucket)) if statements is None else statements
    double.make_role(given, trust)
    with (
        Sts(issuer.jwks_url, double.url, [trust]) as sts,
        FaultProxy(double.url, is_expired=sts.is_expired) as proxy,
    ):
        yield Cloud(double, issuer, sts, proxy, bucket)


def source_inputs(server: PostgresServer, database: str, **more: str) -> dict[str, str]:
    """The inputs that name a source, by its parts."""
    return {
        "host": "127.0.0.1",
        "port": str(server.port),
        "database": database,
        "user": "postgres",
        "password": server.password,
        **more,
    }
