"""One report of all databases of a fleet, the missing ones first."""

from __future__ import annotations

import json
from collections.abc import Sequence

from backup.errors import VerificationError
from backup.model import WorkflowRun
from backup.operations.collecting.looking import Found, Since, Standing
from backup.report.measures import Ages
from backup.report.report import Commands, Facts, Report, Section, Table
from backup.wording import count, duration, size

_MARKS = {Standing.MISSING: "❌", Standing.UNKNOWN: "❔", Standing.FRESH: "✅"}
_WORDS = {Standing.MISSING: "MISSING", Standing.UNKNOWN: "unknown", Standing.FRESH: "fresh"}
_MOST_TOLD = 20


def fleet_report(found: Sequence[Found], since: Since, run: WorkflowRun | None) -> Report:
    """The verdict first, then every database; `failure` is set where one is not fresh."""
    order = list(Standing)
    ordered = sorted(found, key=lambda each: order.index(each.standing))
    bad = [each for each in ordered if each.standing is not Standing.FRESH]
    sections: list[Section] = [
        Facts((("Backups since", _since(since)), ("Databases", f"{len(found):,}"))),
        Table(
            "Databases",
            ("", "Database", "Newest backup", "Age>", "Stored>", "Why it does not count"),
            tuple(_row(each, since) for each in ordered),
        ),
    ]
    if bad and run:
        lines = (f"gh run view {run.run_id} --log-failed", f"gh run rerun {run.run_id} --failed")
        sections.append(Commands("What went wrong, and once more what failed", lines))
    told = [_as_json(each, since) for each in found]
    return Report(
        verdict=_verdict(found, bad),
        sections=tuple(sections),
        outputs={
            "missing": json.dumps([each.member.name for each in bad]),
            "backups": json.dumps([each for each in told if "id" in each]),
        },
        data={"databases": told},
        failure=_failure(bad, len(found)) if bad else None,
        measures=(Ages(_ages(found, since)),),
    )


def _verdict(found: Sequence[Found], bad: Sequence[Found]) -> str:
    if not bad:
        return f"✅ {count(len(found), 'database')} of the fleet, and a fresh backup of each"
    names = ", ".join(each.member.name for each in bad[:_MOST_TOLD])
    more = f" and {len(bad) - _MOST_TOLD:,} more" if len(bad) > _MOST_TOLD else ""
    return (
        f"{_MARKS[bad[0].standing]} {len(bad):,} of {count(len(found), 'database')} of the fleet"
        f" without a fresh backup: {names}{more}"
    )


def _failure(bad: Sequence[Found], total: int) -> VerificationError:
    told = [f"{_WORDS[each.standing]}: {each.member.name}: {each.reason}" for each in bad]
    more = [f"and {len(bad) - _MOST_TOLD:,} more"] if len(bad) > _MOST_TOLD else []
    # A refusal prints the line of the policy that is lacking, once for all that lack it.
    hints = dict.fromkeys(each.hint for each in bad if each.hint)
    if any(not each.hint for each in bad):
        hints = {"open the job of each, mend it, and run the failed jobs once more": None, **hints}
    return VerificationError(
        f"{len(bad):,} of {count(total, 'database')} of the fleet without a fresh backup",
        detail="\n".join([*told[:_MOST_TOLD], *more]),
        hint="\n".join(hints),
    )


def _since(since: Since) -> str:
    if since.begun:
        return f"{since.begun:%Y-%m-%d %H:%M:%S} UTC, when this run began"
    return "max-age-hours ago; with github-token, since this run began"


def _row(each: Found, since: Since) -> tuple[str, ...]:
    newest, age = each.newest, _age(each, since)
    return (
        f"{_MARKS[each.standing]} {_WORDS[each.standing]}",
        each.member.name,
        newest.id if newest else "",
        "" if age is None else duration(age),
        size(newest.stored_bytes) if newest else "",
        each.reason,
    )


def _age(each: Found, since: Since) -> float | None:
    """Seconds; None where there is no backup."""
    if not each.newest:
        return None
    return max((since.now - each.newest.time).total_seconds(), 0.0)


def _ages(found: Sequence[Found], since: Since) -> dict[str, float]:
    """By database; of two in different places with one name the older counts."""
    ages: dict[str, float] = {}
    for each in found:
        age = _age(each, since)
        if age is not None:
            ages[each.member.database] = max(age, ages.get(each.member.database, 0.0))
    return ages


def _as_json(each: Found, since: Since) -> dict[str, str | int | float]:
    told: dict[str, str | int | float] = {
        "name": each.member.name,
        "database": each.member.database,
        "standing": each.standing.value,
        "reason": each.reason,
    }
    if newest := each.newest:
        told |= {
            "id": newest.id,
            "time": newest.time.isoformat(),
            "age-seconds": round(_age(each, since) or 0.0, 1),
            "stored-bytes": newest.stored_bytes,
            "manifest-uri": f"s3://{each.member.settings.bucket.name}/{newest.manifest_key}",
        }
    return told
