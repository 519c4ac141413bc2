"""How runs ended, kept in S3 for `notify-on: change`: one word at the end of a key, and no more.

    PREFIX/outcomes/OPERATION/DATABASE/20261122T020000Z-good.json
    PREFIX/outcomes/OPERATION/SECRET/20261122T020000Z-failed.json   where only a secret knows it
    PREFIX/outcomes/OPERATION/WORKFLOW/20261122T020000Z-good.json   where it is of no one database

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
from backup.model import WorkflowRun
from backup.operations.notifying.message import OF_A_FLEET, OF_AN_INSTANCE
from backup.settings import Settings

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


def kept_under(settings: Settings, operation: str, run: WorkflowRun | None) -> str:
    """The same for each run of one thing, good or failed: so by what the inputs say alone."""
    rds, fleet = settings.rds, settings.fleet
    if operation in OF_AN_INSTANCE:
        named = rds.instance or rds.cluster
    else:
        named = settings.database or settings.source.password_secret_id
    # Of a bucket or a fleet there can be a run for each of several repositories.
    whose = (run.repository, run.workflow) if run else ()
    parts = (*whose, fleet.file, fleet.group) if operation in OF_A_FLEET else whose
    return named or " ".join(filter(None, parts)) or settings.bucket.name


def folder(prefix: str, operation: str, kept: str) -> str:
    """Where the outcomes of an operation lie, with its slash."""
    root = "/".join(part for part in (prefix, FOLDER, operation) if part)
    return database_prefix(root, kept)


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
