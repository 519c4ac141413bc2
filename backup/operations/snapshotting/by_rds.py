"""A snapshot by RDS itself, and its copy."""

from __future__ import annotations

from dataclasses import replace

from backup.aws.instance_record import RecordedSnapshot, SnapshotCopy
from backup.aws.session import AwsSession
from backup.aws.snapshot_refusals import NotAvailable
from backup.aws.snapshots import Snapshot, Snapshots
from backup.aws.work import Standing
from backup.errors import InputError
from backup.operations.aws_waiting import Watch
from backup.operations.snapshotting.making import Made, Order
from backup.operations.snapshotting.source import (
    Source,
    find_source,
    hint,
    readiness,
    refuse_unready,
)


class RdsTaker:
    """A `Taker`; `watch` None waits for nothing."""

    def __init__(self, session: AwsSession, order: Order, watch: Watch | None, made: Made) -> None:
        self._session = session
        self._order = order
        self._watch = watch
        self._made = made

    def take(self) -> None:
        made, name = self._made, self._order.name
        self._refuse_copy_without_key()
        refuse_unready(made.source, waits=self._watch is not None)
        snapshots = self._snapshots(self._session.region)
        if self._watch is None:
            self._begun(snapshots.take(name, made.source.database, self._order.tags))
            return
        self._watch.until_done(
            made.source.identifier, lambda: self._try(snapshots), _begun_or_not,
            hint(made.source),
        )  # fmt: skip
        self._watch.until_done(
            f"snapshot {name}", lambda: snapshots.look(name), _standing,
            self._hint(name, self._session.region),
        )  # fmt: skip
        made.under_way, made.ready = "", True

    def copy(self, region: str) -> None:
        made, taken, watch = self._made, self._made.snapshot, self._watch
        if not taken or not watch:
            return
        there = self._snapshots(region)
        source = self._snapshots(self._session.region).look(taken.id)
        copy = there.copy(source, self._order.options.copy_kms_key_id, self._order.tags)
        made.snapshot = replace(taken, copy=SnapshotCopy(copy.id, copy.arn, region))
        made.under_way = f"its copy in {region}"
        watch.until_done(
            f"copy in {region}", lambda: there.look(copy.id), _standing,
            self._hint(copy.id, region),
        )  # fmt: skip
        made.under_way = ""

    def _try(self, snapshots: Snapshots) -> Snapshot | Source:
        """The snapshot, or the source as it is now, where none can be taken of it yet."""
        made = self._made
        made.source = find_source(self._session, self._order.rds)
        if not readiness(made.source).is_done:
            return made.source
        try:
            snapshot = snapshots.take(self._order.name, made.source.database, self._order.tags)
        except NotAvailable:  # an automated backup has begun in between, say
            return made.source
        self._begun(snapshot)
        return snapshot

    def _begun(self, snapshot: Snapshot) -> None:
        self._made.snapshot = RecordedSnapshot(snapshot.id, snapshot.arn, "rds", None, None)
        self._made.under_way = f"the snapshot {snapshot.id}"

    def _refuse_copy_without_key(self) -> None:
        """Before anything is made. A KMS key belongs to one region."""
        options, source = self._order.options, self._made.source
        encrypted = source.database.storage.is_encrypted
        if not encrypted or not options.copy_region or options.copy_kms_key_id:
            return
        raise InputError(
            f"a snapshot of {source.identifier} cannot be copied to {options.copy_region}",
            detail="it is encrypted, and a copy needs a KMS key of its own region",
            hint=f"copy-kms-key-id: ARN, id or alias of a key in {options.copy_region};"
            " alias/aws/rds is the one that AWS keeps there",
        )

    def _snapshots(self, region: str) -> Snapshots:
        is_cluster = self._made.source.is_cluster
        return Snapshots(self._session.in_region(region), of_clusters=is_cluster)

    def _hint(self, name: str, region: str) -> str:
        word = "db-cluster-snapshot" if self._made.source.is_cluster else "db-snapshot"
        return f"look at it: aws rds describe-{word}s --{word}-identifier {name} --region {region}"


def _begun_or_not(tried: Snapshot | Source) -> Standing:
    if isinstance(tried, Snapshot):
        return Standing("ready for a snapshot", is_done=True)
    return replace(readiness(tried), is_done=False)


def _standing(snapshot: Snapshot) -> Standing:
    return snapshot.standing
