"""States that take time: what something goes through, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Pace:
    """How long each state lasts: a number of describe calls, or a time."""

    describes_per_state: int = 2
    seconds_per_state: float | None = None


@dataclass
class Course:
    """The states that something goes through; the last one stays."""

    states: Sequence[str]
    pace: Pace
    described: int = 0
    began: float = field(default_factory=time.monotonic)
    arrive: Callable[[], None] | None = None  # called once, when the last state is reached

    def _steps(self) -> float:
        """How many states lie behind, with the fraction of the present one."""
        if self.pace.seconds_per_state is not None:
            passed = (time.monotonic() - self.began) / max(self.pace.seconds_per_state, 1e-9)
        else:
            passed = self.described / max(self.pace.describes_per_state, 1)
        return min(passed, float(len(self.states) - 1))

    @property
    def state(self) -> str:
        """The present state; looking at it does not make time pass."""
        steps = int(self._steps())
        if steps == len(self.states) - 1 and self.arrive is not None:
            arrive, self.arrive = self.arrive, None
            arrive()
        return self.states[steps]

    @property
    def percent(self) -> int:
        last = len(self.states) - 1
        return 100 if last == 0 else int(100 * self._steps() / last)

    @property
    def over(self) -> bool:
        return self._steps() >= len(self.states) - 1

    def describe(self) -> str:
        """The state that a describe call is answered, which makes time pass after it."""
        state = self.state
        self.described += 1
        return state
