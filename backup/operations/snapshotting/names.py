"""What a new snapshot is called, and the tags by which the action knows its own again."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from backup.aws.instances import Tags
from backup.aws.snapshots import Snapshot

_CREATED_BY = ("pg-backup-action:created-by", "pg-backup-action")
_SOURCE = "pg-backup-action:source"
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


def own_tags(name: str | None, identifier: str, release: str | None) -> Tags:
    """The tags of a snapshot of ours; `name` None for one that AWS Backup names."""
    value = re.sub(r"[^\w .:/=+@-]", "-", release or "")[:_MOST_OF_VALUE]
    return (
        _CREATED_BY,
        (_SOURCE, identifier),
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
    return (*tags, *inherited[: _MOST_TAGS - len(tags)])


def is_own(snapshot: Snapshot, identifier: str) -> bool:
    """Whether this action took a snapshot, and of this instance or cluster."""
    own = {_CREATED_BY, (_SOURCE, identifier), (_NAME, snapshot.id)}
    return snapshot.source == identifier and own <= set(snapshot.tags)
