"""What becomes of backups with time: the lifecycle rules against 30 days, and two years.

Only enabled rules that take in all backups count; one that also meets some of them may do harm.
All fixes are one and the same command, for it replaces the rules as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backup.aws.bucket_rules import Lifecycle, LifecycleRule
from backup.aws.glacier import Retrieval, retrieval
from backup.checks import Check, failed, passed, warned
from backup.operations.auditing.shell import document, s3api
from backup.settings import Settings
from backup.wording import count, duration

ARCHIVE_DAYS, KEPT_DAYS = 30, 730
_ABORT_DAYS, _MOST_ABORT_DAYS = 2, 7
_NONCURRENT_DAYS, _LEAST_NONCURRENT_DAYS = 30, 7

_RULE_NAME = "pg-backups"

_INSTANT = "GLACIER_IR"
_ARCHIVES = (_INSTANT, "GLACIER", "DEEP_ARCHIVE", "INTELLIGENT_TIERING")

ARCHIVE = ("bucket.archive", f"Backups are archived after {ARCHIVE_DAYS} days")
ARCHIVE_CLASS = ("bucket.archive-class", "What is archived can be read in time")
EXPIRY = ("bucket.expiry", f"Backups expire after {KEPT_DAYS} days")
MULTIPARTS = ("bucket.multiparts", "Incomplete uploads are aborted")
NONCURRENT = ("bucket.noncurrent", "Noncurrent versions expire")
IDS = (ARCHIVE, ARCHIVE_CLASS, EXPIRY, MULTIPARTS, NONCURRENT)


class LifecycleRules:
    """The rules as they concern the backups below one prefix."""

    def __init__(self, lifecycle: Lifecycle, settings: Settings, region: str) -> None:
        self._lifecycle = lifecycle
        self._settings = settings
        self._region = region
        prefix = settings.bucket.prefix
        self._prefix = f"{prefix}/" if prefix else ""
        tags = settings.bucket.tags
        rules = lifecycle.rules
        self._covering = [each for each in rules if each.meant.covers(self._prefix, tags)]
        self._touching = [each for each in rules if each.meant.touches(self._prefix, tags)]

    def checks(self) -> list[Check]:
        return [
            self._archive(),
            self._archive_class(),
            self._expiry(),
            self._multiparts(),
            self._noncurrent(),
        ]

    def _archive(self) -> Check:
        days = self._archived_after()
        if days is None:
            reason = f"no rule for all of {self._where()} moves objects to an archive class"
            return warned(*ARCHIVE, reason, self._fix())
        if days > ARCHIVE_DAYS:
            reason = f"they are archived after {days} days, and paid for as Standard until then"
            return warned(*ARCHIVE, reason, self._fix())
        return passed(*ARCHIVE, f"after {count(days, 'day')}")

    def _archive_class(self) -> Check:
        slow = [
            f"rule {rule.id!r} moves them to {each.storage_class} {_when(each.days)}:"
            f" reading takes {way.usually} more"
            for rule in self._touching
            for each in rule.transitions
            if (way := self._too_slow(each.storage_class))
        ]
        if slow:
            allowed = duration(self._settings.audit.max_restore_seconds)
            reason = f"{'; '.join(slow)}, and a restore may take {allowed} in all"
            return warned(*ARCHIVE_CLASS, reason, self._fix())
        return passed(*ARCHIVE_CLASS, "no rule moves them to a class that is too slow")

    def _expiry(self) -> Check:
        soon = [
            f"rule {rule.id!r} deletes "
            + ("all" if rule.meant.covers(self._prefix, self._settings.bucket.tags) else "some")
            + (
                f" of them on {rule.expires_on:%Y-%m-%d}, however new"
                if rule.expires_on
                else f" of them after {count(rule.expiry_days or 0, 'day')}"
            )
            for rule in self._touching
            if _expires_early(rule)
        ]
        if soon:
            return failed(*EXPIRY, "; ".join(soon), self._fix())
        days = self._least(rule.expiry_days for rule in self._covering)
        if days is None:
            reason = f"no rule for all of {self._where()} expires them: they are paid for for ever"
            return warned(*EXPIRY, reason, self._fix())
        if days > KEPT_DAYS:
            return warned(*EXPIRY, f"they are kept for {days:,} days", self._fix())
        return passed(*EXPIRY, f"after {days} days")

    def _multiparts(self) -> Check:
        days = self._least(rule.abort_days for rule in self._covering)
        if days is None or days > _MOST_ABORT_DAYS:
            reason = (
                f"no rule for all of {self._where()} aborts them"
                if days is None
                else f"they stay for {days} days"
            )
            reason += "; what a run that lost its power leaves is unseen, and paid for"
            return warned(*MULTIPARTS, reason, self._fix())
        return passed(*MULTIPARTS, f"after {count(days, 'day')}")

    def _noncurrent(self) -> Check:
        days = self._least(rule.noncurrent_days for rule in self._covering)
        soon = self._least(rule.noncurrent_days for rule in self._touching)
        if soon is not None and soon < _LEAST_NONCURRENT_DAYS:
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
        return f"s3://{self._settings.bucket.name}/{self._prefix}"

    def _archived_after(self) -> int | None:
        return self._least(
            each.days
            for rule in self._covering
            for each in rule.transitions
            if each.storage_class in _ARCHIVES
        )

    def _too_slow(self, storage_class: str) -> Retrieval | None:
        """How long its objects take to come back, where that is longer than a restore may take."""
        tier = self._settings.thaw.tier
        way = retrieval(storage_class, tier) or retrieval(storage_class, "standard")
        allowed = self._settings.audit.max_restore_seconds
        return way if way and way.seconds >= allowed else None

    @staticmethod
    def _least(days: Any) -> int | None:
        return min((each for each in days if each is not None), default=None)

    def _fix(self) -> str:
        size = self._lifecycle.minimum_size
        return s3api(
            self._settings.bucket,
            self._region,
            "put-bucket-lifecycle-configuration",
            *(("--transition-default-minimum-object-size", size) if size else ()),
            "--lifecycle-configuration",
            document({"Rules": self._repaired()}),
        )

    def _repaired(self) -> list[Mapping[str, Any]]:
        """All rules that there are, without what is wrong, and one for what is missing."""
        touching = {rule.id for rule in self._touching}
        rules = [self._mended(each, touching) for each in self._lifecycle.documents]
        if added := self._missing():
            name, number = _RULE_NAME, 2
            while name in {each.get("ID") for each in rules}:
                name, number = f"{_RULE_NAME}-{number}", number + 1
            head = {"ID": name, "Status": "Enabled", "Filter": {"Prefix": self._prefix}}
            rules.append(head | added)
        return rules

    def _mended(self, rule: Mapping[str, Any], touching: set[str]) -> Mapping[str, Any]:
        mended = dict(rule)
        # S3 takes no mixture of rules with the old `Prefix` and rules with a `Filter`.
        if "Prefix" in mended:
            mended["Filter"] = {"Prefix": mended.pop("Prefix")}
        if rule.get("ID", "") not in touching or rule["Status"] != "Enabled":
            return mended
        expiration = mended.get("Expiration") or {}
        if "Date" in expiration or expiration.get("Days", KEPT_DAYS) < KEPT_DAYS:
            mended["Expiration"] = {"Days": KEPT_DAYS}
        noncurrent = mended.get("NoncurrentVersionExpiration") or {}
        if (
            not noncurrent.get("NewerNoncurrentVersions")
            and noncurrent.get("NoncurrentDays", _NONCURRENT_DAYS) < _LEAST_NONCURRENT_DAYS
        ):
            mended["NoncurrentVersionExpiration"] = {"NoncurrentDays": _NONCURRENT_DAYS}
        if transitions := mended.get("Transitions"):
            mended["Transitions"] = self._readable(transitions)
        return mended

    def _readable(self, transitions: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The same with Glacier Instant Retrieval, once, in place of what is too slow."""
        found: list[Mapping[str, Any]] = []
        for each in transitions:
            slow = self._too_slow(each["StorageClass"])
            kept = dict(each) | {"StorageClass": _INSTANT} if slow else each
            if kept["StorageClass"] not in [other["StorageClass"] for other in found]:
                found.append(kept)
        return found

    def _missing(self) -> dict[str, Any]:
        added: dict[str, Any] = {}
        archived = self._archived_after()
        if archived is None or archived > ARCHIVE_DAYS:
            added["Transitions"] = [{"Days": ARCHIVE_DAYS, "StorageClass": _INSTANT}]
        expiries = [
            KEPT_DAYS if _expires_early(rule) else rule.expiry_days for rule in self._covering
        ]
        if (days := self._least(expiries)) is None or days > KEPT_DAYS:
            added["Expiration"] = {"Days": KEPT_DAYS}
        aborted = self._least(rule.abort_days for rule in self._covering)
        if aborted is None or aborted > _MOST_ABORT_DAYS:
            added["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": _ABORT_DAYS}
        if self._least(rule.noncurrent_days for rule in self._covering) is None:
            added["NoncurrentVersionExpiration"] = {"NoncurrentDays": _NONCURRENT_DAYS}
        return added


def _when(days: int | None) -> str:
    return "on a date" if days is None else f"after {count(days, 'day')}"


def _expires_early(rule: LifecycleRule) -> bool:
    if rule.expires_on:
        return True
    return rule.expiry_days is not None and rule.expiry_days < KEPT_DAYS
