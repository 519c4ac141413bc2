"""A tunnel to a database: one ssh process with a port of 127.0.0.1 for each host that is meant.

https://man.openbsd.org/ssh and https://man.openbsd.org/ssh_config
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from backup.errors import DumpError, RestoreError
from backup.model import Forward
from backup.processes import end_with, listens
from backup.ssh.keys import KeyPair, in_memory
from backup.ssh.programs import private_folder, program, program_environment
from backup.ssh.refusals import broken, closed_way, is_transient, port_was_taken, refused

# The name under which the server's keys stand in our own list of known hosts.
_ALIAS = "tunnel"
_CONNECT_SECONDS = 15
# Of a server that answers, and then does not come to an end with the login.
_OPEN_SECONDS = 60.0
_ALIVE_SECONDS, _ALIVE_COUNT = 10, 3
_LOOK_SECONDS = 0.02
# A signal leaves 2.5 s for everything.
_GRACE_SECONDS = 0.5
_MOST_PORTS_TAKEN = 5


@dataclass(frozen=True, slots=True)
class SshServer:
    """Where to log in as whom, and the keys of which the server must show one."""

    user: str
    host: str
    port: int
    host_keys: tuple[str, ...]

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{self.user}@{host}:{self.port}"


@contextmanager
def open_tunnel(
    server: SshServer,
    destinations: Sequence[tuple[str, str]],
    key: Callable[[], KeyPair],
    relay: Callable[[str], None],
    environment: Mapping[str, str],
    *,
    pauses: Sequence[float] = (1, 2, 4),
) -> Iterator[tuple[Forward, ...]]:
    """A way through `server` to each of the destinations (host and port), in their order.

    `key` gives a key anew for each attempt; after each pause (seconds) there is
    another, while that may help. `relay` gets what ssh says. Raises AccessError, InputError,
    DumpError or StorageError; an error of the database that comes of a broken tunnel says so.
    """
    with ExitStack() as undo:
        process, forwards = _opened(server, destinations, key, relay, environment, pauses)
        undo.callback(process.end)
        try:
            yield forwards
        except (DumpError, RestoreError) as error:
            # Its end is heard here a moment later than that of the connections through it.
            died = process.has_ended(_GRACE_SECONDS)
            process.end()
            if died:
                raise broken(server, process.said, error) from error
            if explained := closed_way(server, forwards, process.said, error):
                raise explained from error
            raise


def _opened(
    server: SshServer,
    destinations: Sequence[tuple[str, str]],
    key: Callable[[], KeyPair],
    relay: Callable[[str], None],
    environment: Mapping[str, str],
    pauses: Sequence[float],
) -> tuple[_Ssh, tuple[Forward, ...]]:
    left, taken = list(pauses), 0
    while True:
        forwards = _free_ports(destinations)
        pair = key()
        process = _Ssh(server, forwards, pair, relay, environment)
        try:
            ended = process.wait_until_open(forwards)
        except BaseException:
            process.end()
            raise
        if not ended:
            return process, forwards
        process.end()
        if port_was_taken(process.said) and taken < _MOST_PORTS_TAKEN:
            taken += 1
        elif left and is_transient(process.said):
            time.sleep(left.pop(0))
        else:
            raise refused(server, pair.public, process.said)


class _Ssh:
    """The running ssh, with what it said."""

    def __init__(
        self,
        server: SshServer,
        forwards: Sequence[Forward],
        key: KeyPair,
        relay: Callable[[str], None],
        environment: Mapping[str, str],
    ) -> None:
        self._server = server
        self._relay = relay
        self._lines: deque[str] = deque(maxlen=50)
        with ExitStack() as undo:
            folder = undo.enter_context(private_folder())
            known = "".join(f"{_ALIAS} {line}\n" for line in server.host_keys)
            (folder / "known_hosts").write_text(known)
            with in_memory(key.private) as identity:
                self._process = subprocess.Popen(
                    _command(server, forwards),
                    cwd=folder,
                    env=program_environment(environment, folder),
                    stdin=identity.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                    preexec_fn=end_with(os.getpid(), signal.SIGTERM),
                )
            self._undo = undo.pop_all()
        self._listener = threading.Thread(target=self._listen, name="ssh", daemon=True)
        self._listener.start()

    @property
    def said(self) -> str:
        return "\n".join(self._lines)

    def wait_until_open(self, forwards: Sequence[Forward]) -> bool:
        """Until it has logged in and listens, or has ended: whether it has."""
        deadline = time.monotonic() + _OPEN_SECONDS
        while not all(listens(self._process.pid, each.local_port) for each in forwards):
            if self.has_ended(_LOOK_SECONDS):
                return True
            if time.monotonic() > deadline:
                self.end()
                self._lines.append(f"Connection timed out: no login after {_OPEN_SECONDS:.0f} s")
                return True
        return False

    def has_ended(self, seconds: float) -> bool:
        """Whether it ends within that time; what it said is heard out then."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._listener.join(_GRACE_SECONDS)
        return True

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        elif self._process.returncode < 0 and not self._lines:
            number = signal.Signals(-self._process.returncode)
            self._lines.append(f"ssh was ended by {number.name}")
        self._listener.join(_GRACE_SECONDS)
        self._undo.close()

    def _listen(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - asked for above
        with self._process.stderr as pipe:
            for line in pipe:
                text = line.decode("utf-8", "replace").rstrip()
                self._lines.append(text)
                self._relay(f"ssh: {text}")


def _command(server: SshServer, forwards: Sequence[Forward]) -> list[str]:
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": _ALIAS,
        "UserKnownHostsFile": "known_hosts",  # of the folder that it runs in
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "IdentityFile": "/dev/stdin",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "ConnectTimeout": str(_CONNECT_SECONDS),
        "ServerAliveInterval": str(_ALIVE_SECONDS),
        "ServerAliveCountMax": str(_ALIVE_COUNT),
        "ExitOnForwardFailure": "yes",
        # First of its own list: twice as fast as the one that is, where the processor knows AES.
        "Ciphers": "^aes128-gcm@openssh.com",
    }
    command = [program("ssh"), "-F", "none", "-N", "-T"]
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    for each in forwards:
        host = f"[{each.host}]" if ":" in each.host else each.host
        command += ["-L", f"127.0.0.1:{each.local_port}:{host}:{each.port}"]
    return [*command, "-l", server.user, "-p", str(server.port), "--", server.host]


def _free_ports(destinations: Sequence[tuple[str, str]]) -> tuple[Forward, ...]:
    with ExitStack() as held:
        found = []
        for host, port in destinations:
            probe = held.enter_context(contextlib.closing(socket.socket()))
            probe.bind(("127.0.0.1", 0))
            found.append(Forward(host, port, probe.getsockname()[1]))
        return tuple(found)
