"""A container as a face of the program: a log to read, and one line of it for programs."""

from __future__ import annotations

import json
import sys
from typing import Any

from backup.errors import BackupError
from backup.report.report import Report
from backup.report.text import render_text
from backup.terminal import Terminal


class Container(Terminal):
    """Plain lines on stderr. stdout has the result alone, as one line of JSON at the very end:
    `operation`, `exit-code`, and as far as there are such `verdict`, `outputs` and `error`."""

    def __init__(self, operation: str, *, debug: bool) -> None:
        super().__init__(as_json=False, debug=debug)
        self._result: dict[str, Any] = {"operation": operation}

    def failed(self, error: BackupError) -> None:
        super().failed(error)
        told = {"message": error.message, "detail": error.detail, "hint": error.hint}
        self._result["error"] = self._cleaned(told)

    def published(self, report: Report) -> None:
        self._print(render_text(report))
        self._result["verdict"] = self.clean(report.verdict)
        self._result["outputs"] = self._cleaned(dict(report.outputs))

    def conclude(self, exit_code: int) -> None:
        """Write the line that programs read."""
        line = json.dumps({"exit-code": exit_code, **self._result})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def _cleaned(self, texts: dict[str, str]) -> dict[str, str]:
        return {name: self.clean(text) for name, text in texts.items()}
