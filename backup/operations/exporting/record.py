"""The record of an export in S3: `rds/IDENTIFIER/exports/TIME.json`, written once.

Its form is `docs/export.schema.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from backup import __version__
from backup.aws.exports import Export, ExportOrder
from backup.aws.instance_record import JSON, RecordedRun, key_of
from backup.aws.record_json import dump, to_json
from backup.aws.s3 import Bucket
from backup.console import Console
from backup.errors import AccessError, StorageError
from backup.github.context import workflow_run

FORMAT = 1
KIND = "exports"


@dataclass(frozen=True)
class ExportRecord:
    """`status` is RDS's word when the run ended: COMPLETE, or how far it was."""

    id: str
    identifier: str
    status: str
    snapshot_arn: str
    snapshot_time: datetime | None
    started: datetime | None
    finished: datetime | None
    extracted_gib: int | None
    uri: str
    only: tuple[str, ...]
    kms_key_id: str
    service_role: str
    action: RecordedRun


def keep(
    bucket: Bucket,
    prefix: str,
    identifier: str,
    order: ExportOrder,
    export: Export,
    moment: datetime,
    console: Console,
    environment: Mapping[str, str],
) -> str:
    """Write the record; its key, empty where that was not possible."""
    run = workflow_run(environment)
    record = ExportRecord(
        id=export.id,
        identifier=identifier,
        status=export.standing.status,
        snapshot_arn=export.snapshot_arn,
        snapshot_time=export.snapshot_time,
        started=export.started,
        finished=export.finished,
        extracted_gib=export.extracted_gib,
        uri=order.uri,
        only=order.only,
        kms_key_id=order.kms_key_id,
        service_role=order.service_role,
        action=RecordedRun(__version__, run.url if run else None),
    )
    key = key_of(prefix, identifier, moment, KIND)
    try:
        bucket.put_if_absent(key, dump({"format": FORMAT} | to_json(record)), JSON)
    except (AccessError, StorageError) as error:
        console.warning("The record of the export was not kept", "\n".join(error.lines()))
        return ""
    console.info(bucket.uri(key))
    return key
