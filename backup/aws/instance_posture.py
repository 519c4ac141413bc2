"""What RDS and CloudWatch tell of an instance or a cluster beyond its own description."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from backup.aws.instances import AVAILABLE, Cluster, Database, rds_arn, rds_attempt
from backup.aws.refusals import Attempt, explained
from backup.aws.session import AwsSession
from backup.errors import AccessError

# https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DBParameterGroupStatus.html
_PENDING = "pending-reboot"
STANDARD_SUPPORT = "open-source-rds-standard-support"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in a group. `is_own`: the group sets it, it is not the engine's default."""

    name: str
    value: str
    group: str
    of_cluster: bool
    is_dynamic: bool
    is_own: bool


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A version that an engine can be upgraded to in one step."""

    version: str
    is_major: bool


@dataclass(frozen=True, slots=True)
class EngineVersion:
    """`is_offered`: RDS still makes new instances of it. Upgrades from the oldest to the newest."""

    is_offered: bool
    upgrades: tuple[Upgrade, ...]


def newest_snapshot(session: AwsSession, database: Database) -> datetime | None:
    """When the newest snapshot was begun that stays when the instance is gone; None without one.

    Automated ones are not counted: they end with the retention period, and with the instance.
    """
    name = database.identifier
    if isinstance(database, Cluster):
        action, kind, listed = "rds:DescribeDBClusterSnapshots", "cluster", "DBClusterSnapshots"
        operation, subject = "describe_db_cluster_snapshots", {"DBClusterIdentifier": name}
    else:
        action, kind, listed = "rds:DescribeDBSnapshots", "db", "DBSnapshots"
        operation, subject = "describe_db_snapshots", {"DBInstanceIdentifier": name}
    snapshots = rds_arn(session, "cluster-snapshot" if kind == "cluster" else "snapshot", "*")
    attempt = rds_attempt(
        session,
        f"cannot list the snapshots of {name}",
        action,
        (rds_arn(session, kind, name), snapshots),
    )
    times: list[datetime] = []
    with explained(attempt):
        pages = session.client("rds").get_paginator(operation)
        for made_by in ("manual", "awsbackup"):
            for page in pages.paginate(SnapshotType=made_by, **subject):
                done = (each for each in page[listed] if each["Status"] == AVAILABLE)
                # A copy that is made today may be of a snapshot of last month; RDS tells so of
                # instances, and nothing of clusters.
                times += [
                    each.get("OriginalSnapshotCreateTime") or each["SnapshotCreateTime"]
                    for each in done
                ]
    return max(times, default=None)


def parameters(
    session: AwsSession, group: str, names: Iterable[str], *, of_cluster: bool
) -> tuple[Parameter, ...]:
    """The parameters of these names that a group has a value for. Raises AccessError."""
    wanted = frozenset(names)
    if of_cluster:
        action, kind = "rds:DescribeDBClusterParameters", "cluster-pg"
        operation, subject = "describe_db_cluster_parameters", "DBClusterParameterGroupName"
    else:
        action, kind = "rds:DescribeDBParameters", "pg"
        operation, subject = "describe_db_parameters", "DBParameterGroupName"
    resource = rds_arn(session, kind, group)
    attempt = rds_attempt(session, f"cannot read the parameter group {group}", action, resource)
    with explained(attempt):
        pages = session.client("rds").get_paginator(operation).paginate(**{subject: group})
        told = [each for page in pages for each in page["Parameters"]]
    return tuple(
        Parameter(
            each["ParameterName"],
            each["ParameterValue"],
            group,
            of_cluster,
            each.get("ApplyType") == "dynamic",
            each.get("Source") == "user",
        )
        for each in told
        if each["ParameterName"] in wanted and "ParameterValue" in each
    )


def restarts_wanted(session: AwsSession, database: Database) -> tuple[str, ...]:
    """The instances whose parameter groups are in force only after a restart, by their names.

    Raises AccessError.
    """
    name, found = database.identifier, []
    if isinstance(database, Cluster):
        attempt = rds_attempt(
            session,
            f"cannot see whether the parameters of {name} are in force",
            "rds:DescribeDBClusters",
            rds_arn(session, "cluster", name),
        )
        with explained(attempt):
            answer = session.client("rds").describe_db_clusters(DBClusterIdentifier=name)
        found += [
            each["DBInstanceIdentifier"]
            for each in answer["DBClusters"][0].get("DBClusterMembers", [])
            if each.get("DBClusterParameterGroupStatus") == _PENDING
        ]
    for member in database.members if isinstance(database, Cluster) else (name,):
        attempt = rds_attempt(
            session,
            f"cannot see whether the parameters of {member} are in force",
            "rds:DescribeDBInstances",
            rds_arn(session, "db", member),
        )
        with explained(attempt):
            answer = session.client("rds").describe_db_instances(DBInstanceIdentifier=member)
        groups = answer["DBInstances"][0].get("DBParameterGroups", [])
        if any(each.get("ParameterApplyStatus") == _PENDING for each in groups):
            found.append(member)
    return tuple(dict.fromkeys(found))


def engine_version(session: AwsSession, engine: str, version: str) -> EngineVersion:
    """What RDS says of a version. Raises AccessError."""
    attempt = _attempt(
        session, f"cannot look at {engine} {version}", "rds:DescribeDBEngineVersions"
    )
    with explained(attempt):
        told = session.client("rds").describe_db_engine_versions(
            Engine=engine, EngineVersion=version, IncludeAll=True
        )["DBEngineVersions"]
    found = next((each for each in told if each["EngineVersion"] == version), None)
    if found is None:
        return EngineVersion(is_offered=False, upgrades=())
    return EngineVersion(
        found.get("Status") == AVAILABLE,
        tuple(
            Upgrade(each["EngineVersion"], bool(each["IsMajorVersionUpgrade"]))
            for each in found.get("ValidUpgradeTarget", [])
        ),
    )


def support_ends(session: AwsSession, engine: str, major: int) -> datetime | None:
    """The end of RDS's standard support for a major, None where RDS does not tell it.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DescribeDBMajorEngineVersions.html
    """
    attempt = _attempt(
        session, f"cannot look at {engine} {major}", "rds:DescribeDBMajorEngineVersions"
    )
    with explained(attempt):
        told = session.client("rds").describe_db_major_engine_versions(
            Engine=engine, MajorEngineVersion=str(major)
        )["DBMajorEngineVersions"]
    ends = [
        period["LifecycleSupportEndDate"]
        for each in told
        for period in each.get("SupportedEngineLifecycles", [])
        if period["LifecycleSupportName"] == STANDARD_SUPPORT
    ]
    return max(ends, default=None)


def free_bytes(session: AwsSession, instance: str, now: datetime) -> float | None:
    """The least free storage in CloudWatch's newest sample of the last hour, None without one."""
    attempt = _attempt(
        session,
        f"cannot read the free storage of {instance}",
        "cloudwatch:GetMetricStatistics",
    )
    with explained(attempt):
        points = session.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/RDS",
            MetricName="FreeStorageSpace",
            Dimensions=[{"Name": "DBInstanceIdentifier", "Value": instance}],
            StartTime=now - timedelta(hours=1),
            EndTime=now,
            Period=300,
            Statistics=["Minimum"],
        )["Datapoints"]
    newest = max(points, key=lambda point: point["Timestamp"], default=None)
    return None if newest is None else float(newest["Minimum"])


def _attempt(session: AwsSession, message: str, action: str) -> Attempt:
    """An attempt at a call that knows no resources: it is allowed on all or on none."""
    return Attempt(message, session.region, (action,), "*", failure=AccessError)
