"""Back-pressure: pg_dump is stopped while the scratch disk is fuller than it should be."""

from __future__ import annotations

import time
from typing import Protocol

# Between two looks pg_dump writes on: as much again as since the last one, it is assumed.
_STOP_AT, _GO_ON_AT = 0.6, 0.4

# The next look comes before pg_dump, as fast as it has been lately, can fill this share.
_LOOK_SHARE = 0.1
_SHORTEST_LOOK_SECONDS, _LONGEST_LOOK_SECONDS = 0.02, 0.08
# How much of the highest rate is still believed at the next look.
_RATE_KEPT = 0.8

# A server with tcp_user_timeout drops a client that reads nothing for that long; it may be set
# to 15 s. So a stopped dump draws a breath now and then, long enough to read something: what it
# reads lands on the disk, several MB if it is not compressed. Above the limit it waits longer.
_LONGEST_STOP_SECONDS, _LONGEST_STOP_ABOVE_LIMIT_SECONDS = 4.0, 10.0
_BREATH_SECONDS = 0.005


class Pausable(Protocol):
    """A running pg_dump, as a whole process group."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Pressure:
    """Keeps the bytes of disk in use below `limit_bytes`."""

    def __init__(self, process: Pausable, limit_bytes: int) -> None:
        self._process = process
        self._limit = limit_bytes
        self._stopped_since: float | None = None
        self._last_bytes = 0
        self._last_time = time.monotonic()
        self._rate = limit_bytes / _SHORTEST_LOOK_SECONDS  # until more is known
        self.highest_bytes = 0
        self.stopped_seconds = 0.0

    @property
    def is_stopped(self) -> bool:
        return self._stopped_since is not None

    def weigh(self, allocated: int, needed: int, *, draining: bool) -> None:
        """Stop or wake pg_dump for `allocated` bytes on the disk.

        `needed` is what the parts being filled take once they are whole: it may pass a small
        limit when a member has grown to hundreds of GB. `draining` tells whether anything is on
        its way to the store; if not, waiting would free nothing.
        """
        limit = max(self._limit, needed)
        self.highest_bytes = max(self.highest_bytes, allocated)
        grown = self._growth(allocated)
        if self._stopped_since is None:
            if draining and allocated + grown > limit * _STOP_AT:
                self._stop()
        elif not draining or allocated < limit * _GO_ON_AT:
            self.release()
        elif time.monotonic() - self._stopped_since > (
            _LONGEST_STOP_SECONDS if allocated < limit else _LONGEST_STOP_ABOVE_LIMIT_SECONDS
        ):
            self.release()
            time.sleep(_BREATH_SECONDS)
            self._stop()

    @property
    def look_within_seconds(self) -> float:
        """When to weigh again at the latest."""
        fills = self._limit * _LOOK_SHARE / self._rate
        return min(max(fills, _SHORTEST_LOOK_SECONDS), _LONGEST_LOOK_SECONDS)

    def release(self) -> None:
        """Let pg_dump go on, if it was stopped."""
        if self._stopped_since is not None:
            self.stopped_seconds += time.monotonic() - self._stopped_since
            self._stopped_since = None
            self._process.resume()

    def _growth(self, allocated: int) -> int:
        now = time.monotonic()
        grown = max(0, allocated - self._last_bytes)
        passed = max(now - self._last_time, _SHORTEST_LOOK_SECONDS)
        self._rate = max(grown / passed, self._rate * _RATE_KEPT, 1.0)
        self._last_bytes, self._last_time = allocated, now
        return grown

    def _stop(self) -> None:
        self._process.pause()
        self._stopped_since = time.monotonic()
