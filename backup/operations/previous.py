"""The backups before this one: for a look at how the size has changed, and for its tier."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from backup.archive import retention
from backup.archive.catalogue import database_prefix, entries
from backup.aws.s3 import Bucket
from backup.console import Console
from backup.errors import AccessError
from backup.model import BackupEntry
from backup.settings import Settings
from backup.wording import size

# A dump that lost more than half of its size has lost something, or someone tidied up.
_ALARMING_SHRINKAGE = 0.5


def earlier_backups(
    bucket: Bucket, prefix: str, database: str, console: Console
) -> list[BackupEntry] | None:
    """The backups of the database so far, oldest first; None where listing is denied."""
    try:
        listed = list(bucket.list(database_prefix(prefix, database)))
    except AccessError as error:
        console.warning(
            "The size cannot be compared with the previous backup",
            "\n".join(error.lines()),
        )
        return None
    return entries(prefix, listed)


def tier_of(
    settings: Settings, moment: datetime, earlier: Sequence[BackupEntry] | None, console: Console
) -> str | None:
    """The `retention-tier` of a backup as of `moment`; None where none was asked for.

    Whoever may not list cannot know what this backup stands for. It is kept as long as any: what
    nobody knows must not be gone after a month.
    """
    wanted, selection = settings.bucket.retention_tier, settings.dump.selection
    if wanted != retention.AUTO:
        return wanted
    if selection.schemas or selection.tables:
        return retention.TIERS[0]
    if earlier is None:
        tier = retention.TIERS[-1]
        console.warning(
            f"This backup is kept as a {tier} one",
            "retention-tier: auto finds a backup's place in the calendar by the list of those"
            " before it, and this role may not list them: allow it s3:ListBucket, or name the tier",
        )
        return tier
    return retention.tier_for(moment, earlier)


def compare_with_previous(
    previous: BackupEntry | None, stored_bytes: int, console: Console
) -> None:
    """Warn when the backup is much smaller than the one before."""
    if previous and stored_bytes < previous.stored_bytes * _ALARMING_SHRINKAGE:
        console.warning(
            "This backup is less than half as large as the one before",
            f"{size(stored_bytes)} now, {size(previous.stored_bytes)} in {previous.id}. If nobody"
            " deleted data or changed which tables are dumped, look before the old one expires.",
        )
