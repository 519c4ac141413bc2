"""What the role of the backups may do: all that a backup takes, and nothing that could undo one.

IAM itself is asked, so that policies, boundaries and the organisation's policies all count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backup.aws.grants import Grant, PolicyScope, needed
from backup.aws.identity import Decision, Simulation, role_name
from backup.aws.policy import example
from backup.checks import Check, failed, passed, warned
from backup.operations.auditing.shell import aws, document

_DESTROYING = ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention")
_RULING = (
    "s3:PutLifecycleConfiguration",
    "s3:PutBucketPolicy",
    "s3:DeleteBucketPolicy",
    "s3:PutBucketVersioning",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutReplicationConfiguration",
    "s3:PutEncryptionConfiguration",
    "s3:PutBucketPublicAccessBlock",
    "s3:DeleteBucket",
)
_RISING = (
    "iam:PutRolePolicy",
    "iam:AttachRolePolicy",
    "iam:UpdateAssumeRolePolicy",
    "iam:DeleteRolePolicy",
    "iam:DetachRolePolicy",
    "iam:DeleteRolePermissionsBoundary",
)
_KEY_ENDING = ("kms:ScheduleKeyDeletion", "kms:DisableKey", "kms:PutKeyPolicy")
# Optional for a backup: without it sizes are not compared, and a warning says so.
_OPTIONAL = ("s3:ListBucket",)
# Keys in conditions of the documented policies, which say nothing of what is forbidden.
_OWN_KEYS = {
    "cloudwatch:namespace",
    "ec2:osuser",
    "iam:passedtoservice",
    "kms:encryptioncontext:aws:s3:arn",
    "kms:grantisforawsresource",
    "kms:resourcealiases",
    "kms:viaservice",
    "s3:existingobjecttag/retention-tier",
    "s3:if-none-match",
    "s3:objectcreationoperation",
    "s3:prefix",
}
_ELSEWHERE = "pg-backup-action-elsewhere"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A statement that a backup needs, with what IAM would answer to each of its actions."""

    grant: Grant
    decisions: tuple[Decision, ...]


def ask_needed(simulation: Simulation, scope: PolicyScope) -> list[Wanted]:
    """What a backup needs: that is what the audited role is for."""
    return [
        Wanted(
            grant,
            tuple(
                decision
                for resource in grant.resources
                for decision in simulation.ask(grant.actions, example(resource), _context(grant))
            ),
        )
        for grant in needed("backup", scope)
    ]


def ask_forbidden(simulation: Simulation, scope: PolicyScope, role: str) -> list[Decision]:
    """What would let the backup's role destroy backups, or make itself able to."""
    questions = [
        (_DESTROYING, example(scope.objects())),
        (_RULING, scope.bucket_arn),
        (_RISING, role),
    ]
    if scope.kms_key_arn and ":alias/" not in scope.kms_key_arn:
        questions.append((_KEY_ENDING, scope.kms_key_arn))
    if scope.instance:
        questions.append((("rds:DeleteDBInstance",), scope.rds("db", scope.instance)))
    if scope.cluster:
        questions.append((("rds:DeleteDBCluster",), scope.rds("cluster", scope.cluster)))
    return [each for actions, about in questions for each in simulation.ask(actions, about)]


def ask_elsewhere(simulation: Simulation, scope: PolicyScope) -> list[Decision]:
    """What the role may do in buckets, and below prefixes, that are none of its business."""
    actions = ("s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload")
    other = f"arn:{scope.partition}:s3:::{_ELSEWHERE}"
    found = simulation.ask(actions, f"{other}/object")
    found += simulation.ask(("s3:ListBucket",), other)
    if scope.prefix:
        found += simulation.ask(actions, f"{scope.bucket_arn}/{_ELSEWHERE}/object")
    return found


def permissions(id: str, title: str, role: str, wanted: list[Wanted]) -> Check:
    refused = [each for one in wanted for each in one.decisions if not each.is_allowed]
    if not refused:
        return passed(id, title, f"{role_name(role)} may do all that a backup takes")
    told = "; ".join(_told(each) for each in refused)
    missing = {each.action for each in refused}
    # All of it: what an earlier fix put under this name must not be lost by the next one.
    statements = [one.grant.statement() for one in wanted]
    fix = _policy(role, "pg-backup-action-allow", statements)
    hindered = [each for each in refused if each.limited_by or each.verdict == "explicitDeny"]
    if hindered:
        fix = (
            "# an allowance alone will not do: "
            + "; ".join(_hindrance(each) for each in hindered)
            + f"\n{fix}"
        )
    status = warned if missing <= set(_OPTIONAL) else failed
    return status(id, title, f"a backup by {role_name(role)} would be refused: {told}", fix)


def excess(id: str, title: str, role: str, forbidden: list[Decision]) -> Check:
    allowed = [each for each in forbidden if each.is_allowed]
    unsure = [each for each in forbidden if may_be_allowed(each)]
    if not allowed and not unsure:
        reason = f"{role_name(role)} can neither destroy backups nor change what protects them"
        return passed(id, title, reason)
    by_resource: dict[str, list[str]] = {}
    # All that was asked: what an earlier fix denied under this name stays denied.
    for each in forbidden:
        by_resource.setdefault(_whole(each), []).append(each.action)
    statements = [
        {"Effect": "Deny", "Action": actions, "Resource": resource}
        for resource, actions in by_resource.items()
    ]
    fix = _policy(role, "pg-backup-action-never", statements)
    if not allowed:
        return warned(id, title, _under_conditions(role, unsure), fix)
    told = ", ".join(each.action for each in allowed)
    return failed(id, title, f"who has the keys of {role_name(role)} can undo backups: {told}", fix)


def may_be_allowed(decision: Decision) -> bool:
    """Whether a condition of a policy might let it through that the question said nothing of.

    A backup's own requests bring the keys that the documented policy asks for.
    """
    asked = {key.lower() for key in decision.depends_on} - _OWN_KEYS
    return decision.verdict == "implicitDeny" and not decision.limited_by and bool(asked)


def _under_conditions(role: str, unsure: list[Decision]) -> str:
    actions = ", ".join(dict.fromkeys(each.action for each in unsure))
    keys = ", ".join(sorted({key for each in unsure for key in each.depends_on}))
    return f"whether {role_name(role)} may use {actions} depends on conditions ({keys})"


def elsewhere(
    id: str, title: str, role: str, scope: PolicyScope, decisions: list[Decision]
) -> Check:
    allowed = [each for each in decisions if each.is_allowed]
    unsure = [each for each in decisions if may_be_allowed(each)]
    if not allowed and not unsure:
        return passed(id, title, f"{role_name(role)} has no business outside of {scope.objects()}")
    own = [each for each in allowed if each.resource.startswith(f"{scope.bucket_arn}/")]
    told = ", ".join(dict.fromkeys(each.action for each in allowed))
    where = "other prefixes of the bucket" if own == allowed else "other buckets"
    deny = {
        "Effect": "Deny",
        "Action": "s3:*",
        "NotResource": [scope.bucket_arn, scope.objects()],
    }
    fix = "# a role that backs up to several buckets needs each of them in NotResource\n" + _policy(
        role, "pg-backup-action-only-here", [deny]
    )
    if not allowed:
        reason = _under_conditions(role, unsure) + " outside of the prefix"
        return warned(id, title, reason, fix)
    reason = f"{role_name(role)} may use {told} in {where}: a policy has wildcard resources"
    return (warned if own == allowed else failed)(id, title, reason, fix)


def _told(decision: Decision) -> str:
    why = f", by {decision.limited_by}" if decision.limited_by else ""
    return f"{decision.action} on {decision.resource} ({decision.verdict}{why})"


def _hindrance(decision: Decision) -> str:
    by = decision.limited_by or "a Deny in one of the role's policies"
    return f"{decision.action} is taken away by {by}"


def _whole(decision: Decision) -> str:
    """The resource to deny: all objects of the bucket for one of them."""
    bucket, separator, _ = decision.resource.partition("/")
    return f"{bucket}/*" if separator and ":s3:::" in bucket else decision.resource


def _context(grant: Grant) -> dict[str, str]:
    """Condition keys as a request would bring them: the first value, made concrete."""
    values: dict[str, str] = {}
    for operator, keys in grant.condition.items():
        if operator == "Null":
            continue  # true of a key that the request does not bring
        for key, value in keys.items():
            first = value[0] if isinstance(value, list) else value
            values[key] = example(str(first))
    return values


def _policy(role: str, name: str, statements: Sequence[Mapping[str, object]]) -> str:
    policy = {"Version": "2012-10-17", "Statement": list(statements)}
    return aws(
        "iam", "put-role-policy", "--role-name", role_name(role), "--policy-name", name,
        "--policy-document", document(policy),
    )  # fmt: skip
