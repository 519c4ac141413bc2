"""What RDS's refusals mean while snapshots are taken, copied and deleted.

https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

from collections.abc import Mapping

from backup.aws.refusals import Remedy
from backup.errors import DumpError, InputError


class NotAvailable(DumpError):
    """The instance or cluster does something else at the moment."""


GONE = ("DBSnapshotNotFound", "DBClusterSnapshotNotFoundFault")

_NO_SOURCE = Remedy(InputError, "correct db-instance or db-cluster, or aws-region")
_BUSY = Remedy(NotAvailable, "run it again once it is available")
_QUOTA = Remedy(
    DumpError,
    "the region holds as many manual snapshots as it may: let this action delete its own, as in"
    " keep: 10, or raise the quota `Manual DB instance snapshots` (or `cluster`) in Service"
    " Quotas",
)
_TAKEN = Remedy(
    InputError, "give another name with snapshot-id, or none: then the run makes one with the time"
)
_NAME = Remedy(
    InputError,
    "snapshot-id: letters, digits and single hyphens, beginning with a letter; 63 at the most for"
    " a cluster. Tags: letters, digits, spaces and _ . : / = + - @",
)
_KEY = Remedy(
    InputError,
    "copy-kms-key-id: a key of the region of the copy, enabled, that the role may use"
    " (kms:DescribeKey, kms:CreateGrant); a new one: aws kms create-key --region REGION",
)
_MISSING = Remedy(InputError, "someone has deleted it, or the name is another's")
_LOST = Remedy(DumpError, "someone has deleted the snapshot in the meantime: take a new one")
_NOT_READY = Remedy(DumpError, "wait until the snapshot is available, and copy it then")

LOOKING: Mapping[str, Remedy] = dict.fromkeys(GONE, _MISSING)
TAKING: Mapping[str, Remedy] = {
    "DBInstanceNotFound": _NO_SOURCE,
    "DBClusterNotFoundFault": _NO_SOURCE,
    "InvalidDBInstanceState": _BUSY,
    "InvalidDBClusterStateFault": _BUSY,
    "InvalidDBClusterSnapshotStateFault": _BUSY,
    "DBSnapshotAlreadyExists": _TAKEN,
    "DBClusterSnapshotAlreadyExistsFault": _TAKEN,
    "SnapshotQuotaExceeded": _QUOTA,
    "InvalidParameterValue": _NAME,
}
COPYING: Mapping[str, Remedy] = {
    "DBSnapshotAlreadyExists": _TAKEN,
    "DBClusterSnapshotAlreadyExistsFault": _TAKEN,
    "SnapshotQuotaExceeded": _QUOTA,
    "KMSKeyNotAccessibleFault": _KEY,
    "InvalidParameterCombination": _KEY,
    "DBSnapshotNotFound": _LOST,
    "DBClusterSnapshotNotFoundFault": _LOST,
    "InvalidDBSnapshotState": _NOT_READY,
    "InvalidDBClusterSnapshotStateFault": _NOT_READY,
}
DELETING: Mapping[str, Remedy] = {
    "InvalidDBSnapshotState": Remedy(DumpError, "it is in use; the next run deletes it"),
    "InvalidDBClusterSnapshotStateFault": Remedy(
        DumpError, "it is in use; the next run deletes it"
    ),
}
