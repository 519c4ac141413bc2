"""The newest backup of each database, found with lists of keys alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from backup.archive.catalogue import database_prefix, entries
from backup.aws.s3_reading import ListedObject, ReadableBucket
from backup.aws.session import AwsSession
from backup.checks import Unanswered, ask
from backup.console import Console
from backup.errors import BackupError, InputError
from backup.fleet.file import Member
from backup.model import BackupEntry
from backup.operations.opening import first_bucket, log_in
from backup.wording import duration

_THREADS = 8
# The id of a backup tells its time by the clock of the database.
_CLOCKS_DIFFER = timedelta(minutes=15)


class Standing(Enum):
    """Ordered from bad to good, as a report tells them."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    FRESH = "fresh"


@dataclass(frozen=True, slots=True)
class Found:
    """A database and its newest backup, None where there is none or nobody knows.

    `reason` says why it does not count; `hint` what to do where AWS refused to tell.
    """

    member: Member
    standing: Standing
    newest: BackupEntry | None
    reason: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Since:
    """A backup counts from `begun` on, when the run began; None where nobody knows that."""

    now: datetime
    begun: datetime | None


def look(
    members: Sequence[Member], since: Since, console: Console, environment: Mapping[str, str]
) -> list[Found]:
    """One login for each role, one look at each bucket; what is denied stops none of the rest."""
    found: dict[str, Found] = {}
    for of_role in _grouped(members, _who):
        settings = of_role[0].settings
        session = ask(lambda each=settings: log_in(each, console, environment))  # type: ignore[misc]
        if isinstance(session, Unanswered):
            found |= {each.name: _unanswered(each, session.error) for each in of_role}
            continue
        for of_place in _grouped(of_role, _where):
            found |= {
                each.member.name: each
                for each in _in_place(of_place, session.value, since, console)
            }
    return [found[each.name] for each in members]


def _who(member: Member) -> object:
    settings = member.settings
    return (settings.role, settings.replica, settings.read_from)


def _where(member: Member) -> object:
    bucket = member.settings.bucket
    return (bucket.name, bucket.prefix, bucket.expected_owner, bucket.role_arn)


def _grouped(members: Iterable[Member], key: Callable[[Member], object]) -> list[list[Member]]:
    groups: dict[object, list[Member]] = {}
    for each in members:
        groups.setdefault(key(each), []).append(each)
    return list(groups.values())


def _in_place(
    members: Sequence[Member], session: AwsSession, since: Since, console: Console
) -> list[Found]:
    def open_bucket() -> ReadableBucket:
        bucket = first_bucket(session, members[0].settings, console).readable(_THREADS)
        bucket.check()
        return bucket

    bucket = ask(open_bucket)
    if isinstance(bucket, Unanswered):
        return [_unanswered(each, bucket.error) for each in members]

    def newest(member: Member) -> Found:
        answer = ask(lambda: _newest(bucket.value, member, since))
        return _unanswered(member, answer.error) if isinstance(answer, Unanswered) else answer.value

    threads = ThreadPoolExecutor(_THREADS)
    try:
        return list(threads.map(newest, members))
    finally:
        # Whoever interrupts the run does not wait for a store that does not answer.
        threads.shutdown(wait=False, cancel_futures=True)


def _newest(bucket: ReadableBucket, member: Member, since: Since) -> Found:
    """Keys sort by time: those of the last hours are enough, unless nothing of them counts.

    Raises AccessError or StorageError.
    """
    prefix = member.settings.bucket.prefix
    folder = database_prefix(prefix, member.database)
    oldest = since.now - timedelta(seconds=member.settings.audit.max_age_seconds)
    written: dict[str, datetime] = {}

    def past(after: str) -> list[BackupEntry]:
        listed: list[ListedObject] = list(bucket.list(folder, after))
        written.update({each.key: each.modified for each in listed})
        latest = since.now + _CLOCKS_DIFFER
        # A name from the future would look fresh for ever.
        return [each for each in entries(prefix, listed) if each.time <= latest]

    # A store that does not know where to start lists all of them.
    young = [each for each in past(f"{folder}{oldest:%Y%m%dT%H%M%SZ}") if each.time >= oldest]
    # S3 says when a backup was finished; its clock and GitHub's are right.
    new = [each for each in young if not since.begun or written[each.manifest_key] >= since.begun]
    if new:
        return Found(member, Standing.FRESH, new[-1])
    before = young or past("")
    if not before:
        return Found(member, Standing.MISSING, None, "there is no backup of it")
    reason = "none was made in this run"
    if not young:
        most = duration(member.settings.audit.max_age_seconds)
        reason = f"it is older than {most} (max-age-hours)"
    return Found(member, Standing.MISSING, before[-1], reason)


def _unanswered(member: Member, error: BackupError) -> Found:
    """What is not there at all, such as a bucket, must not look like what nobody may look at."""
    standing = Standing.MISSING if isinstance(error, InputError) else Standing.UNKNOWN
    told = f"{error.message}: {error.detail}" if error.detail else error.message
    return Found(member, standing, None, " ".join(told.split()), error.hint)
