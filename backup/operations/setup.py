"""`operation: audit` with `scope: setup`: will a backup work? In the order of a backup.

It never stops at the first fault. The database and AWS are only read, but for one small object
that shows that the role may write, and that stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime

from backup.console import Console
from backup.github.context import workflow_run
from backup.operations.auditing.report_file import ReportFile
from backup.operations.auditing.setup_course import Course
from backup.operations.auditing.setup_database import look_at_client, look_at_contents
from backup.operations.auditing.setup_identity import log_in, look_at_clock
from backup.operations.auditing.setup_machine import look_at_disk
from backup.operations.auditing.setup_source import find, logged_in, opened
from backup.operations.auditing.setup_storage import look_at_bucket
from backup.operations.auditing.survey import Area, Survey, survey_report
from backup.operations.phases import Phases
from backup.report.report import Report
from backup.settings import Settings


def run(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    """Look at every step. Raises the BackupError of a report-file that cannot be."""
    phases, now = Phases(console), datetime.now(UTC)
    file = settings.audit.report_file
    place = ReportFile(file, environment) if file else None
    areas: list[Area] = []
    course = Course(console)

    def area(title: str) -> None:
        told = sum(len(each.checks) for each in areas)
        areas.append(Area(title, tuple(course.checks[told:])))

    with phases.phase("AWS"):
        look_at_clock(course, settings)
        session = log_in(course, settings, environment, console)
        area("AWS")
    with phases.phase("Bucket"):
        look_at_bucket(course, settings, session, console)
        area("Bucket")
    with phases.phase("This machine"):
        look_at_disk(course, settings.dump.scratch_limit_bytes)
        area("This machine")
    with ExitStack() as undo:
        with phases.phase("Way to the database"):
            source = find(course, settings.source, session, console)
            source = opened(course, source, settings.tunnel, session, console, environment, undo)
            area("Way to the database")
        with phases.phase("Database"):
            connection = logged_in(course, source, undo)
            look_at_client(course, source, connection, settings.dump, environment)
            look_at_contents(course, connection, settings.dump)
            area("Database")
    survey = Survey(now, workflow_run(environment), tuple(areas), None)
    report = survey_report(survey, settings, phases.done)
    if place:
        report = place.keep(report, console)
    return report
