"""Exports of snapshots to S3 as Parquet. What comes of one cannot be restored to a database.

https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_StartExportTask.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backup.aws.instances import rds_arn
from backup.aws.refusals import Attempt, Remedy, explained
from backup.aws.session import AwsSession
from backup.aws.work import Standing, Unreachable
from backup.errors import DumpError, InputError

# "cannot be blank, must be 60 characters or less": what RDS answers to a longer one.
LONGEST_ID = 60


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """What to export, and where to; `prefix` is the folder in the bucket, without a slash at its
    end. `only` are database.schema.table names, empty for all."""

    id: str
    snapshot_arn: str
    bucket: str
    prefix: str
    service_role: str
    kms_key_id: str
    only: tuple[str, ...]

    @property
    def uri(self) -> str:
        """RDS puts all of an export into a folder named like it."""
        return f"s3://{self.bucket}/{self.prefix}/{self.id}/"


@dataclass(frozen=True, slots=True)
class Export:
    """An export as RDS tells of it. `snapshot_time` is that of the data."""

    id: str
    standing: Standing
    snapshot_arn: str
    snapshot_time: datetime | None
    started: datetime | None
    finished: datetime | None
    extracted_gib: int | None
    warning: str


class Exports:
    """Exports from the session's region.

    Methods raise AccessError; InputError for what an input could mend; else DumpError, which is
    Unreachable where AWS could not be asked how things are.
    """

    def __init__(self, session: AwsSession) -> None:
        self._session = session
        self._client = session.client("rds")

    def start(self, order: ExportOrder) -> Export:
        arguments: dict[str, Any] = {
            "ExportTaskIdentifier": order.id,
            "SourceArn": order.snapshot_arn,
            "S3BucketName": order.bucket,
            "S3Prefix": order.prefix,
            "IamRoleArn": order.service_role,
            "KmsKeyId": order.kms_key_id,
        }
        if order.only:
            arguments["ExportOnly"] = list(order.only)
        attempt = self._attempt(
            f"cannot export {order.snapshot_arn}", "rds:StartExportTask", self._any_snapshot(order)
        )
        with explained(attempt):
            return _export(self._client.start_export_task(**arguments))

    def look(self, export: Export) -> Export:
        """The export as it is now."""
        message = f"cannot look at the export {export.id}"
        with explained(self._attempt(message, "rds:DescribeExportTasks", "*")):
            answer = self._client.describe_export_tasks(ExportTaskIdentifier=export.id)
        return _export(answer["ExportTasks"][0])

    def _any_snapshot(self, order: ExportOrder) -> str:
        return rds_arn(self._session, order.snapshot_arn.split(":")[5], "*")

    def _attempt(self, message: str, action: str, resource: str) -> Attempt:
        return Attempt(
            message,
            self._session.region,
            (action,),
            resource,
            # Only looking again is without risk.
            unreachable=Unreachable if ":Describe" in action else DumpError,
            failure=DumpError,
            remedies=_REMEDIES,
        )


def _export(told: Mapping[str, Any]) -> Export:
    status = str(told["Status"])
    trouble = ""
    if status == "FAILED":
        trouble = str(told.get("FailureCause") or "RDS does not say why")
    elif status in ("CANCELED", "CANCELING"):
        trouble = "someone canceled it"
    percent = told.get("PercentProgress")
    return Export(
        id=str(told["ExportTaskIdentifier"]),
        standing=Standing(
            status, None if percent is None else int(percent), status == "COMPLETE", trouble
        ),
        snapshot_arn=str(told["SourceArn"]),
        snapshot_time=told.get("SnapshotTime"),
        started=told.get("TaskStartTime"),
        finished=told.get("TaskEndTime"),
        extracted_gib=told.get("TotalExtractedDataInGB"),
        warning=str(told.get("WarningMessage") or ""),
    )


_ROLE = Remedy(
    InputError,
    "correct service-role: a role that export.rds.amazonaws.com may assume, and that may write"
    " below the prefix; docs/snapshots.md shows how to make it",
)
_REMEDIES: Mapping[str, Remedy] = {
    "IamRoleNotFound": _ROLE,
    "IamRoleMissingPermissions": _ROLE,
    "KMSKeyNotAccessibleFault": Remedy(
        InputError,
        "kms-key-id: a key of the snapshot's region, enabled, that this role may use"
        " (kms:DescribeKey, kms:CreateGrant)",
    ),
    "InvalidS3BucketFault": Remedy(
        InputError, "bucket: one in the region of the snapshot, which service-role may write to"
    ),
    "InvalidExportOnly": Remedy(
        InputError, "export-only: database, database.schema or database.schema.table, one a line"
    ),
    "InvalidExportSourceState": Remedy(
        DumpError, "RDS exports what is available: run it again once the snapshot is"
    ),
    "ExportTaskAlreadyExists": Remedy(InputError, "run it again: it takes a new name"),
    "DBSnapshotNotFound": Remedy(InputError, "correct snapshot-id; snapshot-id: latest"),
    "DBClusterSnapshotNotFoundFault": Remedy(
        InputError, "correct snapshot-id; snapshot-id: latest"
    ),
    "ExportTaskNotFound": Remedy(DumpError, "RDS has forgotten it: start the export anew"),
}
