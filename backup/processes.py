"""What running processes hold open, from proc(5): the truth about which files are finished.

Files are told by device and inode, for a path may lead to its file by many names.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from backup.errors import StorageError

FileIdentity = tuple[int, int]

# A process that is ending closes its folder to others a moment before it is a zombie.
_TRIES, _PAUSE_SECONDS = 10, 0.001


def open_files(process: int) -> frozenset[FileIdentity]:
    """The files that a process holds open; none for one that is gone or a zombie.

    Raises PermissionError for a living process that may not be looked at: a half file must never
    pass for a whole one.
    """
    for attempt in range(1, _TRIES + 1):
        try:
            return frozenset(_open_files(process))
        except (FileNotFoundError, ProcessLookupError):
            break
        except PermissionError:
            if _status_fields(process)[:1] in ([], ["Z"]):
                break
            if attempt == _TRIES:
                raise
            time.sleep(_PAUSE_SECONDS)
    return frozenset()


def family(leader: int) -> list[int]:
    """A process and all that it, or one of them, has forked. Raises StorageError without /proc.

    The kernel may leave out children while others of them end; pg_dump's workers end together,
    when all files are written.
    """
    if not Path(f"/proc/{leader}").exists():
        raise blind()
    processes = [leader]
    for process in processes:
        try:
            children = Path(f"/proc/{process}/task/{process}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            # A kernel built without CONFIG_PROC_CHILDREN, or it has exited.
            return [leader, *_group(leader)]
        processes += map(int, children.split())
    return processes


def prove_sight(path: Path) -> None:
    """Refuse to work where open files cannot be seen. `path` is a file that we hold open."""
    status = path.stat()
    try:
        seen = open_files(os.getpid())
    except PermissionError as error:  # somebody else has our number there
        raise blind() from error
    if (status.st_dev, status.st_ino) not in seen:
        raise blind()


def blind() -> StorageError:
    return StorageError(
        "it cannot be seen which files pg_dump still writes",
        detail="/proc is missing here, or shows the processes of another PID namespace",
        hint="mount /proc for this namespace (unshare --mount-proc), or run the action's image",
    )


def _open_files(process: int) -> list[FileIdentity]:
    folder = f"/proc/{process}/fd"
    found = []
    for descriptor in os.listdir(folder):  # noqa: PTH208 - a hot path
        try:
            status = os.stat(f"{folder}/{descriptor}")  # noqa: PTH116
        except FileNotFoundError:
            continue
        found.append((status.st_dev, status.st_ino))
    return found


def _group(group: int) -> list[int]:
    numbers = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [
        number
        for number in numbers
        if number != group and _status_fields(number)[2:3] == [str(group)]
    ]


def _status_fields(process: int) -> list[str]:
    """State, parent, process group … of proc_pid_stat(5); empty for a process that is gone."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The command's name stands before them in parentheses and may hold anything.
    return status.rpartition(")")[2].split()
