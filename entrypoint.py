"""The image's faces: inputs from `INPUT_*`; on GitHub's runner outputs and messages in its dialect,
on any other container host plain lines and a line of JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from backup.container import Container
from backup.errors import BackupError
from backup.github.context import on_runner
from backup.github.runner import Runner
from backup.program import main
from backup.report.markdown import render_failure, render_markdown
from backup.report.report import Report

_INPUT = "INPUT_"


class Action(Runner):
    """The runner, told how the run ended."""

    def failed(self, error: BackupError) -> None:
        self.annotate(error)
        self.add_summary(render_failure(error))

    def published(self, report: Report) -> None:
        self.info(report.verdict)
        for name, value in report.outputs.items():
            self.set_output(name, value)
        self.add_summary(render_markdown(report))


def inputs(environment: Mapping[str, str]) -> dict[str, str]:
    """Inputs by name. The runner upper-cases names, keeps hyphens and passes unset ones empty.

    https://docs.github.com/en/actions/reference/workflows-and-actions/metadata-syntax#inputs
    Elsewhere an underscore stands for a hyphen as well: shells, and Lambda's variables, know none.
    """
    given = {
        name.removeprefix(_INPUT).lower(): value
        for name, value in environment.items()
        if name.startswith(_INPUT) and value
    }
    if on_runner(environment):
        return given
    return {name.replace("_", "-"): value for name, value in given.items()}


def run(environment: Mapping[str, str]) -> int:
    given = inputs(environment)
    if on_runner(environment):
        return main(given, environment, Action(environment))
    # The runner sets the same variable when a run is repeated with debug logging.
    debug = environment.get("RUNNER_DEBUG") == "1"
    container = Container(given.get("operation", "backup"), debug=debug)
    code = main(given, environment, container)
    container.conclude(code)
    return code


if __name__ == "__main__":
    code = run(os.environ)
    sys.stdout.flush()
    # Threads that still wait for a network that does not answer must not keep the job waiting.
    os._exit(code)
