"""Signals: the first one ends the run, and none breaks off the cleaning up.

Of a cancelled run the runner sends SIGINT, 7.5 s later SIGTERM, and kills 2.5 s after that. ECS,
Kubernetes and `docker stop` send SIGTERM and kill 10 s later or more. SIGALRM is ours: the time
of an invocation is nearly over (`backup.lambda_function`).
"""

from __future__ import annotations

import signal
from types import FrameType

from backup.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


def listen() -> None:
    """Raise Interrupted in the main thread at the first signal, and ignore those after it."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)  # PID 1 would ignore SIGTERM without a handler


def ignore() -> None:
    """From now on the end is near anyway."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def ignore_but_alarm() -> None:
    """Raise Interrupted for our own alone: Lambda would not even hear how the run has ended."""
    ignore()
    signal.signal(signal.SIGALRM, _interrupt)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    ignore()
    raise Interrupted(number)
