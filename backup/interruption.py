"""Signals: the first one ends the run, and none breaks off the cleaning up.

Of a cancelled run the runner sends SIGINT, 7.5 s later SIGTERM, and kills 2.5 s after that. ECS,
Kubernetes and `docker stop` send SIGTERM and kill 10 s later or more. SIGALRM is ours: the time
of an invocation is nearly over (`backup.lambda_function`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from backup.errors import Interrupted

# Until the code that has swallowed an interruption is likely to be left.
_AGAIN_SECONDS = 0.01

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


def listen() -> None:
    """Raise Interrupted in the main thread at the first signal, and ignore those after it."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)  # PID 1 would ignore SIGTERM without a handler
    sys.unraisablehook = _again


def ignore() -> None:
    """From now on the end is near anyway."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def ignore_but_alarm() -> None:
    """Raise Interrupted for our own alone: Lambda would not even hear how the run has ended."""
    ignore()
    signal.signal(signal.SIGALRM, _interrupt)


def _again(lost: sys.UnraisableHookArgs) -> None:
    """Send a signal anew whose Interrupted came up in a finalizer, where Python drops exceptions.

    https://docs.python.org/3/library/sys.html#sys.unraisablehook
    """
    if not isinstance(lost.exc_value, Interrupted):
        sys.__unraisablehook__(lost)
        return
    number = lost.exc_value.exit_code - 128
    listen()
    threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number)).start()


def _interrupt(number: int, _frame: FrameType | None) -> None:
    ignore()
    raise Interrupted(number)
