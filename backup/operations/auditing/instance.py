"""The audit of an RDS instance or a cluster: can it be lost, read by others, or not be restored?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from backup.aws.instance_posture import (
    Parameter,
    engine_version,
    free_bytes,
    newest_snapshot,
    parameters,
    restarts_wanted,
    support_ends,
)
from backup.aws.instances import Cluster, Instance, describe_cluster, describe_instance
from backup.aws.network import subnet_routes
from backup.aws.session import AwsSession
from backup.checks import Answer, Check, Known, Status, T, Unanswered, ask, failed
from backup.errors import InputError
from backup.operations.auditing import instance_engine as engine
from backup.operations.auditing import instance_rules as rules
from backup.operations.auditing.rds_subject import Subject
from backup.postgres.clients import installed
from backup.settings import RdsSettings, Settings

TITLES: Mapping[str, str] = {
    "instance.retention": "Automated backups, for 7 days or more",
    "instance.restorable": "A point in time of the last 15 minutes",
    "instance.snapshot": "A snapshot since the last release",
    "instance.public": "No public address",
    "instance.subnets": "Private subnets only",
    "instance.encryption": "Encrypted storage",
    "instance.tls": "TLS is forced",
    "instance.deletion-protection": "Protected from deletion",
    "instance.multi-az": "A second availability zone",
    "instance.iam-login": "Login by IAM",
    "instance.version": "A version that RDS offers",
    "instance.support": "Standard support of the major version",
    "instance.client": "A pg_dump of the same major",
    "instance.parameters": "No parameter that endangers data",
    "instance.minor-upgrades": "Minor versions are installed",
    "instance.storage": "Storage grows by itself",
    "instance.free-storage": "Room on the disk",
}
_DESCRIBED: tuple[tuple[str, Callable[[str, str, Subject], Check]], ...] = (
    ("instance.retention", rules.retention),
    ("instance.restorable", rules.restorable),
    ("instance.public", rules.public),
    ("instance.encryption", rules.encryption),
    ("instance.deletion-protection", rules.deletion_protection),
    ("instance.multi-az", rules.multi_az),
    ("instance.iam-login", rules.iam_login),
    ("instance.minor-upgrades", rules.minor_upgrades),
    ("instance.storage", rules.storage),
)


def checks(
    session: AwsSession,
    settings: Settings,
    environment: Mapping[str, str],
    now: datetime,
    release: datetime | None = None,
) -> list[Check]:
    """`release`: when the last release was made, where a snapshot has to be newer.

    No checks where the inputs name neither an instance nor a cluster.
    """
    if not settings.rds.instance and not settings.rds.cluster:
        return []
    described = ask(lambda: _subject(session, settings.rds, now))
    if isinstance(described, Unanswered):
        error = described.error
        if isinstance(error, InputError):
            return [failed("instance.exists", "It exists", error.message, error.hint)]
        return [described.check(id, TITLES[id]) for id in _expected(release)]
    subject = described.value
    if not subject.members:
        reason = f"the cluster {subject.name} has no instance that anybody could connect to"
        fix = subject.rds(
            f"create-db-instance --db-instance-identifier {subject.name}-1",
            f"--db-cluster-identifier {subject.name} --engine {subject.database.engine}",
            "--db-instance-class db.r6g.large --no-publicly-accessible",
        )
        return [failed("instance.exists", "It exists", reason, fix)]
    found = {id: rule(id, TITLES[id], subject) for id, rule in _DESCRIBED}
    for check in (
        *_about_snapshots(session, subject, release),
        _about_subnets(session, subject),
        *_about_parameters(session, subject),
        *_about_versions(session, subject),
        *_about_room(session, subject),
        engine.client(
            "instance.client", TITLES["instance.client"], subject, installed(environment)
        ),
    ):
        found[check.id] = check
    return [found[id] for id in TITLES if id in found]


def _expected(release: datetime | None) -> list[str]:
    return [id for id in TITLES if id != "instance.snapshot" or release]


def _subject(session: AwsSession, rds: RdsSettings, now: datetime) -> Subject:
    if rds.cluster:
        cluster = describe_cluster(session, rds.cluster)
        members = tuple(describe_instance(session, name) for name in cluster.members)
        return Subject(cluster, members, session.region, now)
    instance = describe_instance(session, rds.instance or "")
    return Subject(instance, (instance,), session.region, now)


def _judged(id: str, answer: Answer[T], rule: Callable[[str, str, T], Check]) -> Check:
    title = TITLES[id]
    return rule(id, title, answer.value) if isinstance(answer, Known) else answer.check(id, title)


def _about_snapshots(
    session: AwsSession, subject: Subject, release: datetime | None
) -> list[Check]:
    if release is None:
        return []
    return [
        _judged(
            "instance.snapshot",
            ask(lambda: newest_snapshot(session, subject.database)),
            lambda id, title, newest: rules.snapshot(id, title, subject, newest, release),
        )
    ]


def _about_subnets(session: AwsSession, subject: Subject) -> Check:
    network = subject.members[0].network
    return _judged(
        "instance.subnets",
        ask(lambda: subnet_routes(session, network.vpc or "", network.subnets)),
        lambda id, title, routes: rules.subnets(id, title, subject, routes),
    )


def _about_parameters(session: AwsSession, subject: Subject) -> list[Check]:
    answer = ask(lambda: _parameters(session, subject))
    waiting = ask(lambda: restarts_wanted(session, subject.database))
    found = [
        _judged(
            "instance.tls",
            answer,
            lambda id, title, given: engine.tls(
                id,
                title,
                subject,
                [each for each in given if each.of_cluster == subject.is_cluster],
            ),
        ),
        _judged(
            "instance.parameters",
            answer,
            lambda id, title, given: engine.parameters(id, title, subject, given),
        ),
    ]
    if isinstance(waiting, Unanswered):
        return [
            waiting.check(each.id, each.title) if each.status is Status.PASS else each
            for each in found
        ]
    return [engine.once_restarted(each, subject, waiting.value) for each in found]


def _parameters(session: AwsSession, subject: Subject) -> list[Parameter]:
    """Those of the cluster's group, then what the groups of its members set otherwise."""
    names = (engine.FORCE_SSL, *engine.DANGEROUS)
    found: list[Parameter] = []
    if isinstance(subject.database, Cluster) and subject.database.parameter_group:
        group = subject.database.parameter_group
        found += parameters(session, group, names, of_cluster=True)
    for name in dict.fromkeys(filter(None, (each.parameter_group for each in subject.members))):
        given = parameters(session, name, names, of_cluster=False)
        found += [each for each in given if each.is_own or not subject.is_cluster]
    return found


def _about_versions(session: AwsSession, subject: Subject) -> list[Check]:
    name, running = subject.database.engine, subject.database.engine_version
    offered = ask(lambda: engine_version(session, name, running))
    ends = ask(lambda: support_ends(session, name, subject.major))
    found = [
        _judged(
            "instance.version",
            offered,
            lambda id, title, told: engine.version(id, title, subject, told),
        )
    ]
    known = offered.value if isinstance(offered, Known) else None
    if not isinstance(ends, Known):
        return [*found, ends.check("instance.support", TITLES["instance.support"])]
    if ends.value is None:
        return found
    id = "instance.support"
    return [*found, engine.support(id, TITLES[id], subject, ends.value, known)]


def _about_room(session: AwsSession, subject: Subject) -> list[Check]:
    """Aurora has no room of its own, and a new instance no samples: then there is no check."""
    if subject.is_aurora:
        return []
    answer = ask(lambda: _free(session, subject))
    if isinstance(answer, Known) and not answer.value:
        return []
    return [
        _judged(
            "instance.free-storage",
            answer,
            lambda id, title, free: rules.free_storage(id, title, subject, free),
        )
    ]


def _free(session: AwsSession, subject: Subject) -> dict[Instance, float]:
    asked = {each: free_bytes(session, each.identifier, subject.now) for each in subject.members}
    return {each: free for each, free in asked.items() if free is not None}
