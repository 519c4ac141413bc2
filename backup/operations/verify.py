"""`operation: verify`: prove that backups restore, and say so in one of three words."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from backup.archive.catalogue import database_prefix, entries
from backup.aws.s3 import Bucket
from backup.aws.session import AwsSession
from backup.console import Console
from backup.errors import AccessError, StorageError
from backup.model import BackupEntry
from backup.operations.drill import Drill, Driller
from backup.operations.drill_record import PastDrill, history, keep
from backup.operations.drill_report import drill_report
from backup.operations.obtaining import connections, find
from backup.operations.opening import bucket_to_read, log_in
from backup.operations.phases import Phases
from backup.report.report import Report
from backup.settings import Settings


def run(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    """Drill the chosen backups, keep the results. Raises the BackupError that ends the run."""
    phases = Phases(console)
    with phases.phase("Log in to AWS"):
        session = log_in(settings, console, environment)
        access = bucket_to_read(session, settings, console)
        settings, bucket = access.settings, access.bucket(connections(settings.restore.jobs))
        bucket.check()
    with phases.phase("Choose the backups"):
        chosen = _sample(bucket, settings, console)
        console.info(", ".join(each.id for each in chosen))
    return verify(chosen, bucket, session, settings, phases, console, environment)


def verify(
    chosen: Sequence[BackupEntry],
    bucket: Bucket,
    session: AwsSession,
    settings: Settings,
    phases: Phases,
    console: Console,
    environment: Mapping[str, str],
) -> Report:
    """The same for backups that are known; the first is the one that the outputs are about."""
    driller = Driller(bucket, session, settings, phases, console, environment)
    drilled: list[Drill] = []
    for entry in chosen:
        place = find(bucket, settings, entry.id, console)
        drilled.append(driller.drill(place, is_newest=entry is chosen[0]))
        with phases.phase(f"Keep the result for {entry.id}"):
            keep(bucket, drilled[-1], console, environment)
    past = _history(bucket, settings, console)
    return drill_report(drilled, past, settings.verify, phases.done, bucket.uri(""))


def _sample(bucket: Bucket, settings: Settings, console: Console) -> list[BackupEntry]:
    """The backup that is meant, and as many others as were asked for, drawn from before it."""
    prefix, database = settings.bucket.prefix, settings.database or ""
    first = find(bucket, settings, settings.restore.backup_id, console).entry
    if settings.verify.sample == 1:
        return [first]
    found = entries(prefix, bucket.list(database_prefix(prefix, database)))
    earlier = [entry for entry in found if entry.id < first.id]
    drawn = random.sample(earlier, min(settings.verify.sample - 1, len(earlier)))
    return [first, *sorted(drawn, key=lambda entry: entry.id, reverse=True)]


def _history(bucket: Bucket, settings: Settings, console: Console) -> list[PastDrill]:
    try:
        return history(bucket, settings.bucket.prefix, settings.database or "")
    except (AccessError, StorageError) as error:
        # This drill is done and kept, and what it found is worth more than how it was before.
        console.warning("Past drills cannot be shown", "\n".join(error.lines()))
        return []
