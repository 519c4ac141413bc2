"""The audit of the role that makes the backups: who can become it, and what it may do then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from backup.aws.grants import PolicyScope
from backup.aws.identity import Role, Simulation, describe_role
from backup.aws.session import AwsSession
from backup.checks import Check, Known, Status, Unanswered, ask, failed
from backup.errors import InputError
from backup.github.context import origin
from backup.operations.auditing import identity_permissions as permissions
from backup.operations.auditing import identity_trust as trust
from backup.operations.auditing.identity_repair import repair
from backup.operations.policy_scope import policy_scope
from backup.settings import Settings

TITLES: Mapping[str, str] = {
    "identity.trust": "Nobody else can assume the role",
    "identity.subject": "The repository is named in both forms",
    "identity.audience": "Only tokens that were made for AWS",
    "identity.session": "Sessions are as long as needed",
    "identity.permissions": "All that a backup needs is allowed",
    "identity.excess": "Nothing that could undo a backup is",
    "identity.resources": "No wildcard resources",
}
_NO_ROLE = "writer-role: arn:aws:iam::123456789012:role/pg-backup-writer"
_NO_REPOSITORY = (
    "run the audit in a workflow of the repository, or: export GITHUB_REPOSITORY=OWNER/NAME"
)


def checks(session: AwsSession, settings: Settings, environment: Mapping[str, str]) -> list[Check]:
    """The role is `writer-role`, or `role-to-assume` without it."""
    arn = settings.audit.writer_role or settings.role.arn
    if not arn:
        reason = "neither writer-role nor role-to-assume says which role makes the backups"
        return [_unknown(id, reason, _NO_ROLE) for id in TITLES]
    described = ask(lambda: describe_role(session, arn))
    if isinstance(described, Unanswered) and isinstance(described.error, InputError):
        error = described.error
        return [failed("identity.role", "The role exists", error.message, error.hint)]
    found = _about_permissions(session, settings, arn)
    if isinstance(described, Known):
        found = _about_trust(settings, environment, described.value) + found
    else:
        ids = [id for id in TITLES if id not in {check.id for check in found}]
        found = [described.check(id, TITLES[id]) for id in ids] + found
    return found


def _about_trust(settings: Settings, environment: Mapping[str, str], role: Role) -> list[Check]:
    wanted, id = settings.role.duration_seconds, "identity.session"
    length = trust.session_length(id, TITLES[id], role, wanted)
    ours = origin(environment)
    if ours is None:
        ids = ("identity.trust", "identity.subject", "identity.audience")
        reason = "nothing says which repository the role is for: this is no run of GitHub Actions"
        return [*(_unknown(each, reason, _NO_REPOSITORY) for each in ids), length]
    audience = settings.role.audience
    fix = repair(role, ours, audience)
    return [
        trust.trust("identity.trust", TITLES["identity.trust"], role, ours, fix),
        trust.subject("identity.subject", TITLES["identity.subject"], role, ours, fix),
        trust.audience("identity.audience", TITLES["identity.audience"], role, ours, audience, fix),
        length,
    ]


def _about_permissions(session: AwsSession, settings: Settings, arn: str) -> list[Check]:
    scope = _scope(settings, session.region, arn)

    simulation = Simulation(session, arn)
    wanted = ask(lambda: permissions.ask_needed(simulation, scope))
    forbidden = ask(lambda: permissions.ask_forbidden(simulation, scope, arn))
    outside = ask(lambda: permissions.ask_elsewhere(simulation, scope))
    ids = ("identity.permissions", "identity.excess", "identity.resources")
    return [
        permissions.permissions(ids[0], TITLES[ids[0]], arn, wanted.value)
        if isinstance(wanted, Known)
        else wanted.check(ids[0], TITLES[ids[0]]),
        permissions.excess(ids[1], TITLES[ids[1]], arn, forbidden.value)
        if isinstance(forbidden, Known)
        else forbidden.check(ids[1], TITLES[ids[1]]),
        permissions.elsewhere(ids[2], TITLES[ids[2]], arn, scope, outside.value)
        if isinstance(outside, Known)
        else outside.check(ids[2], TITLES[ids[2]]),
    ]


def _scope(settings: Settings, region: str, role: str) -> PolicyScope:
    """What the inputs tell of a backup, but for what IAM cannot be asked by name."""
    there = replace(settings, role=replace(settings.role, region=region))
    scope = policy_scope(there, account=role.split(":")[4], role=role)
    return replace(scope, login_arn=None)


def _unknown(id: str, reason: str, fix: str) -> Check:
    return Check(id, TITLES[id], Status.UNKNOWN, reason, fix)
