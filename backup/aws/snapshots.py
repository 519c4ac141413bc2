"""Manual snapshots of RDS instances and clusters: taken, looked at, copied, deleted.

https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DBSnapshot.html
https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DBClusterSnapshot.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backup.aws.instances import AVAILABLE, Database, Tags, rds_arn, tags_of
from backup.aws.refusals import Attempt, error_code, explained, sent_before
from backup.aws.session import AwsSession
from backup.aws.snapshot_refusals import COPYING, DELETING, GONE, LOOKING, TAKING
from backup.aws.work import Standing, Unreachable
from backup.errors import DumpError

# https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBClusterSnapshot.html
LONGEST_CLUSTER_NAME, LONGEST_NAME = 63, 255


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`source` is what it was taken of; `taken` is None until RDS has the data."""

    id: str
    arn: str
    status: str
    source: str
    taken: datetime | None
    percent: int | None
    tags: Tags

    @property
    def region(self) -> str:
        return self.arn.split(":")[3]

    @property
    def is_available(self) -> bool:
        return self.status == AVAILABLE

    @property
    def standing(self) -> Standing:
        trouble = "RDS could not finish it" if self.status == "failed" else ""
        return Standing(self.status, self.percent, self.is_available, trouble)


@dataclass(frozen=True, slots=True)
class _Words:
    """How the API speaks of snapshots of instances, and of those of clusters."""

    snapshot: str
    source: str
    method: str
    kind: str
    source_kind: str

    @property
    def id(self) -> str:
        return f"{self.snapshot}Identifier"


_INSTANCE = _Words("DBSnapshot", "DBInstance", "db_snapshot", "snapshot", "db")
_CLUSTER = _Words("DBClusterSnapshot", "DBCluster", "db_cluster_snapshot", "cluster-snapshot",
                  "cluster")  # fmt: skip


class Snapshots:
    """The snapshots in the session's region, of instances or of clusters.

    Methods raise AccessError; InputError for what an input could mend; else DumpError, which is
    Unreachable where AWS could not be asked how things are.
    """

    def __init__(self, session: AwsSession, *, of_clusters: bool) -> None:
        self._session = session
        self._client = session.client("rds")
        self._words = _CLUSTER if of_clusters else _INSTANCE

    def take(self, name: str, database: Database, tags: Tags) -> Snapshot:
        """Begin a snapshot. Raises NotAvailable where the database's state does not allow it."""
        from botocore.exceptions import ClientError

        words = self._words
        arguments = {
            words.id: name,
            f"{words.source}Identifier": database.identifier,
            "Tags": _told(tags),
        }
        attempt = self._attempt(
            f"cannot take the snapshot {name} of {database.identifier}",
            (f"rds:Create{words.snapshot}", "rds:AddTagsToResource"),
            (database.arn, self._any()),
            TAKING,
        )
        with explained(attempt):
            try:
                answer = getattr(self._client, f"create_{words.method}")(**arguments)
            except ClientError as error:
                if ours := self._made_before(error, name, tags):
                    return ours
                raise
        return self._read(answer[words.snapshot])

    def look(self, name: str) -> Snapshot:
        """The snapshot as it is now."""
        words = self._words
        attempt = self._attempt(
            f"cannot look at the snapshot {name}",
            (f"rds:Describe{words.snapshot}s",),
            (self._any(), rds_arn(self._session, words.source_kind, "*")),
            LOOKING,
        )
        with explained(attempt):
            answer = getattr(self._client, f"describe_{words.method}s")(**{words.id: name})
        return self._read(answer[f"{words.snapshot}s"][0])

    def manual(self, identifier: str) -> list[Snapshot]:
        """The manual snapshots of an instance or cluster, the oldest first."""
        words = self._words
        attempt = self._attempt(
            f"cannot list the snapshots of {identifier}",
            (f"rds:Describe{words.snapshot}s",),
            (self._any(), rds_arn(self._session, words.source_kind, "*")),
            LOOKING,
        )
        asked = {f"{words.source}Identifier": identifier, "SnapshotType": "manual"}
        with explained(attempt):
            pages = self._client.get_paginator(f"describe_{words.method}s").paginate(**asked)
            listed = [self._read(each) for page in pages for each in page[f"{words.snapshot}s"]]
        return sorted(listed, key=lambda each: each.taken.timestamp() if each.taken else 0.0)

    def copy(self, source: Snapshot, kms_key_id: str | None, tags: Tags) -> Snapshot:
        """Begin a copy of another region's snapshot here, under the same name."""
        from botocore.exceptions import ClientError

        words = self._words
        arguments: dict[str, Any] = {
            f"Source{words.id}": source.arn,
            f"Target{words.id}": source.id,
            "SourceRegion": source.region,
            "Tags": _told(tags),
        }
        if kms_key_id:
            arguments["KmsKeyId"] = kms_key_id
        attempt = self._attempt(
            f"cannot copy the snapshot {source.id} to {self._session.region}",
            (f"rds:Copy{words.snapshot}", "rds:AddTagsToResource"),
            (self._any(), self._any(source.region)),
            COPYING,
        )
        with explained(attempt):
            try:
                answer = getattr(self._client, f"copy_{words.method}")(**arguments)
            except ClientError as error:
                if ours := self._made_before(error, source.id, tags):
                    return ours
                raise
        return self._read(answer[words.snapshot])

    def delete(self, snapshot: Snapshot) -> None:
        """Delete a snapshot; one that someone else has deleted is no error."""
        from botocore.exceptions import ClientError

        words = self._words
        attempt = self._attempt(
            f"cannot delete the snapshot {snapshot.id}",
            (f"rds:Delete{words.snapshot}",),
            self._any(),
            DELETING,
        )
        with explained(attempt):
            try:
                getattr(self._client, f"delete_{words.method}")(**{words.id: snapshot.id})
            except ClientError as error:
                if error_code(error) not in GONE:
                    raise

    def _made_before(self, error: Any, name: str, tags: Tags) -> Snapshot | None:
        """What is there of the name, if we made it: an earlier attempt's answer was lost."""
        if "AlreadyExists" not in error_code(error) or not sent_before(error):
            return None
        there = self.look(name)
        return there if set(tags) <= set(there.tags) else None

    def _any(self, region: str | None = None) -> str:
        session = self._session if region is None else self._session.in_region(region)
        return rds_arn(session, self._words.kind, "*")

    def _attempt(
        self,
        message: str,
        actions: tuple[str, ...],
        resource: str | tuple[str, ...],
        remedies: Mapping[str, Any],
    ) -> Attempt:
        return Attempt(
            message,
            self._session.region,
            actions,
            resource,
            # Only looking again is without risk.
            unreachable=Unreachable if remedies is LOOKING else DumpError,
            failure=DumpError,
            remedies=remedies,
        )

    def _read(self, told: Mapping[str, Any]) -> Snapshot:
        words = self._words
        percent = told.get("PercentProgress")
        return Snapshot(
            id=str(told[words.id]),
            arn=str(told[f"{words.snapshot}Arn"]),
            status=str(told["Status"]),
            source=str(told[f"{words.source}Identifier"]),
            # A copy has a time of its own, and is as old as what it is a copy of.
            taken=told.get("OriginalSnapshotCreateTime") or told.get("SnapshotCreateTime"),
            percent=None if percent is None else int(percent),
            tags=tags_of(told),
        )


def _told(tags: Tags) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags]
