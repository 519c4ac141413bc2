"""Work that AWS does by itself and that a run only follows: how far it is, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from backup.errors import DumpError


class Unreachable(DumpError):
    """AWS did not answer, or had too many calls at once: asking again may help."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far something is. `status` is AWS's word; `percent` is None where AWS tells none.

    `trouble` is set where it will never be done.
    """

    status: str
    percent: int | None = None
    is_done: bool = False
    trouble: str = ""
