"""What a run has measured, as typed facts: what becomes a metric is read from here, not from texts.

Seconds and bytes are those of the report; None stands for what was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class BackupMade:
    """`size_change` is against the previous backup's stored bytes: 0.25 is a quarter more."""

    database: str
    seconds: float
    stored_bytes: int
    size_change: float | None


@dataclass(frozen=True)
class Drilled:
    """The worst verdict of a run's drills, and the longest of their restores."""

    database: str
    proven: bool
    restore_seconds: float | None


@dataclass(frozen=True)
class DatabaseRestored:
    """A restore into a database; `database` is the one that the backup is of."""

    database: str
    succeeded: bool


@dataclass(frozen=True)
class InstanceRestored:
    """`instance` is the old one's identifier; `seconds` run until the first answer."""

    instance: str
    succeeded: bool
    seconds: float | None


@dataclass(frozen=True)
class SnapshotTaken:
    """`instance` is the identifier of the instance or the cluster."""

    instance: str
    succeeded: bool


@dataclass(frozen=True)
class AuditMade:
    """How many checks are `fail`, `warn` and `unknown`."""

    findings: Mapping[str, int]


@dataclass(frozen=True)
class Ages:
    """Seconds since the newest backup that counts, and the newest proven drill, by database."""

    backups: Mapping[str, float] = field(default_factory=dict)
    drills: Mapping[str, float] = field(default_factory=dict)


Measure = (
    BackupMade | Drilled | DatabaseRestored | InstanceRestored | SnapshotTaken | AuditMade | Ages
)
