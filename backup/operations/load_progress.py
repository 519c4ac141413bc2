"""How far a load is, from the calls of pg_restore that have ended."""

from __future__ import annotations

import threading
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
        self._counting = threading.Lock()
        self._tables_done = self._bytes_done = 0

    def finished(self, load: Load) -> None:
        with self._counting:
            self._tables_done += load.tables
            self._bytes_done += load.bytes

    def report(self) -> None:
        done = self._bytes_done
        fraction = done / self._bytes_total if self._bytes_total else 0.0
        seconds = time.monotonic() - self._began
        self._console.progress(
            Progress(
                tables_done=self._tables_done,
                tables_total=self._tables_total,
                moved_bytes=done,
                seconds=seconds,
                fraction=fraction,
                seconds_left=seconds_left(seconds, fraction),
                verb=self._verb,
            )
        )
