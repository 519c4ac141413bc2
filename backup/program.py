"""From what a face has read to an exit code: the only place where errors end a run."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Mapping
from typing import Protocol

from backup import interruption
from backup.console import Console
from backup.errors import BackupError, Interrupted
from backup.inputs import read, secrets_among
from backup.report.report import Report
from backup.settings import Settings


class Face(Console, Protocol):
    """A console that can also tell how a run ended."""

    def failed(self, error: BackupError) -> None: ...

    def published(self, report: Report) -> None: ...


def main(values: Mapping[str, str], environment: Mapping[str, str], face: Face) -> int:
    """Run the operation that `values` name; 0, or the exit code of the error's class."""
    for stream in (sys.stdout, sys.stderr):
        # A name of a table that the locale cannot show must not end a run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        interruption.listen()
        for secret in secrets_among(values):
            face.mask(secret)
        chosen = read(values, environment)
        report = _operate(chosen, face, environment)
        face.published(report)
        if report.failure:
            face.failed(report.failure)
            return report.failure.exit_code
        return 0
    except BackupError as error:
        face.failed(error)
        return error.exit_code
    except Interrupted as interrupted:
        name = signal.Signals(interrupted.exit_code - 128).name
        ended = BackupError(
            f"interrupted by {name}",
            detail="the run was cancelled, or reached its timeout-minutes",
            hint=f"{interrupted.consequence}. Raise timeout-minutes if nobody cancelled it",
        )
        face.failed(ended)
        return interrupted.exit_code
    except Exception as error:
        unexpected = BackupError(
            f"unexpected {type(error).__name__}: {error}",
            detail="this is a fault of the action; its traceback is in the debug log",
            hint="re-run with debug logging and report it with that log",
        )
        unexpected.__cause__ = error
        face.failed(unexpected)
        return unexpected.exit_code


def _operate(chosen: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    # Importing what an operation needs takes half a second, in which signals are heard already.
    operation = chosen.operation
    if operation == "backup" and chosen.verify.after_backup:
        from backup.operations.backup_and_drill import run
    elif operation == "backup":
        from backup.operations.backup import run
    elif operation == "restore":
        from backup.operations.restore import run
    elif operation == "verify":
        from backup.operations.verify import run
    elif operation == "snapshot":
        from backup.operations.snapshot import run
    elif operation == "restore-instance":
        from backup.operations.restore_instance import run
    elif operation == "export":
        from backup.operations.export import run
    elif operation == "audit" and chosen.audit.scope == "setup":
        from backup.operations.setup import run
    elif operation == "audit":
        from backup.operations.audit import run
    else:
        from backup.operations.list_backups import run
    return run(chosen, console, environment)
