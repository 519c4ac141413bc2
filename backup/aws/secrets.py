"""A database's login from Secrets Manager: a plain password, or the JSON that RDS writes."""

from __future__ import annotations

import json
from dataclasses import dataclass

from backup.aws.permissions import partition
from backup.aws.refusals import Attempt, error_code, explained
from backup.aws.session import AwsSession
from backup.errors import InputError
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


def read_database_secret(session: AwsSession, secret_id: str) -> DatabaseSecret:
    """Fetch and read the current value. `secret_id` is a name or an ARN.

    Raises AccessError, or InputError where there is no such secret or no password in it.
    """
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
                hint="give its name or full ARN as password-secret-id; a secret of another "
                "account needs the ARN",
            ) from error
    text = answer.get("SecretString")
    if text is None:
        raise InputError(
            f"the secret {secret_id} is binary",
            detail="a password is text",
            hint="store it as SecretString: plain, or JSON with username and password",
        )
    return _parse(secret_id, text)


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
