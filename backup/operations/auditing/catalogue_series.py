"""Each database's series of backups: whether one is missing, jumps in size, or was never proven."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from backup.archive.catalogue import DrillEntry
from backup.archive.retention import TIERS
from backup.checks import Check, failed, passed, warned
from backup.model import BackupEntry
from backup.operations.auditing.holdings import MOST_READ, Holdings, Read, Series, named, root
from backup.operations.auditing.steps import backing_up, step_of
from backup.settings import Settings
from backup.wording import count, duration, size

GAPS = ("catalogue.gaps", "No backup is missing in the series")
SIZES = ("catalogue.sizes", "Backups do not jump in size")
DRILLS = ("catalogue.drills", "Backups of every database have been drilled")

_LEAST_BACKUPS = 4
_MOST_INTERVALS = 60
# Nine of ten intervals are no longer than the usual one. A schedule of working days has longer
# ones over weekends: one in seven of any ten or more.
_LONGER = 10
# One backup left out makes twice the interval, and GitHub's schedules start late at times.
_GAP = 1.75
_REMEMBERED = timedelta(days=30)
_SHRUNK, _GROWN = 0.5, 3.0


@dataclass(frozen=True, slots=True)
class _Gap:
    database: str
    since: datetime
    until: datetime
    usual: float

    def __str__(self) -> str:
        lasted = duration((self.until - self.since).total_seconds())
        return (
            f"{self.database}: none for {lasted} after {self.since:%Y-%m-%d %H:%M} UTC"
            f" (usual: {duration(self.usual)})"
        )


def gaps(holdings: Holdings, settings: Settings, now: datetime) -> Check:
    workflow = settings.audit.backup_workflow
    open_gaps: list[_Gap] = []
    past: list[_Gap] = []
    for series in holdings.series:
        for gap in _gaps_of(series, now):
            (open_gaps if gap.until == now else past).append(gap)
    seen = [
        f"gh run list --workflow {workflow}"
        f" --created {gap.since:%Y-%m-%dT%H:%M:%SZ}..{gap.until:%Y-%m-%dT%H:%M:%SZ}"
        for gap in past
    ]
    told = named([str(gap) for gap in (*open_gaps, *past)])
    if open_gaps:
        return failed(*GAPS, told, "\n".join([backing_up(settings), *seen]))
    if past:
        return warned(*GAPS, told, "\n".join(seen))
    short = [each.database for each in holdings.series if len(each.backups) < _LEAST_BACKUPS]
    few = f"; too few to know the usual interval: {named(short)}" if short else ""
    return passed(*GAPS, f"none in {count(len(holdings.series), 'series', 'series')}{few}")


def _gaps_of(series: Series, now: datetime) -> list[_Gap]:
    """Gaps that ended lately, and one that lasts."""
    unthinned = _unthinned(series.backups)
    times = [each.time for each in unthinned if each.time <= now][-_MOST_INTERVALS - 1 :]
    if len(times) < _LEAST_BACKUPS:
        return []
    lengths = sorted((later - earlier).total_seconds() for earlier, later in pairwise(times))
    usual = lengths[-1 - len(lengths) // _LONGER]
    return [
        _Gap(series.database, earlier, later, usual)
        for earlier, later in pairwise([*times, now])
        if (later - earlier).total_seconds() > _GAP * usual and now - later < _REMEMBERED
    ]


def _unthinned(backups: Sequence[BackupEntry]) -> Sequence[BackupEntry]:
    """Those since the oldest of the tier that expires first: what came before has been thinned.

    The bucket expires a tier by age, so of what is younger than one that is still there it has
    expired none, whatever days its rules name. Without tiers nothing is thinned.
    """
    tiers = [each.tier for each in backups if each.tier]
    first = min(tiers, key=TIERS.index, default=None)
    if first is None:
        return backups
    oldest = next(number for number, each in enumerate(backups) if each.tier == first)
    return backups[oldest:]


def sizes(
    holdings: Holdings,
    manifests: Mapping[str, Read],
    proven: Collection[DrillEntry],
    settings: Settings,
) -> Check:
    """Compares neighbours of one kind. Once a backup is proven, its size is what it should be."""
    jumps: list[str] = []
    unproven: list[BackupEntry] = []
    for series in holdings.series:
        known = {each.backup_id for each in proven if each.database == series.database}
        for earlier, later in _neighbours(series, manifests):
            if later.id in known or not earlier.stored_bytes:
                continue
            ratio = later.stored_bytes / earlier.stored_bytes
            if _SHRUNK <= ratio <= _GROWN:
                continue
            jumps.append(
                f"{series.database}: {later.id} has {size(later.stored_bytes)}, the one before"
                f" {size(earlier.stored_bytes)}"
            )
            unproven.append(later)
    if jumps:
        fix = "\n".join(step_of(settings, "verify", each.database, each.id) for each in unproven)
        return warned(*SIZES, named(jumps), fix)
    return passed(
        *SIZES,
        f"of the newest {MOST_READ} of each database none has less than half, or more than three"
        " times, what the one before has, but for those that a drill has proven",
    )


def _neighbours(
    series: Series, manifests: Mapping[str, Read]
) -> list[tuple[BackupEntry, BackupEntry]]:
    """Each of the newest backups with the nearest before it that holds the same part."""
    last: dict[object, BackupEntry] = {}
    found = []
    for entry in series.backups[-MOST_READ:]:
        read = manifests.get(root(entry))
        manifest = read.manifest if read else None
        kind = (manifest.selection, manifest.compression) if manifest else None
        if kind in last:
            found.append((last[kind], entry))
        last[kind] = entry
    return found


def drills(holdings: Holdings, settings: Settings) -> Check:
    never = [each for each in holdings.series if not each.drills]
    if never:
        reason = f"none of {named([_told(each) for each in never])} was ever restored on trial"
        steps = [step_of(settings, "verify", each.database, "latest") for each in never]
        return warned(*DRILLS, reason, "\n".join(steps))
    told = [
        f"{each.database}: {len({drill.backup_id for drill in each.drills}):,} of"
        f" {len(each.backups):,}, last on {each.drills[-1].time:%Y-%m-%d}"
        for each in holdings.series
    ]
    return passed(*DRILLS, named(told))


def _told(series: Series) -> str:
    return f"{count(len(series.backups), 'backup')} of {series.database}"
