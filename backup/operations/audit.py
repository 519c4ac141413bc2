"""`operation: audit`: the whole strategy against what was promised. It only reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from backup.aws.grants_audit import READ_BELOW
from backup.aws.session import AwsSession
from backup.checks import Check, Known, Status, Unanswered, ask, worst
from backup.console import Console
from backup.errors import Interrupted
from backup.github.context import workflow_run
from backup.operations.auditing import (
    bucket,
    catalogue,
    identity,
    instance,
    objectives,
    workflow,
)
from backup.operations.auditing.fleet import with_fleet
from backup.operations.auditing.release import released
from backup.operations.auditing.report_file import ReportFile
from backup.operations.auditing.storage import storage
from backup.operations.auditing.survey import MARKS, Area, Survey, survey_report
from backup.operations.opening import bucket_to_read, log_in
from backup.operations.phases import Phases
from backup.report.report import Report
from backup.settings import Settings


def run(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    """Ask every area in turn. Raises the BackupError of a login or a file that cannot be."""
    try:
        return _audit(settings, console, environment)
    except Interrupted as interrupted:
        interrupted.consequence = "nothing was changed, for an audit only reads"
        raise


def _audit(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    phases, now = Phases(console), datetime.now(UTC)
    settings = with_fleet(settings, console, environment)
    file = settings.audit.report_file
    place = ReportFile(file, environment) if file else None
    with phases.phase("Log in to AWS"):
        session = log_in(settings, console, environment)
        records = replace(settings.bucket, read_below=READ_BELOW)
        access = bucket_to_read(session, replace(settings, bucket=records), console)
        settings, store = access.settings, access.bucket(connections=4)
    areas: dict[str, Callable[[], list[Check]]] = {
        "Objectives": lambda: objectives.checks(store, settings, now),
        "Workflow": lambda: workflow.checks(settings, environment, now),
        "Instance": lambda: _instance(session, settings, environment, now),
        "Bucket": lambda: bucket.checks(access.session, settings, now),
        "Catalogue": lambda: catalogue.checks(store, settings, console, now),
        "Identity": lambda: identity.checks(session, settings, environment),
    }
    looked_at = [_area(title, question, phases, console) for title, question in areas.items()]
    with phases.phase("Storage"):
        stored = ask(lambda: storage(store, settings, now))
    survey = Survey(
        now,
        workflow_run(environment),
        tuple(area for area in looked_at if area.checks),
        stored.value if isinstance(stored, Known) else None,
    )
    report = survey_report(survey, settings, phases.done)
    if place:
        report = place.keep(report, console)
    if not report.failure and worst(survey.checks) is not Status.PASS:
        console.warning("The audit is green, and found something to look at", report.verdict)
    return report


def _area(
    title: str, question: Callable[[], list[Check]], phases: Phases, console: Console
) -> Area:
    """The checks of an area; one that is unknown where the area as a whole could not be asked."""
    with phases.phase(title):
        answer = ask(question)
        checks = (
            [answer.check(f"{title.lower()}.asked", title)]
            if isinstance(answer, Unanswered)
            else answer.value
        )
        for check in checks:
            console.info(f"{MARKS[check.status]} {check.title}: {check.reason}")
    return Area(title, tuple(checks))


def _instance(
    session: AwsSession, settings: Settings, environment: Mapping[str, str], now: datetime
) -> list[Check]:
    """The area's checks, with the one that GitHub has to tell a time for."""
    release = released(settings.audit, environment)
    known = release.value if isinstance(release, Known) else None
    checks = instance.checks(session, settings, environment, now, known)
    if checks and isinstance(release, Unanswered):
        id = "instance.snapshot"
        checks.append(release.check(id, instance.TITLES[id]))
    return checks
