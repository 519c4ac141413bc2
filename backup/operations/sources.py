"""The source of a backup: what the inputs say, completed by a secret or a login token."""

from __future__ import annotations

from backup.aws import rds
from backup.aws.secrets import DatabaseSecret, read_database_secret
from backup.aws.session import AwsSession
from backup.console import Console
from backup.errors import Fault, InputError
from backup.postgres.connection import Source, no_password, tls
from backup.settings import Secret, SourceSettings


def find_source(given: SourceSettings, session: AwsSession, console: Console) -> Source:
    """Where to connect and how to log in. Inputs win over what a secret says.

    Raises InputError for what neither tells, AccessError for a secret that cannot be read.
    """
    secret = DatabaseSecret(password=None)
    if given.password_secret_id:
        secret = read_database_secret(session, given.password_secret_id)
    host, database, user = _required(
        given.host or secret.host, given.database or secret.database, given.user or secret.user
    )
    port = given.port or secret.port or "5432"
    amazon = rds.is_rds_host(host)
    sslmode, roots = tls(given.sslmode, str(rds.ROOT_BUNDLE) if amazon else None)

    def static_password() -> Secret | None:
        return given.password or secret.password

    def login_token() -> Secret:
        token = rds.login_token(session, host, int(port), user)
        console.mask(token)
        return Secret(token)

    if password := static_password():
        console.mask(password.value)
    return Source(
        host=host,
        port=port,
        database=database,
        user=user,
        sslmode=sslmode,
        sslrootcert=roots,
        parameters=given.parameters,
        password=login_token if given.iam_auth else static_password if password else no_password,
    )


def _required(host: str | None, database: str | None, user: str | None) -> tuple[str, str, str]:
    if host and database and user:
        return host, database, user
    needed = (
        ("host", host, "db.example.org"),
        ("database", database, "shop"),
        ("user", user, "backup"),
    )
    raise InputError.from_faults(
        [
            Fault(name, "is neither given nor in the secret", f"name it, as in {name}: {example}")
            for name, value, example in needed
            if not value
        ]
    )
