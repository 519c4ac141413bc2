"""The trust policies of github-oidc.yaml, deployed, against tokens of friends and of strangers.

The lab's STS checks signature, dates and issuer as AWS does; the double then evaluates the role's
own trust policy, as CloudFormation has made it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import botocore.session
import jwt
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.lab.aws import REGION, Ministack
from tests.lab.issuer import GITHUB_ISSUER, KEY_ID, Issuer
from tests.lab.runner import run_action
from tests.lab.stacks import deploy
from tests.lab.sts import Sts
from tests.steps import green

PLAIN, IDS = "repo:acme/shop", "repo:acme@77/shop@4242"
MAIN, PRODUCTION = "ref:refs/heads/main", "environment:production"
ROLES = ("writer", "restorer", "auditor", "operator")
PLACES = {"writer": MAIN, "restorer": MAIN, "auditor": MAIN, "operator": PRODUCTION}


@dataclass(frozen=True)
class Doors:
    """The roles as deployed, and the STS in front of them."""

    double: Ministack
    issuer: Issuer
    sts: Sts
    roles: dict[str, str]
    client: Any

    def enter(self, role: str, token: str) -> str:
        """The ARN of the session, or the code of the refusal."""
        try:
            answer = self.client.assume_role_with_web_identity(
                RoleArn=self.roles[role], RoleSessionName="job", WebIdentityToken=token
            )
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return str(answer["AssumedRoleUser"]["Arn"])


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    """An account of its own, in which the template makes the provider too."""
    with Ministack() as double, Issuer() as issuer:
        double.make_bucket("backups-of-acme")
        outputs = deploy(
            double,
            "github-oidc",
            "roles",
            {
                "Repository": "acme/shop",
                "RepositoryIds": "acme@77/shop@4242",
                "Bucket": "backups-of-acme",
                "DbInstance": "shop",
            },
        )
        roles = {name: outputs[f"{name.title()}Role"] for name in ROLES}
        with Sts(issuer.jwks_url, double.url, trust=None) as sts:
            client = botocore.session.get_session().create_client(
                "sts",
                region_name=REGION,
                endpoint_url=sts.url,
                config=Config(signature_version=UNSIGNED),
            )
            yield Doors(double, issuer, sts, roles, client)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("head", [PLAIN, IDS], ids=["name", "name-and-ids"])
def test_the_repository_gets_in_by_both_forms_of_its_name(
    doors: Doors, role: str, head: str
) -> None:
    token = doors.issuer.token(sub=f"{head}:{PLACES[role]}")
    assert f":assumed-role/pg-backup-{role}/job" in doors.enter(role, token)


def subjects(place: str) -> dict[str, str]:
    """The `sub` of jobs that must stay outside, by what they are."""
    other = MAIN if place == PRODUCTION else PRODUCTION
    return {
        "another repository": f"repo:acme/other:{place}",
        "another repository, with ids": f"repo:acme@77/other@4243:{place}",
        "a fork": f"repo:mallory/shop:{place}",
        "a fork, with ids": f"repo:mallory@666/shop@667:{place}",
        "a name that was taken over": f"repo:acme@666/shop@667:{place}",
        "another owner's id": f"repo:acme@78/shop@4242:{place}",
        "another repository's id": f"repo:acme@77/shop@4243:{place}",
        "half of the ids": f"repo:acme@77/shop:{place}",
        "the other half": f"repo:acme/shop@4242:{place}",
        "an id that goes on": f"repo:acme@77/shop@42420:{place}",
        "a pull request": f"{PLAIN}:pull_request",
        "a pull request, with ids": f"{IDS}:pull_request",
        "another branch": f"{PLAIN}:ref:refs/heads/feature",
        "a branch that goes on": f"{PLAIN}:{place}-2",
        "a branch below": f"{PLAIN}:{place}/x",
        "a tag of that name": f"{PLAIN}:ref:refs/tags/main",
        "the other role's place": f"{PLAIN}:{other}",
        "a repository that goes on": f"repo:acme/shop-evil:{place}",
        "a repository that ends so": f"repo:acme/evil-shop:{place}",
        "an owner that goes on": f"repo:acme-evil/shop:{place}",
        "an owner that ends so": f"repo:evil-acme/shop:{place}",
        "a dot behind it": f"repo:acme/shop.:{place}",
        "the owner in upper case": f"repo:ACME/shop:{place}",
        "the repository in upper case": f"repo:acme/SHOP:{place}",
        "the place in upper case": f"{PLAIN}:{place.upper()}",
        "the trusted subject inside": f"repo:evil/x:{PLAIN}:{place}",
        "the trusted subject as a branch": f"repo:evil/x:ref:refs/heads/{PLAIN}:{place}",
        "something behind it": f"{PLAIN}:{place}:x",
        "a blank behind it": f"{PLAIN}:{place} ",
        "a line behind it": f"{PLAIN}:{place}\n",
        "a blank before it": f" {PLAIN}:{place}",
        "a wildcard": f"repo:acme/*:{place}",
        "nothing but a wildcard": "*",
        "the repository alone": PLAIN,
        "nothing": "",
    }


@pytest.mark.parametrize("kind", subjects(MAIN))
def test_no_other_subject_gets_in(doors: Doors, kind: str) -> None:
    for role, place in PLACES.items():
        token = doors.issuer.token(sub=subjects(place)[kind])
        assert "AccessDenied" == doors.enter(role, token), role


def hmac_with_the_public_key(issuer: Issuer) -> str:
    """A token whose signature is right for who takes the public key for a shared secret."""

    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    public = issuer._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(trusted(issuer), options={"verify_signature": False})
    signed = part({"alg": "HS256", "typ": "JWT", "kid": KEY_ID}) + b"." + part(claims)
    signature = base64.urlsafe_b64encode(hmac.new(public, signed, hashlib.sha256).digest())
    return (signed + b"." + signature.rstrip(b"=")).decode()


def trusted(issuer: Issuer, audience: str = "sts.amazonaws.com", **claims: Any) -> str:
    return issuer.token(audience, **{"sub": f"{PLAIN}:{MAIN}"} | claims)


def unsigned(issuer: Issuer) -> str:
    claims = jwt.decode(trusted(issuer), options={"verify_signature": False})
    return jwt.encode(claims, "", algorithm="none", headers={"kid": KEY_ID})


def forged(issuer: Issuer) -> str:
    issuer.forge = True
    try:
        return trusted(issuer)
    finally:
        issuer.forge = False


def changed(issuer: Issuer) -> str:
    """Another job's token with our subject written into it."""
    head, _, signature = trusted(issuer, sub=f"repo:evil/x:{MAIN}").split(".")
    return ".".join((head, trusted(issuer).split(".")[1], signature))


def without(claim: str) -> Callable[[Issuer], str]:
    def made(issuer: Issuer) -> str:
        claims = jwt.decode(trusted(issuer), options={"verify_signature": False})
        del claims[claim]
        return jwt.encode(claims, issuer._key, algorithm="RS256", headers={"kid": KEY_ID})

    return made


TOKENS: dict[str, Callable[[Issuer], str]] = {
    "another audience": lambda issuer: trusted(issuer, "https://github.com/acme"),
    "an audience that goes on": lambda issuer: trusted(issuer, "sts.amazonaws.com.evil.example"),
    "an audience in upper case": lambda issuer: trusted(issuer, "STS.AMAZONAWS.COM"),
    "another issuer": lambda issuer: trusted(issuer, iss="https://evil.example"),
    "an issuer that goes on": lambda issuer: trusted(issuer, iss=f"{GITHUB_ISSUER}.evil.example"),
    "an enterprise's own issuer": lambda issuer: trusted(issuer, iss=f"{GITHUB_ISSUER}/evil"),
    "expired": lambda issuer: trusted(issuer, exp=int(time.time()) - 1),
    "not yet good": lambda issuer: trusted(issuer, nbf=int(time.time()) + 600),
    "no signature": unsigned,
    "another key": forged,
    "the public key as a secret": hmac_with_the_public_key,
    "claims changed": changed,
    "no subject": without("sub"),
    "no audience": without("aud"),
    "no end": without("exp"),
    "no token": lambda _: "abc.def.ghi",
}


@pytest.mark.parametrize("kind", TOKENS)
def test_no_other_token_gets_in(doors: Doors, kind: str) -> None:
    for role in ("writer", "restorer", "auditor"):
        refused = doors.enter(role, TOKENS[kind](doors.issuer))
        assert refused in ("AccessDenied", "InvalidIdentityToken", "ExpiredTokenException"), role


def test_a_job_of_the_repository_works_and_one_of_a_fork_is_told_what_is_trusted(
    doors: Doors,
) -> None:
    inputs = {
        "operation": "list",
        "aws-region": REGION,
        "bucket": "backups-of-acme",
        "role-to-assume": doors.roles["writer"],
    }
    env = doors.issuer.env | {
        "AWS_ENDPOINT_URL": doors.double.url,
        "AWS_ENDPOINT_URL_STS": doors.sts.url,
        "AWS_MAX_ATTEMPTS": "2",
    }
    usual = doors.issuer.subject
    try:
        doors.issuer.subject = f"{IDS}:{MAIN}"
        green(run_action(inputs, env))
        doors.issuer.subject = f"repo:mallory/shop:{MAIN}"
        refused = run_action(inputs, env)
    finally:
        doors.issuer.subject = usual

    assert 3 == refused.exit_code, refused.output
    (error,) = refused.errors
    assert "sub=repo:mallory/shop:ref:refs/heads/main" in error.message
    assert '"repo:mallory/shop:ref:refs/heads/main"' in error.message
