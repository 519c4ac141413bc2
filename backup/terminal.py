"""A terminal as a face of the program: colour and a live line on a TTY, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from backup.console import Progress, Redactor
from backup.errors import BackupError
from backup.report.report import Report
from backup.report.text import render_text
from backup.wording import bar, progress_line

_BAR_CELLS = 24
_TTY_EVERY_SECONDS, _LOG_EVERY_SECONDS = 0.2, 5.0


class Terminal:
    """Progress and messages go to stderr, so that stdout holds the report alone."""

    def __init__(self, *, as_json: bool, debug: bool) -> None:
        self._as_json = as_json
        self._shows_debug = debug
        self._redactor = Redactor()
        self._live = sys.stderr.isatty()
        self._line_shown = False
        self._last_progress = time.monotonic()

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        self._print(f"▸ {title}")
        yield

    def info(self, line: str) -> None:
        for each in line.splitlines():
            self._print(f"  {each}")

    def warning(self, title: str, text: str) -> None:
        self._print(f"warning: {title}\n  {text}")

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last_progress < (_TTY_EVERY_SECONDS if self._live else _LOG_EVERY_SECONDS):
            return
        self._last_progress = now
        if not self._live:
            self._print(f"  {progress_line(progress)}")
            return
        shown = bar(progress.fraction, _BAR_CELLS)
        sys.stderr.write(f"\r\x1b[K  {shown} {progress_line(progress)}")
        sys.stderr.flush()
        self._line_shown = True

    def mask(self, secret: str) -> None:
        self._redactor.add(secret)

    def debug(self, text: str) -> None:
        if self._shows_debug:
            self._print(text)

    def clean(self, text: str) -> str:
        return self._redactor.clean(text)

    def failed(self, error: BackupError) -> None:
        self.debug("".join(traceback.format_exception(error)))
        self._print("error: " + "\n  ".join("\n".join(error.lines()).splitlines()))

    def published(self, report: Report) -> None:
        self._clear_line()
        shown = json.dumps(dict(report.data), indent=2) if self._as_json else render_text(report)
        sys.stdout.write(self._redactor.clean(shown) + "\n")

    def _print(self, text: str) -> None:
        self._clear_line()
        sys.stderr.write(self._redactor.clean(text) + "\n")
        sys.stderr.flush()

    def _clear_line(self) -> None:
        if self._line_shown:
            sys.stderr.write("\r\x1b[K")
            self._line_shown = False
