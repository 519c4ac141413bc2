"""`operation: backup`: one consistent dump of one database, in S3 whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime

from backup import __version__, interruption
from backup.archive import completeness, retention
from backup.archive.catalogue import Place, new_place
from backup.archive.encodings import codec_of
from backup.archive.follow import Follower
from backup.archive.manifest import Manifest, encode
from backup.archive.scratch import scratch_folder
from backup.archive.toc import TableOfContents
from backup.aws.s3 import Bucket
from backup.aws.session import AwsSession
from backup.console import Console
from backup.errors import Interrupted
from backup.github.context import workflow_run
from backup.operations.backup_report import backup_report, with_replication
from backup.operations.choosing import client_for, compression_for
from backup.operations.counting import RowCounter
from backup.operations.opening import first_bucket, log_in, replica_of
from backup.operations.phases import Phases
from backup.operations.previous import compare_with_previous, earlier_backups, tier_of
from backup.operations.progress import DumpProgress
from backup.operations.reaching import reached
from backup.operations.replica_wait import wait_for_replica
from backup.operations.uploading import UPLOAD_THREADS, open_uploads
from backup.postgres.connection import connect, hang_up, pinned
from backup.postgres.counts import tables_with_data
from backup.postgres.dump import DumpPlan, RunningDump
from backup.postgres.globals import dump_globals
from backup.postgres.inventory import read_inventory
from backup.postgres.snapshot import export_snapshot, server_version
from backup.report.report import Report
from backup.settings import ReplicaSettings, Settings
from backup.wording import count


def run(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    """Back up the database. Raises the BackupError that ends the run."""
    phases = Phases(console)
    options = settings.dump
    with ExitStack() as undo:
        with phases.phase("Log in to AWS"):
            session = log_in(settings, console, environment)
            bucket = first_bucket(session, settings, console).bucket(UPLOAD_THREADS + 2)
            bucket.check()
            who = session.identity.arn if session.identity else "The environment's credentials"
            console.info(f"{who}, s3://{settings.bucket.name}")

        with phases.phase("Connect and take a snapshot"):
            way = reached(settings.source, settings.tunnel, session, console, environment)
            source = undo.enter_context(way)
            connection = connect(source)
            undo.callback(hang_up, connection)
            source = pinned(source, connection)
            server = server_version(connection)
            client = client_for(server, console, environment)
            compression = compression_for(options.compression, client)
            earlier = earlier_backups(bucket, settings.bucket.prefix, source.database, console)
            scratch = undo.enter_context(scratch_folder())
            globals_file = scratch / "globals.sql"
            denied = dump_globals(client, source, environment, globals_file)
            # Nothing that may take long comes between the snapshot and pg_dump's locks: what is
            # truncated in between is empty in the dump as well.
            snapshot = export_snapshot(connection, options.lock_timeout_ms)
            inventory = read_inventory(connection, options.selection)
            with_data = tables_with_data(connection, inventory, options.selection)
            place = new_place(settings.bucket.prefix, source.database, snapshot.time)
            tier = tier_of(settings, snapshot.time, earlier, console)
            bucket = bucket.tagged(retention.TAG, tier) if tier else bucket
            console.info(
                f"PostgreSQL {server.text} on {source.host}, {len(inventory.relations)} relations;"
                f" pg_dump {client.version} with {compression}"
            )

        with phases.phase("Dump and upload"):
            uploads = undo.enter_context(open_uploads(bucket, place.root, console))
            plan = DumpPlan(
                client,
                source,
                snapshot,
                compression,
                options,
                inventory.encoding,
                scratch / "archive",
            )
            dump = undo.enter_context(RunningDump(plan, environment, console.info))
            counter = undo.enter_context(
                RowCounter(connection, with_data if options.row_counts else ())
            )
            # The first to be undone: what follows must not be broken off.
            undo.callback(interruption.ignore)
            progress = DumpProgress(console, inventory)

            def begin(contents: TableOfContents) -> None:
                completeness.check_contents(contents, inventory, with_data)
                progress.begin(contents)

            follower = Follower(
                plan.folder,
                scratch,
                uploads,
                dump,
                scratch_limit=options.scratch_limit_bytes,
                modified=snapshot.time.timestamp(),
                codec=codec_of(inventory.encoding),
                on_contents=begin,
            )
            if denied:
                console.warning("This backup holds no roles", denied)
            else:
                follower.add(globals_file.name, globals_file.read_bytes())
            archive = follower.follow(progress.report)
            completeness.check_members(archive.contents, archive.members, inventory)
            console.info(f"{count(len(archive.members), 'file')} of pg_dump's archive are stored")
            counted = counter.result(console)

        with phases.phase("Publish"):
            objects = tuple(uploads.complete())
            written = Manifest(
                id=place.id,
                database=source.database,
                host=source.host,
                port=source.port,
                finished=datetime.now(UTC),
                snapshot=snapshot,
                server=server,
                client=client,
                action_version=__version__,
                run=workflow_run(environment),
                compression=str(compression),
                selection=options.selection,
                inventory=inventory.with_counted(counted),
                phases=phases.done,
                objects=objects,
                members=tuple(completeness.with_tables(archive.contents, archive.members)),
                retention_tier=tier,
            )
            stored = _publish(bucket, place, written, console)

    previous = earlier[-1] if earlier else None
    compare_with_previous(previous, written.stored_bytes, console)
    report = backup_report(written, archive, phases.done, settings.bucket.name, place, previous)
    if settings.replica is None or settings.replica.wait_seconds is None:
        return report
    return _replicated(report, stored, place, session, settings, settings.replica, phases, console)


def _publish(bucket: Bucket, place: Place, written: Manifest, console: Console) -> dict[str, int]:
    """Write the manifest, by which the backup exists; the sizes of all its objects, by key."""
    stored = {f"{place.root}{each.key}": each.size for each in written.objects}
    if written.retention_tier and not written.is_partial:
        key, body = place.root + retention.mark_of(written.retention_tier), b"\n"
        bucket.put_if_absent(key, body, "text/plain")
        stored[key] = len(body)
    content = encode(written)
    # From here on the backup exists, or will: nothing may end the run in between.
    interruption.ignore()
    bucket.put_if_absent(place.manifest, content, "application/json")
    console.info(bucket.uri(place.manifest))
    return stored | {place.manifest: len(content)}


def _replicated(
    report: Report,
    stored: Mapping[str, int],
    place: Place,
    session: AwsSession,
    settings: Settings,
    replica: ReplicaSettings,
    phases: Phases,
    console: Console,
) -> Report:
    """The report once the copy has been waited for, which a signal may end."""
    console.info(report.verdict)
    interruption.listen()
    try:
        with phases.phase("Wait for the replica"):
            replication = wait_for_replica(
                lambda: replica_of(session, settings, console).readable(1),
                stored,
                place.root,
                settings.bucket,
                replica,
                console,
            )
    except Interrupted as interrupted:
        interrupted.consequence = (
            f"backup {place.id} is made and counts, and nobody has seen it arrive in"
            f" s3://{replica.bucket}"
        )
        interrupted.measures = report.measures
        raise
    return with_replication(report, replication, phases.done)
