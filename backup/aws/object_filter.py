"""Which objects a rule of a bucket (lifecycle, replication, metrics) is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ObjectFilter:
    """Objects whose key begins with `prefix` and which bear all `tags`.

    `limits_more`: only those above or below a size, or reached through one access point, so never
    whole backups for certain.
    """

    prefix: str
    tags: Tags = ()
    limits_more: bool = False

    def covers(self, prefix: str, tags: Tags) -> bool:
        """Whether every object below `prefix` is meant, where each bears `tags`."""
        return (
            prefix.startswith(self.prefix) and set(self.tags) <= set(tags) and not self.limits_more
        )

    def touches(self, prefix: str, tags: Tags) -> bool:
        """Whether some of those objects are meant."""
        return (prefix.startswith(self.prefix) or self.prefix.startswith(prefix)) and set(
            self.tags
        ) <= set(tags)


def object_filter(rule: Mapping[str, Any]) -> ObjectFilter:
    """The filter of a rule as S3 gives it: in `Filter`, in its `And`, or as the old `Prefix`.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-filters.html
    """
    given: Mapping[str, Any] = rule.get("Filter") or {}
    together: Mapping[str, Any] = given.get("And") or {}
    tags = [*together.get("Tags", ()), *([given["Tag"]] if given.get("Tag") else [])]
    prefix = rule.get("Prefix") or given.get("Prefix") or together.get("Prefix") or ""
    return ObjectFilter(
        prefix=str(prefix),
        tags=tuple((str(each["Key"]), str(each["Value"])) for each in tags),
        limits_more=any(
            each.get("ObjectSizeGreaterThan")
            or "ObjectSizeLessThan" in each
            or "AccessPointArn" in each
            for each in (given, together)
        ),
    )
