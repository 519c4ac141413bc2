"""A closing job that is cancelled while a store does not answer."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.fleets import FILE
from tests.lab.aws import REGION
from tests.lab.cloud import Cloud
from tests.lab.faults import Stall
from tests.lab.runner import start_action
from tests.lab.stage import the_error


def test_a_cancelled_collect_ends_at_once_and_has_changed_nothing(
    cloud: Cloud, tmp_path: Path
) -> None:
    file = tmp_path / FILE
    file.parent.mkdir()
    databases = "".join(f"  - database: db{number}\n" for number in range(20))
    file.write_text(
        f"defaults:\n  aws-region: {REGION}\n  bucket: {cloud.bucket}\n"
        f"  role-to-assume: {cloud.role}\ndatabases:\n{databases}"
    )
    cloud.proxy.add(Stall(30), method="GET", pattern="start-after")

    with start_action(
        {"operation": "collect"}, cloud.env | {"GITHUB_WORKSPACE": str(tmp_path)}
    ) as running:
        running.wait_for("::group::Backups of the fleet")
        time.sleep(3)  # until the lists are under way
        cancelled = time.monotonic()
        running.send(signal.SIGTERM)
        run = running.finish()

    assert time.monotonic() - cancelled < 10  # and not 30
    assert 143 == run.exit_code, run.output
    the_error(run, "interrupted by SIGTERM", "nothing was changed, for collecting only reads")
