"""How far a dump is, from the members that are finished and the sizes of their tables."""

from __future__ import annotations

import time

from backup.archive.follow import Sent
from backup.archive.toc import TableOfContents
from backup.console import Console, Progress, seconds_left
from backup.model import Inventory


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
        self._console.progress(
            Progress(
                tables_done=self._tables_done,
                tables_total=len(self._size_of_file),
                moved_bytes=sent.stored_bytes,
                seconds=seconds,
                fraction=fraction,
                seconds_left=seconds_left(seconds, fraction),
                note="pg_dump waits for S3" if sent.is_stopped else "",
            )
        )
