"""Lines for a shell that finish by hand what a run began, or take it away again."""

from __future__ import annotations

import json
import shlex
from typing import Any

from backup.aws.instances import Instance
from backup.aws.recovery.settings import cluster_later, instance_later, member_creation
from backup.operations.recovering.plan import RecoveryPlan


def to_finish(plan: RecoveryPlan, region: str, made: tuple[str, ...]) -> list[str]:
    """What is still to do once RDS has made what it was asked for; `made` are its identifiers."""
    if isinstance(plan.wanted, Instance):
        return _finish_instance(plan.wanted, region)
    cluster = plan.wanted
    lines = [_wait("cluster", cluster.identifier, region)]
    lines += [
        _call("create-db-instance", region, member_creation(member, cluster))
        for member in plan.members
        if member.identifier not in made
    ]
    lines += [_wait("instance", member.identifier, region) for member in plan.members]
    asked = {"DBClusterIdentifier": cluster.identifier, "ApplyImmediately": True}
    return [*lines, _call("modify-db-cluster", region, {**asked, **cluster_later(cluster)})]


def to_remove(
    plan: RecoveryPlan, region: str, made: tuple[str, ...], *, is_protected: bool
) -> list[str]:
    """What takes away all that was made, and leaves the old one alone."""
    if isinstance(plan.wanted, Instance):
        named = f"--region {region} --db-instance-identifier {plan.identifier}"
        return [
            *(_unprotect("instance", plan.identifier, region) if is_protected else []),
            f"aws rds delete-db-instance {named} --skip-final-snapshot --delete-automated-backups",
        ]
    named = f"--region {region} --db-cluster-identifier {plan.identifier}"
    members = [
        f"aws rds delete-db-instance --region {region} --db-instance-identifier {name}"
        " --skip-final-snapshot"
        for name in reversed(made)
        if name != plan.identifier
    ]
    return [
        *(_unprotect("cluster", plan.identifier, region) if is_protected else []),
        *members,
        f"aws rds delete-db-cluster {named} --skip-final-snapshot",
    ]


def _unprotect(kind: str, identifier: str, region: str) -> list[str]:
    call = f"aws rds modify-db-{kind} --region {region} --db-{kind}-identifier {identifier}"
    return [
        _wait(kind, identifier, region),
        f"{call} --no-deletion-protection --apply-immediately",
        _wait(kind, identifier, region),
    ]


def _finish_instance(wanted: Instance, region: str) -> list[str]:
    asked = {
        "DBInstanceIdentifier": wanted.identifier,
        "ApplyImmediately": True,
        **instance_later(wanted),
    }
    return [
        _wait("instance", wanted.identifier, region),
        _call("modify-db-instance", region, asked),
    ]


def _wait(kind: str, identifier: str, region: str) -> str:
    return f"aws rds wait db-{kind}-available --region {region} --db-{kind}-identifier {identifier}"


def _call(command: str, region: str, arguments: dict[str, Any]) -> str:
    text = shlex.quote(json.dumps(arguments))
    return f"aws rds {command} --region {region} --cli-input-json {text}"
