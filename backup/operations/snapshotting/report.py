"""What a snapshot run tells: what is there, how long it took, and how to restore from it."""

from __future__ import annotations

from collections.abc import Sequence

from backup.aws.instance_record import RecordedSnapshot
from backup.errors import BackupError
from backup.model import Phase
from backup.operations.snapshotting.commands import restore_lines
from backup.operations.snapshotting.making import Made, Order
from backup.report.measures import SnapshotTaken
from backup.report.report import Commands, Facts, Report, Table, Timeline
from backup.settings import BucketSettings
from backup.wording import count, duration


def snapshot_report(
    made: Made,
    order: Order,
    phases: Sequence[Phase],
    bucket: BucketSettings,
    record_key: str,
    failure: BackupError | None,
) -> Report:
    """The report of a run that has made a snapshot, or has left AWS to make it."""
    snapshot = made.snapshot or RecordedSnapshot(order.name, "", order.options.via, None, None)
    source = made.source
    seconds = phases[-1].started + phases[-1].seconds if phases else 0.0
    outputs = {
        "snapshot-id": snapshot.id,
        "snapshot-arn": snapshot.arn,
        "copy-arn": snapshot.copy.arn if snapshot.copy else "",
        "duration-seconds": f"{seconds:.1f}",
    }
    record = f"s3://{bucket.name}/{record_key}" if record_key else "not kept"
    facts = [
        ("Snapshot", snapshot.id or "not named yet"),
        ("Of", f"{source.kind} {source.identifier}, {source.database.engine}"
               f" {source.database.engine_version}"),
        ("ARN", snapshot.arn or "AWS Backup tells it once the job has begun"),
        ("State", "available" if made.ready else "being made"),
        ("Copy", snapshot.copy.arn if snapshot.copy else "none"),
        ("Took", duration(seconds)),
        ("Record of the instance", record),
    ]  # fmt: skip
    if snapshot.vault:
        facts.insert(1, ("Vault", snapshot.vault))
    if made.deleted:
        facts.append(("Deleted", count(len(made.deleted), "older snapshot")))
    sections = (
        Facts(tuple(facts)),
        Commands("Restore it", _restore(made, snapshot)),
        Table("Deleted", ("Snapshot",), tuple((arn,) for arn in made.deleted)),
        Timeline("Where the time went", tuple(phases)),
    )
    return Report(
        verdict=_verdict(made, snapshot, failure),
        sections=sections,
        outputs=outputs,
        data=outputs | {"ready": made.ready, "deleted": made.deleted, "record": record},
        failure=failure,
        # Of what AWS goes on with, nobody knows yet how it ends.
        measures=(SnapshotTaken(source.identifier, failure is None),)
        if made.ready or failure
        else (),
    )


def _verdict(made: Made, snapshot: RecordedSnapshot, failure: BackupError | None) -> str:
    name = snapshot.id or "the recovery point"
    if not made.ready:
        return f"⏳ {made.source.identifier}: AWS goes on making {name}"
    mark = "⚠️" if failure else "✅"
    return f"{mark} {made.source.identifier} has a snapshot: {name}"


def _restore(made: Made, snapshot: RecordedSnapshot) -> tuple[str, ...]:
    """With this action, and without it; never over the old one."""
    if not snapshot.arn:
        return ("# once the job has ended: operation: restore-instance, with snapshot-id: latest",)
    source, region = made.source, snapshot.arn.split(":")[3]
    name = snapshot.id if snapshot.via == "rds" else snapshot.arn
    return (
        f"# with this action, which copies all settings: operation: restore-instance,"
        f" db-{source.kind}: {source.identifier}, snapshot-id: {name}",
        f"# by hand, into a new {source.kind}; the old one is not touched",
        *restore_lines(source, snapshot.id, region),
    )
