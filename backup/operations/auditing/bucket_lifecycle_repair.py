"""The lifecycle rules of a bucket as they should be: what is there, mended, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backup.aws.bucket_rules import LifecycleRule
from backup.operations.auditing.bucket_tiers import (
    ARCHIVE_DAYS,
    ARCHIVES,
    KEPT_DAYS,
    Kind,
    TieredRules,
    is_long,
    least,
)

ABORT_DAYS, MOST_ABORT_DAYS = 2, 7
NONCURRENT_DAYS, LEAST_NONCURRENT_DAYS = 30, 7

_INSTANT = "GLACIER_IR"
_RULE_NAME = "pg-backups"
# What a rule may do; S3 takes none that does nothing.
_ACTIONS = {
    "Transitions",
    "Expiration",
    "AbortIncompleteMultipartUpload",
    "NoncurrentVersionExpiration",
    "NoncurrentVersionTransitions",
}


class Repair:
    """S3 replaces all rules at once, so whatever is found the repair is one and the same."""

    def __init__(self, rules: TieredRules) -> None:
        self._rules = rules

    def documents(self) -> list[Mapping[str, Any]]:
        """All rules that there are, without what is wrong, and new ones for what is missing."""
        by_id = {rule.id: rule for rule in self._rules.touching}
        rules = [self._mended(each, by_id) for each in self._rules.lifecycle.documents]
        rules = [each for each in rules if each.keys() & _ACTIONS]
        for kind, added in self._missing():
            base = name = f"{_RULE_NAME}-{kind.tier}" if kind.tier else _RULE_NAME
            number = 2
            while name in {each.get("ID") for each in rules}:
                name, number = f"{base}-{number}", number + 1
            head = {"ID": name, "Status": "Enabled", "Filter": kind.filter(self._rules.prefix)}
            rules.append(head | added)
        return rules

    def _mended(
        self, document: Mapping[str, Any], by_id: Mapping[str, LifecycleRule]
    ) -> Mapping[str, Any]:
        mended = dict(document)
        # S3 takes no mixture of rules with the old `Prefix` and rules with a `Filter`.
        if "Prefix" in mended:
            mended["Filter"] = {"Prefix": mended.pop("Prefix")}
        rule = by_id.get(document.get("ID", ""))
        if rule is None or document["Status"] != "Enabled":
            return mended
        if self._rules.harmed_by(rule):
            mended["Expiration"] = {"Days": _expiry_of(rule, self._rules)}
        noncurrent = mended.get("NoncurrentVersionExpiration") or {}
        if (
            not noncurrent.get("NewerNoncurrentVersions")
            and noncurrent.get("NoncurrentDays", NONCURRENT_DAYS) < LEAST_NONCURRENT_DAYS
        ):
            mended["NoncurrentVersionExpiration"] = {"NoncurrentDays": NONCURRENT_DAYS}
        if self._archives_in_vain(rule):
            del mended["Transitions"]
        elif transitions := mended.get("Transitions"):
            mended["Transitions"] = self._readable(transitions)
        return mended

    def _readable(self, transitions: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The same with Glacier Instant Retrieval, once, in place of what is too slow."""
        found: list[Mapping[str, Any]] = []
        for each in transitions:
            slow = self._rules.too_slow(each["StorageClass"])
            kept = dict(each) | {"StorageClass": _INSTANT} if slow else each
            if kept["StorageClass"] not in [other["StorageClass"] for other in found]:
                found.append(kept)
        return found

    def _missing(self) -> Iterator[tuple[Kind, dict[str, Any]]]:
        rules = self._rules
        added: dict[str, Any] = {}
        archive = {"Transitions": [{"Days": ARCHIVE_DAYS, "StorageClass": _INSTANT}]}
        if not rules.tiered and self._needs_archive(rules.untiered):
            added |= archive
        if (days := self._will_be_kept(rules.untiered)) is None or days > KEPT_DAYS:
            added["Expiration"] = {"Days": KEPT_DAYS}
        aborted = least(rule.abort_days for rule in rules.covering)
        if aborted is None or aborted > MOST_ABORT_DAYS:
            added["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": ABORT_DAYS}
        if least(rule.noncurrent_days for rule in rules.covering) is None:
            added["NoncurrentVersionExpiration"] = {"NoncurrentDays": NONCURRENT_DAYS}
        if added:
            yield rules.untiered, added
        for kind in rules.tiered:
            if is_long(self._will_be_kept(kind)) and self._needs_archive(kind):
                yield kind, archive

    def _will_be_kept(self, kind: Kind) -> int | None:
        """For how long, once the rules are mended."""
        return least(_expiry_of(rule, self._rules) for rule in self._rules.for_all_of(kind))

    def _needs_archive(self, kind: Kind) -> bool:
        days = least(
            each.days
            for rule in self._rules.for_all_of(kind)
            for each in rule.transitions
            if each.storage_class in ARCHIVES and not self._archives_in_vain(rule)
        )
        return days is None or days > ARCHIVE_DAYS

    def _archives_in_vain(self, rule: LifecycleRule) -> bool:
        """Then it archives nothing any more, and tiers that are kept for long get their own."""
        rules = self._rules
        return any(rules.is_in_vain(rule, each) for each in rules.touched_by(rule))


def _expiry_of(rule: LifecycleRule, rules: TieredRules) -> int | None:
    """After how many days a rule should expire what it meets; None where it expires nothing."""
    if harmed := rules.harmed_by(rule):
        return max(each.usual_days for each in harmed)
    return rule.expiry_days
