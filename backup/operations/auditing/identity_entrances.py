"""How a trust policy lets in the jobs of a repository, and how it names that repository.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html#condition-keys-wif
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from backup.aws.identity import Role
from backup.aws.trust_policy import Condition, Principal, TrustStatement, trust_statements
from backup.github.context import Origin


class Form(Enum):
    """How a condition on `sub` names the repository."""

    PLAIN = "by name"
    IDS = "by name and id"
    ANY_IDS = "by name, with any id"


@dataclass(frozen=True, slots=True)
class Entrance:
    """A statement for GitHub's tokens; `provider` is their issuer, as its keys begin."""

    statement: TrustStatement
    provider: str

    def about(self, claim: str) -> list[Condition]:
        """The conditions that only a token with such a claim meets."""
        given = self.statement.about(f"{self.provider}:{claim}")
        return [each for each in given if not each.is_lenient]


def form(condition: Condition, value: str, origin: Origin) -> Form | None:
    """How a value for `sub` names this repository; None where it names another, or several.

    Whatever stands behind the second colon is a branch, a tag, an environment or a pull request.
    """
    named = re.fullmatch(r"repo:([^/@:]+)(?:@([^/@:]+))?/([^/@:]+)(?:@([^/@:]+))?:.*", value)
    if not named:
        return None
    owner, owner_id, name, name_id = named.groups()
    found, wanted = f"{owner}/{name}", f"{origin.owner}/{origin.name}"
    if condition.ignores_case:
        found, wanted = found.lower(), wanted.lower()
    if found != wanted:
        return None
    if owner_id is None and name_id is None:
        return Form.PLAIN
    ids = ((owner_id, origin.owner_id), (name_id, origin.repository_id))
    if all(given and given.isdigit() and known in (None, given) for given, known in ids):
        return Form.IDS
    if condition.has_wildcards and all(given in ("*", known) for given, known in ids):
        return Form.ANY_IDS
    return None


def entrances(role: Role, origin: Origin) -> list[Entrance]:
    """The statements of the trust policy that are for tokens of this GitHub."""
    return [
        Entrance(statement, provider)
        for statement in trust_statements(role.trust)
        for principal in statement.principals
        if (provider := provider_of(principal, origin))
    ]


def provider_of(principal: Principal, origin: Origin) -> str | None:
    """The issuer that an OIDC provider's ARN names, where it is this GitHub's."""
    _, separator, provider = principal.value.partition(":oidc-provider/")
    # An enterprise may have an issuer of its own, with its name behind the host.
    is_ours = provider == origin.issuer or provider.startswith(f"{origin.issuer}/")
    return provider if separator and is_ours else None
