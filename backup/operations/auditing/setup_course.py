"""The steps of the doctor, in the order of a backup, and how one rests on another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from backup.checks import Check, Status
from backup.console import Console
from backup.errors import BackupError
from backup.operations.auditing.survey import MARKS

T = TypeVar("T")


class Step(Enum):
    """What has to work before a backup does; the value is the title."""

    CLOCK = "Clock"
    ID_TOKEN = "Id token"  # noqa: S105 - not a password
    ROLE = "Role"
    BUCKET = "Bucket"
    LISTING = "Listing"
    KEY = "Encryption key"
    WRITE = "Conditional write"
    UPLOAD = "Upload in parts"
    DISK = "Scratch disk"
    SECRET = "Login data"  # noqa: S105
    TUNNEL = "Tunnel"
    DNS = "Host name"
    TCP = "Network"
    TLS = "TLS"
    LOGIN = "Login"
    CLIENT = "pg_dump"
    CONNECTIONS = "Connections"
    INVENTORY = "What is dumped"
    SCHEMAS = "Schemas"
    TABLES = "Tables"
    SEQUENCES = "Sequences"
    LARGE_OBJECTS = "Large objects"
    ROW_SECURITY = "Row-level security"
    LOCK_TABLE = "Lock table"
    LOCKS = "Locks"

    @property
    def id(self) -> str:
        """As in setup.id-token."""
        return "setup." + self.name.lower().replace("_", "-")


@dataclass
class Course:
    """The checks made so far. A step that rests on a failed one becomes unknown; none ends it."""

    console: Console
    checks: list[Check] = field(default_factory=list)
    _causes: dict[Step, Step] = field(default_factory=dict)

    def look(
        self,
        step: Step,
        question: Callable[[], T],
        told: Callable[[T], Check],
        needs: tuple[Step, ...] = (),
    ) -> T | None:
        """Ask, and let `told` judge the answer; None where there is none, or it fails."""
        if not self.ready(step, *needs):
            return None
        try:
            answer = question()
        except BackupError as error:
            self.fail(step, error)
            return None
        verdict = told(answer)
        self.add(verdict)
        return None if verdict.status is Status.FAIL else answer

    def ready(self, step: Step, *needs: Step) -> bool:
        """Whether all of `needs` hold; else the step is unknown, for the reason of the first."""
        for need in needs:
            if self.holds(need):
                continue
            cause = self._causes.get(need, need)
            self._causes[step] = cause
            self.add(
                Check(
                    step.id,
                    step.value,
                    Status.UNKNOWN,
                    f"not looked at: it needs “{cause.value}” ({cause.id}), which did not pass",
                )
            )
            return False
        return True

    def holds(self, step: Step) -> bool:
        """Whether the step was looked at, and did not fail."""
        return any(
            each.id == step.id and each.status in (Status.PASS, Status.WARN) for each in self.checks
        )

    def fail(self, step: Step, error: BackupError) -> None:
        reason = f"{error.message}: {error.detail}" if error.detail else error.message
        self.add(Check(step.id, step.value, Status.FAIL, reason, error.hint))

    def add(self, *checks: Check) -> None:
        for check in checks:
            self.checks.append(check)
            self.console.info(f"{MARKS[check.status]} {check.title}: {check.reason}")


def passed(step: Step, reason: str) -> Check:
    return Check(step.id, step.value, Status.PASS, reason)


def warned(step: Step, reason: str, fix: str) -> Check:
    return Check(step.id, step.value, Status.WARN, reason, fix)


def failed(step: Step, reason: str, fix: str) -> Check:
    return Check(step.id, step.value, Status.FAIL, reason, fix)


def unknown(step: Step, reason: str, fix: str) -> Check:
    return Check(step.id, step.value, Status.UNKNOWN, reason, fix)
