"""A report as a terminal shows it."""

from __future__ import annotations

from backup.report.report import (
    Commands,
    Document,
    Facts,
    History,
    Report,
    Section,
    Table,
    Timeline,
)
from backup.wording import duration


def render_text(report: Report) -> str:
    blocks = [report.verdict, *map(_section, report.sections)]
    return "\n\n".join(block for block in blocks if block)


def _section(section: Section) -> str:
    match section:
        case Facts(rows):
            return _aligned(rows, (False, False))
        case Table(title, columns, rows):
            heads = tuple(column.rstrip(">") for column in columns)
            right = tuple(column.endswith(">") for column in columns)
            return f"{title}\n{_aligned((heads, *rows), right)}" if rows else ""
        case Timeline(title, phases):
            rows = tuple((phase.name, duration(phase.seconds)) for phase in phases)
            return f"{title}\n{_aligned(rows, (False, True))}"
        case History(title, unit, points, _):
            rows = tuple((label, f"{value:.1f} {unit}") for label, value in points)
            return f"{title}\n{_aligned(rows, (False, True))}" if rows else ""
        case Commands(title, lines):
            return "\n".join([title, *(f"  {line}" for line in lines)])
        case Document(title, _, text):
            return f"{title}\n{text}"


def _aligned(rows: tuple[tuple[str, ...], ...], right: tuple[bool, ...]) -> str:
    shown = [tuple(_one_line(cell) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = []
    for row in shown:
        cells = [
            cell.rjust(width) if to_the_right else cell.ljust(width)
            for cell, width, to_the_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "⏎" for character in text)
