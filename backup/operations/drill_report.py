"""What drills tell: the verdict first, then what it stands on, then how it was before."""

from __future__ import annotations

from collections.abc import Sequence

from backup.errors import BackupError, VerificationError
from backup.model import Phase
from backup.operations.drill import Drill
from backup.operations.drill_record import PastDrill
from backup.report.measures import Drilled
from backup.report.report import Facts, History, Report, Section, Table, Timeline
from backup.settings import VerifySettings
from backup.verdicts import Verdict, worst
from backup.wording import bar, count, duration, size

_MOST_TABLES = 50
_MARKS = {Verdict.PROVEN: "✅", Verdict.NOT_PROVEN: "⚠️", Verdict.FAILED: "❌"}


def drill_report(
    drills: Sequence[Drill],
    past: Sequence[PastDrill],
    objectives: VerifySettings,
    phases: Sequence[Phase],
    bucket_uri: str,
) -> Report:
    """The report of one drill or more; the first is the one that the outputs are about."""
    first, verdict = drills[0], worst(each.verdict for each in drills)
    outputs = {
        "verified": "true" if verdict is Verdict.PROVEN else "false",
        "verdict": verdict.value,
        "backup-id": first.backup_id,
        "restore-seconds": "" if first.restore_seconds is None else f"{first.restore_seconds:.1f}",
        "age-hours": f"{first.age_seconds / 3600:.2f}",
    }
    sections: list[Section] = []
    for each in drills:
        sections += _sections(each, objectives)
    sections += [_history(past, objectives), Timeline("Where the time went", tuple(phases))]
    return Report(
        verdict=_verdict(drills, verdict),
        sections=tuple(sections),
        outputs=outputs,
        data=outputs
        | {
            "checks": [
                {"name": each.name, "verdict": each.verdict.value, "detail": each.detail}
                for each in first.proof.checks
            ],
            "drilled": [each.backup_id for each in drills],
        },
        failure=_failure(drills, bucket_uri),
        measures=(
            Drilled(
                first.database,
                verdict is Verdict.PROVEN,
                max(filter(None, (each.restore_seconds for each in drills)), default=None),
            ),
        ),
    )


def _verdict(drills: Sequence[Drill], verdict: Verdict) -> str:
    first = drills[0]
    what = (
        first.backup_id
        if len(drills) == 1
        else f"{count(len(drills), 'backup')} of {first.database}"
    )
    how = {"objects": " (its objects alone)", "archive": " (read, not restored)"}
    return f"{_MARKS[verdict]} {what}: {verdict.value}{how.get(first.depth, '')}"


def _sections(drill: Drill, objectives: VerifySettings) -> list[Section]:
    facts = [
        ("Backup", f"{drill.backup_id} of {drill.database}"),
        ("Verdict", drill.verdict.value),
        ("Age of the data (RPO)", _against(drill.age_seconds, objectives.max_age_seconds)),
    ]
    if drill.restore_seconds is not None:
        took = _against(drill.restore_seconds, objectives.max_restore_seconds)
        facts.append(("Time to restore (RTO)", took))
    checks = tuple(
        (_MARKS[each.verdict], each.name, each.verdict.value, each.detail)
        for each in drill.proof.checks
    )
    worst_first = sorted(
        drill.proof.tables,
        key=lambda each: (each.verdict is Verdict.PROVEN, -each.bytes, each.schema, each.table),
    )
    rows = [
        (
            f"{each.schema}.{each.table}",
            "?" if each.rows is None else f"{each.rows:,}",
            size(each.bytes),
            each.sha256[:16],
            f"{each.verdict.value}: {each.how}",
        )
        for each in worst_first[:_MOST_TABLES]
    ]
    if len(worst_first) > _MOST_TABLES:
        rows.append((f"and {len(worst_first) - _MOST_TABLES:,} more", "", "", "", ""))
    return [
        Facts(tuple(facts)),
        Table("What was compared", ("", "Check", "Verdict", "Found"), checks),
        Table("Tables", ("Table", "Rows>", "Stored>", "SHA-256", "Verdict"), tuple(rows)),
        Table("Notes", ("", ""), tuple(("·", note) for note in drill.proof.notes)),
    ]


def _against(seconds: float, most: float | None) -> str:
    if most is None:
        return duration(seconds)
    return f"{bar(seconds / most)} {duration(seconds)} of {duration(most)}"


def _history(past: Sequence[PastDrill], objectives: VerifySettings) -> History:
    most = objectives.max_restore_seconds
    return History(
        "Time to restore in past drills",
        "minutes",
        tuple(
            (f"{each.time:%Y-%m-%d}", each.restore_seconds / 60)
            for each in past
            if each.restore_seconds is not None
        ),
        most / 60 if most is not None else None,
    )


def _failure(drills: Sequence[Drill], bucket_uri: str) -> BackupError | None:
    bad = [each for each in drills if each.verdict is not Verdict.PROVEN]
    if not bad:
        return None
    # What kept a drill from its end has an exit code of its own, and its own remedy.
    if len(bad) == 1 and bad[0].error is not None:
        return bad[0].error
    wrong = [
        f"{each.backup_id}: {found.name} {found.verdict.value}: {found.detail}"
        for each in bad
        for found in each.proof.checks
        if found.verdict is not Verdict.PROVEN
    ]
    verdict = worst(each.verdict for each in bad)
    return VerificationError(
        f"{bad[0].backup_id} of {bad[0].database}: {verdict.value}",
        detail="\n".join(wrong),
        hint="take a new backup and drill it at once (verify: true); keep this one, and see the"
        f" result beside it: {bucket_uri}{bad[0].root.removeprefix('/')}drills/"
        if verdict is Verdict.FAILED
        else "nothing speaks against the backup: make what is named available to the drill, or"
        " drill into a server that has it (target-url)",
    )
