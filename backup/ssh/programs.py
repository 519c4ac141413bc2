"""The programs of OpenSSH, wherever they are installed, whatever a job has put into PATH."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from backup.accounts import user_with_a_name
from backup.errors import DumpError, StorageError

_FOLDERS = "/usr/local/bin:/usr/bin:/bin"


def program(name: str) -> str:
    """The path of `ssh` or `ssh-keygen`. Raises DumpError where it is not installed."""
    found = shutil.which(name, path=_FOLDERS)
    if found is None:
        raise DumpError(
            f"there is no {name} here, which tunnel needs",
            detail=f"it was looked for in {_FOLDERS}",
            hint="install OpenSSH's client (openssh-client), or run the action's image",
        )
    return found


def program_environment(inherited: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Little of ours: nothing that names an agent, a display or another configuration.

    `folder` is one of its own, for what its user lacks.
    """
    kept = {name: inherited[name] for name in ("HOME", "TMPDIR") if name in inherited}
    return {"PATH": _FOLDERS, "LC_ALL": "C", **kept, **user_with_a_name(folder)}


@contextmanager
def private_folder() -> Iterator[Path]:
    """Gone afterwards with all that is in it. Raises StorageError where there can be none."""
    try:
        made = tempfile.TemporaryDirectory(prefix="pg-backup-ssh-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StorageError(
            "no folder can be made for a program of OpenSSH",
            detail=str(error),
            hint="set TMPDIR to a folder that this user may write",
        ) from error
    with made as folder:
        yield Path(folder)
