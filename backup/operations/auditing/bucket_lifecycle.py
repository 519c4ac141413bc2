"""What becomes of backups with time: the lifecycle rules against 30 days, and two years.

Only enabled rules that take in all backups count; one that also meets some of them may do harm.
All fixes are one and the same command, for it replaces the rules as a whole.
"""

from __future__ import annotations

from backup.archive.retention import TAG
from backup.aws.bucket_rules import Lifecycle, LifecycleRule
from backup.checks import Check, failed, passed, warned
from backup.operations.auditing.bucket_lifecycle_repair import (
    LEAST_NONCURRENT_DAYS,
    MOST_ABORT_DAYS,
    Repair,
)
from backup.operations.auditing.bucket_tiers import (
    ARCHIVE_DAYS,
    KEPT_DAYS,
    TieredRules,
    is_long,
    least,
)
from backup.operations.auditing.shell import document, s3api
from backup.settings import Settings
from backup.wording import count, duration

ARCHIVE = ("bucket.archive", f"Backups are archived after {ARCHIVE_DAYS} days")
ARCHIVE_CLASS = ("bucket.archive-class", "What is archived can be read in time")
EXPIRY = ("bucket.expiry", f"Backups expire after {KEPT_DAYS} days")
MULTIPARTS = ("bucket.multiparts", "Incomplete uploads are aborted")
NONCURRENT = ("bucket.noncurrent", "Noncurrent versions expire")
IDS = (ARCHIVE, ARCHIVE_CLASS, EXPIRY, MULTIPARTS, NONCURRENT)


class LifecycleRules:
    """The rules as they concern the backups below one prefix."""

    def __init__(self, lifecycle: Lifecycle, settings: Settings, region: str) -> None:
        self._settings = settings
        self._region = region
        self._rules = TieredRules(lifecycle, settings)

    def checks(self) -> list[Check]:
        return [
            self._archive(),
            self._archive_class(),
            self._expiry(),
            self._multiparts(),
            self._noncurrent(),
        ]

    def _archive(self) -> Check:
        if self._rules.tiered:
            return self._archive_of_tiers()
        days = self._rules.archived_after(self._rules.untiered)
        if days is None:
            reason = f"no rule for all of {self._where()} moves objects to an archive class"
            if any(TAG in dict(each.meant.tags) for each in self._rules.lifecycle.rules):
                reason += f"; those that go by the tag {TAG} wait for backups with {TAG}: auto"
            return warned(*ARCHIVE, reason, self._fix())
        if days > ARCHIVE_DAYS:
            reason = f"they are archived after {days} days, and paid for as Standard until then"
            return warned(*ARCHIVE, reason, self._fix())
        return passed(*ARCHIVE, f"after {count(days, 'day')}")

    def _archive_of_tiers(self) -> Check:
        """What lives for long is archived in time, and what does not is left where it is."""
        wrong, told = [], []
        for kind in self._rules.tiered:
            days, kept = self._rules.archived_after(kind), self._rules.kept(kind)
            if any(self._rules.is_in_vain(rule, kind) for rule in self._rules.for_all_of(kind)):
                wrong.append(
                    f"{kind.name} are moved to an archive after {days} days, which bills 90 at the"
                    f" least, and expire after {kept}"
                )
            elif not is_long(kept):
                told.append(f"{kind.name} expire after {kept}")
            elif days is None:
                wrong.append(f"no rule for all {kind.name} moves them to an archive class")
            elif days > ARCHIVE_DAYS:
                wrong.append(f"{kind.name} are archived after {days} days, and paid for as"
                             " Standard until then")  # fmt: skip
            else:
                told.append(f"{kind.name} after {count(days, 'day')}")
        if wrong:
            return warned(*ARCHIVE, "; ".join(wrong), self._fix())
        return passed(*ARCHIVE, "; ".join(told))

    def _archive_class(self) -> Check:
        slow = [
            f"rule {rule.id!r} moves them to {each.storage_class} {_when(each.days)}:"
            f" reading takes {way.usually} more"
            for rule in self._rules.touching
            for each in rule.transitions
            if (way := self._rules.too_slow(each.storage_class))
        ]
        if slow:
            allowed = duration(self._settings.audit.max_restore_seconds)
            reason = f"{'; '.join(slow)}, and a restore may take {allowed} in all"
            return warned(*ARCHIVE_CLASS, reason, self._fix())
        return passed(*ARCHIVE_CLASS, "no rule moves them to a class that is too slow")

    def _expiry(self) -> Check:
        soon = [
            f"rule {rule.id!r} deletes {self._deleted_by(rule)} "
            + (
                f"on {rule.expires_on:%Y-%m-%d}, however new"
                if rule.expires_on
                else f"after {count(rule.expiry_days or 0, 'day')}"
            )
            for rule in self._rules.touching
            if self._rules.harmed_by(rule)
        ]
        if soon:
            return failed(*EXPIRY, "; ".join(soon), self._fix())
        days = self._rules.kept(self._rules.untiered)
        if days is None:
            reason = f"no rule for all of {self._where()} expires them: they are paid for for ever"
            return warned(*EXPIRY, reason, self._fix())
        if days > KEPT_DAYS:
            return warned(*EXPIRY, f"they are kept for {days:,} days", self._fix())
        tiers = "".join(
            f", {each.name} after {self._rules.kept(each)}" for each in self._rules.tiered
        )
        return passed(*EXPIRY, f"after {days} days{tiers}")

    def _deleted_by(self, rule: LifecycleRule) -> str:
        """What a rule deletes too early: tiers by their name, or `all of them`."""
        harmed = self._rules.harmed_by(rule)
        if harmed and harmed[0].tier:
            return " and ".join(each.name for each in harmed)
        covers = rule.meant.covers(self._rules.prefix, self._rules.untiered.tags)
        return "all of them" if covers else "some of them"

    def _multiparts(self) -> Check:
        days = least(rule.abort_days for rule in self._rules.covering)
        if days is None or days > MOST_ABORT_DAYS:
            reason = (
                f"no rule for all of {self._where()} aborts them"
                if days is None
                else f"they stay for {days} days"
            )
            reason += "; what a run that lost its power leaves is unseen, and paid for"
            return warned(*MULTIPARTS, reason, self._fix())
        return passed(*MULTIPARTS, f"after {count(days, 'day')}")

    def _noncurrent(self) -> Check:
        days = least(rule.noncurrent_days for rule in self._rules.covering)
        soon = least(rule.noncurrent_days for rule in self._rules.touching)
        if soon is not None and soon < LEAST_NONCURRENT_DAYS:
            reason = (
                f"what was deleted or overwritten by mistake is gone for good after"
                f" {count(soon, 'day')}"
            )
            return warned(*NONCURRENT, reason, self._fix())
        if days is None:
            reason = (
                f"no rule for all of {self._where()} expires all of them: what was deleted or has"
                " expired stays as an earlier version, unseen, and is paid for"
            )
            return warned(*NONCURRENT, reason, self._fix())
        return passed(*NONCURRENT, f"after {count(days, 'day')}")

    def _where(self) -> str:
        return f"s3://{self._settings.bucket.name}/{self._rules.prefix}"

    def _fix(self) -> str:
        size = self._rules.lifecycle.minimum_size
        return s3api(
            self._settings.bucket,
            self._region,
            "put-bucket-lifecycle-configuration",
            *(("--transition-default-minimum-object-size", size) if size else ()),
            "--lifecycle-configuration",
            document({"Rules": Repair(self._rules).documents()}),
        )


def _when(days: int | None) -> str:
    return "on a date" if days is None else f"after {count(days, 'day')}"
