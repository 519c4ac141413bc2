"""Objects that lie in an archive are thawed before they are read: asked for, and waited for.

What was asked for comes whether or not this run goes on. So a run that does not wait ends, and
the same run started later finds everything thawed, or waits for the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from backup.aws.glacier import PRICE_PAGE, PRICES, Retrieval, estimated_dollars, retrieval
from backup.aws.s3_reading import ARCHIVED_CLASSES, ListedObject, ObjectState, ReadableBucket
from backup.console import Console
from backup.errors import InputError, StorageError
from backup.settings import ThawSettings
from backup.wording import count, duration, size

_THREADS = 8
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 300.0

# A thawed copy that would vanish within this time is asked for anew: it may be read for hours.
_SOON = timedelta(hours=12)

# Only S3 itself knows which of these objects it has archived.
MAYBE_ARCHIVED = (*ARCHIVED_CLASSES, "INTELLIGENT_TIERING")

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")


class ThawPending(StorageError):
    """The objects are on their way out of the archive, and the run does not wait any longer."""


@dataclass(frozen=True, slots=True)
class Thawed:
    """What came out of the archive for this run, for its report.

    `seconds` is how long the run waited; `dollars` an estimate, `cost` the same in words.
    """

    objects: int
    stored_bytes: int
    tier: str
    seconds: float
    dollars: float
    cost: str


@dataclass(frozen=True, slots=True)
class _Cold:
    """An archived object, as it was when S3 was last asked."""

    key: str
    state: ObjectState


def thaw(
    bucket: ReadableBucket,
    backup_id: str,
    needed: Iterable[ListedObject],
    settings: ThawSettings,
    console: Console,
) -> Thawed | None:
    """Make these objects readable; None where they are. Others stay as they are.

    Raises InputError for a tier that an archive does not know, before anything is asked for;
    ThawPending when they are not there within `wait_seconds`; AccessError, StorageError.
    """
    keys = [each.key for each in needed if each.storage_class in MAYBE_ARCHIVED]
    archived = [each for each in _look(bucket, keys) if each.state.archive]
    asked = [each for each in archived if _must_be_asked_for(each.state)]
    cold = [each for each in archived if not each.state.is_readable]
    _refuse_unknown_tiers(asked + cold, settings.tier)
    _in_parallel(
        lambda each: bucket.thaw(each.key, settings.tier.capitalize(), _days(each, settings)), asked
    )
    if not cold:
        return None
    began = time.monotonic()
    dollars = _dollars(cold, settings)
    console.info(f"Thawing {_amount(cold)}: usually {_slowest(cold, settings.tier).usually}")
    console.info(f"It costs {_cost(dollars)}")
    _wait(bucket, backup_id, cold, settings, console)
    return Thawed(
        objects=len(cold),
        stored_bytes=_bytes(cold),
        tier=settings.tier,
        seconds=time.monotonic() - began,
        dollars=dollars,
        cost=_cost(dollars),
    )


def _wait(
    bucket: ReadableBucket,
    backup_id: str,
    cold: list[_Cold],
    settings: ThawSettings,
    console: Console,
) -> None:
    """Return when everything is readable. Raises ThawPending."""
    asked_at = datetime.now(UTC)
    began, total, pause = time.monotonic(), len(cold), _FIRST_PAUSE_SECONDS
    while (left := settings.wait_seconds - (time.monotonic() - began)) > 0:
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        keys = [each.key for each in cold]
        cold = [each for each in _look(bucket, keys) if not each.state.is_readable]
        if not cold:
            console.info(f"{count(total, 'object')} thawed")
            return
        waited = duration(time.monotonic() - began)
        console.info(f"{total - len(cold)}/{total} objects thawed after {waited}")
    way = _slowest(cold, settings.tier)
    ready = asked_at + timedelta(seconds=way.seconds)
    raise ThawPending(
        f"backup {backup_id} is being thawed: {_amount(cold)} cannot be read yet",
        detail=f"thaw-tier {settings.tier}: usually {way.usually}, so until"
        f" {ready:%Y-%m-%d %H:%M} UTC; they stay readable for"
        f" {count(settings.days, 'day')}. It costs {_cost(_dollars(cold, settings))}",
        hint="run the same again after that: it goes on where this run ends, and nothing was"
        " written to the target. To wait in the run, set thaw-wait, as in thaw-wait: 5h",
    )


def _look(bucket: ReadableBucket, keys: list[str]) -> list[_Cold]:
    return [
        _Cold(key, state) for key, state in zip(keys, _in_parallel(bucket.head, keys), strict=True)
    ]


def _in_parallel(work: Callable[[_Argument], _Result], arguments: list[_Argument]) -> list[_Result]:
    """The results in order. What one of them raises ends it for those not begun."""
    pool = ThreadPoolExecutor(_THREADS)
    try:
        return list(pool.map(work, arguments))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _must_be_asked_for(state: ObjectState) -> bool:
    if state.thawed_until is not None:
        return state.thawed_until < datetime.now(UTC) + _SOON
    return not state.thawing


def _refuse_unknown_tiers(cold: list[_Cold], tier: str) -> None:
    unknown = {each.state.archive for each in cold if not retrieval(each.state.archive, tier)}
    if unknown:
        raise InputError(
            f"nothing comes out of {min(unknown)} with thaw-tier: {tier}",
            detail=f"S3 takes hours to read {min(unknown)}, whatever is paid",
            hint="thaw-tier: standard (up to 12 hours) or thaw-tier: bulk (up to 48, cheaper)",
        )


def _days(cold: _Cold, settings: ThawSettings) -> int | None:
    """S3 refuses a number of days for INTELLIGENT_TIERING, which moves the object for good."""
    return settings.days if cold.state.storage_class in ARCHIVED_CLASSES else None


def _slowest(cold: list[_Cold], tier: str) -> Retrieval:
    ways = (retrieval(each.state.archive, tier) for each in cold)
    return max((way for way in ways if way), key=lambda way: way.seconds)


def _dollars(cold: list[_Cold], settings: ThawSettings) -> float:
    return sum(
        estimated_dollars(
            archive,
            settings.tier,
            [each.state.size for each in cold if each.state.archive == archive],
            settings.days,
        )
        for archive in {each.state.archive for each in cold}
    )


def _cost(dollars: float) -> str:
    amount = f"about ${dollars:,.2f}" if dollars >= 0.01 else "less than $0.01"
    return f"{amount}, estimated with the {PRICES} ({PRICE_PAGE})"


def _amount(cold: list[_Cold]) -> str:
    return f"{count(len(cold), 'object')} ({size(_bytes(cold))})"


def _bytes(cold: list[_Cold]) -> int:
    return sum(each.state.size for each in cold)
