"""What an export run tells: where the files are, and what they are not."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from backup.aws.exports import Export, ExportOrder
from backup.aws.recovery.points import SnapshotPoint
from backup.errors import BackupError
from backup.model import Phase
from backup.operations.snapshotting.source import Source
from backup.report.report import Commands, Facts, Report, Timeline
from backup.wording import duration


def export_report(
    source: Source,
    point: SnapshotPoint,
    order: ExportOrder,
    export: Export,
    phases: Sequence[Phase],
    record_uri: str,
    failure: BackupError | None,
) -> Report:
    """The report of an export that is done, or that RDS goes on with."""
    seconds = phases[-1].started + phases[-1].seconds if phases else 0.0
    is_done = export.standing.is_done
    outputs = {
        "export-id": export.id,
        "s3-uri": order.uri,
        "snapshot-id": point.identifier,
        "snapshot-arn": point.arn,
        "duration-seconds": f"{seconds:.1f}",
    }
    size = "not known yet" if export.extracted_gib is None else f"{export.extracted_gib} GiB"
    facts = [
        ("Export", export.id),
        ("Of", f"snapshot {point.identifier} of {source.kind} {source.identifier}"),
        ("Data as of", f"{point.taken:%Y-%m-%d %H:%M:%S} UTC"),
        ("State", export.standing.status),
        ("Parts", ", ".join(order.only) or "all"),
        ("Extracted", size),
        ("Took", duration(seconds)),
        ("Lies in", order.uri),
        ("Record", record_uri),
        ("Good for", "analysis (Parquet). It cannot be restored to a database"),
    ]
    if export.warning:
        facts.append(("RDS warns", export.warning))
    look = f"aws rds describe-export-tasks --export-task-identifier {export.id}"
    lines = (f"aws s3 ls --recursive {shlex.quote(order.uri)}",)
    return Report(
        verdict=f"✅ {point.identifier} is exported: {order.uri}"
        if is_done
        else f"⏳ {point.identifier}: RDS goes on with the export {export.id}",
        sections=(
            Facts(tuple(facts)),
            Commands("Look at it", lines if is_done else (look, *lines)),
            Timeline("Where the time went", tuple(phases)),
        ),
        outputs=outputs,
        data=outputs | {"status": export.standing.status, "record": record_uri},
        failure=failure,
    )
