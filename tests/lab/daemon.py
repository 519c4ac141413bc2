"""Servers that run as a process of their own: a free port, a wait for readiness, an end by pid."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"


class LabError(Exception):
    """A part of the lab did not start; the text holds the end of its log."""


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


@dataclass(frozen=True)
class Account:
    """The user a server runs as, for servers that refuse root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Daemon:
    """A running server process, leader of its own process group."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self, with_signal: signal.Signals = signal.SIGTERM, patience: float = 10.0) -> None:
        """Signal the server; kill its group if it still lives after `patience` seconds."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self.process.wait()


def start_daemon(
    command: Sequence[str | Path],
    *,
    log: Path,
    ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    account: Account | None = None,
    timeout: float = 60.0,
) -> Daemon:
    """Start `command`, its output in `log`, and return once `ready()` is true.

    Raises LabError when it exits first or is not ready within `timeout` seconds.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    daemon = Daemon(process, log)
    deadline = time.monotonic() + timeout
    while not ready():
        if process.poll() is not None:
            raise LabError(f"{command[0]} exited with {process.returncode}:\n{tail(log)}")
        if time.monotonic() > deadline:
            daemon.stop(patience=2)
            raise LabError(f"{command[0]} was not ready after {timeout} s:\n{tail(log)}")
        time.sleep(0.05)
    return daemon


def tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
