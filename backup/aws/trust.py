"""Why STS refuses an id token, told by what the token says of itself.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
https://docs.github.com/en/actions/how-tos/secure-your-work/security-harden-deployments/oidc-in-aws
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass

from backup.aws.permissions import statement
from backup.aws.trust_policy import (
    provider_arn,
    subject_heads,
    token_conditions,
    token_statement,
)
from backup.errors import AccessError, BackupError
from backup.settings import RoleSettings


@dataclass(frozen=True, slots=True)
class Claims:
    """What an id token says of its bearer; empty texts where it does not say.

    Read without checking the signature: these are for an error text, nothing is decided by them.
    """

    subject: str = ""
    audience: str = ""
    issuer: str = ""
    owner_id: str = ""
    repository_id: str = ""


def read_claims(token: str) -> Claims:
    """The claims of a JWT; empty ones for a text that is none."""
    try:
        payload = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return Claims(
            subject=str(found.get("sub", "")),
            audience=str(found.get("aud", "")),
            issuer=str(found.get("iss", "")),
            owner_id=str(found.get("repository_owner_id", "")),
            repository_id=str(found.get("repository_id", "")),
        )
    except (IndexError, AttributeError, ValueError, binascii.Error):
        return Claims()


def both_subjects(claims: Claims) -> list[str]:
    """The token's `sub`, and the same in the other form: names alone, or names with numeric ids."""
    match = re.fullmatch(r"repo:([^/@:]+)(?:@(\d+))?/([^/@:]+)(?:@(\d+))?(:.*)", claims.subject)
    if not match:
        return [claims.subject]
    owner, owner_id, name, name_id, rest = match.groups()
    heads = subject_heads(owner, name, owner_id or claims.owner_id, name_id or claims.repository_id)
    return [f"{head}{rest}" for head in heads]


def trust_statement(role_arn: str, claims: Claims) -> str:
    """The statement of a trust policy that lets this very token assume the role."""
    prefix, account = role_arn.split(":")[1], role_arn.split(":")[4]
    provider = claims.issuer.removeprefix("https://")
    conditions = token_conditions(provider, claims.audience, both_subjects(claims))
    federated = provider_arn(prefix, account, provider)
    return json.dumps(token_statement(federated, conditions), indent=2)


def refused_token(role: RoleSettings, code: str, text: str, claims: Claims) -> BackupError:
    """The error for an id token that STS does not take; the token itself is never shown."""
    told = f"STS says {code}: {text}".rstrip(": ")
    shown = f"the id token says sub={claims.subject}, aud={claims.audience}, iss={claims.issuer}"
    return AccessError(
        f"cannot assume {role.arn} with the id token",
        detail=f"{told}\n{shown}",
        hint=_remedy(role, code, text, claims),
    )


def _remedy(role: RoleSettings, code: str, text: str, claims: Claims) -> str:
    provider = claims.issuer.removeprefix("https://")
    if "DurationSeconds" in text or "MaxSessionDuration" in text:
        return (
            f"the role allows shorter sessions than {role.duration_seconds} s; sessions are "
            "renewed, so long ones are not needed:\nrole-duration-seconds: 3600"
        )
    if code == "IDPCommunicationError":
        return f"AWS could not reach {claims.issuer} for its keys: run it again"
    if code in ("ExpiredTokenException", "ExpiredToken"):
        return "the token was used more than 5 minutes after it was made: check this machine's clock (chrony, timedatectl)"  # noqa: E501
    if "OpenIDConnect provider" in text or "OpenID Connect provider" in text:
        return (
            "create the provider in the role's account:\n"
            f"aws iam create-open-id-connect-provider --url {claims.issuer} "
            f"--client-id-list {claims.audience}"
        )
    lines = []
    if "audience" in text.lower():
        arn = str(role.arn).split(":role/")[0] + f":oidc-provider/{provider}"
        lines += [
            f"the provider does not list the audience {claims.audience!r}; set `audience`, or:",
            "aws iam add-client-id-to-open-id-connect-provider "
            f"--open-id-connect-provider-arn {arn} --client-id {claims.audience}",
        ]
    if claims.subject.endswith(":pull_request"):
        # A trust policy that holds this sub trusts a workflow that nobody has reviewed.
        lines.append(
            "this run is for a pull request, and no role should trust those: whoever may push a"
            " branch writes their workflow. Run the job on a branch that the role trusts, or in an"
            " environment with reviewers:\nenvironment: NAME"
        )
        return "\n".join(lines)
    lines += ["the role's trust policy must hold this statement:",
              trust_statement(str(role.arn), claims)]  # fmt: skip
    if code == "AccessDenied" and "environment:" not in claims.subject:
        lines.append("a job with `environment:` has another sub: it ends in :environment:NAME")
    return "\n".join(lines)


def refused_caller(role: RoleSettings, text: str, caller_arn: str | None) -> BackupError:
    """The error for a bearer of keys who may not assume the role.

    `caller_arn` is None where it is not known beforehand; AWS's text mostly names it.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html
    """
    arn = str(role.arn)
    named = re.search(r"User: (arn:\S+)", text)
    caller = caller_arn or (named[1] if named else f"{arn.split(':role/')[0]}:root")
    # A session has a name that changes; its role has the one to trust.
    if session := re.fullmatch(r"(arn:[\w-]+):sts::(\d+):assumed-role/([^/]+)/.+", caller):
        caller = f"{session[1]}:iam::{session[2]}:role/{session[3]}"
    trust: dict[str, object] = {
        "Effect": "Allow",
        "Principal": {"AWS": caller},
        "Action": "sts:AssumeRole",
    }
    if role.external_id:
        trust["Condition"] = {"StringEquals": {"sts:ExternalId": role.external_id}}
    asked = f" with external id {role.external_id!r}" if role.external_id else ""
    return AccessError(
        f"cannot assume {arn}{asked}",
        detail=f"STS says AccessDenied: {text}",
        hint=f"the caller's policy{_of_account(caller)} must hold:\n"
        + statement(("sts:AssumeRole",), arn)
        + f"\nand the role's trust policy{_of_account(arn)}:\n"
        + json.dumps(trust, indent=2),
    )


def _of_account(arn: str) -> str:
    return f", in account {account}," if (account := arn.split(":")[4]) else ""
