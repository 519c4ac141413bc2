"""What a workflow's file says of its schedule, without a YAML parser in the image.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#onschedule
"""

from __future__ import annotations

import re

_ON = re.compile(r"^(?:on|'on'|\"on\")\s*:(.*(?:\n(?![^\s#]).*)*)", re.MULTILINE)
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$", re.MULTILINE)
_SCHEDULE = re.compile(r"\bschedule['\"]?\s*:")
_FIELD = r"[0-9A-Za-z*,/-]+"
_CRON = re.compile(rf"\bcron['\"]?\s*:\s*['\"]?({_FIELD}(?:\s+{_FIELD}){{4}})")


def crons(text: str) -> tuple[str, ...]:
    """The cron lines below `on: schedule:`, in order; empty where there are none."""
    if not (on := _ON.search(text)):
        return ()
    triggers = _COMMENT.sub("", on[1])
    if not (schedule := _SCHEDULE.search(triggers)):
        return ()
    return tuple(" ".join(line.split()) for line in _CRON.findall(triggers[schedule.end() :]))
