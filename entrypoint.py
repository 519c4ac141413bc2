"""The action's face: inputs from `INPUT_*`, outputs and messages in the runner's dialect."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from backup.errors import BackupError
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
    """
    return {
        name.removeprefix(_INPUT).lower(): value
        for name, value in environment.items()
        if name.startswith(_INPUT) and value
    }


if __name__ == "__main__":
    code = main(inputs(os.environ), os.environ, Action(os.environ))
    sys.stdout.flush()
    # Threads that still wait for a network that does not answer must not keep the job waiting.
    os._exit(code)
