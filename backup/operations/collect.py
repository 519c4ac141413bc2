"""`operation: collect`: one summary of all databases, after the jobs of a fleet have ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from backup.checks import Unanswered, ask
from backup.console import Console
from backup.errors import Interrupted
from backup.github.context import workflow_run
from backup.github.repository import Repository
from backup.model import WorkflowRun
from backup.operations.collecting.looking import Since, Standing, look
from backup.operations.collecting.report import fleet_report
from backup.operations.fleet_file import as_each_job, members_meant, open_fleet
from backup.report.report import Report
from backup.settings import Settings


def run(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    """Look for a new backup of every database of the file. Raises InputError.

    The report fails where one is missing, or where GitHub does not say when the run began: then a
    backup of an earlier run could pass for one of this.
    """
    try:
        return _collect(settings, console, environment)
    except Interrupted as interrupted:
        interrupted.consequence = "nothing was changed, for collecting only reads"
        raise


def _collect(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    fleet = open_fleet(settings, environment, as_each_job(settings, environment, "list"))
    members, this_run = members_meant(fleet, settings, console), workflow_run(environment)
    begun = ask(lambda: _begun(settings, this_run, environment))
    asked = begun.value if not isinstance(begun, Unanswered) else None
    since = Since(datetime.now(UTC), asked)
    with console.group("Backups of the fleet"):
        found = look(members, since, console, environment)
        for each in found:
            newest = each.newest.id if each.newest else "no backup"
            told = f", {each.reason}" if each.standing is not Standing.FRESH else ""
            console.info(f"{each.standing.value}  {each.member.name}  {newest}{told}")
    report = fleet_report(found, since, this_run)
    if isinstance(begun, Unanswered) and not report.failure:
        return replace(report, failure=begun.error)
    if isinstance(begun, Unanswered):
        console.warning(begun.error.message, "\n".join(begun.error.lines()[1:]))
    return report


def _begun(
    settings: Settings, this_run: WorkflowRun | None, environment: Mapping[str, str]
) -> datetime | None:
    """When the workflow's run began; None without a token or a run. Raises AccessError.

    A later attempt runs the failed jobs alone: what the others made in the first still counts.
    """
    token = settings.audit.github_token
    if not token or not this_run or not this_run.run_id:
        return None
    return Repository(environment, token).run_created(this_run.run_id)
