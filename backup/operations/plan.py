"""`operation: plan`: the matrix of a workflow, one row for each database of the fleet's file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from backup.console import Console
from backup.errors import InputError
from backup.fleet.file import Fleet, Member
from backup.operations.fleet_file import as_each_job, members_meant, open_fleet
from backup.report.report import Report, Table
from backup.settings import Settings
from backup.wording import count

# https://docs.github.com/en/actions/how-tos/write-workflows/choose-what-workflows-do/run-job-variations
_MOST_JOBS = 256
# An output holds 1 MB, and the runner counts two bytes a character.
# https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idoutputs
_MOST_CHARACTERS = 1 << 19
_MOST_GROUPS = 20


def run(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    """Read the file and check every entry as its job will. Raises InputError."""
    fleet = open_fleet(settings, environment, as_each_job(settings, environment, "backup"))
    members = members_meant(fleet, settings, console)
    if len(members) > _MOST_JOBS:
        raise _too_many(fleet, members)
    matrix = json.dumps({"include": [_row(each) for each in members]})
    if len(matrix) > _MOST_CHARACTERS:
        raise InputError(
            f"the matrix of {fleet.file} is longer than an output may be",
            detail=f"it has {len(matrix):,} characters, and there is room for {_MOST_CHARACTERS:,}",
            hint="give inputs that all databases share to the steps in place of defaults, or plan"
            " a part of the fleet: fleet-group",
        )
    for each in members:
        console.info(f"{each.name}: {_place(each)}")
    of = f" of group {settings.fleet.group}" if settings.fleet.group else ""
    return Report(
        verdict=f"{count(len(members), 'database')}{of} in {fleet.file}",
        sections=(
            Table(
                "Databases",
                ("Name", "Group", "Database", "Host", "Backups"),
                tuple(_told(each) for each in members),
            ),
        ),
        outputs={"matrix": matrix, "count": str(len(members))},
        data={"databases": [_row(each) for each in members]},
    )


def _row(member: Member) -> dict[str, str]:
    """The row of the matrix, which the job hands over as `fleet-entry`."""
    labels = {"name": member.name, **({"group": member.group} if member.group else {})}
    return {**labels, **member.inputs}


def _told(member: Member) -> tuple[str, ...]:
    return (
        member.name,
        member.group or "",
        member.database,
        member.settings.source.host or "as its secret says",
        _place(member),
    )


def _place(member: Member) -> str:
    bucket = member.settings.bucket
    return f"s3://{bucket.name}/{bucket.prefix}" if bucket.prefix else f"s3://{bucket.name}"


def _too_many(fleet: Fleet, members: Sequence[Member]) -> InputError:
    groups = Counter(each.group or "" for each in members)
    told = ", ".join(
        f"{number:,} in {group}" if group else f"{number:,} in no group"
        for group, number in groups.most_common(_MOST_GROUPS)
    )
    small = next((name for name in sorted(groups) if name), "eu")
    return InputError(
        f"{len(members):,} databases in {fleet.file}, and a matrix takes {_MOST_JOBS}",
        detail=told,
        hint=f"give the databases groups of {_MOST_JOBS} at the most, and plan each by itself:\n"
        f"# {fleet.file}\n- database: shop\n  group: {small}\n"
        f"# the workflow, one job for each group\nwith:\n  operation: plan\n  fleet-group: {small}",
    )
