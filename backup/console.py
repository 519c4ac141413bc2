"""What an operation says while it runs, whoever listens: a runner's log or a terminal."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, quote_plus

_LEAST_FRACTION = 0.02


@dataclass(frozen=True)
class Progress:
    """How far a dump or a load is. `fraction` runs from 0 to 1; `seconds_left` is None while
    unknown; `moved_bytes` are stored or loaded, as `verb` says."""

    tables_done: int
    tables_total: int
    moved_bytes: int
    seconds: float
    fraction: float
    seconds_left: float | None
    note: str = ""
    verb: str = "stored"


def seconds_left(seconds: float, fraction: float) -> float | None:
    """An estimate from what has passed; None before it would cease to jump about."""
    return seconds / fraction - seconds if fraction >= _LEAST_FRACTION else None


class Console(Protocol):
    """Implemented by `backup.github.runner.Runner` and `backup.terminal.Terminal`."""

    def group(self, title: str) -> AbstractContextManager[None]:
        """Bracket the lines of one phase."""

    def info(self, line: str) -> None:
        """One line of the log. Text of other programs passes here too: it cannot give commands."""

    def warning(self, title: str, text: str) -> None:
        """Something a person should see although the run goes on."""

    def progress(self, progress: Progress) -> None:
        """Called often; the console decides how much of it is shown."""

    def mask(self, secret: str) -> None:
        """Keep a secret, in each form it may take, out of everything printed from now on."""

    def debug(self, text: str) -> None:
        """Shown only where someone asked for debug output."""

    def clean(self, text: str) -> str:
        """The text without what was masked, for places that are not the console's own."""


class Redactor:
    """Takes secrets out of texts, in each form in which they could get there."""

    def __init__(self) -> None:
        self._forms: list[str] = []

    def add(self, secret: str) -> list[str]:
        """Remember a secret; its forms that are new, the longest first."""
        lines = [line for line in secret.splitlines() if line]
        candidates = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), *lines}
        new = sorted(candidates - {"", *self._forms}, key=len, reverse=True)
        self._forms = sorted([*self._forms, *new], key=len, reverse=True)
        return new

    def clean(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, "***")
        return text
