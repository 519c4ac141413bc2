"""An STS that really checks web identity tokens, in front of a double that does not.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

from __future__ import annotations

import datetime
import fnmatch
import http.client
import re
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import jwt

from tests.lab.httpd import HttpService, Request, Response, Served, answering
from tests.lab.issuer import GITHUB_ISSUER, SUBJECT

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/pg-backup"
NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
NOT_AUTHORIZED = "Not authorized to perform sts:AssumeRoleWithWebIdentity"


@dataclass(frozen=True)
class Trust:
    """What a role's trust policy says: StringEquals on `aud`, StringLike on `sub`."""

    role: str = ROLE
    subjects: Sequence[str] = (SUBJECT,)
    audience: str = "sts.amazonaws.com"
    max_duration: int = 3600  # the role's MaxSessionDuration, in seconds


@dataclass(frozen=True)
class Refusal(Exception):
    status: int
    code: str
    message: str


@dataclass(frozen=True)
class Exchange:
    """One role session that was handed out."""

    access_key: str
    role: str
    session_name: str
    subject: str
    at: float  # time.time()
    expires: float
    secrets: tuple[str, ...]  # the secret key and the session token


@dataclass
class Sts(Served):
    """AssumeRoleWithWebIdentity with the token's signature, dates, issuer, audience and subject
    checked; every other action goes to `upstream` as it came.

    Keys come from `upstream` (an endpoint URL) too, or are made here when there is none. With
    `lifetime` (seconds) sessions end sooner than was asked for, and `is_expired` says so to a
    FaultProxy in front of S3. `refuse` answers the next exchanges with that error. Without `trust`
    (None) signature, dates and issuer are checked here, and `upstream` decides by the trust policy
    that the role really has.
    """

    jwks_url: str
    upstream: str | None = None
    trust: Sequence[Trust] | None = (Trust(),)
    issuer: str = GITHUB_ISSUER
    lifetime: float | None = None
    refuse: Refusal | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def __enter__(self) -> Sts:
        self._expired_before = 0.0
        self._keys = jwt.PyJWKClient(self.jwks_url)
        self._service = HttpService(answering(self._answer))
        return self

    def expire_sessions(self) -> None:
        """End every session handed out until now."""
        self._expired_before = time.time()

    def is_expired(self, access_key: str) -> bool:
        """Whether `access_key` was handed out here and its session is over."""
        return any(
            exchange.at < self._expired_before or exchange.expires < time.time()
            for exchange in self.exchanges
            if exchange.access_key == access_key
        )

    def _answer(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if form.get("Action") != "AssumeRoleWithWebIdentity":
            return self._forward(request)
        try:
            subject, audience = self._check(form)
            response = self._forward(request) if self.upstream else _session(form, audience)
            if response.status != 200:
                return response
            return self._hand_out(form, subject, response)
        except Refusal as refusal:
            self.refusals.append(refusal)
            return _error(refusal)

    def _check(self, form: dict[str, str]) -> tuple[str, str]:
        """The token's subject and audience. Raises Refusal as the service would."""
        if self.refuse:
            raise self.refuse
        if not re.fullmatch(r"[\w+=,.@-]{2,64}", form.get("RoleSessionName", ""), re.ASCII):
            raise Refusal(400, "ValidationError", "1 validation error detected: roleSessionName")
        claims = self._verified_claims(form.get("WebIdentityToken", ""))
        if self.trust is None:
            return claims["sub"], claims["aud"]
        trusts = [trust for trust in self.trust if trust.role == form.get("RoleArn")]
        if not trusts:
            raise Refusal(403, "AccessDenied", NOT_AUTHORIZED)
        if claims["aud"] not in {trust.audience for trust in trusts}:
            raise Refusal(400, "InvalidIdentityToken", "Incorrect token audience")
        for trust in trusts:
            if claims["aud"] == trust.audience and _matches(claims["sub"], trust.subjects):
                self._check_duration(form, trust)
                return claims["sub"], claims["aud"]
        raise Refusal(403, "AccessDenied", NOT_AUTHORIZED)

    def _verified_claims(self, token: str) -> dict[str, str]:
        try:
            key = self._keys.get_signing_key_from_jwt(token)
            claims: dict[str, str] = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                issuer=self.issuer,
                options={"verify_aud": False, "require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            unverified = jwt.decode(token, options={"verify_signature": False})
            raise Refusal(
                400,
                "ExpiredTokenException",
                f"Token expired: current date/time {int(time.time())} must be before the "
                f"expiration date/time {unverified['exp']}",
            ) from error
        except jwt.InvalidIssuerError as error:
            message = "No OpenIDConnect provider found in your account for the token's issuer"
            raise Refusal(400, "InvalidIdentityToken", message) from error
        except jwt.PyJWTError as error:
            message = "The web identity token that was passed could not be validated by AWS."
            raise Refusal(400, "InvalidIdentityToken", message) from error
        return claims

    def _check_duration(self, form: dict[str, str], trust: Trust) -> None:
        duration = int(form.get("DurationSeconds", "3600"))
        if not 900 <= duration <= 43200:
            raise Refusal(400, "ValidationError", "1 validation error detected: durationSeconds")
        if duration > trust.max_duration:
            message = (
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            )
            raise Refusal(400, "ValidationError", message)

    def _hand_out(self, form: dict[str, str], subject: str, response: Response) -> Response:
        body = response.body.decode()
        expires = time.time() + float(form.get("DurationSeconds", "3600"))
        if self.lifetime is not None:
            expires = time.time() + self.lifetime
            body = re.sub(
                "<Expiration>[^<]*</Expiration>",
                f"<Expiration>{_timestamp(expires)}</Expiration>",
                body,
            )
        access_key, *keys = (
            body.partition(f"<{name}>")[2].partition("<")[0]
            for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")
        )
        self.exchanges.append(
            Exchange(
                access_key,
                form["RoleArn"],
                form["RoleSessionName"],
                subject,
                time.time(),
                expires,
                tuple(keys),
            )
        )
        return Response(200, body.encode(), response.headers)

    def _forward(self, request: Request) -> Response:
        if not self.upstream:
            return _error(Refusal(400, "InvalidAction", "This STS knows only web identities"))
        connection = http.client.HTTPConnection(urlsplit(self.upstream).netloc, timeout=30)
        # The Host that was signed is kept, or the double would refuse the signature.
        headers = {**request.headers, "connection": "close"}
        connection.request(request.method, request.path, request.body, headers)
        answer = connection.getresponse()
        content = {"Content-Type": answer.getheader("Content-Type") or "text/xml"}
        response = Response(answer.status, answer.read(), content)
        connection.close()
        return response


def _matches(subject: str, patterns: Sequence[str]) -> bool:
    """IAM's StringLike: * and ? are wildcards, brackets are themselves."""
    return any(fnmatch.fnmatchcase(subject, p.replace("[", "[[]")) for p in patterns)


def _session(form: dict[str, str], audience: str) -> Response:
    role, name = form["RoleArn"], form["RoleSessionName"]
    expires = _timestamp(time.time() + float(form.get("DurationSeconds", "3600")))
    arn = f"{role.replace(':iam:', ':sts:').replace(':role/', ':assumed-role/')}/{name}"
    return _xml(
        200,
        f"""<AssumeRoleWithWebIdentityResponse xmlns="{NAMESPACE}">
  <AssumeRoleWithWebIdentityResult>
    <Audience>{escape(audience)}</Audience>
    <AssumedRoleUser>
      <AssumedRoleId>AROA{secrets.token_hex(8).upper()}:{name}</AssumedRoleId>
      <Arn>{arn}</Arn>
    </AssumedRoleUser>
    <Credentials>
      <AccessKeyId>ASIA{secrets.token_hex(8).upper()}</AccessKeyId>
      <SecretAccessKey>{secrets.token_urlsafe(30)}</SecretAccessKey>
      <SessionToken>{secrets.token_urlsafe(200)}</SessionToken>
      <Expiration>{expires}</Expiration>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>""",
    )


def _error(refusal: Refusal) -> Response:
    return _xml(
        refusal.status,
        f"""<ErrorResponse xmlns="{NAMESPACE}">
  <Error>
    <Type>Sender</Type>
    <Code>{refusal.code}</Code>
    <Message>{escape(refusal.message)}</Message>
  </Error>
  <RequestId>{uuid.uuid4()}</RequestId>
</ErrorResponse>""",
    )


def _xml(status: int, text: str) -> Response:
    return Response(status, text.encode(), {"Content-Type": "text/xml"})


def _timestamp(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
