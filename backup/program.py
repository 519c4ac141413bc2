"""From what a face has read to an exit code: the only place where errors end a run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Protocol

from backup.console import Console
from backup.errors import BackupError, Interrupted
from backup.inputs import read
from backup.operations import backup, list_backups
from backup.report.report import Report
from backup.settings import Settings

_RUN: Mapping[str, Callable[[Settings, Console, Mapping[str, str]], Report]] = {
    "backup": backup.run,
    "list": list_backups.run,
}


class Face(Console, Protocol):
    """A console that can also tell how a run ended."""

    def failed(self, error: BackupError) -> None: ...

    def published(self, report: Report) -> None: ...


def main(values: Mapping[str, str], environment: Mapping[str, str], face: Face) -> int:
    """Run the operation that `values` name; 0, or the exit code of the error's class."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)  # PID 1 would ignore it without a handler
    for name in ("password", "database-url"):
        if values.get(name):
            face.mask(values[name])
    try:
        chosen = read(values, environment)
        face.published(_RUN[chosen.operation](chosen, face, environment))
        return 0
    except BackupError as error:
        face.failed(error)
        return error.exit_code
    except Interrupted as interruption:
        name = signal.Signals(interruption.exit_code - 128).name
        ended = BackupError(
            f"interrupted by {name}",
            detail="the run was cancelled, or reached its timeout-minutes",
            hint="pg_dump was stopped and its uploads were aborted: nothing is left behind."
            " Raise timeout-minutes if nobody cancelled it",
        )
        face.failed(ended)
        return interruption.exit_code
    except Exception as error:
        unexpected = BackupError(
            f"unexpected {type(error).__name__}: {error}",
            detail="this is a fault of the action; its traceback is in the debug log",
            hint="re-run with debug logging and report it with that log",
        )
        unexpected.__cause__ = error
        face.failed(unexpected)
        return unexpected.exit_code


def _interrupt(number: int, _frame: FrameType | None) -> None:
    # A second signal must not break off the cleaning up that the first one began.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Interrupted(number)
