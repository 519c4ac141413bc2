"""A report as GitHub's job summary shows it."""

from __future__ import annotations

import re

from backup.errors import BackupError
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


def render_markdown(report: Report) -> str:
    blocks = [f"## {escape(report.verdict)}", *map(_section, report.sections)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape(text: str) -> str:
    """Foreign text, such as a table's name, as plain text in any place of a page."""
    text = text.replace("\r", " ").replace("\n", "⏎")
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_{}\[\]#|~!@])", r"\\\1", text)


def _section(section: Section) -> str:
    match section:
        case Facts(rows):
            return _table(("", ""), rows)
        case Table(title, columns, rows):
            return f"### {escape(title)}\n\n{_table(columns, rows)}" if rows else ""
        case Timeline(title, phases):
            # mermaid takes `x` for milliseconds; names must not hold its own signs.
            bars = [
                f"    {re.sub(r'[:#;,]', ' ', phase.name)} :"
                f" {round(phase.started * 1000)}, {round((phase.started + phase.seconds) * 1000)}"
                for phase in phases
            ]
            chart = ["gantt", "    dateFormat x", "    axisFormat %M:%S", *bars]
            return f"### {escape(title)}\n\n" + "\n".join(["```mermaid", *chart, "```"])
        case History(title, unit, points, limit):
            return _chart(title, unit, points, limit) if len(points) > 1 else ""
        case Commands(title, lines):
            return f"### {escape(title)}\n\n" + _fenced("sh", "\n".join(lines))
        case Document(title, language, text):
            return f"### {escape(title)}\n\n{_fenced(language, text)}"


def _fenced(language: str, body: str) -> str:
    # Longer than any in the text, which may hold a name that somebody else chose.
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", body)), default=0))
    return f"{fence}{language}\n{body}\n{fence}"


def _chart(
    title: str, unit: str, points: tuple[tuple[str, float], ...], limit: float | None
) -> str:
    """https://mermaid.js.org/syntax/xyChart.html"""
    labels = ", ".join(f'"{label}"' for label, _ in points)
    values = ", ".join(f"{value:.1f}" for _, value in points)
    lines = ["xychart-beta", f"    x-axis [{labels}]", f'    y-axis "{unit}"']
    lines.append(f"    bar [{values}]")
    if limit is not None:
        lines.append(f"    line [{', '.join([f'{limit:.1f}'] * len(points))}]")
    return f"### {escape(title)}\n\n" + "\n".join(["```mermaid", *lines, "```"])


def _table(columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    head = "| " + " | ".join(escape(column.rstrip(">")) for column in columns) + " |"
    rule = "|" + "|".join(" --: " if column.endswith(">") else " --- " for column in columns) + "|"
    return "\n".join([head, rule, *("| " + " | ".join(map(escape, row)) + " |" for row in rows)])


def render_failure(error: BackupError) -> str:
    """What failed, why, and what to do, for the job summary."""
    parts = [line for part in error.lines()[1:] for line in part.splitlines()]
    # Indented text is shown as it is, whatever signs it holds.
    body = "\n".join(f"    {line}" for line in parts)
    return f"## ❌ {escape(error.message)}\n\n{body}\n\n"
