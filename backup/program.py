"""From what a face has read to an exit code: the only place where errors end a run."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from backup import interruption
from backup.console import Console
from backup.endings import broken_off
from backup.errors import BackupError, Interrupted
from backup.inputs import read, secrets_among
from backup.inputs.notifications import TELLING
from backup.report.ending import Ending
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
    ending = _run(values, environment, face)
    if ending.settings:
        told = any(ending.settings.notifications.listeners)
    else:
        told = any(map(values.get, (*TELLING, "fleet-entry")))  # which may name some of them
    if told:
        interruption.ignore_but_alarm()  # the run is over, and its end stays what it is
        with suppress(Interrupted):
            from backup.operations.notifying.notify import notify

            notify(ending, values, environment, face)
    return ending.exit_code


def _run(values: Mapping[str, str], environment: Mapping[str, str], face: Face) -> Ending:
    """How the run ended, which the face has told."""
    chosen = None
    try:
        interruption.listen()
        for secret in secrets_among(values):
            face.mask(secret)
        chosen = read(values, environment)
        report = _operate(chosen, face, environment)
        face.published(report)
        if report.failure:
            face.failed(report.failure)
        return Ending(chosen, report=report)
    except BackupError as error:
        face.failed(error)
        return Ending(chosen, error=error)
    except Interrupted as interrupted:
        broken = broken_off(interrupted, environment)
        face.failed(broken)
        return Ending(chosen, error=broken, interrupted=interrupted)
    except Exception as error:
        unexpected = BackupError(
            f"unexpected {type(error).__name__}: {error}",
            detail="this is a fault of the action; its traceback is in the debug log",
            hint="re-run with debug logging and report it with that log",
        )
        unexpected.__cause__ = error
        face.failed(unexpected)
        return Ending(chosen, error=unexpected)


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
    elif operation == "plan":
        from backup.operations.plan import run
    elif operation == "collect":
        from backup.operations.collect import run
    elif operation == "policy":
        from backup.operations.policy import run
    else:
        from backup.operations.list_backups import run
    return run(chosen, console, environment)
