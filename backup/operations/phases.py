"""The phases of a run: each is a group in the log and a bar in the report's timeline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from backup.console import Console
from backup.model import Phase


class Phases:
    """Measures phases from the moment it is made."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._done: list[Phase] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = round(self.seconds, 3)
        with self._console.group(name):
            yield
        self._done.append(Phase(name, started, round(round(self.seconds, 3) - started, 3)))

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    @property
    def done(self) -> tuple[Phase, ...]:
        return tuple(self._done)
