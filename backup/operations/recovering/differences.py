"""In what the new instance or cluster is not as it was meant to be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from backup.aws.instances import Cluster, Database, Instance
from backup.aws.recovery.settings import is_aurora


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting, by its name in RDS's console and API."""

    setting: str
    wanted: str
    found: str


def differences(wanted: Database, found: Database) -> tuple[Difference, ...]:
    """The settings in which they differ; those that RDS or the plan chose itself are left out."""
    both = zip(_settings(wanted), _settings(found), strict=True)
    return tuple(
        Difference(name, _shown(value), _shown(other))
        for (name, value), (_, other) in both
        if value is not None and value != other
    )


def _settings(database: Database) -> Iterator[tuple[str, object]]:
    """Names and values; None where nothing is asked for."""
    yield "publicly accessible", database.network.is_public
    yield "maintenance window", database.upkeep.maintenance_window
    yield "tags", database.tags
    yield "parameter group", _own(database.parameter_group)
    if isinstance(database, Instance):
        yield from _of_instance(database)
    else:
        yield from _of_cluster(database)
    # A cluster decides these for its instances.
    if isinstance(database, Cluster) or database.cluster is None:
        yield from _of_what_stands_alone(database)


def _of_what_stands_alone(database: Database) -> Iterator[tuple[str, object]]:
    yield "subnet group", database.network.subnet_group
    yield "security groups", tuple(sorted(database.network.security_groups)) or None
    yield "IAM login", database.has_iam_login
    yield "deletion protection", database.has_deletion_protection
    yield "log exports", tuple(sorted(database.monitoring.log_exports))
    yield "backup retention", database.upkeep.retention_days
    yield "backup window", database.upkeep.backup_window
    yield "copy tags to snapshots", database.upkeep.copies_tags


def _of_instance(instance: Instance) -> Iterator[tuple[str, object]]:
    monitoring = instance.monitoring
    yield "class", instance.instance_class
    yield "CA certificate", instance.ca_certificate
    yield "minor upgrades", instance.upkeep.upgrades_minor
    yield "monitoring interval", monitoring.interval
    yield "monitoring role", monitoring.role if monitoring.interval else None
    yield "Performance Insights", monitoring.insights
    yield "Performance Insights, days", monitoring.insights_days if monitoring.insights else None
    if instance.cluster is None:
        storage = instance.storage
        yield "Multi-AZ", instance.is_multi_az
        yield "option group", _own(instance.option_group)
        yield "storage type", storage.type
        yield "IOPS", storage.iops
        yield "storage throughput", storage.throughput
        yield "storage autoscaling to", storage.max_allocated_gib


def _of_cluster(cluster: Cluster) -> Iterator[tuple[str, object]]:
    yield "storage type", None if is_aurora(cluster) else cluster.storage.type
    yield "serverless capacity", cluster.serverless
    yield "class", cluster.instance_class


def _own(group: str | None) -> str | None:
    """RDS chooses the default group of the version by itself."""
    return None if group is None or group.startswith(("default.", "default:")) else group


def _shown(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None | ():
            return "none"
        case tuple():
            return ", ".join(
                f"{each[0]}={each[1]}" if isinstance(each, tuple) else str(each) for each in value
            )
        case _:
            return str(value)
