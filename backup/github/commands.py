"""Workflow commands: lines that the runner obeys, and the escapes that keep others from it.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations


def command(name: str, message: str = "", **properties: str) -> str:
    """One line that the runner takes for a command."""
    parameters = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{name}{' ' if parameters else ''}{parameters}::{_data(message)}"


def harmless(line: str) -> str:
    """A line of foreign text that the runner only prints.

    It obeys `::name::` at the start of a line and, still, `##[name]` anywhere in it.
    """
    line = line.replace("##[", "## [")
    return f"| {line}" if line.lstrip().startswith("::") else line


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
