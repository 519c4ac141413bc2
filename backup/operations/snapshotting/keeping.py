"""Which earlier snapshots go: only the action's own, and never the newest that can be restored."""

from __future__ import annotations

from collections.abc import Sequence

from backup.aws.instances import Database
from backup.aws.session import AwsSession
from backup.aws.snapshots import Snapshot, Snapshots
from backup.console import Console
from backup.errors import DumpError
from backup.operations.snapshotting.making import Made
from backup.operations.snapshotting.names import is_own


def delete_old(session: AwsSession, made: Made, keep: int, console: Console) -> None:
    """Delete all but the `keep` newest, here and where this run has made a copy.

    Raises AccessError, or DumpError for the first that could not be deleted, after all others were;
    what was deleted by then is in `made`.
    """
    stays: DumpError | None = None
    database = made.source.database
    regions = [session.region]
    if made.snapshot and made.snapshot.copy:
        regions.append(made.snapshot.copy.region)
    for region in regions:
        snapshots = Snapshots(session.in_region(region), of_clusters=made.source.is_cluster)
        for old in superfluous(snapshots.manual(database.identifier), database, keep):
            try:
                snapshots.delete(old)
            except DumpError as error:
                stays = stays or error
                continue
            made.deleted.append(old.arn)
            console.info(f"deleted {old.arn}")
    if stays:
        raise stays


def superfluous(snapshots: Sequence[Snapshot], database: Database, keep: int) -> list[Snapshot]:
    """Our own finished snapshots of an instance or cluster, but for the `keep` newest."""
    ours = [each for each in snapshots if each.is_available and is_own(each, database)]
    oldest_first = sorted(ours, key=lambda each: each.taken.timestamp() if each.taken else 0.0)
    return oldest_first[: -max(keep, 1)]
