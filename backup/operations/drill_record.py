"""The result of a drill as it is kept beside its backup: `drills/TIME.json`, written once.

Its form is `docs/drill.schema.json`; the backup itself is never changed by it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from backup import __version__
from backup.archive.catalogue import DrillEntry, database_prefix, drill_key, drills
from backup.aws.s3 import Bucket
from backup.console import Console
from backup.errors import AccessError
from backup.github.context import workflow_run
from backup.operations.drill import Drill
from backup.verdicts import Verdict

FORMAT = 1
_MOST_PAST = 24
_LONGEST_SECONDS = 1e9  # thirty years; a float could not hold every number of JSON


@dataclass(frozen=True)
class PastDrill:
    """What the history of drills shows of one; texts are empty where its record is damaged."""

    backup_id: str
    time: datetime
    depth: str
    verdict: str
    restore_seconds: float | None

    @property
    def is_proven_restore(self) -> bool:
        return (self.depth, self.verdict) == ("restore", Verdict.PROVEN.value)


def keep(bucket: Bucket, drill: Drill, console: Console, environment: Mapping[str, str]) -> str:
    """Write the result beside the backup; its key, empty where the role may not write.

    Raises StorageError.
    """
    finished = datetime.now(UTC)
    try:
        taken = {each.key for each in bucket.list(f"{drill.root}drills/")}
        while (key := drill_key(drill.root, finished)) in taken:
            finished += timedelta(seconds=1)
        bucket.put_if_absent(key, encode(drill, finished, environment), "application/json")
    except AccessError as error:
        console.warning("The result of the drill was not kept", "\n".join(error.lines()))
        return ""
    console.info(bucket.uri(key))
    return key


def encode(drill: Drill, finished: datetime, environment: Mapping[str, str]) -> bytes:
    """The result as JSON, one line a table."""
    run = workflow_run(environment)
    head: dict[str, Any] = {
        "format": FORMAT,
        "backup": drill.backup_id,
        "database": drill.database,
        "depth": drill.depth,
        "verdict": drill.verdict.value,
        "began": _utc(drill.began),
        "finished": _utc(finished),
        "restore_seconds": _rounded(drill.restore_seconds),
        "age_seconds": _rounded(drill.age_seconds),
        "action": {"version": __version__, "run": run.url if run else None},
        "checks": [
            {"name": each.name, "verdict": each.verdict.value, "detail": each.detail}
            for each in drill.proof.checks
        ],
        "notes": list(drill.proof.notes),
    }
    tables = [
        {
            "schema": each.schema,
            "table": each.table,
            "rows": each.rows,
            "bytes": each.bytes,
            "sha256": each.sha256,
            "verdict": each.verdict.value,
            "how": each.how,
        }
        for each in drill.proof.tables
    ]
    lines = [f"{_json(name)}: {_json(value)}" for name, value in head.items()]
    lines.append('"tables": [' + ",".join(f"\n    {_json(each)}" for each in tables) + "]")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("utf-8", "backslashreplace")


def history(bucket: Bucket, prefix: str, database: str) -> list[PastDrill]:
    """The latest drills of a database, the oldest first. Raises AccessError or StorageError."""
    found = drills(prefix, bucket.list(database_prefix(prefix, database)))
    return [past_drill(bucket, each) for each in found[-_MOST_PAST:]]


def past_drill(bucket: Bucket, entry: DrillEntry) -> PastDrill:
    """The record of one drill. Raises AccessError or StorageError."""
    told = _told(bucket.read(entry.key))
    return PastDrill(
        backup_id=entry.backup_id,
        time=entry.time,
        depth=str(told.get("depth", "")),
        verdict=str(told.get("verdict", "")),
        restore_seconds=_seconds(told.get("restore_seconds")),
    )


def _seconds(told: Any) -> float | None:
    is_known = isinstance(told, int | float) and 0 <= told < _LONGEST_SECONDS
    return float(told) if is_known else None


def _told(content: bytes) -> dict[str, Any]:
    """A result; empty where it is none, for anyone who may write here may have written it."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _utc(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
