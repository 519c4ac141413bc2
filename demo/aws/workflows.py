"""The workflows that deploy.sh has printed, and the inputs that GitHub would make of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from demo.by_hand import DemoError


@dataclass(frozen=True)
class Workflow:
    """One of them: the name of its file, its text, and its only step's `with`."""

    file: str
    text: str
    inputs: Mapping[str, str]


def read_workflows(printed: str, expressions: Mapping[str, str]) -> dict[str, Workflow]:
    """By their names ("backup"). `expressions` are what GitHub puts in for `${{ ... }}`.

    Raises DemoError where the text is no workflow, or has an expression that is not there.
    """
    found: dict[str, Workflow] = {}
    for text in re.split(r"^---\n", printed, flags=re.MULTILINE):
        head = re.match(r"# \.github/workflows/([\w-]+\.yml)\n", text)
        if head is None:
            raise DemoError(f"this is no workflow:\n{text}")
        document: dict[str, Any] = yaml.safe_load(text)
        [job] = document["jobs"].values()
        [step] = job["steps"]
        given = {
            name: _evaluated(value if isinstance(value, str) else str(value).lower(), expressions)
            for name, value in step["with"].items()
        }
        found[document["name"]] = Workflow(head[1], text, given)
    return found


def _evaluated(value: str, expressions: Mapping[str, str]) -> str:
    def replaced(found: re.Match[str]) -> str:
        if found[1] not in expressions:
            raise DemoError(f"the workflow asks GitHub for {found[1]}")
        return expressions[found[1]]

    return re.sub(r"\$\{\{ ([^}]*?) }}", replaced, value)
