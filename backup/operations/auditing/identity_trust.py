"""What is expected of a role's trust policy: this repository gets in, and nobody else does.

https://docs.github.com/en/actions/how-tos/secure-your-work/security-harden-deployments/oidc-in-aws
"""

from __future__ import annotations

from backup.aws.identity import Role
from backup.aws.trust_policy import Condition, Principal, TrustStatement, matches, trust_statements
from backup.checks import Check, failed, passed, warned
from backup.github.context import Origin
from backup.operations.auditing.identity_entrances import (
    Entrance,
    Form,
    entrances,
    form,
    provider_of,
)
from backup.operations.auditing.shell import aws

# IAM takes no less for a role.
_SHORTEST_MAXIMUM = 3600


def trust(id: str, title: str, role: Role, origin: Origin, fix: str) -> Check:
    strangers = [
        stranger
        for statement in trust_statements(role.trust)
        for principal in statement.principals
        for stranger in _strangers(statement, principal, role, origin)
    ]
    if not strangers:
        reason = f"only {origin.owner}/{origin.name} can assume {role.name}"
        return passed(id, title, reason)
    reason = f"others than {origin.owner}/{origin.name} can assume {role.name}: "
    return failed(id, title, reason + "; ".join(dict.fromkeys(strangers)), fix)


def _strangers(
    statement: TrustStatement, principal: Principal, role: Role, origin: Origin
) -> list[str]:
    if principal.kind == "*":
        return ["anybody at all (Principal *)"]
    if provider := provider_of(principal, origin):
        return _other_repositories(Entrance(statement, provider), origin)
    # A role with an external id is assumed a second time, by its own first session.
    if principal.value == role.arn:
        return []
    return [f"{principal.value} ({principal.kind})"]


def _other_repositories(entrance: Entrance, origin: Origin) -> list[str]:
    if _is_bound(entrance, origin):
        return []
    foreign = [
        f"{value} ({each.operator}) names others too"
        for each in entrance.about("sub")
        for value in each.values
        if form(each, value, origin) is None
    ]
    if foreign:
        return foreign
    lenient = entrance.statement.about(f"{entrance.provider}:sub")
    if lenient:
        return [f"{lenient[0].operator} is also true of a token without sub: take StringEquals"]
    return ["no condition on sub, so every repository on GitHub may"]


def _is_bound(entrance: Entrance, origin: Origin) -> bool:
    """Whether one condition at the least, and all of its values, name this repository alone."""
    expected = {
        "repository": f"{origin.owner}/{origin.name}",
        "repository_id": origin.repository_id,
    }
    by_claim = any(
        all(value == name for value in each.values)
        for claim, name in expected.items()
        for each in entrance.about(claim)
    )
    return by_claim or any(
        all(form(each, value, origin) for value in each.values) for each in entrance.about("sub")
    )


def subject(id: str, title: str, role: Role, origin: Origin, fix: str) -> Check:
    found = {
        named for entrance in entrances(role, origin) for named in _forms_let_in(entrance, origin)
    }
    name = f"{origin.owner}/{origin.name}"
    if not found:
        reason = f"no condition on sub of {role.name} names {name}: its jobs cannot log in"
        return failed(id, title, reason, fix)
    if Form.ANY_IDS in found and Form.IDS not in found:
        reason = f"{name} is named with any id (@*): who takes over the name gets in"
        return warned(id, title, reason, fix)
    if missing := [each for each in (Form.PLAIN, Form.IDS) if each not in found]:
        reason = (
            f"{name} is not named {missing[0].value}: repositories created or renamed since"
            " 15 July 2026 have ids in their sub, others have none"
        )
        return warned(id, title, reason, fix)
    return passed(id, title, f"{name} is named by name, and by name and id")


def _forms_let_in(entrance: Entrance, origin: Origin) -> set[Form]:
    conditions = entrance.statement.about(f"{entrance.provider}:sub")
    values = [value for each in conditions for value in each.values]
    # An organisation may give `sub` a form of its own; then other claims name the repository.
    is_their_own = not any(value.startswith(("repo:", "*", "?")) for value in values)
    if not conditions or (is_their_own and _is_bound(entrance, origin)):
        return {Form.PLAIN, Form.IDS}
    return {
        named
        for each in conditions
        for value in each.values
        for named in _admitted(each, value, origin)
    }


def _admitted(condition: Condition, value: str, origin: Origin) -> list[Form]:
    """The forms that a value admits; one with wildcards in the name may admit both."""
    if not condition.has_wildcards and ("*" in value or "?" in value):
        return []  # StringEquals takes them for what they are, and no sub has them
    if named := form(condition, value, origin):
        return [named]
    rest = value.split(":", 2)[2:] or [origin.subject]
    end = rest[0].replace("*", "x").replace("?", "x")
    ids = f"{origin.owner}@{origin.owner_id or 1}/{origin.name}@{origin.repository_id or 1}"
    heads = {Form.PLAIN: f"{origin.owner}/{origin.name}", Form.IDS: ids}
    return [each for each, head in heads.items() if matches(condition, value, f"repo:{head}:{end}")]


def audience(id: str, title: str, role: Role, origin: Origin, expected: str, fix: str) -> Check:
    found = entrances(role, origin)
    conditions = [each for entrance in found for each in entrance.about("aud")]
    values = [value for each in conditions for value in each.values]
    admitted = any(matches(each, value, expected) for each in conditions for value in each.values)
    if conditions and not admitted:
        told = ", ".join(values)
        reason = f"the audience must be {told}, and the action asks for tokens for {expected}"
        return failed(id, title, reason, fix)
    if any("*" in value for value in values) or not all(each.about("aud") for each in found):
        reason = "tokens that were made for others than AWS will do: aud is not asked for"
        return warned(id, title, reason, fix)
    return passed(id, title, f"tokens must be for {expected}")


def session_length(id: str, title: str, role: Role, wanted_seconds: int) -> Check:
    longest = role.longest_session_seconds
    right = max(wanted_seconds, _SHORTEST_MAXIMUM)
    fix = aws("iam", "update-role", "--role-name", role.name, "--max-session-duration", str(right))
    if longest < wanted_seconds:
        reason = f"sessions of {role.name} last {longest} s at the most, and"
        return failed(id, title, f"{reason} role-duration-seconds is {wanted_seconds}", fix)
    if longest > right:
        reason = f"keys of {role.name} may last {longest} s; they are renewed, so {right} s do"
        return warned(id, title, reason, fix)
    return passed(id, title, f"sessions last {longest} s at the most")
