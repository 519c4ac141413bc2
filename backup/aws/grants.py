"""What each operation asks of AWS: the least policy that lets it run.

The policies in the documentation are these; the audit asks IAM whether a role has them.
"""

from __future__ import annotations

from collections.abc import Callable

from backup.aws.grants_audit import audit
from backup.aws.grants_backups import backup, list_backups, restore, verify
from backup.aws.grants_recovery import restore_instance
from backup.aws.grants_snapshots import export, snapshot
from backup.aws.policy import Grant, PolicyScope

__all__ = ["Grant", "PolicyScope", "needed"]


def needed(operation: str, scope: PolicyScope) -> tuple[Grant, ...]:
    """The statements that an operation of `backup.options.OPERATIONS` takes, and no more."""
    return _NEEDED[operation](scope)


_NEEDED: dict[str, Callable[[PolicyScope], tuple[Grant, ...]]] = {
    "backup": backup,
    "list": list_backups,
    "restore": restore,
    "verify": verify,
    "snapshot": snapshot,
    "restore-instance": restore_instance,
    "export": export,
    "audit": audit,
}
