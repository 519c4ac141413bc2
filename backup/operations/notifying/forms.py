"""A message in the forms in which it is told: an SNS notice, Slack's JSON, and plain JSON."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from backup import __version__
from backup.aws.notifications import LONGEST_SUBJECT, Notice
from backup.operations.notifying.message import Message, cut, one_line

FORMAT = 1  # of the JSON, see docs/notification.schema.json

_LONGEST_LABEL, _LONGEST_ATTRIBUTE = 40, 200
_LEAST_ROOM = 30  # in a subject: fewer characters of a cause say nothing
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
    """At most 100 characters of ASCII on one line: as much of the headline as reads well in them.

    What fits comes whole: the cause, or the first of its sentences, then the remedy, then the link.
    https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
    """
    whole = ascii_only(headline(message))
    if len(whole) <= LONGEST_SUBJECT:
        return whole
    label = cut(ascii_only(message.subject.label), _LONGEST_LABEL)
    head = f"{message.word}: {cut(ascii_only(message.subject.operation), 20)} of {label}: "
    told = head + _whole_words(ascii_only(message.what), LONGEST_SUBJECT - len(head))
    if cause := _fitting(message.cause, LONGEST_SUBJECT - len(told) - len("; ")):
        told += f"; {cause}"
        remedy = ascii_only(message.remedy)
        if cause == ascii_only(message.cause) and len(f"{told}; {remedy}") <= LONGEST_SUBJECT:
            told += f"; {remedy}"
    return told


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


def _fitting(cause: str, room: int) -> str:
    """The cause, its first line, or the first sentence of that; else its words, if many fit."""
    first_line = ascii_only(cause.partition("\n")[0])
    for told in (ascii_only(cause), first_line, re.split(r"(?<=\S)[.;] ", first_line)[0]):
        if len(told) <= room:
            return told
    # pg_dump's and libpq's messages go from where it was to what it was.
    last = re.split(r"(?:failed|error|ERROR|FATAL): +", first_line)[-1] or first_line
    if len(last) <= room:
        return last
    return _whole_words(last, room) if room >= _LEAST_ROOM else ""


def _whole_words(text: str, room: int) -> str:
    """Cut between words where it is cut; three dots stand for the rest."""
    if len(text) <= room:
        return text
    kept = text[: room - 2].rpartition(" ")[0]
    return f"{kept.rstrip(' ,;:.(-')}..." if len(kept) > room // 2 else cut(text, room)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
