"""Who the run is in AWS, for as long as it takes.

A role session ends after an hour; a dump may take ten. So the session holds no keys: it holds
the way to get them, and every client made by it asks again when the keys near their end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from backup.aws.permissions import partition
from backup.aws.refusals import Attempt, error_code, explained, no_credentials
from backup.aws.trust import Claims, read_claims, refused_caller, refused_token
from backup.errors import AccessError, InputError
from backup.settings import RoleSettings

# A session that was assumed from another role's session lasts one hour at most:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining
_LONGEST_CHAINED_SECONDS = 3600
_CONNECT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Identity:
    """Who AWS takes us for: the account's 12 digits, and the ARN of the role session or user."""

    account: str
    arn: str


class AwsSession:
    """Clients of one region with keys that renew themselves. Safe to use from any thread.

    `identity` is None for keys of the environment that nobody asked AWS about.
    """

    def __init__(self, botocore_session: Any, region: str, identity: Identity | None) -> None:
        self._session = botocore_session
        self._lock = threading.Lock()
        self.region = region
        self.identity = identity

    @property
    def account(self) -> str:
        """The account's 12 digits as far as known, for the ARNs of policies to paste."""
        return self.identity.account if self.identity else "ACCOUNT_ID"

    def client(self, service: str, config: Any = None) -> Any:
        """A new botocore client; `config` is a botocore Config."""
        # Clients may be shared between threads, but not made in several at once:
        # https://docs.aws.amazon.com/boto3/latest/guide/clients.html#multithreading-or-multiprocessing-with-clients
        with self._lock:
            return self._session.create_client(service, region_name=self.region, config=config)

    def identified(self) -> AwsSession:
        """The same session, which knows whose keys it has. Raises AccessError."""
        if self.identity:
            return self
        identity = _identify(self._session, self.region, short_of_patience())
        other = AwsSession(self._session, self.region, identity)
        other._lock = self._lock
        return other

    def in_region(self, region: str) -> AwsSession:
        """The same session for clients of another region."""
        other = AwsSession(self._session, region, self.identity)
        other._lock = self._lock
        return other

    def assuming(
        self, role: RoleSettings, caller_arn: str | None, mask: Callable[[str], None]
    ) -> AwsSession:
        """A session of another role, which this one assumes and which renews itself as well.

        `caller_arn` is this one's role, where it has one, for what its trust policy must say.
        `mask` is given every key before its use. Raises AccessError.
        """
        arn = str(role.arn)
        with explained(Attempt(f"cannot assume {arn}", self.region)):
            session = _new_session()
            session.set_config_variable("region", self.region)
            source = _found(self._session.get_credentials())
            caller = caller_arn or (self.identity.arn if self.identity else None)
            credentials = _from_keys(session, role, source, mask, caller)
            session.register_component("credential_provider", _Only(credentials))
            credentials.get_frozen_credentials()  # who may not assume it is told so at once
        account, name = arn.split(":")[4], arn.rpartition("/")[2]
        session_arn = (
            f"arn:{partition(self.region)}:sts::{account}:assumed-role/{name}/{role.session_name}"
        )
        return AwsSession(session, self.region, Identity(account, session_arn))


def short_of_patience() -> Any:
    """A botocore Config for what may stay unanswered: a closed network costs seconds of it."""
    from botocore.config import Config

    return Config(
        connect_timeout=5,
        read_timeout=20,
        retries={"mode": "standard", "total_max_attempts": 3},
    )


def open_session(
    role: RoleSettings,
    load_id_token: Callable[[], str] | None,
    mask: Callable[[str], None],
) -> AwsSession:
    """Become the role, or whoever the environment says, and learn the account.

    `load_id_token` fetches a fresh id token each time; None where there is no issuer, and then a
    role is assumed with the environment's credentials. `mask` is given every key before its use.
    Raises AccessError, and InputError for a profile or region that does not exist.
    """
    attempt = Attempt("cannot log in to AWS", role.region or "")
    with explained(attempt):
        session = _new_session()
        region = role.region or session.get_config_variable("region")
        if not region:
            raise InputError("no AWS region is known", hint="aws-region: eu-central-1")
        session.set_config_variable("region", region)
        ambient = session.get_component("credential_provider")
        if role.arn and load_id_token:
            credentials = _from_id_token(session, role, load_id_token, mask)
        elif role.arn:
            credentials = _from_keys(session, role, _found(ambient.load_credentials()), mask)
        else:
            credentials = _found(ambient.load_credentials())
        session.register_component("credential_provider", _Only(credentials))
        # An S3-compatible store has no STS, so who the environment's keys belong to is asked only
        # where it matters.
        asked = role.arn or role.allowed_account_ids
        identity = _identify(session, region) if asked else None
    if identity and role.allowed_account_ids and identity.account not in role.allowed_account_ids:
        raise AccessError(
            f"account {identity.account} is not one of allowed-account-ids",
            detail=f"the credentials are those of {identity.arn}; allowed are "
            + ", ".join(role.allowed_account_ids),
            hint="correct role-to-assume, or add the account to allowed-account-ids",
        )
    return AwsSession(session, region, identity)


def anonymous_session(region: str) -> AwsSession:
    """A session of nobody: for what AWS tells anyone, and for steps that need no AWS at all."""
    session = _new_session()
    session.set_config_variable("region", region)
    session.register_component("credential_provider", _Only(None))
    return AwsSession(session, region, None)


def _new_session() -> Any:
    """A botocore session. A region that is lost swallows what it is sent: botocore would wait a
    minute for each connection, five times, before anybody could look elsewhere."""
    import botocore.session
    from botocore.config import Config

    session = botocore.session.Session()
    session.set_config_variable("sts_regional_endpoints", "regional")
    session.set_default_client_config(Config(connect_timeout=_CONNECT_SECONDS))
    return session


@dataclass(frozen=True)
class _Only:
    """Takes the place of botocore's chain of credential providers: there is one answer."""

    credentials: Any

    def load_credentials(self) -> Any:
        return self.credentials


def _found(credentials: Any) -> Any:
    if credentials is None:
        raise no_credentials("there are no AWS credentials", "")
    return credentials


def _identify(session: Any, region: str, config: Any = None) -> Identity:
    with explained(Attempt("cannot tell who we are in AWS", region, ("sts:GetCallerIdentity",))):
        answer = session.create_client("sts", config=config).get_caller_identity()
    return Identity(str(answer["Account"]), str(answer["Arn"]))


def _from_id_token(
    session: Any,
    role: RoleSettings,
    load_id_token: Callable[[], str],
    mask: Callable[[str], None],
) -> Any:
    """Keys for a fresh id token, and fresh keys for another one whenever they near their end."""
    from botocore.credentials import AssumeRoleWithWebIdentityCredentialFetcher

    exchange = _TokenExchange(role, load_id_token, mask)
    duration = _LONGEST_CHAINED_SECONDS if role.external_id else role.duration_seconds
    fetcher = AssumeRoleWithWebIdentityCredentialFetcher(
        session.create_client,
        exchange.fresh_token,
        role.arn,
        {"RoleSessionName": role.session_name, "DurationSeconds": duration},
    )
    credentials = _renewed(lambda: exchange.explain(fetcher.fetch_credentials), mask)
    # AssumeRoleWithWebIdentity knows no external id. Where the trust policy asks for one, the
    # role's first session assumes the same role again, with it.
    if role.external_id:
        return _from_keys(session, role, credentials, mask, caller_arn=role.arn)
    return credentials


class _TokenExchange:
    """Remembers what the last id token said, for the case that STS refuses it."""

    def __init__(
        self, role: RoleSettings, load: Callable[[], str], mask: Callable[[str], None]
    ) -> None:
        self._role = role
        self._load = load
        self._mask = mask
        self._claims = Claims()

    def fresh_token(self) -> str:
        token = self._load()
        self._mask(token)
        self._claims = read_claims(token)
        return token

    def explain(self, fetch: Callable[[], dict[str, str]]) -> dict[str, str]:
        from botocore.exceptions import ClientError

        try:
            return fetch()
        except ClientError as error:
            text = str(error.response.get("Error", {}).get("Message", ""))
            raise refused_token(self._role, error_code(error), text, self._claims) from error


def _from_keys(
    session: Any,
    role: RoleSettings,
    source: Any,
    mask: Callable[[str], None],
    caller_arn: str | None = None,
) -> Any:
    """The role, assumed by the bearer of other keys, which may renew themselves too."""
    from botocore.credentials import AssumeRoleCredentialFetcher
    from botocore.exceptions import ClientError

    extra: dict[str, object] = {
        "RoleSessionName": role.session_name,
        "DurationSeconds": min(role.duration_seconds, _LONGEST_CHAINED_SECONDS),
    }
    if role.external_id:
        extra["ExternalId"] = role.external_id
    fetcher = AssumeRoleCredentialFetcher(session.create_client, source, role.arn, extra)

    def fetch() -> dict[str, str]:
        with explained(Attempt(f"cannot assume {role.arn}", role.region or "")):
            try:
                credentials: dict[str, str] = fetcher.fetch_credentials()
            except ClientError as error:
                if error_code(error) != "AccessDenied":
                    raise
                text = str(error.response["Error"].get("Message", ""))
                raise refused_caller(role, text, caller_arn) from error
            return credentials

    return _renewed(fetch, mask)


def _renewed(fetch: Callable[[], dict[str, str]], mask: Callable[[str], None]) -> Any:
    """Credentials that call `fetch` at their first use and 15 minutes before each end."""
    from botocore.credentials import DeferredRefreshableCredentials

    def renew() -> dict[str, str]:
        keys = fetch()
        for name in ("access_key", "secret_key", "token"):
            mask(keys[name])
        if datetime.fromisoformat(keys["expiry_time"]) <= datetime.now(UTC):
            raise AccessError(
                "the keys from STS have expired before their first use",
                detail=f"they end at {keys['expiry_time']}, and this machine's clock is past that",
                hint="set the clock (chrony, timedatectl)",
            )
        return keys

    return DeferredRefreshableCredentials(renew, "assume-role")
