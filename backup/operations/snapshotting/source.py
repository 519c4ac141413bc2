"""The instance or cluster that a snapshot is taken of, and whether RDS can take one now."""

from __future__ import annotations

from dataclasses import dataclass

from backup.aws.instances import (
    AVAILABLE,
    Cluster,
    Database,
    Instance,
    describe_cluster,
    describe_instance,
)
from backup.aws.session import AwsSession
from backup.aws.work import Standing
from backup.errors import DumpError, InputError
from backup.settings import RdsSettings

# "The source DB instance must be in the available or storage-optimization state":
# https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBSnapshot.html
_READY = (AVAILABLE, "storage-optimization")
# What nothing comes out of by itself; the other states pass.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html
_STUCK = {
    "stopped": "someone stopped it",
    "stopping": "someone stops it",
    "deleting": "someone deletes it",
    "failed": "RDS cannot recover it",
    "storage-full": "its storage is full",
    "incompatible-network": "its subnets or security groups are gone, or have no free addresses",
    "incompatible-option-group": "its option group does not go with the engine's version",
    "incompatible-parameters": "its parameter group has values that it cannot start with",
    "incompatible-restore": "RDS could not restore into it",
    "inaccessible-encryption-credentials": "its KMS key is disabled, to be deleted, or denied",
    "inaccessible-encryption-credentials-recoverable": "its KMS key is disabled, or denied",
    "insufficient-capacity": "AWS has no capacity for its class at the moment",
    "restore-error": "RDS met an error while it restored",
}
_HINTS = {
    "stopped": "start it: aws rds start-db-{kind} --db-{kind}-identifier {name}",
    "storage-full": "give it more storage: aws rds modify-db-{kind} --db-{kind}-identifier {name}"
    " --allocated-storage GIB --apply-immediately",
}
_HINT = (
    "its events say why: aws rds describe-events --source-type db-{kind} --source-identifier {name}"
)


@dataclass(frozen=True)
class Source:
    """`members` are a cluster's instances, the writer first; none for an instance."""

    database: Database
    members: tuple[Instance, ...]

    @property
    def identifier(self) -> str:
        return self.database.identifier

    @property
    def is_cluster(self) -> bool:
        return isinstance(self.database, Cluster)

    @property
    def kind(self) -> str:
        return "cluster" if self.is_cluster else "instance"


def find_source(session: AwsSession, rds: RdsSettings) -> Source:
    """What the inputs name. Raises InputError for what is not there or no PostgreSQL of its own."""
    if rds.cluster:
        cluster = describe_cluster(session, rds.cluster)
        members = tuple(describe_instance(session, each) for each in cluster.members)
        return _of_postgresql(Source(cluster, members))
    instance = describe_instance(session, rds.instance or "")
    if instance.cluster:
        raise InputError(
            f"{instance.identifier} is a member of the cluster {instance.cluster}",
            detail="its data is the cluster's, and only that has snapshots",
            hint=f"db-cluster: {instance.cluster}, in place of db-instance",
        )
    return _of_postgresql(Source(instance, ()))


def readiness(source: Source) -> Standing:
    """Whether RDS can take a snapshot now, will be able to later, or never by itself."""
    status = source.database.status
    return Standing(status, is_done=status in _READY, trouble=_STUCK.get(status, ""))


def refuse_unready(source: Source, *, waits: bool) -> None:
    """Raises DumpError, with its state, where no snapshot can be taken and waiting will not help,
    or nobody waits."""
    now = readiness(source)
    if now.is_done or (waits and not now.trouble):
        return
    raise DumpError(
        f"no snapshot of {source.identifier} can be taken: it is {now.status}",
        detail=now.trouble or "RDS takes snapshots of what is available, and wait: none does not"
        " wait for that",
        hint=hint(source) if now.trouble else "run it again later, or give a time: wait: 2h",
    )  # fmt: skip


def hint(source: Source) -> str:
    """What to do about its state."""
    words = _HINTS.get(source.database.status, _HINT)
    return words.format(kind=source.kind, name=source.identifier)


def _of_postgresql(source: Source) -> Source:
    if "postgres" in source.database.engine:
        return source
    raise InputError(
        f"{source.identifier} is no PostgreSQL",
        detail=f"its engine is {source.database.engine}",
        hint="name an instance of RDS for PostgreSQL, or a cluster of Aurora PostgreSQL",
    )
