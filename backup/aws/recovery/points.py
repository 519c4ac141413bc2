"""What a new instance or cluster can be made from: a snapshot, or a point in time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

LATEST: Literal["latest"] = "latest"


@dataclass(frozen=True, slots=True)
class SnapshotPoint:
    """A snapshot. `source` and `resource_id` are those of what it was taken of, and `taken` is
    the time of its data: for a copy that of the first snapshot."""

    identifier: str
    arn: str
    status: str
    engine: str
    engine_version: str
    source: str
    resource_id: str
    taken: datetime
    allocated_gib: int | None
    is_cluster: bool

    @property
    def name(self) -> str:
        return f"snapshot {self.identifier}"


@dataclass(frozen=True, slots=True)
class TimePoint:
    """A point in time; `time` None is the latest. `earliest` is None where RDS tells none.

    One of the three says what holds the logs: a live instance or cluster, the backups that one
    which was deleted has left behind, or those that were replicated from another region.
    """

    time: datetime | None
    earliest: datetime | None
    latest: datetime
    engine_version: str
    identifier: str | None
    resource_id: str | None
    backups_arn: str | None
    allocated_gib: int | None
    is_cluster: bool

    @property
    def taken(self) -> datetime:
        return self.time or self.latest

    @property
    def name(self) -> str:
        return f"{self.taken:%Y-%m-%d %H:%M:%S} UTC"


Point = SnapshotPoint | TimePoint
