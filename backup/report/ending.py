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
    def database(self) -> str | None:
        """What the run is about, where only the run itself found out its name."""
        end = self.interrupted or self.failure
        measured = (getattr(each, "database", None) for each in self.measures)
        return next(filter(None, measured), end.database if end else None)

    @property
    def measures(self) -> tuple[object, ...]:
        """What was measured until the end, whatever it was."""
        if self.interrupted:
            return self.interrupted.measures
        return self.report.measures if self.report else ()

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return self.interrupted.exit_code
        return self.failure.exit_code if self.failure else 0
