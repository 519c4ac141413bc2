"""The backup before this one, for a look at how the size has changed."""

from __future__ import annotations

from backup.archive.catalogue import database_prefix, entries
from backup.aws.s3 import Bucket
from backup.console import Console
from backup.errors import AccessError
from backup.model import BackupEntry
from backup.wording import size

# A dump that lost more than half of its size has lost something, or someone tidied up.
_ALARMING_SHRINKAGE = 0.5


def previous_backup(
    bucket: Bucket, prefix: str, database: str, console: Console
) -> BackupEntry | None:
    """The newest backup of the database so far; None where there is none or listing is denied."""
    try:
        listed = list(bucket.list(database_prefix(prefix, database)))
    except AccessError as error:
        console.warning(
            "The size cannot be compared with the previous backup",
            "\n".join(error.lines()),
        )
        return None
    return max(entries(prefix, listed), key=lambda entry: entry.id, default=None)


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
