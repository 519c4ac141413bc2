"""How a run ended, for whoever is told of it after the face has been."""

from __future__ import annotations

from dataclasses import dataclass

from backup.errors import BackupError, Interrupted
from backup.report.report import Report
from backup.settings import Settings


@dataclass(frozen=True)
class Ending:
    """`settings` is None where the inputs were refused. A report can hold a failure of its own;
    a run that has none ended with `error`, and `interrupted` is what it stands for after a signal.
    """

    settings: Settings | None
    report: Report | None = None
    error: BackupError | None = None
    interrupted: Interrupted | None = None

    @property
    def failure(self) -> BackupError | None:
        return self.error or (self.report.failure if self.report else None)

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return self.interrupted.exit_code
        return self.failure.exit_code if self.failure else 0
