"""How far a dump or a load is, from what is finished and the sizes of the tables."""

from __future__ import annotations

import time
from collections.abc import Sequence

from backup.archive.follow import Sent
from backup.archive.loads import Load
from backup.archive.toc import TableOfContents
from backup.console import Console, Progress
from backup.model import Inventory

# Before this much is dumped, an estimate of the time left would jump about.
_LEAST_FRACTION = 0.02


class DumpProgress:
    """Turns what the follower sends into progress on the console."""

    def __init__(self, console: Console, inventory: Inventory) -> None:
        self._console = console
        self._began = time.monotonic()
        self._sizes = {
            (relation.schema, relation.name): relation.size_bytes
            for relation in inventory.relations
        }
        self._size_of_file: dict[str, int] = {}
        self._members_seen = 0
        self._tables_done = 0
        self._bytes_done = 0
        self._bytes_total = 0

    def begin(self, contents: TableOfContents) -> None:
        """Learn which file is which table."""
        self._size_of_file = {
            file: self._sizes.get((entry.schema or "", entry.name), 0)
            for file, entry in contents.data_files().items()
            if entry.kind == "TABLE DATA"
        }
        self._bytes_total = sum(self._size_of_file.values())

    def report(self, sent: Sent) -> None:
        for member in sent.members[self._members_seen :]:
            size = self._size_of_file.get(member.data_file)
            if size is not None:
                self._tables_done += 1
                self._bytes_done += size
        self._members_seen = len(sent.members)
        fraction = self._bytes_done / self._bytes_total if self._bytes_total else 0.0
        seconds = time.monotonic() - self._began
        left = seconds / fraction - seconds if fraction >= _LEAST_FRACTION else None
        self._console.progress(
            Progress(
                tables_done=self._tables_done,
                tables_total=len(self._size_of_file),
                moved_bytes=sent.stored_bytes,
                seconds=seconds,
                fraction=fraction,
                seconds_left=left,
                note="pg_dump waits for S3" if sent.is_stopped else "",
            )
        )


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
                seconds_left=seconds / fraction - seconds if fraction >= _LEAST_FRACTION else None,
                verb=self._verb,
            )
        )
