"""How far a load is, from the calls of pg_restore that have ended."""

from __future__ import annotations

import time
from collections.abc import Sequence

from backup.archive.loads import Load
from backup.console import Console, Progress, seconds_left


class LoadProgress:
    """Turns finished loads into progress on the console; called from any thread."""

    def __init__(self, console: Console, loads: Sequence[Load], verb: str = "loaded") -> None:
        self._console = console
        self._verb = verb
        self._began = time.monotonic()
        self._tables_total = sum(load.tables for load in loads)
        self._bytes_total = sum(load.bytes for load in loads)
        self._done: list[Load] = []

    def finished(self, load: Load) -> None:
        self._done.append(load)

    def report(self) -> None:
        done = sum(load.bytes for load in self._done)
        fraction = done / self._bytes_total if self._bytes_total else 0.0
        seconds = time.monotonic() - self._began
        self._console.progress(
            Progress(
                tables_done=sum(load.tables for load in self._done),
                tables_total=self._tables_total,
                moved_bytes=done,
                seconds=seconds,
                fraction=fraction,
                seconds_left=seconds_left(seconds, fraction),
                verb=self._verb,
            )
        )
