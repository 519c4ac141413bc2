"""Feed: give a running pg_restore its files, or the stream that it reads while S3 is read.

A table's end is sent only once the digest of all that was sent of it is right. Before that
pg_restore cannot end its COPY, so nothing damaged is ever committed: on a wrong digest it is
killed while it still waits.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import termios
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, Protocol

from backup.archive import stream
from backup.archive.fetching import Fetcher
from backup.archive.loads import Load
from backup.errors import disk_full

_PIPE_BYTES = 1 << 20
# What pg_restore may have read of the data when it has not asked for any: a buffer of its libc.
_READ_AHEAD = 64 << 10


class LoadProcess(Protocol):
    """The running pg_restore; `killed` is whether it was ended from here, or by the kernel."""

    @property
    def killed(self) -> bool: ...

    @property
    def stdin(self) -> IO[bytes]:
        """Where it reads a stream."""

    def kill(self) -> None:
        """End it at once, so that what it loads is not committed."""


class Feeder:
    """Brings the members of loads into `folder`, or into the stream that pg_restore reads.

    `toc` is the table of contents that a stream begins with, in the encoding `codec`.
    """

    def __init__(self, fetcher: Fetcher, folder: Path, toc: bytes, codec: str) -> None:
        self._fetcher = fetcher
        self._folder = folder
        self._toc = toc
        self._codec = codec

    def prepare(self, load: Load) -> None:
        """Write the members that are read as files, each checked."""
        for member, content in self._fetcher.read_many(load.files):
            write(self._folder / member.name, content)

    def feed(self, load: Load, process: LoadProcess) -> None:
        """Let a stream flow until its last byte is sent; of a load of files nothing is to do.

        Kills the process before it raises VerificationError, StorageError or AccessError.
        """
        if not load.is_streamed:
            return
        # It must be ended before the pipe is closed, which could look like a good end.
        with process.stdin as pipe, _ended_unless_done(process):
            with suppress(OSError):  # a machine's limit for unprivileged users
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            sent, reads_on = 0, True
            begun = len(self._head) + _READ_AHEAD
            for part in self._parts(load):
                for piece in part:
                    if reads_on:
                        written = _write(pipe.fileno(), piece)
                        sent += written
                        reads_on = written == len(piece)
                    # To the end of this member even if nobody reads any more: what was read may be
                    # damaged. But not where the reason is known, or nothing of the data was read,
                    # as with no server.
                    if not reads_on and (process.killed or sent - _unread(pipe) <= begun):
                        return
                if not reads_on:  # the digests of those before were right
                    return

    def clear(self, load: Load) -> None:
        """Remove what `prepare` has written."""
        for member in load.files:
            (self._folder / member.name).unlink(missing_ok=True)

    @cached_property
    def _head(self) -> bytes:
        return stream.head(self._toc, self._codec)

    def _parts(self, load: Load) -> Iterator[Iterable[bytes]]:
        """The stream in parts, of which each has one member at the most, read in their order."""
        yield (self._head,)
        flowing = self._fetcher.stream_many(load.members)
        for block in load.blocks:
            if block.listing:
                members = islice(flowing, len(block.members))
                yield from stream.large_objects(block.dump_id, members)
            else:
                for member, content in islice(flowing, len(block.members)):
                    yield stream.table(block.dump_id, member, content)


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


def _unread(pipe: IO[bytes]) -> int:
    """The bytes that are in a pipe; see FIONREAD in pipe(7)."""
    found = fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))
    return int.from_bytes(found, sys.byteorder)


def _write(pipe: int, content: bytes) -> int:
    """Write all of it, or what can be until pg_restore closes its end; how much that was."""
    rest = memoryview(content)
    with suppress(BrokenPipeError):
        while rest:
            rest = rest[os.write(pipe, rest) :]
    return len(content) - len(rest)
