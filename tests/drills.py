"""What every test of a drill asks: which of the three words, on what grounds, and is it kept?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.lab.runner import ActionRun, RunningAction
from tests.lab.stage import Stage, assert_clean_end, the_error
from tests.schemas import validator

VALIDATOR = validator("drill")


def drill_inputs(stage: Stage, **others: str) -> dict[str, str]:
    """The inputs of a drill of the database's newest backup; `others` with underscores."""
    given = stage.cloud.inputs | {"operation": "verify", "database": stage.database}
    return given | {name.replace("_", "-"): value for name, value in others.items()}


def drill(stage: Stage, env: dict[str, str] | None = None, **others: str) -> ActionRun:
    return stage.run(drill_inputs(stage, **others), env)


def records(stage: Stage) -> dict[str, dict[str, Any]]:
    """The results that are kept, by their keys, the oldest first."""
    kept = {
        key: json.loads(stage.cloud.read(key)) for key in stage.cloud.objects() if "/drills/" in key
    }
    return dict(sorted(kept.items(), key=lambda each: each[1]["finished"]))


def kept(run: ActionRun, stage: Stage) -> list[tuple[str, dict[str, Any]]]:
    """Keys and results that the run says it has kept, each of the documented form."""
    pattern = rf"^s3://{stage.cloud.bucket}/(\S+/drills/\S+\.json)$"
    found = [
        (key, json.loads(stage.cloud.read(key)))
        for key in re.findall(pattern, run.output, re.MULTILINE)
    ]
    for _, record in found:
        assert [] == [error.message for error in VALIDATOR.iter_errors(record)]
    return found


def record_of(run: ActionRun, stage: Stage) -> dict[str, Any]:
    """The only result that the run has kept."""
    ((_, record),) = kept(run, stage)
    return record


def checks(record: dict[str, Any], verdict: str) -> dict[str, str]:
    """Names and findings of the checks with that verdict."""
    return {each["name"]: each["detail"] for each in record["checks"] if each["verdict"] == verdict}


def assert_proven(run: ActionRun, stage: Stage) -> dict[str, Any]:
    """A green run, and its record."""
    assert 0 == run.exit_code, run.output
    assert [] == run.errors
    assert_clean_end(run, stage)
    record = record_of(run, stage)
    assert {"proven"} == {each["verdict"] for each in (*record["checks"], *record["tables"])}
    _assert_told(run, record, "proven", "✅")
    return record


def assert_not_green(
    run: ActionRun, stage: Stage, verdict: str, *words: str, exit_code: int = 6
) -> dict[str, Any]:
    """A red run whose only error has three parts and all these words, and its record."""
    assert exit_code == run.exit_code, run.output
    assert_clean_end(run, stage)
    the_error(run, *words)
    record = record_of(run, stage)
    _assert_told(run, record, verdict, {"failed": "❌", "not proven": "⚠️"}[verdict])
    return record


def _assert_told(run: ActionRun, record: dict[str, Any], verdict: str, mark: str) -> None:
    """The same word in outputs, record, summary and log."""
    outputs = run.outputs
    assert ("true" if verdict == "proven" else "false") == outputs["verified"]
    assert verdict == outputs["verdict"]
    assert verdict == record["verdict"]
    assert record["backup"] == outputs["backup-id"]
    # The verdict comes first, in words.
    assert run.summary.startswith(f"## {mark} {record['backup']}: {verdict}"), run.summary
    assert f"{mark} {record['backup']}: {verdict}" in run.output
    assert abs(record["age_seconds"] / 3600 - float(outputs["age-hours"])) <= 0.005
    if record["restore_seconds"] is None:
        assert "" == outputs["restore-seconds"]
    else:
        assert abs(record["restore_seconds"] - float(outputs["restore-seconds"])) < 0.06


def servers_of(running: RunningAction) -> list[int]:
    """Pids of the throwaway server and its backends, which run as somebody else in our folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            place = (folder / "cwd").readlink()
        except OSError:
            continue  # ended in the meantime, or not ours to read
        if place.is_relative_to(running.temp):
            found.append(int(folder.name))
    return found
