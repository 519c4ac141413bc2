"""What a new snapshot is called, and the tags by which the action knows its own again."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from backup.aws.instances import Database, Tags
from backup.aws.snapshots import Snapshot

_CREATED_BY = ("pg-backup-action:created-by", "pg-backup-action")
_SOURCE = "pg-backup-action:source"
# Which one it was of all that ever bore the identifier, here or in another region: after a restore
# the new one may have taken the lost one's name, and then the lost one's snapshots must stay.
_SOURCE_ID = "pg-backup-action:source-id"
_RELEASE = "pg-backup-action:release"
# The snapshot's own name. A snapshot may inherit the tags of its instance, and a restored
# instance those of a snapshot: such a one bears the name of another, and is not ours to delete.
_NAME = "pg-backup-action:snapshot"

_MOST_OF_VALUE, _MOST_TAGS = 256, 50
_RESERVED = ("aws:", "rds:", "pg-backup-action:")


def made_name(identifier: str, release: str | None, moment: datetime, longest: int) -> str:
    """A name of the identifier, the release and the time, in RDS's letters, cut to `longest`."""
    tail = moment.astimezone(UTC).strftime("-%Y%m%dt%H%M%Sz")
    words = f"{identifier}-{release}" if release else identifier
    head = re.sub(r"[^a-z0-9]+", "-", words.lower())[: longest - len(tail)]
    return head.strip("-") + tail


def own_tags(name: str | None, database: Database, release: str | None) -> Tags:
    """The tags of a snapshot of ours; `name` None for one that AWS Backup names."""
    value = re.sub(r"[^\w .:/=+@-]", "-", release or "")[:_MOST_OF_VALUE]
    return (
        _CREATED_BY,
        *_of(database),
        *(((_NAME, name),) if name else ()),
        *(((_RELEASE, value),) if value else ()),
    )


def with_inherited(tags: Tags, source: Tags) -> Tags:
    """The tags of a snapshot and those of its source, as many as RDS takes.

    RDS copies none where any is given, whatever CopyTagsToSnapshot says:
    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Tagging.html
    """
    given = {key for key, _ in tags}
    inherited = [
        (key, value)
        for key, value in source
        if key not in given and not key.lower().startswith(_RESERVED)
    ]
    return (*tags, *inherited[: max(_MOST_TAGS - len(tags), 0)])


def is_own(snapshot: Snapshot, database: Database) -> bool:
    """Whether this action took a snapshot, and of this very instance or cluster."""
    own = {_CREATED_BY, *_of(database), (_NAME, snapshot.id)}
    return snapshot.source == database.identifier and own <= set(snapshot.tags)


def _of(database: Database) -> Tags:
    return (_SOURCE, database.identifier), (_SOURCE_ID, database.resource_id)
