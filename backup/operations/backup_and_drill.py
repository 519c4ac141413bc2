"""`operation: backup` with `verify: true`: the backup, and a drill of it in the same run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from backup import interruption
from backup.console import Console
from backup.errors import BackupError, Interrupted
from backup.operations import backup, verify
from backup.operations.drill import read_queries
from backup.report.measures import Drilled
from backup.report.report import Report
from backup.settings import Settings


def run(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    """Back up, then drill. Raises the BackupError that ends the backup; a backup that is made is
    told of, whatever becomes of its drill."""
    read_queries(settings.verify.check_sql)  # or there would be a backup before they are missed
    made = backup.run(settings, console, environment)
    console.info(made.verdict)
    interruption.listen()  # for the last moments of a backup it hears none
    drilled = replace(
        settings,
        database=made.data["database"],
        restore=replace(settings.restore, backup_id=made.outputs["backup-id"]),
        verify=replace(settings.verify, sample=1),
    )
    try:
        drill = verify.run(drilled, console, environment)
    except BackupError as error:
        return replace(
            made,
            verdict=f"{made.verdict}, and could not be drilled",
            failure=error,
            measures=(*made.measures, Drilled(made.data["database"], False, None)),
        )
    except Interrupted as interrupted:
        interrupted.consequence = (
            f"backup {made.outputs['backup-id']} is made and counts, and its drill was stopped"
        )
        interrupted.measures = (*made.measures, Drilled(made.data["database"], False, None))
        raise
    return Report(
        verdict=f"{made.verdict}; {drill.verdict}",
        sections=(*made.sections, *drill.sections),
        outputs={**made.outputs, **drill.outputs},
        data={**made.data, **drill.data},
        failure=made.failure or drill.failure,
        measures=(*made.measures, *drill.measures),
    )
