"""What a runner understands of a step: workflow commands in its log, files it wrote.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

COMMAND = re.compile(r"::(?P<name>[a-zA-Z-]+)(?: (?P<properties>[^:]*(?::(?!:)[^:]*)*))?::")


@dataclass(frozen=True)
class Annotation:
    level: str  # error, warning or notice
    message: str
    title: str = ""
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Log:
    """A step's log as the runner reads it.

    `printed` is what a person could see if nothing were masked: the lines that were no command,
    and the texts of annotations and groups. `visible` is the same with the masks in effect.
    """

    printed: str
    visible: str
    masks: list[str]
    annotations: list[Annotation]
    groups: list[str]


def read_log(text: str) -> Log:
    """Commands count only where the runner would run them: at a line's start, and not between
    `::stop-commands::TOKEN` and `::TOKEN::`."""
    printed: list[str] = []
    visible: list[str] = []
    masks: list[str] = []
    annotations: list[Annotation] = []
    groups: list[str] = []
    stopped_by: str | None = None

    def show(line: str) -> None:
        printed.append(line)
        for mask in sorted(masks, key=len, reverse=True):
            line = line.replace(mask, "***")
        visible.append(line)

    for line in text.splitlines():
        if stopped_by is not None:
            if line.strip() == f"::{stopped_by}::":
                stopped_by = None
            else:
                show(line)
            continue
        # The runner trims the start of a line before it looks for a command.
        command = COMMAND.match(line.lstrip())
        if not command:
            show(line)
            continue
        value = unescape_data(line.lstrip()[command.end() :])
        match command["name"]:
            case "stop-commands":
                stopped_by = value
            case "add-mask":
                # A mask of several lines hides each of them as well.
                masks += [mask for mask in {value, *value.splitlines()} if mask.strip()]
            case "error" | "warning" | "notice" as level:
                properties = _properties(command["properties"] or "")
                title = properties.get("title", "")
                annotations.append(Annotation(level, value, title, properties))
                show(f"{level}: {title} {value}")
            case "group":
                groups.append(value)
                show(value)
            case "endgroup":
                continue
            case _:
                show(line)
    return Log("\n".join(printed), "\n".join(visible), masks, annotations, groups)


def unescape_data(text: str) -> str:
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


def _properties(text: str) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in text.split(",") if "=" in entry)
    return {
        name.strip(): unescape_data(value.replace("%3A", ":").replace("%2C", ","))
        for name, _, value in pairs
    }


def read_outputs(text: str) -> dict[str, str]:
    """The pairs of a GITHUB_OUTPUT file: `name=value` lines and `name<<DELIMITER` blocks.

    Raises ValueError where the runner would fail the step.
    """
    outputs: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if not line:
            continue
        equals, heredoc = line.find("="), line.find("<<")
        if equals > 0 and (heredoc < 0 or equals < heredoc):
            outputs[line[:equals]] = line[equals + 1 :]
        elif heredoc > 0 and line[heredoc + 2 :]:
            block: list[str] = []
            for entry in lines:
                if entry == line[heredoc + 2 :]:
                    break
                block.append(entry)
            else:
                raise ValueError(f"Matching delimiter not found {line[heredoc + 2 :]!r}")
            outputs[line[:heredoc]] = "\n".join(block)
        else:
            raise ValueError(f"Invalid format {line!r}")
    return outputs


def secrets_seen(text: str, secrets: Iterable[str]) -> list[str]:
    """Those of `secrets` that `text` holds, raw or URL-encoded (either way of encoding)."""
    return [
        secret
        for secret in secrets
        if any(form in text for form in (secret, quote(secret, safe=""), quote_plus(secret)))
    ]
