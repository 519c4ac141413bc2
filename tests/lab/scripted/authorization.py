"""Enforcement of a caller's policy, as IAM does it for the calls that are scripted.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.faults import CALLER, denied
from tests.lab.scripted.needs import Need
from tests.lab.scripted.scalars import WireFault

Value = str | Sequence[str]
TagsOf = Callable[[str], Mapping[str, str]]

KEYS = (
    "aws:RequestTag/",
    "aws:ResourceTag/",
    "aws:TagKeys",
    "aws:RequestedRegion",
    "aws:ResourceAccount",
    "iam:PassedToService",
    "kms:ViaService",
    "kms:GrantIsForAWSResource",
    "kms:ResourceAliases",
    "ec2:osuser",
)


class Authorization:
    """Allows everything until a policy is set."""

    def __init__(self, tags_of: TagsOf) -> None:
        self._tags_of = tags_of
        self._statements: list[Mapping[str, Any]] | None = None

    def allow_only(self, statements: Sequence[Mapping[str, Any]]) -> None:
        for statement in statements:
            odd = statement.keys() - {"Sid", "Effect", "Action", "Resource", "Condition"}
            if odd or statement["Effect"] not in ("Allow", "Deny"):
                raise WireFault(f"a policy statement of another form: {statement}")
        self._statements = list(statements)

    def check(self, call: Call, needs: Sequence[Need]) -> None:
        """Raises `Refused` for the first of the call's needs that is not allowed."""
        if self._statements is None:
            return
        for need in needs:
            context = self._context(call, need)
            effects = {
                statement["Effect"]
                for statement in self._statements
                if _covers(statement, need, context)
            }
            if "Deny" in effects:
                refused = denied(call, need.action, need.resource)
                reason = refused.message.partition(" because ")[0]
                raise Refused(
                    refused.code,
                    f"{reason} with an explicit deny in an identity-based policy",
                    refused.status,
                )
            if "Allow" not in effects:
                raise denied(call, need.action, need.resource)

    def _context(self, call: Call, need: Need) -> dict[str, Value]:
        return {
            "aws:RequestedRegion": call.region,
            "aws:ResourceAccount": CALLER.split(":")[4],
            "aws:TagKeys": list(need.tags),
            **{f"aws:RequestTag/{key}": value for key, value in need.tags.items()},
            **{f"aws:ResourceTag/{k}": v for k, v in self._tags_of(need.resource).items()},
            **need.context,
        }


def _covers(statement: Mapping[str, Any], need: Need, context: Mapping[str, Value]) -> bool:
    actions = _many(statement["Action"])
    return (
        any(fnmatchcase(need.action.lower(), pattern.lower()) for pattern in actions)
        and any(fnmatchcase(need.resource, pattern) for pattern in _many(statement["Resource"]))
        and all(
            _holds(operator, key, _many(wanted), context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator: str, key: str, wanted: Sequence[str], context: Mapping[str, Value]) -> bool:
    if not key.startswith(KEYS):
        raise WireFault(f"the condition key {key} is not scripted")
    quantifier, _, test = operator.rpartition(":")
    if test not in TESTS or quantifier not in ("", "ForAllValues", "ForAnyValue"):
        raise WireFault(f"the condition operator {operator} is not scripted")
    values = _many(context.get(key, ()))
    met = [any(TESTS[test](value, one) for one in wanted) for value in values]
    if quantifier == "ForAllValues":
        return all(met)  # an absent key holds, as IAM's page on multivalued keys warns
    return any(met) if quantifier else bool(met) and all(met)


TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringLike": fnmatchcase,
    "ArnLike": fnmatchcase,
    "Bool": lambda value, wanted: value == wanted.lower(),
}


def _many(given: Value) -> Sequence[str]:
    return [given] if isinstance(given, str) else given
