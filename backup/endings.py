"""Why a run was broken off, in the words of the place where it ran."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from backup.errors import BackupError, Interrupted
from backup.github.context import on_runner


def broken_off(interrupted: Interrupted, environment: Mapping[str, str]) -> BackupError:
    """The error that a person reads of a run that a signal ended."""
    number = signal.Signals(interrupted.exit_code - 128)
    if number == signal.SIGALRM:
        return BackupError(
            "the time of this invocation ran out",
            detail="the 15 minutes that Lambda gives at the most, or the function's own timeout,"
            " are not enough for this database",
            hint=f"{interrupted.consequence}. Give the function Timeout: 900 if it has less; else"
            " run the same image on ECS Fargate, which has no limit: docs/beyond-the-runner.md",
        )
    message = f"interrupted by {number.name}"
    if on_runner(environment):
        return BackupError(
            message,
            detail="the run was cancelled, or reached its timeout-minutes",
            hint=f"{interrupted.consequence}. Raise timeout-minutes if nobody cancelled it",
        )
    return BackupError(
        message,
        detail="somebody stopped it, or the platform did: a deployment, a node that is drained, a"
        " limit of time",
        hint=f"{interrupted.consequence}. Run it again; ECS tells why as the task's stoppedReason,"
        " Kubernetes among the pod's events",
    )
