"""What somebody is told of a run: what, of which database, why, what to do, and where to look."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from backup.github.context import workflow_run
from backup.model import WorkflowRun
from backup.report.ending import Ending
from backup.settings import Settings

OF_AN_INSTANCE = ("snapshot", "restore-instance", "export")
OF_A_FLEET = ("plan", "collect")

_LONGEST_WHAT, _LONGEST_REST = 500, 4000
# What would end a line, or turn a text around: a name of a database may hold anything.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_MARK = re.compile("^(?:✅|❌|⏳|⚠️|❔) ")


@dataclass(frozen=True)
class Subject:
    """What a run is about, as far as anybody knows: a database, or an instance or cluster.

    `label` is never empty: a fleet's file, a secret or a bucket where neither is known.
    """

    operation: str
    database: str | None
    instance: str | None
    label: str


@dataclass(frozen=True)
class Message:
    """Texts without secrets and control characters; "" where there is nothing to say.

    `was_good` is the outcome before this one, None where nobody knows or asked.
    """

    subject: Subject
    is_good: bool
    was_good: bool | None
    what: str
    cause: str
    remedy: str
    exit_code: int
    run: WorkflowRun | None
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def word(self) -> str:
        if not self.is_good:
            return "FAILED"
        return "GOOD AGAIN" if self.was_good is False else "GOOD"

    @property
    def about(self) -> str:
        """As in `backup of shop`."""
        return f"{self.subject.operation} of {self.subject.label}"


def message_of(
    ending: Ending,
    subject: Subject,
    was_good: bool | None,
    clean: Callable[[str], str],
    environment: Mapping[str, str],
) -> Message:
    """The message; `clean` takes the secrets out, before anything is cut through the middle."""
    failure, report = ending.failure, ending.report

    def told(text: str, longest: int = _LONGEST_REST) -> str:
        return cut(plain(clean(text)), longest)

    verdict = _MARK.sub("", report.verdict) if report else ""
    return Message(
        subject=Subject(
            told(subject.operation, _LONGEST_WHAT),
            told(subject.database, _LONGEST_WHAT) if subject.database else None,
            told(subject.instance, _LONGEST_WHAT) if subject.instance else None,
            told(subject.label, _LONGEST_WHAT),
        ),
        is_good=failure is None,
        was_good=was_good,
        what=told(failure.message if failure else verdict, _LONGEST_WHAT),
        cause=told(failure.detail) if failure else "",
        remedy=told(failure.hint) if failure else "",
        exit_code=ending.exit_code,
        run=workflow_run(environment),
    )


def subject_of(settings: Settings, operation: str, found_out: str | None) -> Subject:
    """`found_out` is the database's name where only the run itself knows it."""
    rds = settings.rds.instance or settings.rds.cluster
    instance = rds if operation in OF_AN_INSTANCE else None
    database = None if instance else settings.database or found_out
    fleet = settings.fleet.file if operation in OF_A_FLEET else None
    place = "/".join(filter(None, (settings.bucket.name, settings.bucket.prefix)))
    secret = settings.source.password_secret_id
    unknown = fleet or (f"secret {_secret_name(secret)}" if secret else f"s3://{place}")
    return Subject(operation, database, instance, instance or database or unknown)


def _secret_name(secret_id: str) -> str:
    """Of an ARN the name, without the six characters that Secrets Manager puts behind it.

    https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html
    """
    name = re.fullmatch(r"arn:[^:]*:secretsmanager:[^:]*:[^:]*:secret:(.+?)(?:-\w{6})?", secret_id)
    return name[1] if name else secret_id


def plain(text: str) -> str:
    """Without control characters but line breaks and tabs, in what UTF-8 can write."""
    text = text.replace("\r\n", "\n").encode("utf-8", "replace").decode()
    return _CONTROLS.sub(" ", text).strip()


def one_line(text: str) -> str:
    return " ".join(text.split())


def cut(text: str, longest: int) -> str:
    """At most so many characters; three dots stand for the rest."""
    return text if len(text) <= longest else f"{text[: longest - 3].rstrip()}..."
