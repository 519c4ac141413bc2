"""How the demo tells what it does: numbered steps with their times, and what programs print."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab.commands import read_log
from tests.lab.runner import RunningAction

_LOOK_EVERY_SECONDS = 0.1
_BOLD, _FAINT, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


class Narrator:
    """Prints to stdout; `steps` is how many there will be."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._step = 0
        self._began = time.monotonic()
        self._coloured = sys.stdout.isatty()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One numbered step; its time is printed when it has ended well."""
        self._step += 1
        began = time.monotonic()
        self._print(f"\n{self._in(_BOLD, f'{self._step}/{self._steps}  {title}')}")
        yield
        self._print(self._in(_FAINT, f"     {time.monotonic() - began:.1f} s"))

    def say(self, *lines: str) -> None:
        for line in lines:
            self._print(f"     {line}")

    def quote(self, text: str) -> None:
        """What a program or a file says, set apart by a bar."""
        for line in text.splitlines():
            self._print(f"     {self._in(_FAINT, '│')} {line}")

    def stream(self, action: RunningAction) -> None:
        """The action's log while it runs, as a person sees it on GitHub: masks in effect, and
        without what only debug logging shows."""
        shown = 0
        running = True
        while running:
            running = action.process.poll() is None
            if running:
                time.sleep(_LOOK_EVERY_SECONDS)
            whole_lines, _, _ = action.output.rpartition("\n")
            lines = read_log(whole_lines).visible.splitlines()
            self.quote(
                "\n".join(each for each in lines[shown:] if not each.startswith("::debug::"))
            )
            shown = len(lines)

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._began

    def _in(self, style: str, text: str) -> str:
        return f"{style}{text}{_PLAIN}" if self._coloured else text

    def _print(self, text: str) -> None:
        print(text, flush=True)
