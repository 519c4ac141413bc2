"""A message in the forms in which it is told: an SNS notice, Slack's JSON, and plain JSON."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from backup import __version__
from backup.aws.notifications import LONGEST_SUBJECT, Notice
from backup.operations.notifying.message import Message, cut, one_line

FORMAT = 1  # of the JSON, see docs/notification.schema.json

_LONGEST_LABEL, _LONGEST_ATTRIBUTE = 40, 200
# Google Chat takes 4,096 characters, and the others more.
_LONGEST_LINE, _LONGEST_BLOCK = 700, 1200
_PUNCTUATION = str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014\u2212", "''\"\"---")
# A mention wakes a whole channel; a word joiner behind the sign keeps it a text.
_MENTION = re.compile(r"@(?=(?:all|channel|everyone|here)\b)", re.IGNORECASE)


def headline(message: Message) -> str:
    """All of it on one line: what, of which database, the cause, the remedy, the link."""
    link = f" {message.run.url}" if message.run else ""
    return one_line(f"{message.word}: {message.about}: {'; '.join(_parts(message))}{link}")


def notice(message: Message) -> Notice:
    """For SNS: the headline as the subject as far as it fits, and whole in the body."""
    subject = message.subject
    lines = [headline(message), ""]
    for title, text in (
        ("What", message.what), ("Cause", message.cause), ("Remedy", message.remedy),
        ("Run", message.run.url if message.run else ""),
    ):  # fmt: skip
        if text:
            lines += [f"{title}:", text, ""]
    attributes = {
        "outcome": "good" if message.is_good else "failed",
        "operation": subject.operation,
        "database": subject.database,
        "instance": subject.instance,
    }
    return Notice(
        subject=mail_subject(message),
        message="\n".join(lines).rstrip() + "\n",
        attributes={
            name: cut(text, _LONGEST_ATTRIBUTE)
            for name, text in attributes.items()
            if text and text.strip()
        },
    )


def mail_subject(message: Message) -> str:
    """At most 100 characters of ASCII on one line, where cause and remedy each have their share.

    What does not fit is cut, and the link goes first.
    https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
    """
    whole = ascii_only(headline(message))
    if len(whole) <= LONGEST_SUBJECT:
        return whole
    label = cut(ascii_only(message.subject.label), _LONGEST_LABEL)
    head = f"{message.word}: {cut(ascii_only(message.subject.operation), 20)} of {label}: "
    parts = [ascii_only(part) for part in _parts(message)]
    return head + "; ".join(_shared(parts, LONGEST_SUBJECT - len(head), len("; ")))


def slack(message: Message) -> dict[str, str]:
    """`text` alone, which Slack, Mattermost and Google Chat all take.

    https://docs.slack.dev/messaging/formatting-message-text#escaping
    """
    word = _escaped(message.word)
    if message.run:
        word = f"<{_escaped(message.run.url).replace('|', '%7C')}|{word}>"
    mark = "✅" if message.is_good else "❌"
    rest = cut(f"{message.about}: {'; '.join(_parts(message))}", _LONGEST_LINE)
    text = f"{mark} {word} " + _escaped(_MENTION.sub("@\u2060", one_line(rest)))
    for block in (message.cause, message.remedy):
        # What one line shows as well needs no block; what is to be pasted does.
        if "\n" in block or '"' in block:
            quoted = cut(block, _LONGEST_BLOCK).replace("```", "'''")
            text += f"\n```\n{_escaped(quoted)}\n```"
    return {"text": text}


def plain_json(message: Message) -> dict[str, Any]:
    """As docs/notification.schema.json describes it."""
    run, subject = message.run, message.subject
    before = {None: None, True: "good", False: "failed"}[message.was_good]
    return {
        "format": FORMAT,
        "id": message.id,
        "time": message.time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "outcome": "good" if message.is_good else "failed",
        "before": before,
        "operation": subject.operation,
        "database": subject.database,
        "instance": subject.instance,
        "subject": headline(message),
        "what": message.what,
        "cause": message.cause,
        "remedy": message.remedy,
        "exit_code": message.exit_code,
        "run": None
        if run is None
        else {"url": run.url, "repository": run.repository, "workflow": run.workflow},
        "action": {"version": __version__},
    }


def encoded(told: dict[str, Any]) -> bytes:
    return json.dumps(told).encode()


def ascii_only(text: str) -> str:
    """On one line: letters without their accents, and a question mark for what is no ASCII."""
    plain = unicodedata.normalize("NFKD", one_line(text).translate(_PUNCTUATION))
    kept = "".join(each for each in plain if not unicodedata.combining(each))
    shown = "".join(each if " " <= each <= "~" else "?" for each in kept)
    return re.sub(r"\?{2,}", "?", shown)


def _parts(message: Message) -> list[str]:
    return [one_line(text) for text in (message.what, message.cause, message.remedy) if text]


def _shared(parts: Sequence[str], room: int, between: int) -> list[str]:
    """The parts, cut to fit the room: the first takes most of it, and the others share the rest."""
    left = room - between * (len(parts) - 1)
    lengths = [len(part) for part in parts]
    if sum(lengths) > left:
        lengths[0] = min(lengths[0], max(left * 7 // 10, left - sum(lengths[1:])))
        left -= lengths[0]
        # What a short one does not need, the next ones get.
        others = sorted(range(1, len(parts)), key=lambda number: lengths[number])
        for done, number in enumerate(others):
            lengths[number] = min(lengths[number], left // (len(others) - done))
            left -= lengths[number]
    return [cut(part, length) for part, length in zip(parts, lengths, strict=True)]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
