"""Feed: give a running pg_restore its files, of which most are pipes that S3 flows through.

A pipe ends only once the digest of all that went through it is right. Before that pg_restore
cannot end its COPY, so nothing damaged is ever committed: on a wrong digest it is killed while
it still waits.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from backup.archive.fetching import Fetcher
from backup.archive.loads import Load
from backup.errors import disk_full
from backup.model import Member

_PIPE_BYTES = 1 << 20
# So many pipes exist ahead of the one that is read: large objects are opened one by one.
_PIPES_AHEAD = 64
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.0002, 0.01


class LoadProcess(Protocol):
    """The running pg_restore; `killed` is whether it was ended from here."""

    @property
    def killed(self) -> bool: ...

    def finished(self) -> bool:
        """Whether it has ended, however."""

    def kill(self) -> None:
        """End it at once, so that what it loads is not committed."""


class Feeder:
    """Brings the members of loads into `folder`, where pg_restore reads them."""

    def __init__(self, fetcher: Fetcher, folder: Path) -> None:
        self._fetcher = fetcher
        self._folder = folder

    def prepare(self, load: Load) -> None:
        """Write the small members, each checked, and make the first pipes."""
        for member, content in self._fetcher.read_many(load.files):
            write(self._folder / member.name, content)
        for member in load.pipes[:_PIPES_AHEAD]:
            os.mkfifo(self._folder / member.name, 0o600)

    def feed(self, load: Load, process: LoadProcess) -> None:
        """Let the piped members flow until the last is read, or the process has ended.

        Kills the process before it raises VerificationError, StorageError or AccessError.
        """
        with _ended_unless_done(process):
            for number, (member, content) in enumerate(self._fetcher.stream_many(load.pipes)):
                if not self._flow(member, content, process):
                    return
                (self._folder / member.name).unlink()
                for later in load.pipes[number + _PIPES_AHEAD : number + _PIPES_AHEAD + 1]:
                    os.mkfifo(self._folder / later.name, 0o600)

    def clear(self, load: Load) -> None:
        """Remove what `prepare` has made."""
        for member in (*load.files, *load.pipes):
            (self._folder / member.name).unlink(missing_ok=True)

    def _flow(self, member: Member, content: Iterable[bytes], process: LoadProcess) -> bool:
        """One member through its pipe; False if the process ended before it was opened."""
        pipe = _opened(self._folder / member.name, process)
        if pipe is None:
            return False
        # It must be ended before the pipe is closed, which would look like a good end.
        with os.fdopen(pipe, "wb", buffering=0), _ended_unless_done(process):
            with suppress(OSError):  # a machine's limit for unprivileged users
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            reads_on = True
            for piece in content:
                # To the end even if nobody reads any more: it may be that what was read is damaged.
                reads_on = reads_on and _written(pipe, piece)
                if not reads_on and process.killed:  # the reason is known
                    break
        return True


@contextmanager
def _ended_unless_done(process: LoadProcess) -> Iterator[None]:
    """Kill the process if the block does not come to its end, for whatever reason."""
    with ExitStack() as undo:
        undo.callback(process.kill)
        yield
        undo.pop_all()


def write(path: Path, content: bytes) -> None:
    """Raises StorageError where the disk is full."""
    try:
        path.write_bytes(content)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(str(error)) from error
        raise


def _opened(path: Path, process: LoadProcess) -> int | None:
    """The pipe once pg_restore has opened its end; None if it ends instead."""
    for pause in _pauses():
        ended = process.finished()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads yet; see fifo(7)
                raise
            if ended:
                return None
            time.sleep(pause)
        else:
            os.set_blocking(descriptor, True)
            return descriptor
    raise AssertionError("the pauses never end")


def _pauses() -> Iterator[float]:
    pause = _SHORTEST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(pause * 1.3, _LONGEST_PAUSE_SECONDS)


def _written(pipe: int, content: bytes) -> bool:
    """Write it all; False if pg_restore has closed its end."""
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[os.write(pipe, rest) :]
        except BrokenPipeError:
            return False
    return True
