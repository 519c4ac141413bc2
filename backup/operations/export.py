"""`operation: export`: a snapshot as Parquet in S3, for analysis and never for a restore."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from backup.aws.exports import LONGEST_ID, Export, ExportOrder, Exports
from backup.aws.instance_record import folder
from backup.aws.recovery.snapshots import find_snapshot
from backup.aws.work import Standing
from backup.console import Console
from backup.errors import BackupError, Interrupted
from backup.operations.aws_waiting import Lost, Watch
from backup.operations.exporting.record import KIND, keep
from backup.operations.exporting.report import export_report
from backup.operations.opening import first_bucket, log_in
from backup.operations.phases import Phases
from backup.operations.snapshotting.names import made_name
from backup.operations.snapshotting.source import find_source
from backup.report.report import Report
from backup.settings import Settings


def run(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    """Export the snapshot that is meant. Raises BackupError where nothing was begun, or RDS gave
    up; where it goes on without this run, the report tells of it."""
    phases, began = Phases(console), datetime.now(UTC)
    with phases.phase("Log in to AWS"):
        session = log_in(settings, console, environment)
        bucket = first_bucket(session, settings, console).bucket(connections=1)
        bucket.check()
    with phases.phase("Choose the snapshot"):
        source = find_source(session, settings.rds)
        point = find_snapshot(session, settings.export.snapshot, source.database)
        console.info(f"{point.identifier}, data of {point.taken:%Y-%m-%d %H:%M:%S} UTC")
    order = _order(settings, source.identifier, point.arn, began)
    exports, failure = Exports(session), None
    with phases.phase("Export it"):
        export = exports.start(order)
        console.info(f"{export.id} is {export.standing.status}, into {order.uri}")
        if settings.wait_seconds is not None:
            watch = Watch(settings.wait_seconds, console)
            try:
                export = _followed(exports, export, watch)
            except Lost:
                raise
            except BackupError as error:
                failure = error
                export = replace(export, standing=Standing("IN_PROGRESS"))
    with _goes_on(export), phases.phase("Keep a record"):
        prefix = settings.bucket.prefix
        key = keep(bucket, prefix, source.identifier, order, export, began, console, environment)
    record = bucket.uri(key) if key else "not kept"
    return export_report(source, point, order, export, phases.done, record, failure)


def _order(settings: Settings, identifier: str, snapshot_arn: str, moment: datetime) -> ExportOrder:
    return ExportOrder(
        id=made_name(identifier, None, moment, LONGEST_ID),
        snapshot_arn=snapshot_arn,
        bucket=settings.bucket.name,
        prefix=folder(settings.bucket.prefix, identifier, KIND).rstrip("/"),
        service_role=settings.export.service_role or "",
        kms_key_id=settings.bucket.kms_key_id or "",
        only=settings.export.only,
    )


def _followed(exports: Exports, export: Export, watch: Watch) -> Export:
    with _goes_on(export):
        return watch.until_done(
            f"export {export.id}", lambda: exports.look(export), lambda each: each.standing,
            f"look at it: aws rds describe-export-tasks --export-task-identifier {export.id}",
        )  # fmt: skip


@contextmanager
def _goes_on(export: Export) -> Iterator[None]:
    """Say of an end that the export does not end with it."""
    words = (
        f"RDS goes on with the export {export.id}, whether this run waits or not; this ends it:"
        f" aws rds cancel-export-task --export-task-identifier {export.id}"
    )
    try:
        yield
    except Lost:
        raise
    except BackupError as error:
        error.detail += f"\n{words}"
        raise
    except Interrupted as interrupted:
        interrupted.consequence = "the export is done" if export.standing.is_done else words
        raise
