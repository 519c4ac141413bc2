"""What is lost, what it is restored from, and what the new one shall be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from backup.aws.instance_record import folder, newest
from backup.aws.instances import (
    Cluster,
    Database,
    Instance,
    Storage,
    Tags,
    describe_cluster,
    describe_instance,
    rds_arn,
)
from backup.aws.recovery.points import Point, TimePoint
from backup.aws.recovery.settings import is_aurora
from backup.aws.recovery.snapshots import find_snapshot
from backup.aws.recovery.times import find_time
from backup.aws.s3_reading import ReadableBucket
from backup.aws.session import AwsSession
from backup.errors import InputError
from backup.operations.recovering.checks import check_region, check_surroundings
from backup.settings import RecoverySettings, Settings

# No key of the action's own snapshots: what is made here may one day take the old one's name, and
# then nobody must take a snapshot of it for one that `keep` may delete.
RESTORED_FROM = "pg-backup-action:restored-from"
_OWN_TAGS = "pg-backup-action:"
_LONGEST_IDENTIFIER = 63
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Limits.html
_MOST_TAGS = 50
# "You must set the maximum storage threshold to at least 10% more than the current allocated
# storage": https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_PIOPS.Autoscaling.html
_LEAST_GROWTH_PERCENT = 110
# RDS no longer gives these to anything new: it takes the account's default.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL-certificate-rotation.html
_RETIRED_CERTIFICATES = ("rds-ca-2015", "rds-ca-2019")


@dataclass(frozen=True)
class Old:
    """The instance or cluster as it is, or was; `members` are a cluster's, the writer first.

    `recorded` is when the record was written that tells of it; None where it was asked itself.
    """

    database: Database
    members: tuple[Instance, ...]
    recorded: datetime | None

    @property
    def live(self) -> Database | None:
        return self.database if self.recorded is None else None

    @property
    def told_by(self) -> str:
        if self.recorded is None:
            return "itself, as it runs"
        return f"the record of {self.recorded:%Y-%m-%d %H:%M} UTC: it is gone from this region"


@dataclass(frozen=True)
class RecoveryPlan:
    """What will be made. `wanted` and `members` (a cluster's) are what RDS shall show at the end.

    `notes` say what cannot be as it was.
    """

    old: Old
    point: Point
    wanted: Database
    members: tuple[Instance, ...]
    notes: tuple[str, ...]

    @property
    def identifier(self) -> str:
        return self.wanted.identifier

    @property
    def clusters(self) -> tuple[str, ...]:
        """Which of what is made is a cluster, and no instance."""
        return (self.identifier,) if isinstance(self.wanted, Cluster) else ()


def plan_recovery(
    session: AwsSession, bucket: ReadableBucket, settings: Settings, now: datetime
) -> RecoveryPlan:
    """Find all that is needed, and refuse here whatever can be refused.

    Raises InputError, AccessError, StorageError.
    """
    options = settings.recovery
    old = find_old(session, bucket, settings)
    is_abroad = old.database.arn.split(":")[3] != session.region
    if is_abroad:
        check_region(session, old.database, options)
    if options.time is None:
        point: Point = find_snapshot(session, options.snapshot, old.database)
    else:
        is_cluster = isinstance(old.database, Cluster)
        point = find_time(
            session, options.time, old.database.identifier, old.live, is_cluster=is_cluster
        )
    identifier = new_identifier(old.database.identifier, options.new_identifier, now)
    wanted, members = _wanted(session, old, point, options, identifier, is_abroad)
    members, notes = check_surroundings(session, wanted, members, point, is_abroad=is_abroad)
    if isinstance(wanted, Cluster) and is_aurora(wanted) and settings.wait_seconds is None:
        raise InputError(
            "a cluster cannot be restored without waiting for it",
            detail="wait is none, and its instances can only be made once the cluster is there",
            hint="wait: 2h",
        )
    return RecoveryPlan(old, point, wanted, members, (*notes, *_missing(old, wanted)))


def find_old(session: AwsSession, bucket: ReadableBucket, settings: Settings) -> Old:
    """The old one as it runs, or as its newest record tells. Raises InputError, AccessError."""
    identifier = settings.rds.cluster or settings.rds.instance or ""
    is_cluster = settings.rds.cluster is not None
    try:
        if is_cluster:
            cluster = describe_cluster(session, identifier)
            members = tuple(describe_instance(session, name) for name in cluster.members)
            return Old(cluster, members, None)
        instance = describe_instance(session, identifier)
    except InputError as error:
        record = newest(bucket, settings.bucket.prefix, identifier, is_cluster=is_cluster)
        if record is None:
            where = bucket.uri(folder(settings.bucket.prefix, identifier))
            raise InputError(
                f"nobody knows what {identifier} was",
                detail=f"it is not in {session.region} ({error.detail}), and there is no record of"
                f" it below {where}",
                hint="correct db-instance or db-cluster, aws-region, or bucket and prefix."
                " operation: snapshot writes such a record each time it runs. Without one:"
                f" aws rds restore-db-{'cluster' if is_cluster else 'instance'}-from-"
                f"{'' if is_cluster else 'db-'}snapshot, with every setting by hand",
            ) from error
        return Old(record.database, record.members, record.taken)
    if instance.cluster:
        raise InputError(
            f"{identifier} is an instance of the cluster {instance.cluster}",
            detail="what is restored is the cluster; its instances are made anew",
            hint=f"db-cluster: {instance.cluster}, in place of db-instance",
        )
    return Old(instance, (), None)


def new_identifier(old: str, given: str | None, now: datetime) -> str:
    """The name that was given, or the old one with the time behind it; RDS keeps small letters."""
    if given:
        return given.lower()
    suffix = f"-{now.astimezone(UTC):%Y%m%d-%H%M%S}"
    return old[: _LONGEST_IDENTIFIER - len(suffix)].rstrip("-").lower() + suffix


def _wanted(
    session: AwsSession,
    old: Old,
    point: Point,
    options: RecoverySettings,
    identifier: str,
    is_abroad: bool,
) -> tuple[Database, tuple[Instance, ...]]:
    """The old one with another name, as the point in time has its data, and safe."""
    database = old.database
    moment = f"{point.taken:%Y-%m-%dT%H:%M:%SZ}"
    origin = moment if isinstance(point, TimePoint) else point.identifier
    tags = tags_of_copy(database.tags, options.tags, origin)
    network = replace(
        database.network,
        endpoint=None,
        subnet_group=options.subnet_group or database.network.subnet_group,
        security_groups=options.security_groups or database.network.security_groups,
        is_public=False,
    )
    # A KMS key is of one region.
    monitoring = database.monitoring
    if is_abroad:
        monitoring = replace(monitoring, insights_kms_key_id=None)
    group = options.parameter_group or database.parameter_group
    if isinstance(database, Instance):
        return replace(
            database,
            identifier=identifier,
            arn=rds_arn(session, "db", identifier),
            engine_version=point.engine_version,
            network=network,
            monitoring=monitoring,
            storage=_storage(database.storage, point),
            ca_certificate=_certificate(database.ca_certificate),
            parameter_group=group,
            option_group=None if is_abroad else database.option_group,
            has_deletion_protection=True,
            tags=tags,
        ), ()
    cluster = replace(
        database,
        identifier=identifier,
        arn=rds_arn(session, "cluster", identifier),
        engine_version=point.engine_version,
        network=network,
        monitoring=monitoring,
        parameter_group=group,
        has_deletion_protection=True,
        tags=tags,
    )
    if not is_aurora(database):
        return cluster, ()
    members = tuple(
        replace(
            member,
            identifier=f"{identifier[: _LONGEST_IDENTIFIER - 3].rstrip('-')}-{number}",
            arn=rds_arn(session, "db", f"{identifier}-{number}"),
            cluster=identifier,
            ca_certificate=_certificate(member.ca_certificate),
            network=replace(member.network, is_public=False),
            monitoring=replace(
                member.monitoring,
                insights_kms_key_id=None if is_abroad else member.monitoring.insights_kms_key_id,
            ),
            tags=tags_of_copy(member.tags, options.tags, origin),
        )
        for number, member in enumerate(old.members, 1)
    )
    return replace(cluster, members=tuple(each.identifier for each in members)), members


def _storage(storage: Storage, point: Point) -> Storage:
    """As large as the data, and growing as far as before, where that is further."""
    allocated = point.allocated_gib or storage.allocated_gib or 0
    most = storage.max_allocated_gib
    grows = most is not None and most * 100 >= allocated * _LEAST_GROWTH_PERCENT
    return replace(storage, allocated_gib=allocated, max_allocated_gib=most if grows else None)


def _missing(old: Old, wanted: Database) -> tuple[str, ...]:
    """What the new one will not have, in words."""
    all_told = (one.uncopied or () for one in (old.database, *old.members))
    told = dict.fromkeys(each for one in all_told for each in one)
    notes = [f"it does not have {each}" for each in told]
    if old.database.storage.max_allocated_gib and not wanted.storage.max_allocated_gib:
        notes.append(
            "its storage does not grow by itself: the old one's limit is less than 10 % above it"
        )
    return tuple(notes)


def _certificate(name: str | None) -> str | None:
    return None if name in _RETIRED_CERTIFICATES else name


def tags_of_copy(old: Tags, given: Tags, origin: str) -> Tags:
    """The old one's tags without those that AWS and the action set, as many as RDS takes, and what
    it comes from."""
    needed = {**dict(given), RESTORED_FROM: origin}
    kept = [
        (key, value)
        for key, value in old
        if key not in needed and not key.lower().startswith(("aws:", _OWN_TAGS))
    ]
    return tuple(sorted((*kept[: max(_MOST_TAGS - len(needed), 0)], *needed.items())))
