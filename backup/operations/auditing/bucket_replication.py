"""Whether backups also lie in another bucket, and whether the newest ones have arrived there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from backup.archive.catalogue import entries
from backup.archive.manifest import NAME as MANIFEST
from backup.aws.bucket_rules import Replication
from backup.aws.s3_reading import ListedObject, ReadableBucket
from backup.aws.session import AwsSession
from backup.checks import Answer, Check, Unanswered, ask, failed, passed, warned
from backup.errors import AccessError
from backup.operations.auditing.replicating import Replica, copying_again
from backup.operations.opening import BucketAccess
from backup.settings import Settings
from backup.wording import count

_RULE = ("bucket.replication", "Backups are replicated to another bucket")
_STATE = ("bucket.replication-state", "The newest backups have been replicated")

_MOST_DATABASES, _MOST_OBJECTS = 20, 20
# Most objects arrive within 15 minutes, and large ones may take hours:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-troubleshoot.html
_PATIENCE = timedelta(hours=3)


@dataclass(frozen=True, slots=True)
class _State:
    """An object of a newest backup; `root` is the backup's prefix."""

    key: str
    root: str
    status: str
    is_late: bool


def replication_checks(
    session: AwsSession,
    settings: Settings,
    answer: Answer[Replication | None],
    key: str | None,
    now: datetime,
) -> list[Check]:
    """The rule, and where there is one, the state of the newest backup of each database.

    `key` names the KMS key of the backups; None for S3's own.
    """
    if settings.bucket.replica_of:
        return []  # this is the other bucket
    if isinstance(answer, Unanswered):
        return [answer.check(*_RULE), answer.check(*_STATE)]
    bucket = settings.bucket
    prefix = f"{bucket.prefix}/" if bucket.prefix else ""
    known = answer.value
    rules = (
        [each for each in known.rules if each.meant.covers(prefix, bucket.tags)] if known else []
    )
    encrypted = ", encrypted with a key of KMS as they are" if key else ""
    rules = [each for each in rules if each.takes_kms or not key]
    if not known or not rules:
        reason = (
            f"no enabled rule takes in all of s3://{bucket.name}/{prefix}{encrypted}: who destroys"
            " this bucket destroys every backup"
        )
        replica = Replica.of(bucket, session, key)
        return [warned(*_RULE, reason, replica.script(known.document if known else None))]
    destinations = sorted({each.destination.rpartition(":")[2] for each in rules})
    if settings.replica and settings.replica.bucket not in destinations:
        named, found = settings.replica.bucket, destinations[0]
        reason = f"they are copied to {', '.join(destinations)}, and replica-bucket is {named}"
        return [
            failed(
                *_RULE, f"{reason}: nothing arrives where restores look", f"replica-bucket: {found}"
            ),
            _state(session, settings, known.document, now),
        ]
    return [
        passed(*_RULE, f"to {', '.join(destinations)}"),
        _state(session, settings, known.document, now),
    ]


def _state(
    session: AwsSession, settings: Settings, document: Mapping[str, Any], now: datetime
) -> Check:
    reader = BucketAccess(session, settings).readable(connections=1)
    answer = ask(lambda: _newest(reader, settings.bucket.prefix, now))
    if isinstance(answer, Unanswered):
        return answer.check(*_STATE)
    states = answer.value
    lost = [each for each in states if each.status == "FAILED"]
    never = [each for each in states if not each.status]
    late = [each for each in states if each.status == "PENDING" and each.is_late]
    told = "; ".join(
        f"{word}: {count(len(those), 'object')}, as {those[0].key}"
        for word, those in (("failed", lost), ("never begun", never), ("late", late))
        if those
    )
    fix = copying_again(
        settings.bucket, session, document, sorted({each.root for each in (*lost, *never, *late)})
    )
    if lost:
        return failed(*_STATE, told, fix)
    if never or late:
        return warned(*_STATE, told, fix)
    looked = f"{count(len(states), 'object')} of the newest backups looked at"
    if states and all(each.key.endswith(f"/{MANIFEST}") for each in states):
        looked += ": their manifests, for the role may not read archives"
    return passed(*_STATE, looked)


def _newest(reader: ReadableBucket, prefix: str, now: datetime) -> list[_State]:
    """The states of the newest backup of each database, the first objects of each."""
    listed = list(reader.list(f"{prefix}/" if prefix else ""))
    newest = {each.database: each for each in entries(prefix, listed)}
    found: list[_State] = []
    for entry in sorted(newest.values(), key=lambda each: each.time)[-_MOST_DATABASES:]:
        root = entry.manifest_key.rpartition("/")[0] + "/"
        found += _states(reader, root, (each for each in listed if each.key.startswith(root)), now)
    return found


def _states(
    reader: ReadableBucket, root: str, listed: Iterable[ListedObject], now: datetime
) -> list[_State]:
    # The manifest counts most.
    ordered = sorted(listed, key=lambda each: (each.key != root + MANIFEST, each.key))
    found: list[_State] = []
    for each in ordered[:_MOST_OBJECTS]:
        try:
            status = reader.head(each.key).replication
        except AccessError:
            if not found:
                raise
            return found  # who audits may read manifests, and need not be able to read data
        found.append(_State(each.key, root, status, now - each.modified > _PATIENCE))
    return found
