"""What a run has to tell at its end, before anyone decides how it looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backup.errors import BackupError
from backup.model import Phase
from backup.report.measures import Measure


@dataclass(frozen=True)
class Facts:
    """Names and values, the most important first."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """Rows under a heading; columns whose title ends in `>` stand to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Timeline:
    """The phases of the run, one bar each."""

    title: str
    phases: tuple[Phase, ...]


@dataclass(frozen=True)
class Commands:
    """Lines to copy into a shell."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """A text to save as a file; `language` is how a page names what it is written in."""

    title: str
    language: str
    text: str


@dataclass(frozen=True)
class History:
    """A value over time, the oldest first; `limit` is what it must not pass."""

    title: str
    unit: str
    points: tuple[tuple[str, float], ...]
    limit: float | None = None


Section = Facts | Table | Timeline | Commands | Document | History


@dataclass(frozen=True)
class Report:
    """`verdict` is the one sentence; `outputs` the step's outputs; `data` the same for programs.

    `failure` is set where the run has something to tell and failed all the same.
    `measures` are the facts that become metrics.
    """

    verdict: str
    sections: tuple[Section, ...]
    outputs: Mapping[str, str]
    data: Mapping[str, Any] = field(default_factory=dict)
    failure: BackupError | None = None
    measures: tuple[Measure, ...] = ()
