"""What a snapshot run was asked for, and what it has made so far, whatever ends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from backup.aws.instance_record import RecordedSnapshot
from backup.aws.instances import Tags
from backup.errors import BackupError, Interrupted
from backup.operations.aws_waiting import Lost
from backup.operations.snapshotting.source import Source
from backup.settings import RdsSettings, SnapshotSettings


@dataclass(frozen=True)
class Order:
    """What to take, of what; `tags` are the snapshot's, with those by which it is known again."""

    rds: RdsSettings
    name: str
    tags: Tags
    options: SnapshotSettings


@dataclass
class Made:
    """What exists in AWS so far. `under_way` names what AWS is at work on; `ready` is set once the
    snapshot can be restored; `deleted` are ARNs of old ones."""

    source: Source
    under_way: str = ""
    snapshot: RecordedSnapshot | None = None
    ready: bool = False
    deleted: list[str] = field(default_factory=list)

    def words(self) -> str:
        """What is there; empty where nothing was begun."""
        told = []
        if self.snapshot and self.ready:
            told.append(f"the snapshot {self.snapshot.id} is made and can be restored")
        if self.under_way:
            told.append(f"AWS goes on making {self.under_way}, whether this run waits or not")
        return "; ".join(told)

    def forget_lost(self) -> None:
        """What was under way has failed."""
        self.under_way = ""
        self.snapshot = replace(self.snapshot, copy=None) if self.snapshot and self.ready else None


class Taker(Protocol):
    """Takes one snapshot and keeps account of it in what was `Made`. Methods raise BackupError."""

    def take(self) -> None:
        """Begin it, and wait for it where the run waits."""

    def copy(self, region: str) -> None:
        """Copy the snapshot, which is ready, and wait for that."""


@contextmanager
def accounted(made: Made) -> Iterator[None]:
    """Say of every end what it leaves in AWS."""
    try:
        yield
    except BackupError as error:
        if isinstance(error, Lost):
            made.forget_lost()
        if words := made.words():
            error.detail += f"\n{words}"
        raise
    except Interrupted as interrupted:
        interrupted.consequence = made.words() or "no snapshot was begun"
        raise
