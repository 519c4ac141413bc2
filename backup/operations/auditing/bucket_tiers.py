"""Which objects of a bucket the lifecycle must tell apart: those of each tier, and the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backup.archive.retention import AUTO, TAG, TIERS
from backup.aws.bucket_rules import Lifecycle, LifecycleRule
from backup.aws.glacier import Retrieval, retrieval
from backup.aws.object_filter import Tags
from backup.settings import BucketSettings, Settings

ARCHIVE_DAYS, KEPT_DAYS = 30, 730

ARCHIVES = ("GLACIER_IR", "GLACIER", "DEEP_ARCHIVE", "INTELLIGENT_TIERING")

# The least time that a tier is kept: until the next longer one has certainly got its own. And
# what examples/infrastructure/storage.yaml gives it.
_LEAST = {"daily": 7, "weekly": 31, "monthly": 365, "yearly": KEPT_DAYS}
_USUAL = {"daily": 35, "weekly": 120, "monthly": 365, "yearly": KEPT_DAYS}

# Of these an object is paid for 90 days at least, and of Deep Archive for 180: what 13 to 19 days
# of Standard cost. https://aws.amazon.com/s3/pricing/
_BILLED = ("GLACIER_IR", "GLACIER", "DEEP_ARCHIVE")
_PAID_DAYS, _WORTH_DAYS = 90, 20


@dataclass(frozen=True, slots=True)
class Kind:
    """Objects that bear the same tags. `tier` is None for those of no backup, or of no tier.

    They must be kept for `least_days`; `usual_days` is what a rule gets that is mended.
    """

    tier: str | None
    tags: Tags
    least_days: int
    usual_days: int

    @property
    def name(self) -> str:
        return f"{self.tier} backups" if self.tier else "what has no tier"

    def filter(self, prefix: str) -> dict[str, object]:
        """As a rule of S3 names them."""
        if not self.tier:
            return {"Prefix": prefix}
        return {"And": {"Prefix": prefix, "Tags": [{"Key": TAG, "Value": self.tier}]}}


def kinds(bucket: BucketSettings) -> tuple[Kind, ...]:
    """What has no tier comes first: records, and what was there before there were tiers."""
    wanted = bucket.retention_tier
    tiers = TIERS if wanted == AUTO else (wanted,) if wanted else ()
    return (
        Kind(None, bucket.tags, KEPT_DAYS, KEPT_DAYS),
        *(Kind(tier, (*bucket.tags, (TAG, tier)), _LEAST[tier], _USUAL[tier]) for tier in tiers),
    )


def is_long(kept_days: int | None) -> bool:
    """Whether what is kept so long must not stay in Standard; None is for ever."""
    return kept_days is None or kept_days >= ARCHIVE_DAYS + _PAID_DAYS


def moves_in_vain(rule: LifecycleRule, kept_days: int | None, noncurrent_days: int) -> bool:
    """Whether a rule moves what is gone before the archive has paid; a version that has expired
    is still there, and paid for where it lies, as a noncurrent one."""
    if kept_days is None:
        return False
    return any(
        each.days is not None
        and each.storage_class in _BILLED
        and kept_days - each.days >= 0
        and kept_days + noncurrent_days - each.days < _WORTH_DAYS
        for each in rule.transitions
    )


class TieredRules:
    """The rules of a bucket's lifecycle as they concern the backups below one prefix.

    `covering` are those that take in all objects there; `touching` take in some at least.
    """

    def __init__(self, lifecycle: Lifecycle, settings: Settings) -> None:
        self._settings = settings
        prefix = settings.bucket.prefix
        self.prefix = f"{prefix}/" if prefix else ""
        self.lifecycle = lifecycle
        self.untiered, *self.tiered = kinds(settings.bucket)
        self.covering = self.for_all_of(self.untiered)
        self.touching = [each for each in lifecycle.rules if self.touched_by(each)]

    def for_all_of(self, kind: Kind) -> list[LifecycleRule]:
        rules = self.lifecycle.rules
        return [each for each in rules if each.meant.covers(self.prefix, kind.tags)]

    def touched_by(self, rule: LifecycleRule) -> list[Kind]:
        every = (self.untiered, *self.tiered)
        return [each for each in every if rule.meant.touches(self.prefix, each.tags)]

    def harmed_by(self, rule: LifecycleRule) -> list[Kind]:
        """Of what a rule deletes that which should be kept for longer."""
        if rule.expires_on:
            return self.touched_by(rule)
        days = rule.expiry_days
        return [each for each in self.touched_by(rule) if days and days < each.least_days]

    def kept(self, kind: Kind) -> int | None:
        """After how many days all of a kind have expired; None for never."""
        return least(rule.expiry_days for rule in self.for_all_of(kind))

    def archived_after(self, kind: Kind) -> int | None:
        return least(
            each.days
            for rule in self.for_all_of(kind)
            for each in rule.transitions
            if each.storage_class in ARCHIVES
        )

    def is_in_vain(self, rule: LifecycleRule, kind: Kind) -> bool:
        """Whether a rule moves a tier that is gone before the archive has paid."""
        noncurrent = least(each.noncurrent_days for each in self.covering)
        return bool(kind.tier) and moves_in_vain(rule, self.kept(kind), noncurrent or 0)

    def too_slow(self, storage_class: str) -> Retrieval | None:
        """How long its objects take to come back, where that is longer than a restore may take."""
        tier = self._settings.thaw.tier
        way = retrieval(storage_class, tier) or retrieval(storage_class, "standard")
        allowed = self._settings.audit.max_restore_seconds
        return way if way and way.seconds >= allowed else None


def least(days: Iterable[int | None]) -> int | None:
    return min((each for each in days if each is not None), default=None)
