"""The calls that make a new instance or cluster.

Nothing here changes an instance that was there before: what is made is new, or refused.
"""

from __future__ import annotations

from typing import Any

from backup.aws.instances import Cluster, Instance, rds_arn
from backup.aws.recovery.attempts import attempt_at
from backup.aws.recovery.points import Point, SnapshotPoint, TimePoint
from backup.aws.recovery.settings import (
    Arguments,
    cluster_restore,
    instance_restore,
    member_creation,
)
from backup.aws.refusals import error_code, explained, sent_before
from backup.aws.session import AwsSession

_TAKEN = ("DBInstanceAlreadyExists", "DBClusterAlreadyExistsFault")


def restore_instance(session: AwsSession, wanted: Instance, point: Point) -> None:
    """Begin to make the instance. Raises AccessError, InputError, RestoreError."""
    client, arguments = session.client("rds"), instance_restore(wanted)
    if isinstance(point, SnapshotPoint):
        call, source = client.restore_db_instance_from_db_snapshot, point.arn
        arguments |= {
            "DBInstanceIdentifier": wanted.identifier,
            # RDS takes an ARN for the snapshots of other accounts too.
            "DBSnapshotIdentifier": point.arn,
        }
        action = "rds:RestoreDBInstanceFromDBSnapshot"
    else:
        call, source = client.restore_db_instance_to_point_in_time, _source_of(session, point)
        arguments |= {"TargetDBInstanceIdentifier": wanted.identifier, **_moment(point)}
        action = "rds:RestoreDBInstanceToPointInTime"
    resource = rds_arn(session, "db", wanted.identifier)
    _make(session, wanted.identifier, call, arguments, action, (source, resource))


def restore_cluster(session: AwsSession, wanted: Cluster, point: Point) -> None:
    """Begin to make the cluster. Raises AccessError, InputError, RestoreError."""
    client, arguments = session.client("rds"), cluster_restore(wanted, point)
    arguments |= {"DBClusterIdentifier": wanted.identifier}
    if isinstance(point, SnapshotPoint):
        call, source = client.restore_db_cluster_from_snapshot, point.arn
        arguments |= {"SnapshotIdentifier": point.arn}
        action = "rds:RestoreDBClusterFromSnapshot"
    else:
        call, source = client.restore_db_cluster_to_point_in_time, _source_of(session, point)
        arguments |= _moment(point)
        action = "rds:RestoreDBClusterToPointInTime"
    resource = rds_arn(session, "cluster", wanted.identifier)
    _make(session, wanted.identifier, call, arguments, action, (source, resource))


def add_member(session: AwsSession, wanted: Instance, cluster: Cluster) -> None:
    """Begin to make an instance of an Aurora cluster that is there. Raises as the others do."""
    resources = (
        rds_arn(session, "cluster", cluster.identifier),
        rds_arn(session, "db", wanted.identifier),
    )
    call = session.client("rds").create_db_instance
    arguments = member_creation(wanted, cluster)
    _make(session, wanted.identifier, call, arguments, "rds:CreateDBInstance", resources)


def modify_instance(session: AwsSession, identifier: str, changes: Arguments) -> None:
    """Set at once what a restore leaves out. Raises AccessError, InputError, RestoreError."""
    resource = rds_arn(session, "db", identifier)
    with explained(attempt_at(session, identifier, "rds:ModifyDBInstance", (resource,), "set up")):
        session.client("rds").modify_db_instance(
            DBInstanceIdentifier=identifier, ApplyImmediately=True, **changes
        )


def modify_cluster(session: AwsSession, identifier: str, changes: Arguments) -> None:
    """The same for a cluster."""
    resource = rds_arn(session, "cluster", identifier)
    with explained(attempt_at(session, identifier, "rds:ModifyDBCluster", (resource,), "set up")):
        session.client("rds").modify_db_cluster(
            DBClusterIdentifier=identifier, ApplyImmediately=True, **changes
        )


def _make(
    session: AwsSession,
    identifier: str,
    call: Any,
    arguments: Arguments,
    action: str,
    resources: tuple[str, ...],
) -> None:
    from botocore.exceptions import ClientError

    with explained(attempt_at(session, identifier, action, resources, "make")):
        try:
            call(**arguments)
        except ClientError as error:
            # It was not there before, so it is ours: an earlier attempt was sent, its answer lost.
            if error_code(error) not in _TAKEN or not sent_before(error):
                raise


def _moment(point: TimePoint) -> Arguments:
    """What says which logs to read, and how far."""
    source: Arguments = {
        "SourceDBClusterIdentifier" if point.is_cluster else "SourceDBInstanceIdentifier": (
            point.identifier
        ),
        "SourceDbClusterResourceId" if point.is_cluster else "SourceDbiResourceId": (
            point.resource_id
        ),
    }
    if point.backups_arn:
        source = {"SourceDBInstanceAutomatedBackupsArn": point.backups_arn}
    given = {name: value for name, value in source.items() if value}
    if point.time is None:
        return {**given, "UseLatestRestorableTime": True}
    return {**given, "RestoreToTime" if point.is_cluster else "RestoreTime": point.time}


def _source_of(session: AwsSession, point: TimePoint) -> str:
    if point.backups_arn:
        return point.backups_arn
    kind = "cluster" if point.is_cluster else "db"
    return rds_arn(session, kind if point.identifier else "auto-backup", point.identifier or "*")
