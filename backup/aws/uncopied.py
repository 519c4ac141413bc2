"""What an instance or a cluster has, and no restore gives to a new one: told, so that it is missed
on a quiet day and not by an application."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def uncopied(told: Mapping[str, Any]) -> tuple[str, ...]:
    """In words, from RDS's description."""
    return tuple(_found(told))


def _found(told: Mapping[str, Any]) -> Iterator[str]:
    if told.get("MasterUserSecret"):
        # ManageMasterUserPassword of a restore "applies to RDS for Oracle only":
        # https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RestoreDBInstanceFromDBSnapshot.html
        yield "a master password that Secrets Manager manages (manage-master-user-password)"
    for role in told.get("AssociatedRoles", []):
        feature = role.get("FeatureName") or "any feature"
        yield f"the role {role.get('RoleArn')} for {feature} (add-role-to-db-instance or -cluster)"
    for domain in told.get("DomainMemberships", []):
        yield f"the directory {domain.get('Domain') or domain.get('FQDN')} (domain)"
    if told.get("DedicatedLogVolume"):
        yield "a dedicated log volume (dedicated-log-volume)"
    if told.get("DatabaseInsightsMode") == "advanced":
        yield "Database Insights, advanced (database-insights-mode)"
    if told.get("HttpEndpointEnabled"):
        yield "the Data API (enable-http-endpoint)"
