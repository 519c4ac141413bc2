"""What a run has measured, as metrics. `KNOWN` is the table of docs/notifications.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from backup.aws.metrics import Dimension, Metric, Unit
from backup.report.ending import Ending
from backup.report.measures import (
    Ages,
    AuditMade,
    BackupMade,
    DatabaseRestored,
    Drilled,
    InstanceRestored,
    SnapshotTaken,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a metric is measured in, and what it can be about: one dimension at a time."""

    unit: Unit
    dimensions: tuple[Dimension, ...]


KNOWN: Mapping[str, Kind] = {
    "BackupSucceeded": Kind("Count", ("Database",)),
    "BackupSeconds": Kind("Seconds", ("Database",)),
    "BackupBytes": Kind("Bytes", ("Database",)),
    "BackupSizeChange": Kind("Percent", ("Database",)),
    "DrillSucceeded": Kind("Count", ("Database",)),
    "RestoreSucceeded": Kind("Count", ("Database", "Instance")),
    "RestoreSeconds": Kind("Seconds", ("Database", "Instance")),
    "SnapshotSucceeded": Kind("Count", ("Instance",)),
    "AuditFindings": Kind("Count", ("Status",)),
    "NewestBackupAge": Kind("Seconds", ("Database",)),
    "NewestDrillAge": Kind("Seconds", ("Database",)),
}

# What is 0 where a run of the operation failed before it had measured anything.
_FAILED: Mapping[str, tuple[str, Dimension]] = {
    "backup": ("BackupSucceeded", "Database"),
    "restore": ("RestoreSucceeded", "Database"),
    "verify": ("DrillSucceeded", "Database"),
    "snapshot": ("SnapshotSucceeded", "Instance"),
    "restore-instance": ("RestoreSucceeded", "Instance"),
}


def metrics_of(
    ending: Ending, operation: str, database: str | None, instance: str | None
) -> list[Metric]:
    """The metrics of a run. What failed is 0 for what it is about, as far as that is known."""
    found = [metric for measure in ending.measures for metric in _of(measure)]
    if found or not ending.failure or operation not in _FAILED:
        return found
    name, dimension = _FAILED[operation]
    about = database if dimension == "Database" else instance
    return [_metric(name, 0, dimension, about)] if about else []


def _of(measure: object) -> Iterator[Metric]:
    match measure:
        case BackupMade(database, seconds, stored_bytes, size_change):
            yield _metric("BackupSucceeded", 1, "Database", database)
            yield _metric("BackupSeconds", seconds, "Database", database)
            yield _metric("BackupBytes", stored_bytes, "Database", database)
            if size_change is not None:
                yield _metric("BackupSizeChange", size_change * 100, "Database", database)
        case Drilled(database, proven, restore_seconds):
            yield _metric("DrillSucceeded", proven, "Database", database)
            if restore_seconds is not None:
                yield _metric("RestoreSeconds", restore_seconds, "Database", database)
        case DatabaseRestored(database, succeeded):
            yield _metric("RestoreSucceeded", succeeded, "Database", database)
        case InstanceRestored(instance, succeeded, answered):
            yield _metric("RestoreSucceeded", succeeded, "Instance", instance)
            if answered is not None:
                yield _metric("RestoreSeconds", answered, "Instance", instance)
        case SnapshotTaken(instance, succeeded):
            yield _metric("SnapshotSucceeded", succeeded, "Instance", instance)
        case AuditMade(findings):
            yield from _each("AuditFindings", "Status", findings.items())
        case Ages(backups, drills):
            yield from _each("NewestBackupAge", "Database", backups.items())
            yield from _each("NewestDrillAge", "Database", drills.items())


def _each(name: str, dimension: Dimension, values: Iterable[tuple[str, float]]) -> Iterator[Metric]:
    for of, value in values:
        yield _metric(name, value, dimension, of)


def _metric(name: str, value: float, dimension: Dimension, of: str) -> Metric:
    return Metric(name, KNOWN[name].unit, round(float(value), 3), dimension, of)
