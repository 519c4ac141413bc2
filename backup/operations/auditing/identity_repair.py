"""The trust policy that a role should have, made of the one that it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from backup.aws.identity import Role
from backup.aws.trust_policy import (
    provider_arn,
    subject_heads,
    token_conditions,
    token_statement,
    trust_statements,
)
from backup.github.context import Origin
from backup.operations.auditing.identity_entrances import Entrance, entrances, form
from backup.operations.auditing.shell import aws, document

_BESIDE = ("sts:TagSession", "sts:SetSourceIdentity")


def repair(role: Role, origin: Origin, audience: str) -> str:
    """The command that lets in this repository's jobs, by both forms of `sub`, and nobody else.

    Branches and environments that are named for it already stay, and so do other conditions.
    """
    statements = [
        _narrowed(entrance, ends, origin, audience)
        for entrance in entrances(role, origin)
        if (ends := _ends(entrance, origin))
    ]
    if not statements:
        statements = [_made(role, origin, audience)]
    statements += [
        dict(each.raw)
        for each in trust_statements(role.trust)
        if [principal.value for principal in each.principals] == [role.arn]
    ]
    statements += [each for each in _all(role.trust) if each.get("Effect") == "Deny"]
    policy = {"Version": "2012-10-17", "Statement": statements}
    command = aws(
        "iam", "update-assume-role-policy", "--role-name", role.name,
        "--policy-document", document(policy),
    )  # fmt: skip
    return "# the sub of a job with `environment: NAME` ends in environment:NAME\n" + command


def _ends(entrance: Entrance, origin: Origin) -> list[str]:
    """The branches, tags and environments of this repository that a statement names."""
    ends = [
        value.split(":", 2)[2]
        for each in entrance.statement.about(f"{entrance.provider}:sub")
        for value in each.values
        if form(each, value, origin)
    ]
    return list(dict.fromkeys(ends))


def _narrowed(entrance: Entrance, ends: list[str], origin: Origin, audience: str) -> dict[str, Any]:
    raw, provider = entrance.statement.raw, entrance.provider
    replaced = (f"{provider}:sub", f"{provider}:aud")
    kept = {
        operator: {key: value for key, value in keys.items() if key.lower() not in replaced}
        for operator, keys in (raw.get("Condition") or {}).items()
    }
    conditions = {operator: keys for operator, keys in kept.items() if keys}
    for operator, keys in _conditions(provider, ends, origin, audience).items():
        conditions[operator] = {**conditions.get(operator, {}), **keys}
    federated = next(
        each.value
        for each in entrance.statement.principals
        if each.value.endswith(f":oidc-provider/{provider}")
    )
    actions = raw.get("Action")
    beside = [each for each in _BESIDE if isinstance(actions, list) and each in actions]
    return token_statement(federated, conditions, beside)


def _made(role: Role, origin: Origin, audience: str) -> dict[str, Any]:
    partition, account = role.arn.split(":")[1], role.arn.split(":")[4]
    conditions = _conditions(origin.issuer, [origin.subject], origin, audience)
    return token_statement(provider_arn(partition, account, origin.issuer), conditions)


def _conditions(
    provider: str, ends: Iterable[str], origin: Origin, audience: str
) -> dict[str, dict[str, Any]]:
    """`aud` and both forms of `sub`; an id that nobody told is a `*`."""
    heads = subject_heads(origin.owner, origin.name, origin.owner_id, origin.repository_id)
    subjects = [f"{head}:{end}" for end in ends for head in heads]
    return token_conditions(provider, audience, subjects)


def _all(trust: Mapping[str, Any]) -> list[dict[str, Any]]:
    told = trust.get("Statement", [])
    return list(told) if isinstance(told, list) else [told]
