"""What the demos share: a step of a workflow that runs, the folder they write to, how they end."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from demo.by_hand import DemoError
from demo.narration import Narrator
from tests.lab.daemon import LabError
from tests.lab.runner import ActionRun, start_action


def run_step(
    inputs: Mapping[str, str],
    variables: Mapping[str, str],
    log: Path,
    narrator: Narrator,
    *,
    exit_code: int = 0,
) -> ActionRun:
    """Run the action with what a step gives it, told as it runs.

    Raises DemoError when it ends otherwise than with `exit_code`, or leaves anything behind.
    """
    with start_action(inputs, variables) as action:
        narrator.stream(action)
        run = action.finish()
        left = action.leftovers()
    log.write_text(run.log.visible + "\n")
    if run.exit_code != exit_code:
        raise DemoError(f"entrypoint.py exited with {run.exit_code}")
    if left:
        raise DemoError("entrypoint.py left behind: " + ", ".join(left))
    return run


def empty_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / ".gitignore").write_text("*\n")


def run_demo(
    demonstrate: Callable[[Narrator, ExitStack], None], *, steps: int, folder: Path, left: str
) -> int:
    """Run a demo of so many steps; its exit code. `left` names the files in `folder`."""
    _stop_on_signals()
    narrator = Narrator(steps=steps)
    try:
        with ExitStack() as undo:
            demonstrate(narrator, undo)
    except (DemoError, LabError, TimeoutError) as error:
        print(f"\nThe demo failed: {error}\nWhat there is so far: {folder}", file=sys.stderr)
        return 1
    print(
        f"\nAll of it in {narrator.seconds:.0f} s; everything started here is stopped."
        f"\n{left} are in {folder}"
    )
    return 0


def _stop_on_signals() -> None:
    """On the first SIGINT or SIGTERM what was started is stopped; others are not heard."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)


def _interrupted(number: int, _frame: FrameType | None) -> None:
    # A second one must not break off the stopping of what was started.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    print("\nInterrupted; stopping what was started ...", file=sys.stderr)
    raise SystemExit(128 + number)
