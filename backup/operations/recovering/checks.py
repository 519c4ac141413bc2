"""What can be known to go wrong before anything is made: names, groups, regions."""

from __future__ import annotations

from dataclasses import replace

from backup.aws.instances import Cluster, Database, Instance
from backup.aws.recovery.groups import has_subnet_group, parameter_family
from backup.aws.recovery.points import Point
from backup.aws.recovery.states import cluster_exists, instance_exists
from backup.aws.session import AwsSession
from backup.errors import Fault, InputError
from backup.settings import RecoverySettings


def check_region(session: AwsSession, old: Database, options: RecoverySettings) -> None:
    """Refuse to guess at a network in another region. Raises InputError."""
    home = old.arn.split(":")[3]
    needed = {
        "db-subnet-group": (options.subnet_group, "private-subnets"),
        "vpc-security-groups": (options.security_groups, "sg-0123456789abcdef0"),
    }
    faults = [
        Fault(
            name,
            f"is missing, and that of {old.identifier} is one of {home}, not of {session.region}",
            f"name one of {session.region}, as in {name}: {example}",
        )
        for name, (value, example) in needed.items()
        if not value
    ]
    if faults:
        raise InputError.from_faults(faults)


def check_surroundings(
    session: AwsSession,
    wanted: Database,
    members: tuple[Instance, ...],
    point: Point,
    *,
    is_abroad: bool,
) -> tuple[tuple[Instance, ...], tuple[str, ...]]:
    """The members as they can be, and what cannot be as it was.

    Raises InputError where a name is taken, or a group is not there; AccessError.
    """
    _check_names(session, wanted, members)
    subnets = wanted.network.subnet_group
    if subnets and not has_subnet_group(session, subnets):
        raise InputError(
            f"there is no subnet group {subnets} in {session.region}",
            detail="the new one must stand in subnets of this region",
            hint="db-subnet-group: one of\naws rds describe-db-subnet-groups --region"
            f" {session.region} --query 'DBSubnetGroups[].DBSubnetGroupName'\nand"
            " vpc-security-groups: of the same VPC",
        )
    _check_parameters(session, wanted, point)
    notes = []
    if is_abroad and isinstance(wanted, Instance):
        notes.append("its option group is the default of this region")
    if is_abroad and wanted.monitoring.insights:
        notes.append("Performance Insights are encrypted with the region's own key of RDS")
    kept = []
    for member in members:
        group, version = member.parameter_group, point.engine_version
        # There is no input for these: better the default than half a cluster.
        if _is_own(group) and _family(session, group, of_cluster=False) != _wants(member, version):
            notes.append(f"{member.identifier} has the default parameter group: no {group} fits")
            kept.append(replace(member, parameter_group=None))
        else:
            kept.append(member)
    return tuple(kept), tuple(notes)


def _check_names(session: AwsSession, wanted: Database, members: tuple[Instance, ...]) -> None:
    if isinstance(wanted, Cluster):
        taken = [wanted.identifier] if cluster_exists(session, wanted.identifier) else []
        names = [member.identifier for member in members]
    else:
        taken, names = [], [wanted.identifier]
    taken += [name for name in names if instance_exists(session, name)]
    if taken:
        raise InputError(
            f"there is a {taken[0]} in {session.region} already",
            detail="what exists is never touched, so the new one needs a name of its own",
            hint="new-instance: another name, or leave it out: then the time makes one",
        )


def _check_parameters(session: AwsSession, wanted: Database, point: Point) -> None:
    group, of_cluster = wanted.parameter_group, isinstance(wanted, Cluster)
    if not _is_own(group):
        return  # RDS has a default for each version
    family = _family(session, group, of_cluster=of_cluster)
    fitting = _wants(wanted, point.engine_version)
    listing = (
        f"aws rds describe-db-{'cluster-' if of_cluster else ''}parameter-groups --region"
        f" {session.region}"
    )
    if family is None:
        raise InputError(
            f"there is no parameter group {group} in {session.region}",
            detail="with another one the new instance would not behave as the old one did",
            hint=f"db-parameter-group: one of\n{listing}\nor db-parameter-group: default.{fitting}",
        )
    if family != fitting:
        raise InputError(
            f"the parameter group {group} does not go with {point.name}",
            detail=f"its family is {family}, and what is restored is of version"
            f" {point.engine_version}: the old one was upgraded since",
            hint=f"db-parameter-group: one of family {fitting}, or default.{fitting}",
        )


def _family(session: AwsSession, group: str | None, *, of_cluster: bool) -> str | None:
    return parameter_family(session, group, of_cluster=of_cluster) if group else None


def _wants(database: Database, version: str) -> str:
    """The family of parameter groups, as in postgres17."""
    return f"{database.engine}{version.partition('.')[0]}"


def _is_own(group: str | None) -> bool:
    return group is not None and not group.startswith("default.")
