"""The shell lines that make a new instance or cluster from a snapshot, like the one it was of."""

from __future__ import annotations

import shlex

from backup.aws.instances import Cluster, Instance
from backup.operations.snapshotting.source import Source

_LONGEST = 63
_AURORA = "aurora"


def restore_lines(source: Source, snapshot: str, region: str) -> tuple[str, ...]:
    """Lines for a shell with the AWS CLI; `snapshot` is its name or ARN."""
    if isinstance(source.database, Cluster):
        return _of_cluster(source.database, source.members, snapshot, region)
    return _of_instance(source.database, snapshot, region)


def _of_instance(instance: Instance, snapshot: str, region: str) -> tuple[str, ...]:
    new, network = _new(instance.identifier), instance.network
    return (
        *_command(
            f"restore-db-instance-from-db-snapshot --region {region}",
            ("--db-instance-identifier", new),
            ("--db-snapshot-identifier", snapshot),
            ("--db-instance-class", instance.instance_class),
            ("--db-subnet-group-name", network.subnet_group),
            _list("--vpc-security-group-ids", network.security_groups),
            ("--db-parameter-group-name", instance.parameter_group),
            ("--option-group-name", instance.option_group),
            _flag("--multi-az", instance.is_multi_az),
            _flag("--enable-iam-database-authentication", instance.has_iam_login),
            _flag("--copy-tags-to-snapshot", instance.upkeep.copies_tags),
            _flag("--no-publicly-accessible", True),
            _flag("--deletion-protection", True),
        ),
        _wait("instance", new, region),
    )


def _of_cluster(
    cluster: Cluster, members: tuple[Instance, ...], snapshot: str, region: str
) -> tuple[str, ...]:
    new, network = _new(cluster.identifier), cluster.network
    lines = _command(
        f"restore-db-cluster-from-snapshot --region {region}",
        ("--db-cluster-identifier", new),
        ("--snapshot-identifier", snapshot),
        ("--engine", cluster.engine),
        ("--db-cluster-instance-class", cluster.instance_class),
        ("--db-subnet-group-name", network.subnet_group),
        _list("--vpc-security-group-ids", network.security_groups),
        ("--db-cluster-parameter-group-name", cluster.parameter_group),
        ("--serverless-v2-scaling-configuration", _capacity(cluster)),
        _flag("--enable-iam-database-authentication", cluster.has_iam_login),
        _flag("--copy-tags-to-snapshot", cluster.upkeep.copies_tags),
        _flag("--deletion-protection", True),
    )
    lines = (*lines, _wait("cluster", new, region))
    if not cluster.engine.startswith(_AURORA):
        return lines  # RDS makes the instances of a Multi-AZ cluster itself
    for number, member in enumerate(members, start=1):
        lines += _command(
            f"create-db-instance --region {region}",
            ("--db-instance-identifier", f"{new}-{number}"),
            ("--db-cluster-identifier", new),
            ("--engine", cluster.engine),
            ("--db-instance-class", member.instance_class),
            ("--db-parameter-group-name", member.parameter_group),
            _flag("--no-publicly-accessible", True),
        )
    return lines


def _command(head: str, *options: tuple[str | None, ...]) -> tuple[str, ...]:
    """One command over several lines; options that are empty or end in None are left out."""
    given = [[word for word in each if word] for each in options if each and each[-1]]
    lines = [f"aws rds {head}", *(f"  {shlex.join(each)}" for each in given)]
    return (*(f"{line} \\" for line in lines[:-1]), lines[-1])


def _list(name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    return (name, *values) if values else ()


def _flag(name: str, is_set: bool) -> tuple[str, ...]:
    return (name,) if is_set else ()


def _wait(kind: str, new: str, region: str) -> str:
    return f"aws rds wait db-{kind}-available --region {region} --db-{kind}-identifier {new}"


def _capacity(cluster: Cluster) -> str | None:
    if cluster.serverless is None:
        return None
    least, most = cluster.serverless
    return f"MinCapacity={least:g},MaxCapacity={most:g}"


def _new(identifier: str) -> str:
    return f"{identifier[: _LONGEST - len('-restored')].rstrip('-')}-restored"
