"""Following what AWS does by itself: until it is done, or will never be, or the time is up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from backup.aws.work import Standing, Unreachable
from backup.console import Console
from backup.errors import DumpError
from backup.wording import duration

T = TypeVar("T")

# A snapshot takes minutes. The variable is for tests and for debugging, no option.
_PAUSE_SECONDS = 15.0
_PAUSE_VARIABLE = "PG_BACKUP_POLL_SECONDS"
_SAID_EVERY_SECONDS = 30.0


class Lost(DumpError):
    """What was waited for has failed for good."""


class Watch:
    """One bound for all that a run waits for, counted from when it is made."""

    def __init__(self, bound_seconds: float, console: Console) -> None:
        self._bound = bound_seconds
        self._console = console
        self._began = time.monotonic()
        self._pause = float(os.environ.get(_PAUSE_VARIABLE) or _PAUSE_SECONDS)

    def until_done(
        self, name: str, look: Callable[[], T], standing: Callable[[T], Standing], hint: str
    ) -> T:
        """The thing once it is done. Raises Lost where it never will be, DumpError where it is not
        in time, both with `hint`; AccessError where looking is denied."""
        said, said_at, status = "", 0.0, "unknown"
        while True:
            try:
                thing = look()
            except Unreachable as error:
                # It goes on whether we see it or not.
                line = status = f"out of sight ({error.detail or error.message}); asking again"
            else:
                now = standing(thing)
                if now.is_done:
                    self._console.info(f"{name} is {now.status}: {self._passed}")
                    return thing
                if now.trouble:
                    raise Lost(f"{name} is {now.status}", detail=now.trouble, hint=hint)
                status = now.status
                line = f"{status} ({now.percent} %)" if now.percent is not None else status
            if status != said or self._seconds - said_at >= _SAID_EVERY_SECONDS:
                self._console.info(f"{name} is {line}: {self._passed}")
                said, said_at = status, self._seconds
            if self._seconds >= self._bound:
                raise DumpError(
                    f"{name} is not ready after {duration(self._bound)}",
                    detail=f"it is {line}, and AWS goes on with it",
                    hint=f"raise wait, and timeout-minutes of the job with it. {hint}",
                )
            time.sleep(min(self._pause, self._bound - self._seconds))

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def _passed(self) -> str:
        return f"{duration(self._seconds)} of {duration(self._bound)}"
