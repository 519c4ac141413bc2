"""`operation: restore-instance`: a new RDS instance or cluster in place of one that is lost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from backup.aws.instances import Database
from backup.aws.s3 import Bucket
from backup.aws.session import AwsSession
from backup.console import Console
from backup.operations import opening
from backup.operations.aws_waiting import Watch
from backup.operations.phases import Phases
from backup.operations.recovering.login import (
    HOW_TO_BE_CHECKED,
    can_log_in,
    check_login,
    log_in,
)
from backup.operations.recovering.making import Making, nothing_made, told_what_stands
from backup.operations.recovering.plan import RecoveryPlan, plan_recovery
from backup.operations.recovering.record import RestoreRecord, history, keep, record_of
from backup.operations.recovering.report import Recovered, recovered_report, started_report
from backup.postgres.first_answer import FirstAnswer
from backup.report.report import Report
from backup.settings import Settings

_CONNECTIONS = 1


def run(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    """Make it, wait for it, ask it. Raises the BackupError that ends the run."""
    phases, began = Phases(console), datetime.now(UTC)
    with nothing_made():
        with phases.phase("Log in to AWS"):
            session = opening.log_in(settings, console, environment)
            # Not checked for its region: on the day that counts it may be another one's.
            bucket = opening.first_bucket(session, settings, console).bucket(_CONNECTIONS)
        with phases.phase("Look at what there is"):
            plan = plan_recovery(session, bucket, settings, began)
            _tell(plan, console)
            if can_log_in(settings.source):
                check_login(settings, plan.old.database, session, console)
            else:
                console.warning("Nobody will log in to the new instance", HOW_TO_BE_CHECKED)
    making = Making(session, plan, console)
    with told_what_stands(making, plan, session.region):
        if settings.wait_seconds is None:
            with phases.phase("Begin the restore"):
                making.begin()
            return started_report(plan, session.region, phases)
        watch = Watch(settings.wait_seconds, console)
        with phases.phase("Restore"):
            making.begin()
            made = making.until_it_answers(watch)
        with phases.phase("Log in to it"):
            answer = None
            if can_log_in(settings.source):
                answer = log_in(settings, made, session, console, environment)
                console.info(f"PostgreSQL {answer.server_version} answers")
            seconds = phases.seconds
        with phases.phase("Keep the time"):
            past = _keep(plan, made, began, seconds, answer, bucket, session, settings, console,
                         environment)  # fmt: skip
        with phases.phase("Set it up"):
            making.set_up(watch)
            state, left = making.until_settled(watch)
            for each in left:
                text = f"asked for {each.wanted}, and RDS shows {each.found}"
                console.warning(f"{each.setting} is not as it was asked for", text)
    recovered = Recovered(made, seconds, answer, left, state.reboots_for)
    most = settings.verify.max_restore_seconds
    return recovered_report(plan, recovered, past, most, session.region, phases)


def _keep(
    plan: RecoveryPlan,
    made: Database,
    began: datetime,
    seconds: float,
    answer: FirstAnswer | None,
    bucket: Bucket,
    session: AwsSession,
    settings: Settings,
    console: Console,
    environment: Mapping[str, str],
) -> list[RestoreRecord]:
    """Keep the measured time, which stays true whatever comes after; the latest of them all."""
    source, prefix = plan.old.database, settings.bucket.prefix
    record = record_of(
        source, plan.point, made, session.region, began, seconds, answer, environment
    )
    keep(bucket, prefix, record, source, console)
    return history(bucket, prefix, source.identifier, console)


def _tell(plan: RecoveryPlan, console: Console) -> None:
    old = plan.old.database
    console.info(f"{old.identifier} is told by {plan.old.told_by}")
    console.info(f"Data: {plan.point.name}, as of {plan.point.taken:%Y-%m-%d %H:%M:%S} UTC")
    console.info(f"New: {plan.identifier}")
    for note in plan.notes:
        console.warning(f"{plan.identifier} cannot be all that {old.identifier} was", note)
