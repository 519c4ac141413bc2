"""Which snapshot to restore from.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_RestoreFromSnapshot.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backup.aws.instances import AVAILABLE, Cluster, Database, rds_arn
from backup.aws.recovery.points import LATEST, SnapshotPoint
from backup.aws.refusals import Attempt, Remedy, explained
from backup.aws.session import AwsSession
from backup.errors import AccessError, InputError

_MOST_NAMED = 5
_MISSING = ("DBSnapshotNotFound", "DBClusterSnapshotNotFoundFault")


def find_snapshot(session: AwsSession, wanted: str, database: Database) -> SnapshotPoint:
    """The snapshot that `wanted` names (`latest`, a name or an ARN), ready to be restored.

    Raises InputError where there is none, where it is of something else, or not ready; AccessError.
    """
    identifier, is_cluster = database.identifier, isinstance(database, Cluster)
    if wanted == LATEST:
        return _newest(session, identifier, is_cluster=is_cluster)
    if wanted.startswith("arn:"):
        _check_arn(wanted, is_cluster=is_cluster)
    region = wanted.split(":")[3] if wanted.startswith("arn:") else session.region
    if region != session.region:
        raise InputError(
            f"the snapshot {wanted} cannot be used in {session.region}",
            detail=f"it lies in {region}, and RDS restores or exports a snapshot where it lies",
            hint=f"aws-region: {region}, or copy it here first (copy-to-region of"
            " operation: snapshot does that in advance)",
        )
    point = _named(session, wanted, identifier, is_cluster=is_cluster)
    # One that was renamed keeps its resource id.
    if identifier != point.source and database.resource_id != point.resource_id:
        kind = "db-cluster" if is_cluster else "db-instance"
        raise InputError(
            f"the snapshot {point.identifier} is not one of {identifier}",
            detail=f"it was taken of {point.source}",
            hint=f"{kind}: {point.source}, or name another snapshot",
        )
    if "postgres" not in point.engine:
        raise InputError(
            f"the snapshot {point.identifier} is not of a PostgreSQL",
            detail=f"its engine is {point.engine}",
            hint="name a snapshot of RDS for PostgreSQL or of Aurora PostgreSQL",
        )
    if point.status != AVAILABLE:
        raise InputError(
            f"the snapshot {point.identifier} cannot be used: it is {point.status}",
            detail="RDS restores and exports only what is available",
            hint="run it again once it is available, or name another snapshot",
        )
    return point


def _check_arn(arn: str, *, is_cluster: bool) -> None:
    """A recovery point of AWS Backup is a snapshot of RDS, but for two kinds."""
    parts = arn.split(":", 6)
    if parts[2:3] == ["backup"]:
        raise InputError(
            f"{arn} cannot be restored by RDS",
            detail="it is a continuous recovery point, or one in a logically air-gapped vault; the"
            " others are snapshots of RDS: arn:aws:rds:…:snapshot:awsbackup:…",
            hint="for a continuous one: restore-time, in place of snapshot-id. From an air-gapped"
            " vault copy it to an ordinary one first: aws backup start-copy-job",
        )
    kind = "cluster-snapshot" if is_cluster else "snapshot"
    if len(parts) < 7 or parts[2] != "rds" or parts[5] != kind:
        raise InputError(
            f"{arn} is not the ARN of a {kind}",
            detail=f"snapshots of {'a cluster' if is_cluster else 'an instance'} have an ARN as"
            f" arn:aws:rds:eu-central-1:123456789012:{kind}:NAME",
            hint="name the snapshot, or give db-cluster in place of db-instance, or the reverse",
        )


def _newest(session: AwsSession, identifier: str, *, is_cluster: bool) -> SnapshotPoint:
    points = _described(session, {}, identifier, is_cluster=is_cluster)
    if not is_cluster:
        # "If you don't specify a SnapshotType value, then both automated and manual snapshots are
        # returned": API_DescribeDBSnapshots. Those of AWS Backup are of a third type.
        asked = {"DBInstanceIdentifier": identifier, "SnapshotType": "awsbackup"}
        points += _described(session, asked, identifier, is_cluster=is_cluster)
    points = [each for each in points if "postgres" in each.engine]
    ready = [each for each in points if each.status == AVAILABLE]
    if ready:
        return max(ready, key=lambda each: each.taken)
    listed = ", ".join(f"{each.identifier} is {each.status}" for each in points[:_MOST_NAMED])
    raise InputError(
        f"there is no snapshot of {identifier} in {session.region}",
        detail=listed or "RDS knows neither an automated nor a manual one",
        hint="name one with snapshot-id (those of AWS Backup by their ARN), or a time with"
        " restore-time, or the region that holds copies with aws-region",
    )


def _named(session: AwsSession, wanted: str, identifier: str, *, is_cluster: bool) -> SnapshotPoint:
    name = wanted.split(":", 6)[6] if wanted.startswith("arn:") else wanted
    asked: dict[str, Any] = {
        "DBClusterSnapshotIdentifier" if is_cluster else "DBSnapshotIdentifier": wanted
    }
    # "If this identifier is for an automated snapshot, the SnapshotType parameter must also be
    # specified": API_DescribeDBSnapshots.
    if name.startswith("rds:"):
        asked["SnapshotType"] = "automated"
    elif name.startswith("awsbackup:") and not is_cluster:
        asked["SnapshotType"] = "awsbackup"
    elif wanted.startswith("arn:") and wanted.split(":")[4] != session.account:
        # Another account's is found only where that is asked for.
        asked["IncludeShared"] = True
    try:
        (point,) = _described(session, asked, identifier, is_cluster=is_cluster)
    except InputError as error:
        there = _described(session, {}, identifier, is_cluster=is_cluster)
        newest = sorted(there, key=lambda each: each.taken, reverse=True)[:_MOST_NAMED]
        if newest:
            names = ", ".join(each.identifier for each in newest)
            error.detail += f"; the newest of {identifier} are {names}"
        raise
    return point


def _described(
    session: AwsSession, asked: dict[str, Any], identifier: str, *, is_cluster: bool
) -> list[SnapshotPoint]:
    """The snapshots that are asked for; all of `identifier` where nothing is."""
    client = session.client("rds")
    kind = "cluster-snapshot" if is_cluster else "snapshot"
    action = "rds:DescribeDBClusterSnapshots" if is_cluster else "rds:DescribeDBSnapshots"
    named = asked.get("DBSnapshotIdentifier") or asked.get("DBClusterSnapshotIdentifier")
    unknown = Remedy(
        InputError,
        "correct snapshot-id; this lists what is there:\n"
        f"aws rds describe-db-{kind}s --region {session.region}",
    )
    attempt = Attempt(
        f"cannot look at the snapshot {named}"
        if named
        else f"cannot look for snapshots of {identifier}",
        session.region,
        (action,),
        rds_arn(session, kind, "*"),
        failure=AccessError,
        remedies=dict.fromkeys(_MISSING, unknown),
    )
    with explained(attempt):
        if is_cluster:
            asked = asked or {"DBClusterIdentifier": identifier}
            pages = client.get_paginator("describe_db_cluster_snapshots").paginate(**asked)
            return [
                _cluster_snapshot(each) for page in pages for each in page["DBClusterSnapshots"]
            ]
        asked = asked or {"DBInstanceIdentifier": identifier}
        pages = client.get_paginator("describe_db_snapshots").paginate(**asked)
        return [_snapshot(each) for page in pages for each in page["DBSnapshots"]]


def _snapshot(told: Mapping[str, Any]) -> SnapshotPoint:
    # While one is being made, it has no time yet.
    created = told.get("SnapshotCreateTime") or told["InstanceCreateTime"]
    return SnapshotPoint(
        identifier=told["DBSnapshotIdentifier"],
        arn=told["DBSnapshotArn"],
        status=told["Status"],
        engine=told["Engine"],
        engine_version=told["EngineVersion"],
        source=told["DBInstanceIdentifier"],
        resource_id=told.get("DbiResourceId", ""),
        taken=told.get("OriginalSnapshotCreateTime") or created,
        allocated_gib=told.get("AllocatedStorage"),
        is_cluster=False,
    )


def _cluster_snapshot(told: Mapping[str, Any]) -> SnapshotPoint:
    return SnapshotPoint(
        identifier=told["DBClusterSnapshotIdentifier"],
        arn=told["DBClusterSnapshotArn"],
        status=told["Status"],
        engine=told["Engine"],
        engine_version=told["EngineVersion"],
        source=told["DBClusterIdentifier"],
        resource_id=told.get("DbClusterResourceId", ""),
        taken=told.get("SnapshotCreateTime") or told["ClusterCreateTime"],
        allocated_gib=told.get("AllocatedStorage"),
        is_cluster=True,
    )
