"""A running client program: one process group that is watched, stopped, woken and ended as one."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import IO, TypeVar

# Between SIGTERM, on which the programs cancel their queries on the server, and SIGKILL.
GRACE_SECONDS = 0.7
_MOMENT_SECONDS = 0.005
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid: unix(7)
_CHUNK_BYTES = 65536

Running = TypeVar("Running", bound="RunningProgram")


class RunningProgram:
    """A program with all that it forks.

    `hear` is called once, on a thread of its own, with the lines of stderr as they come, each
    with the process that wrote it. `stdin` and `stdout` are files or subprocess's constants;
    `inherited` are files that it has under the same numbers.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        hear: Callable[[Iterator[tuple[int, str]]], None],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        inherited: Sequence[int] = (),
    ) -> None:
        self._hear = hear
        self._killed = False
        # Workers write a line in pieces, and a pipe would mix theirs. A socket tells the writers
        # apart: unix(7), SO_PASSCRED.
        self._ears, mouth = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._ears.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with ExitStack() as undo:
            undo.callback(self._ears.close)
            with mouth:
                self._process: subprocess.Popen[bytes] = subprocess.Popen(
                    command,
                    env=dict(environment),
                    stdin=stdin,
                    stdout=stdout,
                    stderr=mouth.fileno(),
                    pass_fds=inherited,
                    start_new_session=True,
                )
            undo.pop_all()
        self._silent = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="stderr", daemon=True)
        self._listener.start()

    def __enter__(self: Running) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        """End it if it still runs, so that it cancels its queries on the server first."""
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)
            try:
                self._process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._process.wait()
        self._end_group()
        self._listener.join(GRACE_SECONDS)
        if self._process.stdin:
            self._process.stdin.close()

    def kill(self) -> None:
        """End it at once: a COPY whose end it has not yet sent is never committed."""
        self._killed = True
        self._signal(signal.SIGKILL)

    @property
    def killed(self) -> bool:
        """Whether that was done, or by the kernel for want of memory."""
        return self._killed or self._process.poll() == -signal.SIGKILL

    @property
    def stdin(self) -> IO[bytes]:
        """Where it reads what is written, where `stdin` was PIPE."""
        assert self._process.stdin is not None  # noqa: S101 - asked for
        return self._process.stdin

    def wait(self, seconds: float) -> None:
        """Sleep that long, or until it ends."""
        if self._silent.wait(seconds):
            # Its end of the pipe is closed; the exit itself is a moment away.
            time.sleep(min(seconds, _MOMENT_SECONDS))

    def _heard_out(self) -> int | None:
        """Its exit status once it has ended and all that it said was heard; else None."""
        status = self._process.poll()
        if status is not None and self._listener.is_alive():
            self._end_group()
            self._listener.join()
        return status

    def _end_group(self) -> None:
        """Once the leader has ended: workers outlive one that was killed by its pid alone."""
        self._signal(signal.SIGKILL)
        # What was said is still read; whoever holds the other end is not waited for.
        self._ears.shutdown(socket.SHUT_RD)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def _listen(self) -> None:
        try:
            self._hear(_lines(self._ears))
        finally:
            self._silent.set()


def _lines(ears: socket.socket) -> Iterator[tuple[int, str]]:
    unfinished: dict[int, bytes] = {}
    while True:
        # One call returns the bytes of one writer alone.
        content, attached, _, _ = ears.recvmsg(_CHUNK_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size))
        if not content:
            break
        [(_, _, credentials)] = attached
        process, _, _ = _CREDENTIALS.unpack(credentials)
        *lines, unfinished[process] = (unfinished.get(process, b"") + content).split(b"\n")
        yield from ((process, _text(line)) for line in lines)
    yield from ((process, _text(line)) for process, line in unfinished.items() if line)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip()
