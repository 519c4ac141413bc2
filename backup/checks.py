"""What an audit finds: checks with a status, each with its reason and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeAlias, TypeVar

from backup.errors import BackupError, InputError

T = TypeVar("T")


class Status(Enum):
    """Ordered from good to bad by `worst`: what nobody may look at is worse than a warning."""

    PASS = "pass"  # noqa: S105 - not a password
    WARN = "warn"
    UNKNOWN = "unknown"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Age:
    """How many seconds old the newest of something is, of one database."""

    of: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `fix` is the command, SQL or policy line; empty on a pass.

    `id` is stable, for programs: `bucket.versioning`. `title` is for people. `age` is set where
    the check is about one and has found it out.
    """

    id: str
    title: str
    status: Status
    reason: str
    fix: str = ""
    age: Age | None = None

    @property
    def area(self) -> str:
        return self.id.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """What AWS, GitHub or the database answered."""

    value: T


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A question that was refused or failed, in the words of its error."""

    error: BackupError

    def check(self, id: str, title: str) -> Check:
        """The check that cannot be made without the answer; failed where there is no such thing.

        A bucket or a key that is gone must not look like one that nobody may look at.
        """
        message, detail, hint = self.error.message, self.error.detail, self.error.hint
        told = f"{message}: {detail}" if detail else message
        status = Status.FAIL if isinstance(self.error, InputError) else Status.UNKNOWN
        return Check(id, title, status, told, hint)


Answer: TypeAlias = Known[T] | Unanswered


def ask(question: Callable[[], T]) -> Answer[T]:
    """The answer, or why there is none. An audit goes on where one question is denied."""
    try:
        return Known(question())
    except BackupError as error:
        return Unanswered(error)


def passed(id: str, title: str, reason: str) -> Check:
    return Check(id, title, Status.PASS, reason)


def warned(id: str, title: str, reason: str, fix: str) -> Check:
    return Check(id, title, Status.WARN, reason, fix)


def failed(id: str, title: str, reason: str, fix: str) -> Check:
    return Check(id, title, Status.FAIL, reason, fix)


def worst(checks: Iterable[Check]) -> Status:
    return max((each.status for each in checks), key=list(Status).index, default=Status.PASS)
