"""`operation: restore`: a database, some schemas or some tables of a backup, into a target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from backup.archive.scratch import scratch_folder
from backup.console import Console
from backup.errors import BackupError, Interrupted
from backup.model import Severity
from backup.operations.choosing import restorer_for
from backup.operations.obtaining import connections, find, opened, thaw_data
from backup.operations.opening import bucket_to_read, log_in
from backup.operations.phases import Phases
from backup.operations.reaching import reached
from backup.operations.restore_plan import plan_restore
from backup.operations.restore_report import restore_report
from backup.operations.restoring import Loading, Way
from backup.operations.target_site import finish, prepare, reach
from backup.postgres.connection import Source, answers
from backup.postgres.loading import session_settings
from backup.postgres.refusals import shown
from backup.postgres.unfinished import SCHEMA, forget_unmade
from backup.report.report import Report
from backup.settings import Settings
from backup.wording import count


def run(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    """Restore. Raises the BackupError that ends the run."""
    phases = Phases(console)
    options = settings.restore
    target = settings.target
    assert target is not None  # noqa: S101 - inputs without one were refused
    with ExitStack() as undo:
        with phases.phase("Log in to AWS"):
            session = log_in(settings, console, environment)
            access = bucket_to_read(session, settings, console)
            settings, bucket = access.settings, access.readable(connections(options.jobs))
            bucket.check()

        with phases.phase("Find the backup"):
            place = find(bucket, settings, options.backup_id, console)
            backup = undo.enter_context(opened(bucket, place, settings, console))
            manifest = backup.manifest

        with phases.phase("Look at the target"):
            to_it = reached(target, settings.tunnel, session, console, environment)
            source = undo.enter_context(to_it)
            site = reach(source, options, undo)
            plan = plan_restore(backup, site, options)
            client = restorer_for(
                manifest.client, manifest.compression, site.target.server, environment
            )
            console.info(
                f"PostgreSQL {site.target.server.text} on {source.host};"
                f" pg_restore {client.version}, {count(len(plan.chosen.entries), 'object')}"
            )
            for lack in (*plan.lacking_extensions, *plan.lacking_roles):
                meaning = f"{lack.consequence}; {lack.remedy}"
                console.warning(f"The target lacks {lack.name}", meaning)

        with phases.phase("Prepare the target"):
            thawed = thaw_data(bucket, backup, plan.chosen.data, settings.thaw, console)
            folder = undo.enter_context(scratch_folder())
            site, complaints = prepare(site, backup, plan.chosen, options, undo, console)
            way = Way(
                client=client,
                target=source,
                jobs=options.jobs,
                scratch_limit_bytes=options.scratch_limit_bytes,
                no_owner=options.no_owner,
                no_privileges=options.no_privileges,
                role=options.role,
                settings=session_settings(site.connection, source),
            )
            site.connection.commit()

        loading = Loading(backup, plan.chosen, plan.needed, way, folder, console, environment)
        with marked_as_unusable(source):
            complaints += loading.run(phases)
        if any(each.severity is Severity.FATAL for each in complaints):
            if answers(site.connection):
                forget_unmade(site.connection)
        else:
            with phases.phase("Finish"):
                complaints += finish(site, backup.contents, options)
    for each in complaints:
        console.info(f"{each.severity.value}: {each.about or 'pg_restore'}: {each.reason}")
    uri = bucket.uri(backup.place.root)
    return restore_report(backup, site, plan, complaints, thawed, phases, uri)


@contextmanager
def marked_as_unusable(target: Source) -> Iterator[None]:
    """Say of every failure from here on what state it leaves the target in."""
    state = (
        f"{shown(target.database)} is not to be used: data is missing. Until it is whole it holds"
        f" the schema {SCHEMA}"
    )
    remedy = "the same restore can be run again, and first drops what this one made"
    try:
        yield
    except BackupError as error:
        error.detail += f"\nThe target {state}"
        error.hint += f"; {remedy}"
        raise
    except Interrupted as interrupted:
        interrupted.consequence = f"the target {state}; {remedy}"
        raise
