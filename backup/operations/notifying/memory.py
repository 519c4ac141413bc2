"""How runs ended, kept in S3 for `notify-on: change`: one word at the end of a key, and no more.

    PREFIX/outcomes/OPERATION/DATABASE/20261122T020000Z-good.json
    PREFIX/outcomes/OPERATION/20261122T020000Z-failed.json          where it is of no one database

The last one is read from the list of objects alone, so that a role that may not read anything
can remember all the same. Nothing here is ever changed or deleted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from backup import __version__
from backup.archive.catalogue import Listed, database_prefix
from backup.aws.s3 import Bucket
from backup.errors import AlreadyWritten

FOLDER = "outcomes"
_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"([0-9]{8}T[0-9]{6}Z)-(good|failed)\.json")
# Written again where nothing has changed: a lifecycle rule may remove what is older.
_STAYS_FRESH = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, and when."""

    time: datetime
    is_good: bool


def folder(prefix: str, operation: str, about: str | None) -> str:
    """Where the outcomes of an operation lie, with its slash; `about` is a database or instance."""
    root = "/".join(part for part in (prefix, FOLDER, operation) if part)
    return database_prefix(root, about) if about else f"{root}/"


def last(place: str, listed: Iterable[Listed]) -> Outcome | None:
    """The newest outcome in a folder; None where there is none yet."""
    found = [
        Outcome(moment, match[2] == "good")
        for each in listed
        if (match := _NAME.fullmatch(each.key.removeprefix(place)))
        and (moment := _moment(match[1]))
    ]
    return max(found, key=lambda outcome: outcome.time, default=None)


@dataclass(frozen=True, slots=True)
class Memory:
    """The folder of one operation's outcomes; `before` is None where there is none yet."""

    bucket: Bucket
    place: str
    before: Outcome | None

    def remember(self, outcome: Outcome) -> None:
        """Write an outcome down where it is news. Raises AccessError or StorageError."""
        before = self.before
        is_known = before is not None and before.is_good == outcome.is_good
        if is_known and before and outcome.time - before.time < _STAYS_FRESH:
            return
        word = "good" if outcome.is_good else "failed"
        told = {"format": 1, "outcome": word, "action": {"version": __version__}}
        key = f"{self.place}{outcome.time.astimezone(UTC).strftime(_TIME)}-{word}.json"
        try:
            self.bucket.put_if_absent(key, json.dumps(told).encode(), "application/json")
        except AlreadyWritten:
            return  # by another run that ended so in the same second


def recall(bucket: Bucket, place: str) -> Memory:
    """What is remembered in a folder. Raises AccessError or StorageError."""
    return Memory(bucket, place, last(place, bucket.list(place)))


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:  # digits, and no time: not ours
        return None
