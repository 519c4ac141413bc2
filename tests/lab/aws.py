"""The two AWS doubles, as servers of their own: moto's (broad) and ministack (strict)."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import botocore.session
from botocore.config import Config

from tests.lab.daemon import LOOPBACK, free_port, start_daemon
from tests.lab.issuer import GITHUB_ISSUER
from tests.lab.sts import ACCOUNT, Trust

REGION = "eu-central-1"
REPOSITORY = Path(__file__).resolve().parents[2]


def client(
    service: str,
    endpoint: str,
    access_key: str = "test",
    secret_key: str = "test",
    session_token: str | None = None,
    *,
    region: str = REGION,
    authority: Path | None = None,
    config: Config | None = None,
) -> Any:
    """A botocore client that takes nothing from the environment but what is given here."""
    return botocore.session.Session().create_client(
        service,
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        aws_session_token=session_token,
        verify=str(authority) if authority else None,
        config=Config(s3={"addressing_style": "path"}).merge(config or Config()),
    )


class _Double:
    """A double in a process, with a home folder of its own; starts on enter, ends by pid."""

    def __init__(self) -> None:
        self.home = Path()
        self.url = ""

    def _start(self, command: Sequence[str | Path], port: int, probe: str, **env: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="pg-backup-lab-aws-"))
        self.url = f"http://{LOOPBACK}:{port}"
        folder = Path(sys.executable).parent
        try:
            self._daemon = start_daemon(
                [folder / command[0], *command[1:]],
                log=self.home / "server.log",
                ready=lambda: _answers(port, probe),
                env={
                    "PATH": f"{folder}:{os.defpath}",
                    "HOME": str(self.home),
                    "TMPDIR": str(self.home),
                    "AWS_DEFAULT_REGION": REGION,
                    **env,
                },
                cwd=self.home,
            )
        except BaseException:
            shutil.rmtree(self.home, ignore_errors=True)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._daemon.stop(patience=5)
        shutil.rmtree(self.home)

    def client(self, service: str, **options: Any) -> Any:
        """A client with the double's root keys; see `client` for the options."""
        return client(service, self.url, **options)

    def make_bucket(self, name: str) -> None:
        place = {"LocationConstraint": REGION}
        self.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=place)

    def make_role(self, statements: Sequence[Mapping[str, Any]], trust: Trust | None = None) -> str:
        """GitHub's OIDC provider, and a role as its users make it; the role's ARN.

        `statements` are the role's policy; calling again for the same role replaces it.
        """
        trust = trust or Trust()
        iam = self.client("iam")
        name = trust.role.rpartition("/")[2]
        host = GITHUB_ISSUER.removeprefix("https://")
        with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_open_id_connect_provider(
                Url=GITHUB_ISSUER, ClientIDList=[trust.audience], ThumbprintList=["0" * 40]
            )
        condition = {
            "StringEquals": {f"{host}:aud": trust.audience},
            "StringLike": {f"{host}:sub": list(trust.subjects)},
        }
        statement = {
            "Effect": "Allow",
            "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": condition,
        }
        with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=_policy([statement]))
        iam.put_role_policy(RoleName=name, PolicyName="backup", PolicyDocument=_policy(statements))
        return trust.role


class Moto(_Double):
    """moto's server: answers nearly everything, believes nearly everything.

    It does check the least size of parts and `If-None-Match: *`; not signatures, policies,
    tokens, checksums or bucket owners.
    """

    def __enter__(self) -> Moto:
        port = free_port()
        self._start(["moto_server", "-H", LOOPBACK, "-p", str(port)], port, "/moto-api/")
        return self


class Ministack(_Double):
    """ministack: checks signatures, IAM policies with their conditions, and trust policies.

    It runs through `ministack_server`, which adds what its S3 lacks. Found by trying (1.5.33):

    - Strict: SigV4; the policy of the role, resources and conditions (`s3:prefix`,
      `s3:x-amz-server-side-encryption`, ...); the trust policy's `iss`, `aud` and `sub`;
      checksums of whole objects and of parts (BadDigest); `If-None-Match: *` on PutObject and
      CompleteMultipartUpload (412); bucket names; the end of a session.
    - Added: FULL_OBJECT checksums and tags on multipart uploads, ExpectedBucketOwner, the 5 MiB
      least size of parts, s3:PutObjectTagging, kms:GenerateDataKey and kms:Decrypt; the condition
      keys s3:if-none-match, s3:ObjectCreationOperation, those of KMS keys and of tags.
    - CloudFormation: every property of a template takes effect, or fails the stack
      (`ministack_cloudformation`).
    - Believed: a web identity token's signature and `exp` (put an Sts in front), that a KMS key
      exists, S3's refusal of a composite CRC64NVME.
    - Different: SSE-KMS without a key id is InvalidArgument here (S3 takes the account's key).
    """

    def __enter__(self) -> Ministack:
        port = free_port()
        self._start(
            [sys.executable, "-m", "tests.lab.ministack_server"],
            port,
            "/_ministack/health",
            AUTH="true",
            BIND_HOST=LOOPBACK,
            GATEWAY_PORT=str(port),
            MINISTACK_ACCOUNT_ID=ACCOUNT,
            MINISTACK_REGION=REGION,
            S3_PERSIST="0",
            PERSIST_STATE="0",
            PYTHONPATH=str(REPOSITORY),
        )
        return self


def _policy(statements: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False


def visible_objects(s3: Any, bucket: str, prefix: str = "") -> dict[str, int]:
    """Keys and sizes of the objects a reader can see."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}


def open_uploads(s3: Any, bucket: str) -> list[str]:
    """Keys of the multipart uploads that were neither completed nor aborted."""
    pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
    return [entry["Key"] for page in pages for entry in page.get("Uploads", ())]
