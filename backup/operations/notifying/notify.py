"""Telling how a run ended: each channel by itself, within bounds, and never at the run's cost.

A channel that fails is a warning. Nothing here changes how the run has ended.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from backup.aws import metrics, notifications
from backup.aws.session import AwsSession
from backup.console import Console
from backup.errors import BackupError
from backup.github.context import workflow_run
from backup.inputs import readable
from backup.operations.notifying.errands import Errand
from backup.operations.notifying.forms import encoded, notice, plain_json, slack
from backup.operations.notifying.measured import metrics_of
from backup.operations.notifying.memory import Memory, Outcome, folder, kept_under, recall
from backup.operations.notifying.message import Message, message_of, subject_of
from backup.operations.opening import first_bucket, log_in
from backup.report.ending import Ending
from backup.settings import Settings
from backup.webhook import Post, send

# How long telling may take; and what a signal leaves of it for the end of the process.
_PATIENCE_SECONDS, _LAST_MOMENTS_SECONDS, _LEAST_SECONDS = 30.0, 0.4, 0.5
# The shares of it that finding out the last outcome may take, and telling.
_FOR_RECALLING, _FOR_TELLING = 0.4, 0.85
_NOT_TOLD = "Not everybody was told how this run ended"
_SECRETS_AROUND = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "PGPASSWORD",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
)


def notify(
    ending: Ending, values: Mapping[str, str], environment: Mapping[str, str], console: Console
) -> None:
    """Tell whoever is to be told. Never raises: what happened is worth more than who knows."""
    try:
        settings = ending.settings or readable(values, environment)
        operation = settings.operation if ending.settings else values.get("operation") or "backup"
        if operation == "policy":
            return  # a topic and a namespace are what the policy is about
        for name in _SECRETS_AROUND:
            if secret := environment.get(name):
                console.mask(secret)
        _Telling(ending, settings, operation, console, environment).tell()
    except Exception as error:  # a fault in here must not take the place of the run's own end
        console.debug("".join(traceback.format_exception(error)))
        console.warning(_NOT_TOLD, f"unexpected {type(error).__name__}: {error}")


class _Telling:
    """One run's channels. All of them are bounded by the same moment."""

    def __init__(
        self,
        ending: Ending,
        settings: Settings,
        operation: str,
        console: Console,
        environment: Mapping[str, str],
    ) -> None:
        self._ending, self._settings, self._console = ending, settings, console
        self._environment = environment
        self._channels = settings.notifications
        self._began = time.monotonic()
        self._until = _deadline(ending, self._began)
        self._subject = subject_of(settings, operation, ending.database)
        self._login: Errand[AwsSession] | None = None

    def tell(self) -> None:
        """The metrics always; messages where they are wanted; and then remember the outcome."""
        subject, namespace = self._subject, self._channels.namespace
        sending: list[Errand[None]] = []
        found = metrics_of(self._ending, subject.operation, subject.database, subject.instance)
        if namespace and found:
            login = self._logging_in()

            def send_metrics() -> None:
                metrics.send(login.result(self._until), namespace, found)

            sending.append(Errand("the metrics were not sent", send_metrics))
        if self._channels.topic_arn or self._channels.webhook_url:
            self._tell_people()
        self._finish(sending, self._until)

    def _tell_people(self) -> None:
        is_good, memory, was_good = self._ending.failure is None, None, None
        # Inputs that were refused do not tell what the run is one of, and are told each time.
        if self._channels.on == "change" and self._ending.settings:
            memory = self._recalled()
            was_good = memory.before.is_good if memory and memory.before else None
        if _is_told(self._channels.on, is_good, was_good):
            message = message_of(
                self._ending, self._subject, was_good, self._console.clean, self._environment
            )
            deliveries = self._deliveries(message)
            if not self._finish(deliveries, self._at(_FOR_TELLING)):
                return  # nobody knows of it yet: it stays news for the next run
        if memory:
            outcome = Outcome(datetime.now(UTC), is_good)
            writing = Errand("the outcome was not kept", lambda: memory.remember(outcome))
            self._finish([writing], self._until)

    def _recalled(self) -> Memory | None:
        """The last outcome; None, and a warning, where it cannot be known."""
        settings, login = self._settings, self._logging_in()
        kept = kept_under(settings, settings.operation, workflow_run(self._environment))
        place = folder(settings.bucket.prefix, settings.operation, kept)

        def recollection() -> Memory:
            access = first_bucket(login.result(self._until), settings, self._console)
            return recall(access.bucket(connections=1), place)

        try:
            return Errand("the bucket was not asked", recollection).result(self._at(_FOR_RECALLING))
        except BackupError as error:
            title = "How the last run ended is not known, so this one counts as a change"
            self._console.warning(title, "\n".join(error.lines()))
            return None

    def _deliveries(self, message: Message) -> list[Errand[None]]:
        channels = self._channels
        begun: list[Errand[None]] = []
        if url := channels.webhook_url:
            told = slack(message) if channels.webhook_format == "slack" else plain_json(message)
            post = Post(url, encoded(told), channels.webhook_secret)
            seconds = self._at(_FOR_TELLING) - time.monotonic()
            begun.append(Errand("the webhook was not told", lambda: send(post, seconds)))
        if topic := channels.topic_arn:
            login, mail = self._logging_in(), notice(message)

            def publish() -> None:
                notifications.publish(login.result(self._until), topic, mail)

            begun.append(Errand("the topic was not told", publish))
        return begun

    def _finish(self, errands: list[Errand[None]], until: float) -> int:
        """Wait for them, and warn of each that failed; how many did not."""
        faults = []
        for errand in errands:
            try:
                errand.result(until)
            except BackupError as error:
                self._console.debug("".join(traceback.format_exception(error)))
                faults.append("\n".join(error.lines()))
        for fault in dict.fromkeys(faults):  # a login that failed is one
            self._console.warning(_NOT_TOLD, fault)
        return len(errands) - len(faults)

    def _logging_in(self) -> Errand[AwsSession]:
        """A session of its own: the run's has ended with it, or was never there."""
        if self._login is None:
            settings = _with_region(self._settings)
            self._login = Errand(
                "cannot log in to AWS",
                lambda: log_in(settings, self._console, self._environment),
            )
        return self._login

    def _at(self, share: float) -> float:
        """The moment when that share of the time has passed."""
        return self._began + (self._until - self._began) * share


def _deadline(ending: Ending, now: float) -> float:
    """By the monotonic clock."""
    if not ending.interrupted:
        return now + _PATIENCE_SECONDS
    left = ending.interrupted.arrived + ending.interrupted.seconds_left - _LAST_MOMENTS_SECONDS
    return max(left, now + _LEAST_SECONDS)


def _is_told(on: str, is_good: bool, was_good: bool | None) -> bool:
    """What nobody knows of before counts as a change."""
    if on == "failure":
        return not is_good
    return on == "always" or is_good != was_good


def _with_region(settings: Settings) -> Settings:
    """Where no region could be read, the topic still names one."""
    topic, role = settings.notifications.topic_arn, settings.role
    region = role.region or (notifications.region_of(topic) if topic else None)
    return replace(settings, role=replace(role, region=region))
