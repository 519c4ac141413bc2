"""What RDS's refusals mean while a new instance or cluster is made."""

from __future__ import annotations

from backup.aws.refusals import Attempt, Remedy
from backup.aws.session import AwsSession
from backup.aws.work import Unreachable
from backup.errors import InputError, RestoreError


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
_REMEDIES: dict[str, Remedy] = {
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
