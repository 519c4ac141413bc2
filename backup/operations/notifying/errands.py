"""What may take too long, each in a thread that is left to itself when it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from backup.errors import AccessError, BackupError

T = TypeVar("T")


class Errand(Generic[T]):
    """A job that has begun. `what` says what it means that it failed: "the topic was not told"."""

    def __init__(self, what: str, job: Callable[[], T]) -> None:
        self._what, self._job = what, job
        self._results: list[T] = []
        self._error: BackupError | None = None
        # A daemon: the process ends without it.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self, until: float) -> T:
        """What the job returns, waited for until then by the monotonic clock.

        Raises the job's BackupError, and AccessError where it is not done.
        """
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._error:
            raise self._error
        if not self._results:
            raise AccessError(
                self._what,
                detail="there was no answer in the time that telling may take",
                hint="check the way to it from here: DNS, firewall, proxy, VPC endpoints",
            )
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._job())
        except BackupError as error:
            self._error = error
        except Exception as error:
            self._error = BackupError(
                self._what,
                detail=f"unexpected {type(error).__name__}: {error}",
                hint="this is a fault of the action: report it",
            )
            self._error.__cause__ = error
