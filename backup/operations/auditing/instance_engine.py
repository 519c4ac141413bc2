"""What is expected of an instance's engine: its version, its clients and its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from backup.aws.instance_posture import EngineVersion, Parameter, Upgrade
from backup.checks import Check, Status, failed, passed, warned
from backup.errors import DumpError
from backup.model import Client, ServerVersion
from backup.operations.auditing.rds_subject import Subject
from backup.postgres.clients import choose

SUPPORT_NOTICE = timedelta(days=180)
FORCE_SSL = "rds.force_ssl"
_ON, _OFF = ("1", "on", "true", "yes"), ("0", "off", "false", "no")

# What endangers data or a restore, and nothing else: the value that does, and what it leads to.
# Timeouts are not among them: a dump and a restore set their own to none.
# https://www.postgresql.org/docs/current/runtime-config.html
DANGEROUS: Mapping[str, tuple[tuple[str, ...], str, str]] = {
    "fsync": (_OFF, "on", "a crash leaves a cluster that cannot be repaired"),
    "full_page_writes": (_OFF, "on", "a crash leaves pages that are half written"),
    "autovacuum": (_OFF, "on", "transaction ids run out, and the server stops taking writes"),
    "track_counts": (_OFF, "on", "autovacuum learns of nothing and never runs"),
    "zero_damaged_pages": (_ON, "off", "a damaged page becomes an empty one, without an error"),
    "synchronous_commit": (_OFF, "on", "a crash loses what was committed just before it"),
}
# Not a loss that breaks anything, and some applications choose it for a session.
_MILD = ("synchronous_commit",)


def tls(id: str, title: str, subject: Subject, parameters: Sequence[Parameter]) -> Check:
    """`parameters`: those of the cluster's group for a cluster, else of the instance's."""
    found = next((each for each in parameters if each.name == FORCE_SSL), None)
    forced = found.value in _ON if found else _forces_by_default(subject)
    if forced:
        where = f"in {found.group}" if found else f"by default in version {subject.major}"
        return passed(id, title, f"{FORCE_SSL} is on {where}: every connection is encrypted")
    reason = f"{FORCE_SSL} is off: passwords and rows may travel unencrypted"
    return failed(id, title, reason, set_parameter(subject, FORCE_SSL, "1", found))


def _forces_by_default(subject: Subject) -> bool:
    """https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/PostgreSQL.Concepts.General.SSL.html
    https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/AuroraPostgreSQL.Security.html
    """
    return subject.major >= (17 if subject.is_aurora else 15)


def parameters(id: str, title: str, subject: Subject, given: Sequence[Parameter]) -> Check:
    """`given`: in the order in which they win, the instance's own group last."""
    wrong = {
        each.name: each
        for each in {each.name: each for each in given}.values()
        if each.name in DANGEROUS and each.value.lower() in DANGEROUS[each.name][0]
    }
    if not wrong:
        return passed(id, title, f"none of {', '.join(DANGEROUS)} endangers data or a restore")
    reason = "; ".join(
        f"{name} is {each.value} in {each.group}: {DANGEROUS[name][2]}"
        for name, each in wrong.items()
    )
    fix = "\n".join(
        set_parameter(subject, name, DANGEROUS[name][1], each) for name, each in wrong.items()
    )
    return (warned if set(wrong) <= set(_MILD) else failed)(id, title, reason, fix)


def once_restarted(check: Check, subject: Subject, names: Sequence[str]) -> Check:
    """The check, and a warning in place of a pass where its group is not in force yet.

    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_WorkingWithParamGroups.html
    """
    if check.status is not Status.PASS or not names:
        return check
    reason = f"{check.reason}; but {', '.join(names)} takes its parameters over at a restart only"
    return warned(check.id, check.title, reason, "\n".join(_restart(subject, names)))


def _restart(subject: Subject, names: Sequence[str]) -> list[str]:
    restart = [subject.rds(f"reboot-db-instance --db-instance-identifier {each}") for each in names]
    return ["# a restart, which takes a minute or so", *restart]


def set_parameter(subject: Subject, name: str, value: str, present: Parameter | None) -> str:
    """The commands that set a parameter, in a group of its own where the default one is used."""
    of_cluster = present.of_cluster if present else subject.is_cluster
    owner = subject.database if of_cluster == subject.is_cluster else subject.members[0]
    group = present.group if present else owner.parameter_group or f"default.{subject.name}"
    kind = "db-cluster" if of_cluster else "db"
    is_shared = group.startswith("default.")
    family = f"{subject.database.engine}{subject.major}"
    own = f"{subject.name}-{family}" if is_shared else group
    # A group that is attached anew is in force after the next restart, and so are static ones.
    at_once = not is_shared and (present is None or present.is_dynamic)
    lines = [
        subject.rds(
            f"modify-{kind}-parameter-group --{kind}-parameter-group-name {own} --parameters",
            f"ParameterName={name},ParameterValue={value},"
            f"ApplyMethod={'immediate' if at_once else 'pending-reboot'}",
        )
    ]
    if is_shared:
        create = subject.rds(
            f"create-{kind}-parameter-group --{kind}-parameter-group-name {own}",
            f"--db-parameter-group-family {family} --description 'Parameters of {subject.name}'",
        )
        attach = f"--{kind}-parameter-group-name {own}"
        lines = [create, *lines, subject.modify(attach)]
    if not at_once:
        lines += _restart(subject, [each.identifier for each in subject.members])
    return "\n".join(lines)


def version(id: str, title: str, subject: Subject, told: EngineVersion) -> Check:
    engine, running = subject.database.engine, subject.database.engine_version
    newest = _newest(told.upgrades, is_major=False)
    if told.is_offered:
        newer = f"; {newest} is the newest of its major" if newest else ""
        return passed(id, title, f"RDS offers {engine} {running}{newer}")
    reason = f"RDS no longer offers {engine} {running}: a lost instance cannot be made anew so"
    target = newest or _newest(told.upgrades, is_major=True)
    return failed(id, title, reason, _upgrade(subject, target))


def support(
    id: str, title: str, subject: Subject, ends: datetime, told: EngineVersion | None
) -> Check:
    """`ends`: the end of standard support of the major that runs."""
    engine = f"{subject.database.engine} {subject.major}"
    left = ends - subject.now
    if left > SUPPORT_NOTICE:
        return passed(id, title, f"standard support of {engine} ends on {ends:%Y-%m-%d}")
    target = _newest(told.upgrades, is_major=True) if told else None
    fix = _upgrade(subject, target)
    if left > timedelta():
        return warned(id, title, f"standard support of {engine} ends on {ends:%Y-%m-%d}", fix)
    reason = f"standard support of {engine} ended on {ends:%Y-%m-%d}; since then RDS upgrades it"
    return failed(id, title, f"{reason} by force, or charges for extended support", fix)


def _newest(upgrades: Sequence[Upgrade], *, is_major: bool) -> str | None:
    """The last of the nearest kind: the next major in its newest minor, not the last major."""
    fitting = [each.version for each in upgrades if each.is_major == is_major]
    nearest = min((_major(each) for each in fitting), default=0)
    return max((each for each in fitting if _major(each) == nearest), key=_numbers, default=None)


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))


def _upgrade(subject: Subject, target: str | None) -> str:
    """The command that upgrades; with a default group of the new major, for groups have a major."""
    if target is None:
        return subject.rds(
            f"describe-db-engine-versions --engine {subject.database.engine}",
            "--query 'DBEngineVersions[].EngineVersion'",
        )
    options = [f"--engine-version {target}"]
    if _major(target) != subject.major:
        kind = "db-cluster" if subject.is_cluster else "db"
        group = f"default.{subject.database.engine}{_major(target)}"
        options += ["--allow-major-version-upgrade", f"--{kind}-parameter-group-name {group}"]
    notice = "# it is down for minutes; without --apply-immediately in the maintenance window\n"
    return notice + subject.modify(*options)


def client(id: str, title: str, subject: Subject, installed: Sequence[Client]) -> Check:
    text = subject.database.engine_version
    try:
        choice = choose(ServerVersion(subject.major * 10000, text), installed)
    except DumpError as error:
        return failed(id, title, f"{error.message}: {error.detail}", error.hint)
    if choice.warning is None:
        return passed(id, title, f"pg_dump {choice.client.version} is of the server's major")
    fix = (
        f"install postgresql-client-{subject.major} and name its bin folder in PG_BACKUP_CLIENTS;"
        " the action's image holds every major that PostgreSQL supports"
    )
    return warned(id, title, choice.warning, fix)
