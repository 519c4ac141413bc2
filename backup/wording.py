"""Sizes, durations and counts as a person reads them."""

from __future__ import annotations

from backup.console import Progress


def size(count: float) -> str:
    """Bytes in binary units: 999 B, 1.5 KiB, 12 MiB, 3.4 GiB."""
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if count < 1024:
            break
        count, unit = count / 1024, larger
    return f"{count:.1f} {unit}" if unit != "B" and count < 10 else f"{count:.0f} {unit}"


def duration(seconds: float) -> str:
    """4.2 s, 48 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def bar(fraction: float, cells: int = 20) -> str:
    """How full something is; one that overflows is full to the last cell."""
    filled = min(round(fraction * cells), cells)
    return "█" * filled + "░" * (cells - filled)


def count(number: int, singular: str, plural: str = "") -> str:
    """1 table, 12 tables, 1,200 tables."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def progress_line(progress: Progress) -> str:
    """One line of the log: tables done, bytes, rate, time left."""
    rate = progress.moved_bytes / progress.seconds if progress.seconds else 0
    line = (
        f"{progress.tables_done}/{progress.tables_total} tables,"
        f" {size(progress.moved_bytes)} {progress.verb}, {size(rate)}/s"
    )
    if progress.seconds_left is not None:
        line += f", about {duration(progress.seconds_left)} left"
    return f"{line} ({progress.note})" if progress.note else line
