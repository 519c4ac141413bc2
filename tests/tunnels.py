"""What tests of a tunnel share: a database that speaks TLS alone, and the way to it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from tests.lab.cloud import Cloud, listing, reading, writing
from tests.lab.commands import secrets_seen
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun
from tests.lab.sshd import KeyFiles, Sshd
from tests.lab.stage import APPLICATION, Stage

INSTANCE = "i-0123456789abcdef0"


def secret_reading() -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "*"}


def allow_all(cloud: Cloud) -> None:
    bucket = cloud.bucket
    cloud.allow(writing(bucket), listing(bucket), reading(bucket), secret_reading())


def keep_secret(cloud: Cloud, text: str) -> str:
    """A new secret of Secrets Manager; its name."""
    name = f"tunnel/{secrets.token_hex(4)}"
    cloud.double.client("secretsmanager").create_secret(Name=name, SecretString=text)
    return name


def by_secret(stage: Stage, sshd: Sshd, key: KeyFiles | None = None) -> dict[str, str]:
    """The inputs of a tunnel whose key comes from Secrets Manager."""
    text = (key or sshd.key).private
    return sshd.inputs | {"tunnel-secret-id": keep_secret(stage.cloud, text)}


def strictly(server: PostgresServer, database: str, host: str = "localhost") -> str:
    """The URL that checks the server's certificate and its name."""
    assert server.certificates is not None
    roots = str(server.certificates.authority)
    return server.url(database, host=host, sslmode="verify-full", sslrootcert=roots)


def logins(server: PostgresServer) -> int:
    """How often the action has logged in to the server until now, its programs included."""
    pattern = rf"connection authorized: .*application_name={APPLICATION} SSL enabled"
    return len(re.findall(pattern, server.log.read_text(errors="replace")))


def assert_key_unseen(run: ActionRun, key: KeyFiles) -> None:
    """Neither in the log as it would be without masks, nor in what the step wrote."""
    told = run.log.printed + run.summary + "".join(run.outputs.values())
    assert [] == secrets_seen(told, key.lines)
    assert "PRIVATE KEY" not in told


def plain(inputs: Mapping[str, str], server: PostgresServer, database: str) -> dict[str, str]:
    """The same with the source named by host and port, without TLS."""
    parts = {"host": "127.0.0.1", "port": str(server.port), "user": "postgres"}
    parts |= {"database": database, "password": server.password}
    return {name: value for name, value in inputs.items() if name != "database-url"} | parts
