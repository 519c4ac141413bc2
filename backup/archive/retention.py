"""How long a backup stays: its tier, which the bucket's lifecycle goes by.

    PREFIX/DATABASE/20261122T020000Z-1f9c3a/retention-tier/weekly

Every object of a backup bears the tag; but a listing shows no tags, and to read them takes a
permission that who writes should not have. So the tier of a whole backup is told by the name of a
small object too: to the next run, which finds its own place by it, and to an audit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from backup.model import BackupEntry

TAG = "retention-tier"
AUTO = "auto"
# The one that is kept for the shortest time first.
TIERS = ("daily", "weekly", "monthly", "yearly")
_MARK = re.compile(rf"{TAG}/({'|'.join(TIERS)})")
# A day's own place is taken by none.
_PERIODS = {"yearly": "%Y", "monthly": "%Y-%m", "weekly": "%G-W%V"}


def mark_of(tier: str) -> str:
    """The key of a tier's object, relative to the backup."""
    return f"{TAG}/{tier}"


def marked(key: str) -> str | None:
    """The tier that a key relative to a backup stands for; None for any other object."""
    match = _MARK.fullmatch(key)
    return match[1] if match else None


def longest(tiers: Iterable[str]) -> str | None:
    """Of several the one that is kept longest; None of none."""
    return max(tiers, key=TIERS.index, default=None)


def tier_for(moment: datetime, earlier: Iterable[BackupEntry]) -> str:
    """The tier of a whole backup as of `moment`, by its place in the calendar of UTC.

    The first of a year is yearly, of a month monthly, of a week (as ISO 8601 counts them) weekly,
    any other daily. Of the earlier ones those count whose tier is known to be no shorter: one of
    some tables alone must not stand for a year.
    """
    day = moment.astimezone(UTC)
    placed = [(each.time.astimezone(UTC), each.tier) for each in earlier if each.tier]
    for tier, period in _PERIODS.items():
        least = TIERS.index(tier)
        if not any(
            when.strftime(period) == day.strftime(period) and TIERS.index(other) >= least
            for when, other in placed
        ):
            return tier
    return TIERS[0]
