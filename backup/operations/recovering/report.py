"""What a restore of an instance tells: what was made, what it holds, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backup.aws.instances import Cluster, Database
from backup.aws.recovery.points import TimePoint
from backup.errors import BackupError, VerificationError
from backup.operations.phases import Phases
from backup.operations.recovering.commands import to_finish, to_remove
from backup.operations.recovering.differences import Difference
from backup.operations.recovering.login import HOW_TO_BE_CHECKED
from backup.operations.recovering.plan import RecoveryPlan
from backup.operations.recovering.record import RestoreRecord
from backup.postgres.first_answer import FirstAnswer
from backup.report.measures import InstanceRestored
from backup.report.report import Commands, Facts, History, Report, Table, Timeline
from backup.wording import count, duration, size


@dataclass(frozen=True)
class Recovered:
    """What stands at the end. `seconds` as in its record; `answer` None where nobody logged in."""

    made: Database
    seconds: float
    answer: FirstAnswer | None
    left: tuple[Difference, ...]
    reboots_for: tuple[str, ...]


def started_report(plan: RecoveryPlan, region: str, phases: Phases) -> Report:
    """The report of a run that does not wait."""
    wanted = plan.wanted
    return Report(
        verdict=f"⏳ RDS makes {wanted.identifier}; nobody has waited for it, or checked it",
        sections=(
            Facts(_facts(plan)),
            Commands("What is still to do", tuple(to_finish(plan, region, (plan.identifier,)))),
            Commands("To take it away again", _removal(plan, region, is_protected=False)),
            Timeline("Where the time went", phases.done),
        ),
        outputs={"new-instance-id": plan.identifier, "endpoint": "", "restore-seconds": ""},
    )


def recovered_report(
    plan: RecoveryPlan,
    recovered: Recovered,
    past: Sequence[RestoreRecord],
    most_seconds: float | None,
    region: str,
    phases: Phases,
) -> Report:
    """The report of an instance or a cluster that is there."""
    made, answer, seconds = recovered.made, recovered.answer, recovered.seconds
    endpoint = f"{made.network.endpoint}:{made.network.port}"
    facts = [
        *_facts(plan),
        ("Endpoint", endpoint),
        ("Took", f"{duration(seconds)} to " + ("the first answer" if answer else "be available")),
        ("Holds", _holds(answer)),
        *(("Not as it was", note) for note in plan.notes),
    ]
    if recovered.reboots_for:
        groups = ", ".join(recovered.reboots_for)
        facts.append(("Waits for a reboot", f"the parameter group {groups} is in force after one"))
    outputs = {
        "new-instance-id": plan.identifier,
        "endpoint": made.network.endpoint or "",
        "restore-seconds": f"{seconds:.1f}",
        "server-version": answer.server_version if answer else made.engine_version,
    }
    rows = tuple((each.setting, each.wanted, each.found) for each in recovered.left)
    points = tuple((f"{each.finished:%Y-%m-%d}", each.seconds / 60) for each in past)
    limit = most_seconds / 60 if most_seconds else None
    failure = _failure(plan, seconds, most_seconds)
    # Where nobody has logged in, no time to an answer was measured.
    measured = seconds if answer else None
    return Report(
        verdict=_verdict(plan, recovered),
        sections=(
            Facts(tuple(facts)),
            Table("Not as it was asked for", ("Setting", "Asked for", "Found"), rows),
            Commands("What to do next", tuple(_next(plan, recovered, region))),
            Commands("To take it away again", _removal(plan, region, is_protected=True)),
            History("Minutes to restore it", "min", points, limit),
            Timeline("Where the time went", phases.done),
        ),
        outputs=outputs,
        data=outputs | {"checked": answer is not None, "notes": list(plan.notes)},
        failure=failure,
        measures=(InstanceRestored(plan.old.database.identifier, failure is None, measured),),
    )


def _removal(plan: RecoveryPlan, region: str, *, is_protected: bool) -> tuple[str, ...]:
    names = (plan.identifier, *(member.identifier for member in plan.members))
    return tuple(to_remove(plan, region, names, is_protected=is_protected))


def _facts(plan: RecoveryPlan) -> tuple[tuple[str, str], ...]:
    old, point = plan.old.database, plan.point
    is_time = isinstance(point, TimePoint)
    return (
        ("New", f"{plan.identifier}, {point.engine_version}"),
        ("Copy of", f"{old.identifier} ({plan.old.told_by})"),
        ("From", f"a point in time, {point.name}" if is_time else point.name),
        ("Data as of", f"{point.taken:%Y-%m-%d %H:%M:%S} UTC"),
    )


def _holds(answer: FirstAnswer | None) -> str:
    if answer is None:
        return f"not checked: {HOW_TO_BE_CHECKED}"
    return (
        f"{answer.database}: {size(answer.database_bytes)} in {count(answer.tables, 'table')},"
        f" PostgreSQL {answer.server_version}, whose clock says {answer.time:%Y-%m-%d %H:%M:%S %Z}"
    )


def _verdict(plan: RecoveryPlan, recovered: Recovered) -> str:
    took = duration(recovered.seconds)
    if recovered.answer is None:
        return (
            f"⚠️ {plan.identifier} is available after {took}, and was not checked: no login was"
            " given"
        )
    but = f", but for {count(len(recovered.left), 'setting')}" if recovered.left else ""
    return (
        f"✅ {plan.identifier} answered after {took} with the data of"
        f" {plan.point.taken:%Y-%m-%d %H:%M:%S} UTC{but}"
    )


def _next(plan: RecoveryPlan, recovered: Recovered, region: str) -> list[str]:
    """The old one keeps its name and its endpoint until somebody decides otherwise."""
    made, old = recovered.made, plan.old
    lines = [
        "# Look at it before anyone else does:",
        f"psql 'host={made.network.endpoint} port={made.network.port}"
        f" dbname={made.database or 'postgres'} user={made.master_user} sslmode=verify-full'",
    ]
    if recovered.reboots_for:
        lines += [
            "# The parameter group is in force after a reboot:",
            *(f"aws rds reboot-db-instance --region {region} --db-instance-identifier {name}"
              for name in _instances(plan)),
        ]  # fmt: skip
    lines.append("# Then let the applications know the new endpoint: their configuration, their")
    lines.append(f"# secret, or a DNS name of yours that points to {made.network.endpoint}")
    if old.recorded is None and old.database.identifier != plan.identifier:
        lines.append("# or let it take the old one's name, and with it its endpoint:")
        lines += _swap(plan, region)
    return lines


def _swap(plan: RecoveryPlan, region: str) -> list[str]:
    """https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_RenameInstance.html"""
    name, new = plan.old.database.identifier, plan.identifier
    kind = "cluster" if isinstance(plan.wanted, Cluster) else "instance"
    call = f"aws rds modify-db-{kind} --region {region} --apply-immediately"
    return [
        f"{call} --db-{kind}-identifier {name} --new-db-{kind}-identifier {name}-old",
        f"# once the name is free, which takes minutes (describe-db-{kind}s no longer finds it):",
        f"{call} --db-{kind}-identifier {new} --new-db-{kind}-identifier {name}",
    ]


def _instances(plan: RecoveryPlan) -> list[str]:
    return [each.identifier for each in plan.members] or [plan.identifier]


def _failure(plan: RecoveryPlan, seconds: float, most: float | None) -> BackupError | None:
    if most is None or seconds <= most:
        return None
    return VerificationError(
        f"the restore of {plan.old.database.identifier} took longer than was promised",
        detail=f"{duration(seconds)}, and max-restore-minutes says {duration(most)};"
        f" {plan.identifier} is there and can be used",
        hint="raise the promise, or restore faster: a larger class, a younger snapshot, or"
        " point-in-time recovery to a time soon after a snapshot",
    )
