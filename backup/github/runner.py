"""GitHub's runner: its log, its outputs, its summary."""

from __future__ import annotations

import sys
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from backup.console import Progress, Redactor
from backup.errors import BackupError
from backup.github.commands import command, harmless
from backup.wording import progress_line

_PROGRESS_EVERY_SECONDS = 5.0


class Runner:
    """Speaks workflow commands on stdout; nothing printed here can hold a masked secret."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._redactor = Redactor()
        self._last_progress = time.monotonic()

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        self._print(command("group", self._redactor.clean(title)))
        try:
            yield
        finally:
            self._print(command("endgroup"))

    def info(self, line: str) -> None:
        for each in self._redactor.clean(line).splitlines():
            self._print(harmless(each))

    def warning(self, title: str, text: str) -> None:
        clean = self._redactor.clean
        self._print(command("warning", clean(text), title=clean(title)))

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last_progress >= _PROGRESS_EVERY_SECONDS:
            self._last_progress = now
            self.info(progress_line(progress))

    def mask(self, secret: str) -> None:
        for form in self._redactor.add(secret):
            self._print(command("add-mask", form))

    def debug(self, text: str) -> None:
        """The runner shows it when a run is repeated with debug logging."""
        for line in self._redactor.clean(text).splitlines():
            self._print(command("debug", line))

    def clean(self, text: str) -> str:
        return self._redactor.clean(text)

    def annotate(self, error: BackupError) -> None:
        """One annotation with cause and remedy; the traceback only for the debug log."""
        self.debug("".join(traceback.format_exception(error)))
        clean = self._redactor.clean
        self._print(command("error", clean("\n".join(error.lines())), title=clean(error.message)))

    def set_output(self, name: str, value: str) -> None:
        # A delimiter nobody can guess keeps a value from setting a second output.
        delimiter = f"end-{uuid.uuid4()}"
        self._append("GITHUB_OUTPUT", f"{name}<<{delimiter}\n{value}\n{delimiter}\n")

    def add_summary(self, markdown: str) -> None:
        self._append("GITHUB_STEP_SUMMARY", self._redactor.clean(markdown))

    def _append(self, variable: str, text: str) -> None:
        path = self._environment.get(variable)
        if path:
            with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)

    def _print(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
