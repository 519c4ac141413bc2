"""What each operation asks of AWS: the least policy that lets it run.

The policies in the documentation and of the templates are these; `policy` prints them, and the
audit asks IAM whether a role has them.
"""

from __future__ import annotations

from collections.abc import Callable

from backup.aws.grants_audit import audit
from backup.aws.grants_backups import backup, collect, list_backups, restore, verify
from backup.aws.grants_notifications import notifying
from backup.aws.grants_recovery import restore_instance
from backup.aws.grants_snapshots import export, snapshot
from backup.aws.policy import Grant, PolicyScope

__all__ = ["Grant", "PolicyScope", "needed", "needed_of_bucket_role"]


def needed(operation: str, scope: PolicyScope) -> tuple[Grant, ...]:
    """The statements that an operation of `backup.options.OPERATIONS` takes, and no more.

    With a role of its own for the bucket the first role becomes that, and touches no bucket.
    """
    granted = _granted(operation, scope)
    if not granted or not scope.bucket_role:
        return granted
    become = Grant("BecomeBucketRole", ("sts:AssumeRole",), (scope.bucket_role,))
    return (become, *(each for each in granted if not _is_of_bucket(each)))


def needed_of_bucket_role(operation: str, scope: PolicyScope) -> tuple[Grant, ...]:
    """What the role of `bucket-role` takes beside the first."""
    return tuple(each for each in _granted(operation, scope) if _is_of_bucket(each))


def _granted(operation: str, scope: PolicyScope) -> tuple[Grant, ...]:
    if operation == "policy":
        return ()  # it asks nobody, and tells nobody
    granted: list[Grant] = []
    for grant in (*_NEEDED[operation](scope), *notifying(operation, scope)):
        if grant not in granted:
            granted.append(grant)
    return tuple(granted)


def _is_of_bucket(grant: Grant) -> bool:
    """Whether it is about S3, or a key that is not used through RDS."""
    services = {action.partition(":")[0] for action in grant.actions}
    used_via = str(grant.condition.get("StringEquals", {}).get("kms:ViaService", ""))
    return services <= {"s3", "kms"} and not used_via.startswith("rds.")


_NEEDED: dict[str, Callable[[PolicyScope], tuple[Grant, ...]]] = {
    "backup": backup,
    "list": list_backups,
    "restore": restore,
    "verify": verify,
    "snapshot": snapshot,
    "restore-instance": restore_instance,
    "export": export,
    "audit": audit,
    "collect": collect,
    "plan": lambda _: (),
}
