"""What a restore tells: what came, what did not and why, and whether the target may be used."""

from __future__ import annotations

from collections.abc import Sequence

from backup.archive.selection import LeftOut
from backup.errors import RestoreError
from backup.model import Complaint, Severity
from backup.operations.obtaining import OpenedBackup
from backup.operations.phases import Phases
from backup.operations.restore_plan import RestorePlan
from backup.operations.target_site import Site
from backup.operations.thawing import Thawed
from backup.postgres.refusals import shown
from backup.postgres.unfinished import SCHEMA
from backup.report.measures import DatabaseRestored
from backup.report.report import Facts, Report, Table, Timeline
from backup.wording import count, duration, size

_MOST_ROWS = 50
_MOST_NAMED = 10
_LONGEST_SQL = 1000
# Their options hold passwords.
_WITH_SECRETS = ("SERVER", "USER MAPPING", "FOREIGN TABLE", "SUBSCRIPTION")


def restore_report(
    opened: OpenedBackup,
    site: Site,
    plan: RestorePlan,
    complaints: Sequence[Complaint],
    thawed: Thawed | None,
    phases: Phases,
    bucket_uri: str,
) -> Report:
    """The report of a restore that went through, whatever pg_restore complained about."""
    manifest, target = opened.manifest, site.target
    tables = [entry for entry in plan.chosen.data if entry.kind == "TABLE DATA"]
    fatal = [each for each in complaints if each.severity is Severity.FATAL]
    degraded = [each for each in complaints if each.severity is Severity.DEGRADED]
    harmless = [each for each in complaints if each.severity is Severity.HARMLESS]
    where = f"{shown(target.database)} on {site.source.host}"
    outputs = {
        "backup-id": manifest.id,
        "s3-uri": bucket_uri,
        "tables": str(len(tables)),
        "duration-seconds": f"{phases.seconds:.1f}",
        "snapshot-time": manifest.snapshot.time.isoformat(),
        "server-version": target.server.text,
        "fetched-bytes": str(opened.fetcher.bytes_fetched),
    }
    facts = [
        ("Backup", f"{manifest.id} of {manifest.database}"),
        ("As of", f"{manifest.snapshot.time:%Y-%m-%d %H:%M:%S} UTC"),
        ("Target", f"{where}, PostgreSQL {target.server.text}"),
        ("Holds", _holds(plan, len(tables))),
        ("Fetched", f"{size(opened.fetcher.bytes_fetched)} of {size(manifest.stored_bytes)}"
                    f" with {count(opened.fetcher.requests, 'request')}"),
        ("Took", duration(phases.seconds)),
        ("Errors", f"{len(fatal)} fatal, {len(degraded)} degraded, {len(harmless)} harmless"),
    ]  # fmt: skip
    if thawed:
        facts.insert(
            5, ("Thawed", f"{count(thawed.objects, 'object')}, {size(thawed.stored_bytes)} waited"
                          f" for {duration(thawed.seconds)}; {thawed.cost}")
        )  # fmt: skip
    return Report(
        verdict=_verdict(manifest.id, where, fatal, degraded, plan),
        sections=(
            Facts(tuple(facts)),
            _complained("What is missing", fatal),
            _complained("What is there in part", degraded),
            _left_out(plan),
            Timeline("Where the time went", phases.done),
        ),
        outputs=outputs,
        data=outputs | {"complaints": [_as_json(each) for each in complaints]},
        failure=_failure(where, fatal) if fatal else None,
        measures=(DatabaseRestored(manifest.database, not fatal),),
    )


def _holds(plan: RestorePlan, tables: int) -> str:
    others = len(plan.chosen.entries) - len(plan.chosen.data)
    return f"the rows of {count(tables, 'table')}, {count(others, 'definition')}"


def _verdict(
    backup_id: str,
    where: str,
    fatal: Sequence[Complaint],
    degraded: Sequence[Complaint],
    plan: RestorePlan,
) -> str:
    if fatal:
        return f"❌ {backup_id} is not whole in {where}: {count(len(fatal), 'object')} missing"
    notes = []
    if degraded:
        notes.append(f"{len(degraded)} without owner, grant or the like")
    if plan.chosen.left_out:
        notes.append(f"{len(plan.chosen.left_out)} left out")
    return f"✅ {backup_id} is restored into {where}" + (f" ({'; '.join(notes)})" if notes else "")


def _complained(title: str, complaints: Sequence[Complaint]) -> Table:
    rows = [
        (str(each.about or "?"), each.reason, each.said.splitlines()[0] if each.said else "")
        for each in complaints
    ]
    return Table(title, ("Object", "What it means", "The server said"), _cut(rows))


def _left_out(plan: RestorePlan) -> Table:
    rows = [
        (f"{each.entry.kind} {each.entry.schema or ''}.{each.entry.name}", each.reason, _sql(each))
        for each in plan.chosen.left_out
    ]
    return Table("What was left out", ("Object", "Why", "To bring it back"), _cut(rows))


def _sql(left_out: LeftOut) -> str:
    """What brings it back, where it can be shown: more people read a summary than the database."""
    if left_out.entry.kind in _WITH_SECRETS or len(left_out.remedy) > _LONGEST_SQL:
        return "see pg_restore --file=- of the archive"
    return left_out.remedy


def _cut(rows: Sequence[tuple[str, str, str]]) -> tuple[tuple[str, str, str], ...]:
    if len(rows) <= _MOST_ROWS:
        return tuple(rows)
    return (*rows[:_MOST_ROWS], (f"and {len(rows) - _MOST_ROWS} more", "", ""))


def _as_json(complaint: Complaint) -> dict[str, str]:
    return {
        "object": str(complaint.about or ""),
        "severity": complaint.severity.value,
        "reason": complaint.reason,
        "said": complaint.said,
    }


def _failure(where: str, fatal: Sequence[Complaint]) -> RestoreError:
    more = f"\nand {len(fatal) - _MOST_NAMED} more" if len(fatal) > _MOST_NAMED else ""
    lines = [f"{each.about or 'pg_restore'}: {each.said}" for each in fatal[:_MOST_NAMED]]
    return RestoreError(
        f"{count(len(fatal), 'object')} could not be restored: {where} is not to be used",
        detail="\n".join(lines) + more,
        hint=f"mend what the server names and run the same again: it drops what this run made."
        f" To use the target as it is: DROP SCHEMA {SCHEMA} CASCADE;",
    )
