"""What RDS's refusals mean while a new instance or cluster is made."""

from __future__ import annotations

from backup.aws.refusals import Attempt, Remedy
from backup.aws.session import AwsSession
from backup.aws.work import Unreachable
from backup.errors import InputError, RestoreError


class Busy(RestoreError):
    """What is new is at work on itself, and takes no order at the moment."""


def attempt_at(
    session: AwsSession, identifier: str, action: str, resources: tuple[str, ...], verb: str
) -> Attempt:
    return Attempt(
        f"cannot {verb} the new {identifier}",
        session.region,
        (action,),
        # One line to paste has room for one resource; the documentation has the whole policy.
        resources[-1],
        unreachable=Unreachable,
        failure=RestoreError,
        remedies=_REMEDIES,
    )


_SUBNETS = "db-subnet-group: a subnet group of this region, with subnets in two zones or more"
# "Database instance is not in available state": RDS backs a new one up, or configures its
# monitoring, as soon as it has called it available.
_BUSY = Remedy(Busy, "ask again once it is available")
_GONE = Remedy(InputError, "someone has deleted it in the meantime: name another one")
_REMEDIES: dict[str, Remedy] = {
    "InvalidDBInstanceState": _BUSY,
    "InvalidDBInstanceStateFault": _BUSY,
    "InvalidDBClusterStateFault": _BUSY,
    "DBSnapshotNotFound": _GONE,
    "DBClusterSnapshotNotFoundFault": _GONE,
    "DBInstanceAutomatedBackupNotFound": _GONE,
    "DBClusterAutomatedBackupNotFoundFault": _GONE,
    "DBInstanceNotFound": Remedy(InputError, "look whether someone deleted it"),
    "DBClusterNotFoundFault": Remedy(InputError, "look whether someone deleted it"),
    "DBInstanceAlreadyExists": Remedy(InputError, "give another name with new-instance"),
    "DBClusterAlreadyExistsFault": Remedy(InputError, "give another name with new-instance"),
    "DBSubnetGroupNotFoundFault": Remedy(InputError, _SUBNETS),
    "DBSubnetGroupDoesNotCoverEnoughAZs": Remedy(InputError, _SUBNETS),
    "InvalidVPCNetworkStateFault": Remedy(
        InputError,
        "give a subnet group and security groups of the same VPC: db-subnet-group and"
        " vpc-security-groups",
    ),
    "DBParameterGroupNotFound": Remedy(
        InputError, "db-parameter-group: a group of this region, of the snapshot's major version"
    ),
    "DBClusterParameterGroupNotFound": Remedy(
        InputError, "db-parameter-group: a cluster parameter group of this region"
    ),
    "NetworkTypeNotSupported": Remedy(
        InputError, "db-subnet-group: one whose subnets have IPv6 too, as those of the old one had"
    ),
    "OptionGroupNotFoundFault": Remedy(
        InputError,
        "make the option group again (for PostgreSQL it has no options):\naws rds"
        " create-option-group --engine-name postgres --major-engine-version MAJOR"
        " --option-group-name NAME --option-group-description restored",
    ),
    "InvalidRestoreFault": Remedy(
        InputError, "restore-time: latest, or a time that the automated backups reach back to"
    ),
    "PointInTimeRestoreNotEnabled": Remedy(
        InputError, "snapshot-id: latest, in place of restore-time"
    ),
    "InsufficientDBInstanceCapacity": Remedy(
        RestoreError,
        "run it again in a while; AWS has no capacity for this class in these zones at the moment",
    ),
    "InstanceQuotaExceeded": Remedy(
        RestoreError, "raise the quota `DB instances` of RDS in Service Quotas, or delete one"
    ),
    "StorageQuotaExceeded": Remedy(
        RestoreError, "raise the quota `Total storage for all DB instances` in Service Quotas"
    ),
    "KMSKeyNotAccessibleFault": Remedy(
        RestoreError,
        "the snapshot's KMS key is disabled or denied: enable it, and allow the role"
        " kms:DescribeKey, kms:CreateGrant and kms:Decrypt on it",
    ),
}
