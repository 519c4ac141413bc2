"""How far a new instance or cluster is, and which states it never comes out of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backup.aws.instances import AVAILABLE, Database, cluster_of, instance_of, rds_arn
from backup.aws.recovery.attempts import attempt_at
from backup.aws.refusals import explained
from backup.aws.session import AwsSession
from backup.errors import InputError

# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html
# https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/accessing-monitoring.html
_LOST = {
    "failed": "RDS could not make it. A snapshot may be damaged, or RDS have trouble of its own",
    "incompatible-restore": "RDS could not restore into it: the snapshot or the time does not go"
    " with the settings, most often the parameter group, the option group or the storage",
    "incompatible-network": "its subnets or security groups are gone, or have no free addresses",
    "incompatible-parameters": "its parameter group has values that the class or version refuses,"
    " most often more memory than the class has",
    "incompatible-option-group": "its option group does not go with the engine's version",
    "inaccessible-encryption-credentials": "its KMS key is disabled, to be deleted, or denied",
    "inaccessible-encryption-credentials-recoverable": "its KMS key is disabled, or denied",
    "insufficient-capacity": "AWS has no capacity for this class there at the moment",
    "restore-error": "RDS met an error while it restored",
    "storage-full": "its storage is full",
    "deleting": "someone deletes it",
    "stopped": "someone stopped it",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    """How far something new is. `reboots_for` names the parameter groups that wait for a reboot.

    `percent` is None where RDS tells none; `trouble` is set where it will never be available.
    """

    database: Database
    percent: int | None
    pending: tuple[str, ...]
    reboots_for: tuple[str, ...]
    trouble: str | None

    @property
    def is_available(self) -> bool:
        return self.database.status == AVAILABLE


def instance_state(session: AwsSession, identifier: str) -> State:
    """How far a new instance is. Raises Unreachable, AccessError, InputError."""
    resource = rds_arn(session, "db", identifier)
    attempt = attempt_at(session, identifier, "rds:DescribeDBInstances", (resource,), "look at")
    with explained(attempt):
        answer = session.client("rds").describe_db_instances(DBInstanceIdentifier=identifier)
    told: Mapping[str, Any] = answer["DBInstances"][0]
    groups = told.get("DBParameterGroups", [])
    waiting = (each for each in groups if each.get("ParameterApplyStatus") == "pending-reboot")
    return State(
        database=instance_of(told),
        percent=_percent(told),
        pending=tuple(sorted(told.get("PendingModifiedValues") or {})),
        reboots_for=tuple(str(each["DBParameterGroupName"]) for each in waiting),
        trouble=_LOST.get(told["DBInstanceStatus"]),
    )


def cluster_state(session: AwsSession, identifier: str) -> State:
    """The same of a new cluster."""
    resource = rds_arn(session, "cluster", identifier)
    attempt = attempt_at(session, identifier, "rds:DescribeDBClusters", (resource,), "look at")
    with explained(attempt):
        answer = session.client("rds").describe_db_clusters(DBClusterIdentifier=identifier)
    told: Mapping[str, Any] = answer["DBClusters"][0]
    members = told.get("DBClusterMembers", [])
    is_waiting = any(
        each.get("DBClusterParameterGroupStatus") == "pending-reboot" for each in members
    )
    return State(
        database=cluster_of(told),
        percent=_percent(told),
        pending=tuple(sorted(told.get("PendingModifiedValues") or {})),
        reboots_for=(str(told.get("DBClusterParameterGroup")),) if is_waiting else (),
        trouble=_LOST.get(told["Status"]),
    )


def instance_exists(session: AwsSession, identifier: str) -> bool:
    """Whether there is an instance of that name. Raises AccessError, RestoreError."""
    return _exists(lambda: instance_state(session, identifier))


def cluster_exists(session: AwsSession, identifier: str) -> bool:
    """Whether there is a cluster of that name. Raises AccessError, RestoreError."""
    return _exists(lambda: cluster_state(session, identifier))


def _exists(look: Any) -> bool:
    try:
        look()
    except InputError:
        return False
    return True


def _percent(told: Mapping[str, Any]) -> int | None:
    # An instance tells a text, and a cluster too, where they tell it at all.
    text = str(told.get("PercentProgress") or "").rstrip("%")
    return int(text) if text.isdecimal() else None
