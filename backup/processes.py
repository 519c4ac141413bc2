"""What running processes hold open, from proc(5): the truth about which files are finished.

Files are told by device and inode, for a path may lead to its file by many names. And how a
process ends with us.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from backup.errors import StorageError

FileIdentity = tuple[int, int]

# A process that is ending closes its folder to others a moment before it is a zombie.
_TRIES, _PAUSE_SECONDS = 10, 0.001
_LISTENING = "0A"  # TCP_LISTEN of include/net/tcp_states.h
_PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None, use_errno=True)


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


def listens(process: int, port: int) -> bool:
    """Whether a process listens on that port of 127.0.0.1; not so for one that is gone."""
    # https://docs.kernel.org/networking/proc_net_tcp.html: addresses in the order of the machine.
    (loopback,) = struct.unpack("=I", socket.inet_aton("127.0.0.1"))
    wanted = f"{loopback:08X}:{port:04X}"
    try:
        sockets = Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]
        descriptors = list(Path(f"/proc/{process}/fd").iterdir())
        held = {str(each.readlink()) for each in descriptors}
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False  # it has ended, or changes its descriptors just now
    return any(
        (fields[1], fields[3]) == (wanted, _LISTENING) and f"socket:[{fields[9]}]" in held
        for fields in map(str.split, sockets)
    )


def end_with(parent: int, number: signal.Signals) -> Callable[[], None]:
    """For a child, before it becomes a program: that signal when its parent is gone, however."""

    def ask() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask


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
