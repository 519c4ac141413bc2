"""`operation: backup`: one consistent dump of one database, in S3 whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

from backup import __version__, interruption
from backup.archive import completeness
from backup.archive.catalogue import new_place
from backup.archive.follow import Follower
from backup.archive.manifest import Manifest, encode
from backup.archive.scratch import scratch_folder
from backup.archive.toc import TableOfContents
from backup.archive.uploads import Uploads
from backup.aws.s3 import Bucket
from backup.aws.session import open_session
from backup.console import Console
from backup.errors import InputError, Interrupted
from backup.github.context import workflow_run
from backup.github.id_token import id_token_loader
from backup.model import Client, Relation, ServerVersion
from backup.operations.backup_report import backup_report
from backup.operations.counting import RowCounter
from backup.operations.phases import Phases
from backup.operations.previous import compare_with_previous, previous_backup
from backup.operations.progress import DumpProgress
from backup.operations.sources import find_source
from backup.postgres.clients import best_compression, choose, installed, supports
from backup.postgres.connection import connect, hang_up, pinned
from backup.postgres.counts import tables_with_data
from backup.postgres.dump import DumpPlan, RunningDump
from backup.postgres.globals import dump_globals
from backup.postgres.inventory import read_inventory
from backup.postgres.snapshot import export_snapshot, server_version
from backup.report.report import Report
from backup.settings import Compression, Settings
from backup.wording import count

_UPLOAD_THREADS = 4

# How long aborting uploads may take; and what the rest of the ending takes at the most, which is
# to be left over of the time that a signal gives.
_PATIENCE_SECONDS, _OTHER_ENDING_SECONDS = 30.0, 1.2


def run(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    """Back up the database. Raises the BackupError that ends the run."""
    phases = Phases(console)
    options = settings.dump
    with ExitStack() as undo:
        with phases.phase("Log in to AWS"):
            id_token = id_token_loader(environment, settings.role.audience, console.mask)
            session = open_session(settings.role, id_token, console.mask)
            bucket = Bucket(session, settings.bucket, connections=_UPLOAD_THREADS + 2)
            bucket.check()
            who = session.identity.arn if session.identity else "The environment's credentials"
            console.info(f"{who}, s3://{settings.bucket.name}")

        with phases.phase("Connect and take a snapshot"):
            source = find_source(settings.source, session, console)
            connection = connect(source)
            undo.callback(hang_up, connection)
            source = pinned(source, connection)
            server = server_version(connection)
            client = _client_for(server, console, environment)
            compression = _compression_for(options.compression, client)
            snapshot = export_snapshot(connection, options.lock_timeout_ms)
            inventory = read_inventory(connection, options.selection)
            with_data = tables_with_data(connection, inventory, options.selection)
            place = new_place(settings.bucket.prefix, source.database, snapshot.time)
            previous = previous_backup(bucket, settings.bucket.prefix, source.database, console)
            console.info(
                f"PostgreSQL {server.text} on {source.host}, {len(inventory.relations)} relations;"
                f" pg_dump {client.version} with {compression}"
            )

        with phases.phase("Dump and upload"):
            scratch = undo.enter_context(scratch_folder())
            uploads = undo.enter_context(_uploads(bucket, place.root, console))
            globals_file = scratch / "globals.sql"
            if denied := dump_globals(client, source, environment, globals_file):
                console.warning("This backup holds no roles", denied)

            progress = DumpProgress(console, inventory)

            def begin(contents: TableOfContents) -> None:
                completeness.check_contents(contents, inventory, with_data)
                progress.begin(contents)

            plan = DumpPlan(client, source, snapshot, compression, options, scratch / "archive")
            dump = undo.enter_context(RunningDump(plan, environment, console.info))
            counter = undo.enter_context(
                RowCounter(connection, with_data if options.row_counts else ())
            )
            # The first to be undone: what follows must not be broken off.
            undo.callback(interruption.ignore)
            follower = Follower(
                plan.folder,
                scratch,
                uploads,
                dump,
                scratch_limit=options.scratch_limit_bytes,
                modified=snapshot.time.timestamp(),
                on_contents=begin,
            )
            if not denied:
                follower.add(globals_file.name, globals_file.read_bytes())
            archive = follower.follow(progress.report)
            completeness.check_members(archive.contents, archive.members, inventory)
            console.info(f"{count(len(archive.members), 'file')} of pg_dump's archive are stored")

            counted = counter.result()
            _warn_of_uncounted(counted, console)

        with phases.phase("Publish"):
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
                objects=tuple(uploads.complete()),
                members=tuple(completeness.with_tables(archive.contents, archive.members)),
            )
            bucket.put_if_absent(place.manifest, encode(written), "application/json")
            console.info(f"s3://{settings.bucket.name}/{place.manifest}")

    compare_with_previous(previous, written.stored_bytes, console)
    return backup_report(written, archive, phases.done, settings.bucket.name, place, previous)


def _client_for(server: ServerVersion, console: Console, environment: Mapping[str, str]) -> Client:
    choice = choose(server, installed(environment))
    if choice.warning:
        console.warning("No pg_dump of the server's own version", choice.warning)
    return choice.client


def _compression_for(wanted: Compression | None, client: Client) -> Compression:
    if wanted is None:
        return best_compression(client)
    if not supports(client, wanted.method):
        raise InputError(
            f"pg_dump {client.version} cannot compress with {wanted.method}",
            detail="zstd and lz4 came with pg_dump 16, and the client of the server's version"
            " is used so that the archive restores there",
            hint=f"leave compression out, or write gzip:{wanted.level or 1}",
        )
    return wanted


def _warn_of_uncounted(counted: list[Relation], console: Console) -> None:
    uncounted = [f"{table.schema}.{table.name}" for table in counted if table.rows is None]
    if uncounted:
        console.warning(
            f"The rows of {count(len(uncounted), 'table')} were not counted",
            "they were locked, or reading them was denied: " + ", ".join(uncounted[:10]),
        )


@contextmanager
def _uploads(bucket: Bucket, root: str, console: Console) -> Iterator[Uploads]:
    """Uploads that are aborted unless they were completed."""
    uploads = Uploads(bucket, root, _UPLOAD_THREADS)
    patience = _PATIENCE_SECONDS
    try:
        yield uploads
    except Interrupted as interrupted:
        patience = interrupted.seconds_left - _OTHER_ENDING_SECONDS
        raise
    finally:
        if left := uploads.close(patience):
            console.warning(
                f"{count(len(left), 'upload')} could not be aborted",
                "S3 keeps their parts, unseen and paid for, until the bucket's lifecycle rule"
                " for incomplete multipart uploads removes them: " + ", ".join(left[:10]),
            )
