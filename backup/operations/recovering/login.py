"""The proof that a new instance works: somebody logs in to it, and asks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace

from backup.aws.instances import Cluster, Database
from backup.aws.session import AwsSession
from backup.console import Console
from backup.errors import AccessError, BackupError
from backup.operations.reaching import reached
from backup.operations.sources import find_source
from backup.postgres.connection import connect
from backup.postgres.first_answer import FirstAnswer, first_answer
from backup.settings import Settings, SourceSettings

# A new endpoint's name takes a while to be known everywhere.
_PAUSES_SECONDS = (1, 2, 4, 8, 15)
HOW_TO_BE_CHECKED = (
    "give user with password, password-secret-id or iam-auth: true, or a password-secret-id that"
    " holds both, and the run logs in and asks"
)


def can_log_in(source: SourceSettings) -> bool:
    """Whether the inputs say who logs in; a secret may name the user."""
    return bool(source.user or source.password_secret_id)


def check_login(settings: Settings, old: Database, session: AwsSession, console: Console) -> None:
    """Read what the login needs before anything is made. Raises InputError, AccessError."""
    find_source(_source(settings, old, "not-yet-known.invalid"), session, console)


def log_in(
    settings: Settings,
    made: Database,
    session: AwsSession,
    console: Console,
    environment: Mapping[str, str],
) -> FirstAnswer:
    """Log in at the new endpoint and ask.

    Raises AccessError, InputError, DumpError, RestoreError.
    """
    given = _source(settings, made, made.network.endpoint)
    try:
        with (
            reached(given, settings.tunnel, session, console, environment) as source,
            closing(connect(source, pauses=_PAUSES_SECONDS)) as connection,
        ):
            return first_answer(connection)
    except AccessError as error:
        error.hint += _about_logins(settings, made, session)
        raise
    except BackupError as error:
        error.hint += (
            f"\nThe new {made.identifier} is as private as the old one was: the run must stand"
            " where it can be reached, or go through tunnel"
        )
        raise


def _source(settings: Settings, database: Database, host: str | None) -> SourceSettings:
    """The login of the inputs, at another place than theirs."""
    port = database.network.port
    return replace(
        settings.source,
        host=host,
        port=str(port) if port else None,
        # The first database of the instance; each has `postgres`.
        database=settings.source.database or database.database or "postgres",
    )


def _about_logins(settings: Settings, made: Database, session: AwsSession) -> str:
    if settings.source.iam_auth:
        # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.IAMPolicy.html
        kind = "cluster" if isinstance(made, Cluster) else "db"
        region, account = session.region, session.account
        resource = made.resource_id or f"{kind}-*"
        return (
            f"\nThe new one has a resource id of its own: allow rds-db:connect on"
            f" arn:aws:rds-db:{region}:{account}:dbuser:{resource}/{settings.source.user or '*'}"
        )
    return (
        "\nPasswords are those of the moment that was restored: one that was changed since is the"
        " old one there. For the master user: aws rds modify-db-instance --db-instance-identifier"
        f" {made.identifier} --master-user-password …"
    )
