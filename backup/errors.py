"""Every way to fail, with the exit code that a workflow can branch on.

An error is three lines for a tired person: what failed (message), the likely cause (detail)
and what to do about it (hint). The traceback belongs in the debug log.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass


class BackupError(Exception):
    """A failure with its cause and its remedy; the base of all errors that end a run."""

    exit_code = 1
    # Nobody refused: no answer came, or no bucket is there. Another region may have one.
    is_out_of_reach = False
    # The database that it is about, where the run itself found out its name.
    database: str | None = None

    def __init__(self, message: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint

    def lines(self) -> list[str]:
        """The error as a person reads it: message, cause, remedy; empty ones left out."""
        return [line for line in (self.message, self.detail, self.hint) if line]


@dataclass(frozen=True)
class Fault:
    """One input that cannot be used, and what to write instead."""

    option: str
    problem: str
    remedy: str


class InputError(BackupError):
    """Bad input; raised before anything is touched, with all faults at once."""

    exit_code = 2

    @classmethod
    def from_faults(cls, faults: list[Fault]) -> InputError:
        count = "1 input" if len(faults) == 1 else f"{len(faults)} inputs"
        return cls(
            f"{count} cannot be used",
            detail="\n".join(f"{each.option}: {each.problem}; {each.remedy}" for each in faults),
            hint="correct them; the README describes each input",
        )


class AccessError(BackupError):
    """AWS, GitHub's id token or the database's login said no."""

    exit_code = 3


class DumpError(BackupError):
    """pg_dump, or the database under it, failed."""

    exit_code = 4


class RestoreError(BackupError):
    """pg_restore, or the database under it, failed: the target is not to be used."""

    exit_code = 4


class StorageError(BackupError):
    """S3, or the scratch disk on the way to it, failed."""

    exit_code = 5


class NotReplicated(StorageError):
    """A backup whose manifest has come to the replica before all of its objects."""


class AlreadyWritten(StorageError):
    """A write that must not replace anything has met an object of that key."""


def disk_full(said: str) -> StorageError:
    """The scratch disk gave out, whoever met it: pg_dump or we."""
    return StorageError(
        "the scratch disk is full",
        detail=said,
        hint="lower scratch-limit, or set TMPDIR to a larger disk",
    )


class VerificationError(BackupError):
    """What was written is not what was read, or an objective was missed."""

    exit_code = 6


class Interrupted(BaseException):
    """A signal arrived. Not an Exception: no handler may take it for a failure to mend.

    `consequence` is what a person has to know of the state that the run leaves. `arrived` is the
    moment by the monotonic clock; `measures` is what the run had measured until then, `database`
    what the run itself found out of whom it is about.
    """

    database: str | None = None

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}")
        self.arrived = time.monotonic()
        self.measures: tuple[object, ...] = ()
        self.exit_code = 128 + signal_number
        # Until the runner sends its next signal, or kills; after SIGALRM until Lambda would.
        self.seconds_left = 2.5 if signal_number == signal.SIGTERM else 7.5
        self.consequence = (
            "nothing was published: what ran was stopped, and uploads were aborted (a warning names"
            " any that were not)"
        )
