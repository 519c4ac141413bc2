"""What one command costs: time, CPU of its whole process tree, memory, scratch disk."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_EVERY_SECONDS = 0.02
# A folder of 20,000 files takes long to look through: then look rarely enough that looking
# stays below this share of one processor.
_LARGEST_SHARE = 0.05
_STAT_BLOCK = 512  # see stat(2)
_SIZES = re.compile(r"^(Rss|Pss): +(\d+) kB", re.MULTILINE)


class BenchmarkError(Exception):
    """A measured command failed; the text holds what it printed last."""


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes. `memory` is the highest sum over the process tree of PSS, in which
    pages that processes share count once; `largest_process` the highest RSS of any of them."""

    wall: float
    cpu: float
    memory: int
    largest_process: int
    scratch: int


class Scratch:
    """A folder of its own for each run, so that no run pays for what another one removed.

    ext4 without a journal does not give out the inodes of files removed in the last minutes
    (recently_deleted() in fs/ext4/ialloc.c), and looks through all of them for each new file:
    after 20,000 files a dump takes twice as long. Where a file system knows the attribute, +T
    places each folder in another block group; and files are emptied here, to be removed last.
    """

    def __enter__(self) -> Scratch:
        self._root = _open_to_all(tempfile.mkdtemp(prefix="pg-backup-bench-"))
        subprocess.run(["chattr", "+T", self._root], stderr=subprocess.DEVNULL, check=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._root)

    def fresh(self) -> Path:
        return _open_to_all(tempfile.mkdtemp(dir=self._root))

    def free(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                os.truncate(path, 0)


def _open_to_all(folder: str) -> Path:
    """A drill's server runs as another user, for it refuses root."""
    path = Path(folder)
    path.chmod(0o755)
    return path


def measure(
    command: Sequence[str], environment: Mapping[str, str], scratch: Path, log: Path
) -> Cost:
    """Run a command to its end. `scratch` is watched as a whole; what it prints goes to `log`.

    Raises BenchmarkError when it exits non-zero.
    """
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    memory, disk = _Memory(process.pid), _Disk(scratch)
    watches = (_Watch(memory.look), _Watch(disk.look))
    try:
        # Of the children that were waited for, and theirs: the whole tree, once it is over.
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        for watch in watches:
            watch.stop()
    if process.returncode:
        raise BenchmarkError(
            f"{' '.join(command)} exited with {process.returncode}:\n"
            + log.read_text(errors="replace")[-4000:]
        )
    return Cost(
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        memory=memory.highest_sum,
        largest_process=memory.highest_single,
        scratch=disk.highest,
    )


class _Watch:
    """Calls `look` every 20 ms, from its making until `stop`."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            began = time.thread_time()
            self._look()
            pause = max(_EVERY_SECONDS, (time.thread_time() - began) / _LARGEST_SHARE)


class _Memory:
    """Of a process and all that it started."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self.highest_sum = 0
        self.highest_single = 0

    def look(self) -> None:
        total = 0
        for process in _tree(self._leader):
            try:
                text = Path(f"/proc/{process}/smaps_rollup").read_text()
            except OSError:
                continue  # has ended
            sizes = {name: int(kilobytes) * 1024 for name, kilobytes in _SIZES.findall(text)}
            total += sizes.get("Pss", 0)
            self.highest_single = max(self.highest_single, sizes.get("Rss", 0))
        self.highest_sum = max(self.highest_sum, total)


class _Disk:
    """The blocks that the files of a folder take, holes left out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.highest = 0

    def look(self) -> None:
        blocks = 0
        waiting = [str(self._folder)]
        while waiting:
            try:
                with os.scandir(waiting.pop()) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        else:
                            blocks += entry.stat(follow_symlinks=False).st_blocks
            except FileNotFoundError:
                continue  # has been removed meanwhile
        self.highest = max(self.highest, blocks * _STAT_BLOCK)


def _tree(leader: int) -> list[int]:
    """Processes by their parents: pg_dump lives in a process group of its own."""
    found = [leader]
    for process in found:
        try:
            threads = os.listdir(f"/proc/{process}/task")  # noqa: PTH208 - many times a second
            for thread in threads:
                children = Path(f"/proc/{process}/task/{thread}/children").read_text()
                found.extend(map(int, children.split()))
        except OSError:
            continue  # has ended
    return found
