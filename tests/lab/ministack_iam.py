"""What ministack's IAM leaves out of a simulation: the condition keys, and more than one resource.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

import contextvars
import importlib
from collections.abc import Sequence
from typing import Any

# ministack has no type information.
iam: Any = importlib.import_module("ministack.services.iam")
evaluator: Any = importlib.import_module("ministack.core.iam_evaluator")
responses: Any = importlib.import_module("ministack.core.responses")

iam_actions: Any = importlib.import_module("ministack.core.iam_actions")

_VERDICTS = {"Allow": "allowed", "Deny": "explicitDeny"}
_entries: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar(
    "entries", default=None
)
_extract = iam._extract_simulate_params
_resource_arn = iam_actions.extract_resource_arn
_resolve_condition_key = evaluator._resolve_condition_key


def extract(parameters: Any) -> Any:
    """Remember the condition keys until the answer is made."""
    entries: dict[str, Any] = {}
    number = 1
    while name := iam._p(parameters, f"ContextEntries.member.{number}.ContextKeyName"):
        values, count = [], 1
        prefix = f"ContextEntries.member.{number}.ContextKeyValues.member"
        while value := iam._p(parameters, f"{prefix}.{count}"):
            values.append(value)
            count += 1
        kind = iam._p(parameters, f"ContextEntries.member.{number}.ContextKeyType")
        entries[name.lower()] = values if kind.endswith("List") else values[0]
        number += 1
    assert not iam._p(parameters, "ResourceArns.member.2"), "one resource at a time is simulated"
    _entries.set(entries)
    return _extract(parameters)


def resource_arn(service: str, *request: Any) -> Any:
    """A simulation is allowed on the role that it is about; RDS's requests on what they name."""
    arn = _resource_arn(service, *request)
    if service == "iam" and arn == "*":
        return iam_actions._query_param(request[4], "PolicySourceArn") or arn
    if service == "rds" and arn == "*":
        return _rds_arn(*request[4:7])
    return arn


def _rds_arn(query: Any, region: str, account: str) -> str:
    """Where nothing is named all of a kind are asked for, and must be allowed.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonrds.html
    """
    if arn := iam_actions._query_param(query, "ResourceName"):
        return str(arn)
    action = iam_actions._query_param(query, "Action")
    kinds = {"DBSnapshotIdentifier": "snapshot", "DBClusterSnapshotIdentifier": "cluster-snapshot"}
    for name, kind in kinds.items():
        if named := iam_actions._query_param(query, name):
            return f"arn:aws:rds:{region}:{account}:{kind}:{named}"
    every = {"DescribeDBInstances": "db", "DescribeDBSnapshots": "snapshot"}
    return f"arn:aws:rds:{region}:{account}:{every[action]}:*" if action in every else "*"


def results(
    actions: Sequence[str], resource: str, principal: str, account: str, policies: Any
) -> str:
    entries = _entries.get() or {}
    members = []
    unknown = sorted(key for key in _condition_keys(policies) if key.lower() not in entries)
    missing = "".join(f"<member>{key}</member>" for key in unknown)
    for action in actions:
        context = evaluator.EvalContext(
            principal_arn=principal,
            principal_type="AssumedRole",
            principal_account=account,
            action=action,
            resource_arn=resource,
            region=responses.get_region(),
            secure_transport=entries.get("aws:securetransport") == "true",
            service_context=entries,
        )
        verdict = evaluator.evaluate(context, policies).decision
        members.append(
            f"<member><EvalActionName>{action}</EvalActionName>"
            f"<EvalResourceName>{resource}</EvalResourceName>"
            f"<EvalDecision>{_VERDICTS.get(verdict, 'implicitDeny')}</EvalDecision>"
            f"<MatchedStatements/><MissingContextValues>{missing}</MissingContextValues></member>"
        )
    return "".join(members)


def resolve_condition_key(key: str, context: Any) -> Any:
    """For a role's session `aws:PrincipalArn` is the role, with its path.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-principalarn
    """
    found = _resolve_condition_key(key, context)
    if key.lower() != "aws:principalarn" or ":assumed-role/" not in str(found):
        return found
    name = evaluator._role_name_from_assumed_arn(found)
    role = iam._roles.get_scoped(context.principal_account, None, name)
    return role["Arn"] if role else found


def _condition_keys(policies: Any) -> set[str]:
    """The keys in the conditions of all statements."""
    return {
        key
        for statements in policies
        for each in statements
        for keys in (each.conditions or {}).values()
        for key in keys
    }


def install() -> None:
    iam._extract_simulate_params = extract
    iam._build_simulate_results_real = results
    iam_actions.extract_resource_arn = resource_arn
    evaluator._resolve_condition_key = resolve_condition_key
