"""Rows are counted on the connection that holds the snapshot, which has nothing else to do."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType

from backup.console import Console
from backup.errors import BackupError
from backup.model import Relation
from backup.postgres.connection import Connection, cancel
from backup.postgres.counts import count_rows
from backup.wording import count

_STOP_SECONDS = 0.3


class RowCounter:
    """Counts in a thread of its own while pg_dump runs; ends with its `with` block."""

    def __init__(self, connection: Connection, tables: Sequence[Relation]) -> None:
        self._connection = connection
        self._tables = tables
        self._counted: list[Relation] = []
        self._failure: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._count, name="row counts", daemon=True)

    def __enter__(self) -> RowCounter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._stop.set()
        if self._thread.is_alive():
            cancel(self._connection)
            self._thread.join(_STOP_SECONDS)

    def result(self, console: Console) -> list[Relation]:
        """The counted tables, once all are counted. Counts are a comfort, and the archive is
        complete without them: what could not be counted is a warning."""
        while self._thread.is_alive():
            self._thread.join(0.1)  # in steps, so that a signal is heard
        uncounted = [f"{each.schema}.{each.name}" for each in self._counted if each.rows is None]
        if isinstance(self._failure, BackupError):
            console.warning("Not all rows were counted", "\n".join(self._failure.lines()))
        elif self._failure:
            raise self._failure
        elif uncounted:
            console.warning(
                f"The rows of {count(len(uncounted), 'table')} were not counted",
                "they were locked, or reading them was denied: " + ", ".join(uncounted[:10]),
            )
        return self._counted

    def _count(self) -> None:
        try:
            self._counted.extend(count_rows(self._connection, self._tables, self._stop))
        except Exception as error:
            self._failure = error
