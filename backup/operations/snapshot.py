"""`operation: snapshot`: a snapshot of an instance or a cluster, before something happens to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from backup import __version__
from backup.aws.instance_record import InstanceRecord, RecordedRun, keep
from backup.aws.session import AwsSession
from backup.aws.snapshots import LONGEST_CLUSTER_NAME, LONGEST_NAME
from backup.console import Console
from backup.errors import AccessError, BackupError, DumpError, StorageError
from backup.github.context import release, workflow_run
from backup.operations.aws_waiting import Watch
from backup.operations.opening import first_bucket, log_in
from backup.operations.phases import Phases
from backup.operations.snapshotting.by_backup import BackupTaker
from backup.operations.snapshotting.by_rds import RdsTaker
from backup.operations.snapshotting.keeping import delete_old
from backup.operations.snapshotting.making import Made, Order, Taker, accounted
from backup.operations.snapshotting.names import made_name, own_tags, with_inherited
from backup.operations.snapshotting.report import snapshot_report
from backup.operations.snapshotting.source import Source, find_source
from backup.report.report import Report
from backup.settings import Settings


def run(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    """Take the snapshot. Raises BackupError where there is none at the end.

    Where there is one, and something after it failed, the report tells of both.
    """
    phases, bound = Phases(console), settings.wait_seconds
    with phases.phase("Log in to AWS"):
        session = log_in(settings, console, environment)
    with phases.phase("Look at the database"):
        source = find_source(session, settings.rds)
        console.info(f"{source.kind} {source.identifier} is {source.database.status}")
    made, order = Made(source), _order(settings, source, environment)
    watch = Watch(bound, console) if bound is not None else None
    failure: BackupError | None = None
    try:
        with accounted(made):
            failure = _make(session, order, watch, made, phases, console)
    except BackupError as error:
        if made.snapshot is None:
            raise
        failure = error
    with accounted(made), phases.phase("Keep a record"):
        key = _keep(session, settings, made, console, environment)
    return snapshot_report(made, order, phases.done, settings.bucket, key, failure)


def _make(
    session: AwsSession,
    order: Order,
    watch: Watch | None,
    made: Made,
    phases: Phases,
    console: Console,
) -> BackupError | None:
    """Take it, copy it, delete old ones; what that was not allowed to delete."""
    options = order.options
    kind = BackupTaker if options.via == "aws-backup" else RdsTaker
    taker: Taker = kind(session, order, watch, made)
    with phases.phase("Take the snapshot"):
        taker.take()
    if options.copy_region:
        with phases.phase(f"Copy it to {options.copy_region}"):
            taker.copy(options.copy_region)
    if options.keep is None:
        return None
    with phases.phase("Delete old snapshots"):
        try:
            delete_old(session, made, options.keep, console)
        except AccessError as error:
            return error
        except DumpError as error:
            # The next run deletes them: what this one is for is there.
            console.warning("Old snapshots are still there", "\n".join(error.lines()))
    return None


def _order(settings: Settings, source: Source, environment: Mapping[str, str]) -> Order:
    options, identifier, what = settings.snapshot, source.identifier, release(environment)
    longest = LONGEST_CLUSTER_NAME if source.is_cluster else LONGEST_NAME
    # RDS keeps names in small letters, whatever was typed.
    name = (options.name or made_name(identifier, what, datetime.now(UTC), longest)).lower()
    by_rds = options.via == "rds"
    tags = (*options.tags, *own_tags(name if by_rds else None, source.database, what))
    if by_rds and source.database.upkeep.copies_tags:  # AWS Backup copies them itself
        tags = with_inherited(tags, source.database.tags)
    return Order(settings.rds, name, tags, options)


def _keep(
    session: AwsSession,
    settings: Settings,
    made: Made,
    console: Console,
    environment: Mapping[str, str],
) -> str:
    """Write what the instance was; the record's key, empty where that was not possible."""
    if made.snapshot is None:
        return ""
    run = workflow_run(environment)
    record = InstanceRecord(
        taken=datetime.now(UTC),
        region=session.region,
        database=made.source.database,
        members=made.source.members,
        snapshot=made.snapshot,
        action=RecordedRun(__version__, run.url if run else None),
    )
    try:
        bucket = first_bucket(session, settings, console).bucket(connections=1)
        key = keep(bucket, settings.bucket.prefix, record)
    except (AccessError, StorageError) as error:
        # The snapshot is there; without the record, a restore needs the instance's settings from
        # somewhere else, should the instance be lost.
        console.warning("The record of the instance was not kept", "\n".join(error.lines()))
        return ""
    console.info(bucket.uri(key))
    return key
