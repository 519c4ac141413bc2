"""A role as IAM knows it: who may assume it, for how long, and what it may do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from backup.aws.refusals import Attempt, Remedy, explained
from backup.aws.session import AwsSession
from backup.errors import AccessError, InputError

_REMEDIES = {
    "NoSuchEntity": Remedy(
        InputError,
        "correct writer-role or role-to-assume; IAM tells an account of its own roles only:\n"
        "aws iam list-roles --query 'Roles[].Arn'",
    )
}
ALLOWED = "allowed"


@dataclass(frozen=True, slots=True)
class Role:
    """`trust` is the trust policy, as IAM's JSON."""

    arn: str
    trust: Mapping[str, Any]
    longest_session_seconds: int

    @property
    def name(self) -> str:
        return role_name(self.arn)


@dataclass(frozen=True, slots=True)
class Decision:
    """What IAM would answer: allowed, implicitDeny or explicitDeny.

    `limited_by` is what takes away an allowance: a permissions boundary, or the organisation.
    `depends_on` are condition keys of the policies that the question brought no value for.
    """

    action: str
    resource: str
    verdict: str
    limited_by: str | None = None
    depends_on: tuple[str, ...] = ()

    @property
    def is_allowed(self) -> bool:
        return self.verdict == ALLOWED


def role_name(arn: str) -> str:
    """A role's name without the path that its ARN may hold."""
    return arn.rpartition("/")[2]


def describe_role(session: AwsSession, arn: str) -> Role:
    """Raises InputError where there is no such role, AccessError."""
    with explained(_attempt(session, f"cannot look at the role {arn}", "iam:GetRole", arn)):
        told = session.client("iam").get_role(RoleName=role_name(arn))["Role"]
    # IAM is asked by name, and answers for the account that asks.
    if told["Arn"] != arn:
        raise InputError(
            f"cannot look at the role {arn}",
            detail=f"IAM of this account knows {told['Arn']} by that name, and no other account's",
            hint=_REMEDIES["NoSuchEntity"].hint,
        )
    return Role(
        str(told["Arn"]),
        told["AssumeRolePolicyDocument"],
        int(told.get("MaxSessionDuration") or 3600),
    )


class Simulation:
    """IAM's answers to what a role may do, without doing it.

    Policies of the resource itself, as a bucket's, are not looked at.
    https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
    """

    def __init__(self, session: AwsSession, role: str) -> None:
        self._attempt = _attempt(
            session, f"cannot ask IAM what {role} may do", "iam:SimulatePrincipalPolicy", role
        )
        self._role = role
        # What every request of the action brings, for policies that ask for it.
        self._always = {"aws:SecureTransport": "true", "aws:RequestedRegion": session.region}
        self._client = session.client("iam")

    def ask(
        self,
        actions: Sequence[str],
        resource: str,
        context: Mapping[str, str] = MappingProxyType({}),
    ) -> list[Decision]:
        """The answer to each action on one resource, with these condition keys.

        Raises AccessError, InputError.
        """
        entries = [
            {
                "ContextKeyName": key,
                "ContextKeyValues": [value],
                "ContextKeyType": _type(key, value),
            }
            for key, value in {**self._always, **context}.items()
        ]
        with explained(self._attempt):
            pages = self._client.get_paginator("simulate_principal_policy").paginate(
                PolicySourceArn=self._role,
                ActionNames=list(actions),
                ResourceArns=[resource],
                ContextEntries=entries,
            )
            told = [result for page in pages for result in page["EvaluationResults"]]
        return [
            Decision(
                each["EvalActionName"], resource, each["EvalDecision"], _limit(each), _missing(each)
            )
            for each in told
        ]


def _missing(told: Mapping[str, Any]) -> tuple[str, ...]:
    """https://docs.aws.amazon.com/IAM/latest/APIReference/API_ResourceSpecificResult.html"""
    results = (told, *told.get("ResourceSpecificResults", ()))
    keys = (key for each in results for key in each.get("MissingContextValues", ()))
    return tuple(sorted(set(keys)))


def _limit(told: Mapping[str, Any]) -> str | None:
    organisation = told.get("OrganizationsDecisionDetail") or {}
    boundary = told.get("PermissionsBoundaryDecisionDetail") or {}
    if not organisation.get("AllowedByOrganizations", True):
        return "a policy of the organisation"
    if not boundary.get("AllowedByPermissionsBoundary", True):
        return "the role's permissions boundary"
    return None


def _type(key: str, value: str) -> str:
    if key == "kms:ResourceAliases":
        return "stringList"
    return "boolean" if value in ("true", "false") else "string"


def _attempt(session: AwsSession, message: str, action: str, role: str) -> Attempt:
    return Attempt(
        message, session.region, (action,), role, failure=AccessError, remedies=_REMEDIES
    )
