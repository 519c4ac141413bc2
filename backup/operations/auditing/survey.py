"""What an audit has found, as people and programs are told it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from backup import __version__
from backup.checks import Check, Status, worst
from backup.errors import BackupError, VerificationError
from backup.model import Phase, WorkflowRun
from backup.operations.auditing.storage import Stored, table
from backup.report.measures import Ages, AuditMade
from backup.report.report import Commands, Facts, Report, Section, Table, Timeline
from backup.settings import Settings
from backup.wording import count

FORMAT = 1  # of the JSON, see docs/audit.schema.json

MARKS = {Status.PASS: "✅", Status.WARN: "⚠️", Status.UNKNOWN: "❔", Status.FAIL: "❌"}
_WORST_FIRST = (Status.FAIL, Status.UNKNOWN, Status.WARN, Status.PASS)
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Area:
    """What was looked at in one part of the strategy."""

    title: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """A whole audit. `storage` is None where nobody could list the bucket."""

    time: datetime
    run: WorkflowRun | None
    areas: tuple[Area, ...]
    storage: tuple[Stored, ...] | None

    @property
    def checks(self) -> list[Check]:
        return [check for area in self.areas for check in area.checks]

    @property
    def counts(self) -> dict[str, int]:
        found = [check.status for check in self.checks]
        return {status.value: found.count(status) for status in Status}


def survey_report(survey: Survey, settings: Settings, phases: Sequence[Phase]) -> Report:
    """The verdict first, then each area with its fixes; `data` is what the JSON file holds."""
    status, counts = worst(survey.checks), survey.counts
    sections: list[Section] = [Facts(_overview(survey))]
    for area in survey.areas:
        sections += _sections(area)
    sections.append(table(survey.storage or ()))
    sections.append(Timeline("Where the time went", tuple(phases)))
    return Report(
        verdict=f"{MARKS[status]} Audit of s3://{settings.bucket.name}: {_in_words(counts)}",
        sections=tuple(sections),
        outputs={
            "verdict": status.value,
            "checks-failed": str(counts["fail"]),
            "checks-warned": str(counts["warn"]),
            "checks-unknown": str(counts["unknown"]),
            "report-file": settings.audit.report_file or "",
        },
        data=_as_json(survey, settings, status),
        failure=_failure(survey.checks, settings.audit.fail_on),
        # What is wrong with a setup is no finding about backups that are made.
        measures=_measures(survey) if settings.audit.scope == "strategy" else (),
    )


def _measures(survey: Survey) -> tuple[AuditMade, Ages]:
    found = {name: n for name, n in survey.counts.items() if name != Status.PASS.value}
    backups, drills = (_ages(survey.checks, f"objectives.{name}") for name in ("age", "drill"))
    return AuditMade(found), Ages(backups, drills)


def _ages(checks: Sequence[Check], id: str) -> dict[str, float]:
    """Seconds by database, as far as the check of that id has found them out."""
    return {each.age.of: each.age.seconds for each in checks if each.id == id and each.age}


def _in_words(counts: dict[str, int]) -> str:
    words = {"fail": "failed", "unknown": "unknown", "warn": "to look at", "pass": "passed"}
    told = [f"{counts[name]} {word}" for name, word in words.items() if counts[name]]
    return ", ".join(told) or "nothing was looked at"


def _overview(survey: Survey) -> tuple[tuple[str, str], ...]:
    return tuple(
        (
            f"{MARKS[worst(area.checks)]} {area.title}",
            _in_words(Survey(survey.time, None, (area,), None).counts),
        )
        for area in survey.areas
    )


def _sections(area: Area) -> list[Section]:
    ordered = sorted(area.checks, key=lambda check: _WORST_FIRST.index(check.status))
    rows = tuple(
        (MARKS[check.status], check.status.value, check.title, check.reason) for check in ordered
    )
    sections: list[Section] = [Table(area.title, ("", "Status", "Check", "Reason"), rows)]
    if lines := _fixes(ordered):
        sections.append(Commands(f"{area.title}: what mends it", tuple(lines)))
    return sections


def _fixes(checks: Sequence[Check]) -> list[str]:
    """Each fix once, under the names of the checks that it mends."""
    named: dict[str, list[str]] = {}
    for check in checks:
        if check.fix:
            title = " ".join(check.title.split())
            named.setdefault(check.fix.strip("\n"), []).append(f"# {check.status.value}: {title}")
    lines = [line for fix, names in named.items() for line in (*names, *fix.splitlines(), "")]
    return lines[:-1]


def _failure(checks: Sequence[Check], fail_on: str) -> BackupError | None:
    """Why the run is red. What nobody may look at counts like a warning."""
    red = {"fail": {Status.FAIL}, "warn": set(Status) - {Status.PASS}, "never": set()}[fail_on]
    bad = [check for check in checks if check.status in red]
    if not bad and fail_on != "never" and {Status.UNKNOWN} == {each.status for each in checks}:
        return VerificationError(
            "the audit could look at nothing",
            detail=f"each of its {count(len(checks), 'question')} was refused or failed;"
            f" the first: {checks[0].reason}",
            hint="give the role the permissions of docs/audit.md; each check in the summary names"
            " the line that it lacks",
        )
    if not bad:
        return None
    ordered = sorted(bad, key=lambda check: _WORST_FIRST.index(check.status))
    named = [
        " ".join(f"{each.status.value}: {each.title}: {each.reason}".split()) for each in ordered
    ]
    more = [f"and {len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else []
    return VerificationError(
        f"the audit is red: {count(len(bad), 'check')}",
        detail="\n".join([*named[:_MOST_NAMED], *more]),
        hint="the summary shows what mends each of them; docs/audit.md of the action says what"
        " each is for",
    )


def _as_json(survey: Survey, settings: Settings, status: Status) -> dict[str, Any]:
    audit = settings.audit
    return {
        "format": FORMAT,
        "time": survey.time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "action": {"version": __version__, "run": survey.run.url if survey.run else None},
        "bucket": settings.bucket.name,
        "prefix": settings.bucket.prefix,
        "objectives": {
            "max_age_seconds": audit.max_age_seconds,
            "max_drill_age_seconds": audit.max_drill_age_seconds,
            "max_restore_seconds": audit.max_restore_seconds,
        },
        "fail_on": audit.fail_on,
        "verdict": status.value,
        "counts": survey.counts,
        "checks": [
            {
                "area": check.area,
                "id": check.id,
                "title": check.title,
                "status": check.status.value,
                "reason": check.reason,
                "fix": check.fix,
            }
            for check in survey.checks
        ],
        "storage": None if survey.storage is None else [asdict(each) for each in survey.storage],
    }
