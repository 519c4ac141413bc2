"""AWS Lambda as a face: each invocation is a process of its own, and ends before Lambda ends it.

What a run leaves in its process (masks, handlers of signals, threads that wait for a network) is
gone with it, so the next invocation, which Lambda starts in this very process, knows nothing of it.
https://docs.aws.amazon.com/lambda/latest/dg/images-create.html
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from backup.errors import BackupError
from backup.inputs.events import inputs_of
from backup.processes import end_with, family

# A run that is told to stop takes 0.2 s, and 7.5 s where S3 is slow (errors.Interrupted). One that
# does not stop is killed while there is time to say so.
_STOP_SECONDS, _KILL_SECONDS = 10.0, 2.0
# Less would not even do for logging in.
_LEAST_SECONDS = _STOP_SECONDS + 10

_ENTRYPOINT = Path(__file__).resolve().parents[1] / "entrypoint.py"
_INPUT = "INPUT_"
_PYTHON = (sys.executable, "-E", "-s", "-u", "-X", "utf8")


class Context(Protocol):
    """https://docs.aws.amazon.com/lambda/latest/dg/python-context.html"""

    def get_remaining_time_in_millis(self) -> int: ...


class BackupFailed(Exception):
    """The run failed; Lambda counts an error, tries again and knows what to do with the rest."""


def handler(event: object, context: Context) -> dict[str, Any]:
    """Run the operation that the variables `INPUT_*` name, and over them `{"inputs": {...}}`.

    Returns the line that `backup.container` writes. Raises BackupFailed, with the error's lines.
    """
    seconds = context.get_remaining_time_in_millis() / 1000
    try:
        if seconds < _LEAST_SECONDS:
            raise BackupError(
                f"the function's timeout leaves {seconds:.0f} s for a backup",
                detail=f"the last {_STOP_SECONDS:.0f} of them are for stopping cleanly",
                hint="give the function Timeout: 900, the most that Lambda has",
            )
        given = inputs_of(event)
    except BackupError as error:
        raise BackupFailed("\n".join(error.lines())) from None
    with tempfile.TemporaryDirectory(prefix="invocation-", ignore_cleanup_errors=True) as folder:
        code, told = _run(_environment(os.environ, given, folder), seconds)
    result = _result(told)
    if code == 0 and result:
        return result
    if failure := result.get("error"):
        raise BackupFailed("\n".join(text for text in failure.values() if text))
    raise BackupFailed(_last_words(code))


def _environment(
    inherited: Mapping[str, str], given: Mapping[str, str], folder: str
) -> dict[str, str]:
    """The run's variables: an input of the event takes the place of the function's own."""
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.startswith(_INPUT) or _named(name) not in given
    }
    inputs = {f"{_INPUT}{name.upper().replace('-', '_')}": text for name, text in given.items()}
    # Lambda's user has no home, and of the file system only /tmp may be written.
    return kept | inputs | {"HOME": folder, "TMPDIR": folder}


def _named(variable: str) -> str:
    return variable.removeprefix(_INPUT).lower().replace("_", "-")


def _run(environment: Mapping[str, str], seconds: float) -> tuple[int, str]:
    """The run's exit code and what it wrote to stdout; its log goes where ours does."""
    with subprocess.Popen(
        [*_PYTHON, str(_ENTRYPOINT)],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        preexec_fn=end_with(os.getpid(), signal.SIGTERM),
    ) as run:
        try:
            told, _ = run.communicate(timeout=seconds - _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGALRM)
            try:
                told, _ = run.communicate(timeout=_STOP_SECONDS - _KILL_SECONDS)
            except subprocess.TimeoutExpired:
                _kill(run.pid)
                told, _ = run.communicate()
    sys.stdout.write(told)
    return run.returncode, told


def _kill(leader: int) -> None:
    """pg_dump and its workers too: they are groups of their own."""
    for process in family(leader):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _result(told: str) -> dict[str, Any]:
    """The line of JSON; nothing of a run that was killed before it wrote one."""
    try:
        found: dict[str, Any] = json.loads(told)
    except ValueError:
        return {}
    return found


def _last_words(code: int) -> str:
    """For a run that could not say itself how it ended."""
    if code >= 0:
        error = BackupError(
            f"the run ended with exit code {code} and no result",
            detail="it could not even begin; the log has its last lines",
            hint="nothing was published. Invoke it again, and report it with that log",
        )
    else:
        error = BackupError(
            f"the run was ended by {signal.Signals(-code).name}",
            detail="the memory ran out, or it did not stop when its time was over",
            hint="operation: list shows whether the backup is there; only a whole one is. Give the"
            " function more memory (MemorySize: 2048); uploads that are still open are removed by"
            " the bucket's lifecycle rule for incomplete ones",
        )
    return "\n".join(error.lines())
