"""A role's trust policy, read and written: who may assume the role, under which conditions.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

WITH_TOKEN = "sts:AssumeRoleWithWebIdentity"  # noqa: S105 - an action
_EQUALS = ("StringEquals", "StringEqualsIgnoreCase")
_LIKE = ("StringLike",)


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one key; keys are told apart without regard to case."""

    operator: str
    key: str
    values: tuple[str, ...]

    @property
    def is_lenient(self) -> bool:
        """Also true of a token that lacks the key, so that a slip in its name opens the door."""
        return self.operator.startswith("ForAllValues:") or self.operator.endswith("IfExists")

    @property
    def names(self) -> bool:
        """Whether it says what a value must be, and not what it must not be."""
        return self._plain in (*_EQUALS, *_LIKE)

    @property
    def has_wildcards(self) -> bool:
        return self._plain in _LIKE

    @property
    def ignores_case(self) -> bool:
        return self._plain.endswith("IgnoreCase")

    @property
    def _plain(self) -> str:
        return self.operator.rpartition(":")[2].removesuffix("IfExists")


@dataclass(frozen=True, slots=True)
class Principal:
    """`kind` is AWS, Federated, Service, CanonicalUser, or `*` for anybody."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class TrustStatement:
    """A statement that lets somebody assume the role; `raw` is its JSON."""

    principals: tuple[Principal, ...]
    conditions: tuple[Condition, ...]
    raw: Mapping[str, Any]

    def about(self, key: str) -> list[Condition]:
        """The conditions on a key that say what its value must be."""
        return [each for each in self.conditions if each.key == key.lower() and each.names]


def trust_statements(document: Mapping[str, Any]) -> tuple[TrustStatement, ...]:
    """The statements that allow something. A Deny narrows them, and is not counted on."""
    return tuple(
        TrustStatement(_principals(each), _conditions(each), each)
        for each in _listed(document.get("Statement"))
        if each.get("Effect") == "Allow" and _lets_assume(each)
    )


def _lets_assume(statement: Mapping[str, Any]) -> bool:
    if "NotAction" in statement:
        return True
    # TagSession and SetSourceIdentity come with an assumption, and are none of their own.
    assuming = ("sts:assumerole", "sts:assumerolewithwebidentity", "sts:assumerolewithsaml")
    return any(
        fnmatchcase(one, str(action).lower())
        for action in _listed(statement.get("Action"))
        for one in assuming
    )


def _principals(statement: Mapping[str, Any]) -> tuple[Principal, ...]:
    told = statement.get("Principal")
    if not isinstance(told, Mapping):
        return (Principal("*", "*"),)
    return tuple(
        Principal("*" if value == "*" else kind, str(value))
        for kind, values in told.items()
        for value in _listed(values)
    )


def _conditions(statement: Mapping[str, Any]) -> tuple[Condition, ...]:
    return tuple(
        Condition(operator, key.lower(), tuple(str(value) for value in _listed(values)))
        for operator, keys in (statement.get("Condition") or {}).items()
        for key, values in keys.items()
    )


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def matches(condition: Condition, value: str, text: str) -> bool:
    """Whether a condition's value admits a text, with `*` and `?` where its operator knows them."""
    if condition.ignores_case:
        return value.lower() == text.lower()
    if not condition.has_wildcards:
        return value == text
    pattern = re.escape(value).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def subject_heads(
    owner: str, name: str, owner_id: str | None, repository_id: str | None
) -> tuple[str, str]:
    """How `sub` begins for a repository: by names alone, and by names with numeric ids.

    Repositories created or renamed since 15 July 2026 have ids in it, older ones have not; with
    both, the policy survives a rename. An id that is not known becomes a `*`.
    """
    ids = f"repo:{owner}@{owner_id or '*'}/{name}@{repository_id or '*'}"
    return f"repo:{owner}/{name}", ids


def token_conditions(
    provider: str, audience: str, subjects: Sequence[str]
) -> dict[str, dict[str, object]]:
    """`aud` and `sub` of a provider's tokens, with wildcards only where a subject has one."""
    has_wildcards = any("*" in each or "?" in each for each in subjects)
    conditions: dict[str, dict[str, object]] = {"StringEquals": {f"{provider}:aud": audience}}
    operator = "StringLike" if has_wildcards else "StringEquals"
    conditions.setdefault(operator, {})[f"{provider}:sub"] = list(subjects)
    return conditions


def provider_arn(partition: str, account: str, provider: str) -> str:
    """The OIDC provider of an account for an issuer, named without `https://`."""
    return f"arn:{partition}:iam::{account}:oidc-provider/{provider}"


def token_statement(
    federated: str,
    conditions: Mapping[str, Mapping[str, object]],
    beside: Sequence[str] = (),
) -> dict[str, Any]:
    """The statement that lets in the bearers of tokens; `beside` are further actions."""
    return {
        "Effect": "Allow",
        "Principal": {"Federated": federated},
        "Action": [WITH_TOKEN, *beside] if beside else WITH_TOKEN,
        "Condition": conditions,
    }


def own_statement(role: str, external_id: str) -> dict[str, Any]:
    """Lets a role's first session, which id tokens give, assume it again with the external id."""
    return {
        "Effect": "Allow",
        "Principal": {"AWS": role},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
    }
