"""The fleet's file in the workspace of the run, and the databases that it names."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from backup.console import Console
from backup.errors import InputError
from backup.fleet.document import MOST_BYTES
from backup.fleet.file import Examine, Fleet, Member, read_fleet
from backup.inputs import examined
from backup.inputs.entries import filled
from backup.settings import Settings
from backup.wording import count

_MOST_NAMED = 10
_CHECK_OUT = (
    "check the repository out first:\n"
    "- uses: actions/checkout@v7\n  with:\n    persist-credentials: false"
)


def open_fleet(settings: Settings, environment: Mapping[str, str], examine: Examine) -> Fleet:
    """The fleet of `settings.fleet.file`. Raises InputError with every fault of the file."""
    file = settings.fleet.file
    assert file is not None  # noqa: S101 - inputs without one were refused
    return read_fleet(file, _content(file, environment), examine)


def members_meant(fleet: Fleet, settings: Settings, console: Console) -> tuple[Member, ...]:
    """The databases of `fleet-group`, or all. Raises InputError for a group of nobody.

    Where a fleet is run group by group, a database without one is in no run, and nothing is red.
    """
    group = settings.fleet.group
    members = fleet.of(group)
    lost = [each.name for each in fleet.members if not each.group]
    if group and lost:
        names = ", ".join(lost[:_MOST_NAMED]) + (" …" if len(lost) > _MOST_NAMED else "")
        console.warning(
            f"{count(len(lost), 'database')} of {fleet.file} in no group",
            f"no fleet-group takes them in, so they are neither backed up nor missed: {names}."
            " Give each a group that the workflow runs, as in group: eu",
        )
    return members


def as_each_job(settings: Settings, environment: Mapping[str, str], operation: str) -> Examine:
    """Each entry as a job has it: what the step gives goes before what the file says."""
    given = settings.fleet.given
    return lambda entry: examined({**filled(given, entry), "operation": operation}, environment)


def as_the_file_says(settings: Settings, environment: Mapping[str, str]) -> Examine:
    """Each entry for an audit: what the file says goes before what the step gives for all."""
    given = settings.fleet.given
    return lambda entry: examined({**given, **entry, "operation": "list"}, environment)


def _content(file: str, environment: Mapping[str, str]) -> bytes:
    """Raises InputError. A link may lead to another file of the workspace, and not out of it."""
    workspace = Path(environment.get("GITHUB_WORKSPACE") or ".").resolve()
    try:
        path = (workspace / file).resolve()
        if not path.is_relative_to(workspace):
            raise InputError(
                f"{file} leads out of the workspace",
                detail=f"it is a link to {path}",
                hint="keep the fleet's file in the repository",
            )
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(
                f"{file} is no file",
                detail="a folder, a pipe or a device has that name",
                hint="name the fleet's file: fleet-file: .github/pg-backups.yml",
            )
        with path.open("rb") as opened:
            return opened.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        empty = not any(workspace.iterdir())
        raise InputError(
            f"there is no {file}",
            detail="the workspace is empty" if empty else f"the workspace {workspace} lacks it",
            hint=_CHECK_OUT if empty else f"correct fleet-file, or:\n{_CHECK_OUT}",
        ) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        raise InputError(
            f"cannot read {file}",
            detail=str(getattr(error, "strerror", None) or error),
            hint="let the user of the runner read the file",
        ) from error
