"""A real OpenSSH server on loopback, run by an ordinary user, who is the only one it lets in."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from backup.processes import family
from tests.lab.daemon import LOOPBACK, accepts_connections, free_port, start_daemon
from tests.lab.postgres import unprivileged_account

# Not in every user's PATH.
_PROGRAM = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def sshd_is_missing() -> str:
    """Why there can be no server here; empty where there can."""
    if _PROGRAM and shutil.which("ssh") and shutil.which("ssh-keygen"):
        return ""
    return "OpenSSH is not installed here: apt-get install openssh-server openssh-client"


@dataclass(frozen=True)
class KeyFiles:
    """Texts of a key pair, in OpenSSH's formats."""

    private: str
    public: str
    fingerprint: str

    @property
    def lines(self) -> list[str]:
        """What of the private key must never be seen."""
        return [line for line in self.private.splitlines()[1:-1] if len(line) >= 16]


@dataclass
class Sshd:
    """A server that lets in whoever has the key `key`, until `authorize` names others.

    `settings` are further lines of sshd_config.
    """

    settings: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Sshd:
        account = unprivileged_account()
        self.user = account.name if account else pwd.getpwuid(os.geteuid()).pw_name
        self._home = Path(tempfile.mkdtemp(prefix="pg-backup-lab-sshd-"))
        self._home.chmod(0o755)
        self.log = self._home / "server.log"
        self.port = free_port()
        self.key = make_key(self._home / "client")
        host = make_key(self._home / "host")
        self.host_key = " ".join(host.public.split()[:2])
        self.fingerprint = host.fingerprint
        self._authorized = self._home / "authorized_keys"
        self.authorize(self.key.public)
        if account:
            os.chown(self._home / "host", account.uid, account.gid)
        settings = {
            **self.settings,
            "Port": str(self.port),
            "ListenAddress": LOOPBACK,
            "HostKey": str(self._home / "host"),
            "AuthorizedKeysFile": str(self._authorized),
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",  # its files lie below a folder that everyone may write
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "MaxStartups": "100",
            "LogLevel": "DEBUG1",
        }
        file = self._home / "sshd_config"
        file.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        assert _PROGRAM is not None
        self.daemon = start_daemon(
            [_PROGRAM, "-D", "-e", "-f", file],
            log=self.log,
            ready=lambda: accepts_connections(self.port),
            env={"PATH": os.defpath},
            cwd=self._home,
            account=account,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end_sessions()
        self.daemon.stop(patience=2)
        shutil.rmtree(self._home)

    @property
    def inputs(self) -> dict[str, str]:
        """Everything of a tunnel but the key."""
        return {
            "tunnel": f"ssh://{self.user}@{LOOPBACK}:{self.port}",
            "tunnel-host-key": self.host_key,
        }

    def authorize(self, *public_keys: str) -> None:
        """Let in the holders of these keys, each perhaps with options before it, and no others."""
        self._authorized.write_text("".join(f"{key.strip()}\n" for key in public_keys))
        self._authorized.chmod(0o644)

    def forwarded(self, port: int) -> int:
        """How many connections it was asked to let through to that port until now."""
        pattern = rf"server_request_direct_tcpip: .* target \S+ port {port}\b"
        return len(re.findall(pattern, self.log.read_text(errors="replace")))

    def sessions(self) -> list[int]:
        """Pids of the processes that serve those who have logged in."""
        return family(self.daemon.pid)[1:]

    def end_sessions(self) -> None:
        """Throw out everyone who is logged in."""
        for session in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(session, signal.SIGKILL)


def make_key(file: Path, passphrase: str = "", kind: str = "ed25519") -> KeyFiles:
    """A new key pair, in `file` and `file`.pub."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "lab", "-f", file],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    shown = subprocess.run(["ssh-keygen", "-l", "-f", file], check=True, capture_output=True)
    fingerprint = shown.stdout.decode().split()[1]
    return KeyFiles(file.read_text(), Path(f"{file}.pub").read_text().strip(), fingerprint)
