"""Secrets Manager: a database's login, plain or as RDS writes it, and the key for an SSH server."""

from __future__ import annotations

import json
from dataclasses import dataclass

from backup.aws.permissions import partition
from backup.aws.refusals import Attempt, Remedy, error_code, explained
from backup.aws.session import AwsSession
from backup.errors import AccessError, InputError
from backup.settings import Secret


@dataclass(frozen=True, slots=True)
class DatabaseSecret:
    """What a secret told; None for what a plain password, or its JSON, leaves out.

    https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html
    """

    password: Secret | None
    host: str | None = None
    port: str | None = None
    user: str | None = None
    database: str | None = None


@dataclass(frozen=True, slots=True)
class TunnelSecret:
    """What a secret told of an SSH server; `host_keys` are lines as in `ssh-ed25519 AAAA…`."""

    private_key: Secret
    host_keys: tuple[str, ...] = ()


def read_database_secret(session: AwsSession, secret_id: str) -> DatabaseSecret:
    """Fetch and read the current value. `secret_id` is a name or an ARN.

    Raises AccessError, or InputError where there is no such secret or no password in it.
    """
    advice = (
        "a password is text",
        "store it as SecretString: plain, or JSON with username and password",
    )
    return _parse(secret_id, _read(session, secret_id, "password-secret-id", advice))


def read_tunnel_secret(session: AwsSession, secret_id: str) -> TunnelSecret:
    """Fetch and read the private key for an SSH server: plain, or JSON with the host key.

    Raises AccessError, or InputError where there is no such secret or no private key in it.
    """
    advice = "a private key is text that begins with -----BEGIN", _store_key(secret_id)
    text = _read(session, secret_id, "tunnel-secret-id", advice)
    found: dict[str, object] = {"private_key": text}
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(
                f"the secret {secret_id} is no JSON, though it begins with a brace",
                detail=f"line {error.lineno}, column {error.colno}: {error.msg}",
                hint="line breaks of the key are \\n in JSON; or store the key alone: "
                + _store_key(secret_id),
            ) from None  # whose text would hold the secret
    key, host_key = _text(found.get("private_key")) or "", _text(found.get("host_key")) or ""
    lines = [line.strip() for line in key.splitlines() if line.strip()]
    if len(lines) < 3 or not lines[0].startswith("-----BEGIN "):
        raise InputError(
            f"the secret {secret_id} holds no private key",
            detail="its line breaks are gone"
            if "-----BEGIN " in key
            else f"its JSON has {', '.join(sorted(found))}"
            if found.get("private_key") != text
            else "its text does not begin with -----BEGIN",
            hint=_store_key(secret_id),
        )
    # OpenSSH wants the last line ended too.
    return TunnelSecret(
        Secret("\n".join(lines) + "\n"),
        tuple(line.strip() for line in host_key.splitlines() if line.strip()),
    )


def _store_key(secret_id: str) -> str:
    return (
        f"aws secretsmanager put-secret-value --secret-id {secret_id}"
        " --secret-string file://id_ed25519"
    )


def _read(session: AwsSession, secret_id: str, option: str, advice: tuple[str, str]) -> str:
    """The current value; `advice` is cause and remedy for one that is no text."""
    from botocore.exceptions import ClientError

    region, account = session.region, session.account
    named = f"arn:{partition(region)}:secretsmanager:{region}:{account}:secret:{secret_id}-*"
    attempt = Attempt(
        f"cannot read the secret {secret_id}",
        region,
        ("secretsmanager:GetSecretValue",),
        secret_id if secret_id.startswith("arn:") else named,
        # Needed where the secret has a key of its own, not for aws/secretsmanager.
        ("kms:Decrypt",),
        remedies={
            # https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
            "InvalidRequestException": Remedy(
                AccessError,
                "where it is marked for deletion, this brings it back:\n"
                f"aws secretsmanager restore-secret --secret-id {secret_id}",
            )
        },
    )
    with explained(attempt):
        client = session.client("secretsmanager")
        try:
            answer = client.get_secret_value(SecretId=secret_id)
        except ClientError as error:
            if error_code(error) != "ResourceNotFoundException":
                raise
            raise InputError(
                f"there is no secret {secret_id}",
                detail=f"Secrets Manager of account {account} in {region} does not know it",
                hint=f"give its name or full ARN as {option}; a secret of another "
                "account needs the ARN",
            ) from error
    text = answer.get("SecretString")
    if text is None:
        detail, hint = advice
        raise InputError(f"the secret {secret_id} is binary", detail=detail, hint=hint)
    return str(text)


def _parse(secret_id: str, text: str) -> DatabaseSecret:
    if not text.lstrip().startswith("{"):
        # A line break at the end comes from `echo`, not from the password.
        return DatabaseSecret(Secret(text.rstrip("\r\n")))
    try:
        found = json.loads(text)
    except ValueError:
        # It began like JSON and is none: then it is a password that begins with a brace.
        return DatabaseSecret(Secret(text.rstrip("\r\n")))
    if not isinstance(found.get("password"), str) or not found["password"]:
        raise InputError(
            f"the secret {secret_id} holds no password",
            detail=f"its JSON has {', '.join(sorted(found)) or 'nothing'}",
            hint='add the key "password", as in RDS\'s own secrets: '
            '{"username": "backup", "password": "..."}',
        )
    engine = str(found.get("engine") or "postgres")
    if "postgres" not in engine:
        raise InputError(
            f"the secret {secret_id} is not for PostgreSQL",
            detail=f"its engine is {engine!r}",
            hint="name the secret of the PostgreSQL database as password-secret-id",
        )
    return DatabaseSecret(
        password=Secret(found["password"]),
        host=_text(found.get("host")),
        port=_text(found.get("port")),
        user=_text(found.get("username")),
        database=_text(found.get("dbname")),
    )


def _text(value: object) -> str | None:
    return str(value) if value not in (None, "") else None
