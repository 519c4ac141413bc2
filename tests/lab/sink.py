"""The fast S3 to measure with: HTTPS, answers as S3 would, throws the bytes away.

Told to, it keeps them in memory instead and serves them. It runs as a process of its own, so
that its CPU can be told from the client's.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import ssl
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tests.lab.aws import REPOSITORY, client
from tests.lab.certificates import issue_certificates
from tests.lab.daemon import LOOPBACK, accepts_connections, free_port, start_daemon
from tests.lab.sink_server import Counters


@dataclass
class Sink:
    """The sink as a process; `certificates.authority` is what a client must trust."""

    bandwidth: float | None = None  # bytes per second, of all that is put
    keeps_all: bool = False

    def __enter__(self) -> Sink:
        self._home = Path(tempfile.mkdtemp(prefix="pg-backup-lab-sink-"))
        self.certificates = issue_certificates(self._home)
        port = free_port()
        self.url = f"https://{LOOPBACK}:{port}"
        command = [sys.executable, "-m", "tests.lab.sink_server", "--port", str(port)]
        command += ["--certificate", str(self.certificates.certificate)]
        command += ["--key", str(self.certificates.key)]
        if self.bandwidth:
            command += ["--bandwidth", str(self.bandwidth)]
        if self.keeps_all:
            command.append("--keep")
        self.daemon = start_daemon(
            command,
            log=self._home / "sink.log",
            ready=lambda: accepts_connections(port),
            cwd=REPOSITORY,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.daemon.stop()
        shutil.rmtree(self._home)

    @property
    def env(self) -> dict[str, str]:
        """For an AWS client program: endpoint, authority and keys."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CA_BUNDLE": str(self.certificates.authority),
            "AWS_ACCESS_KEY_ID": "sink",
            "AWS_SECRET_ACCESS_KEY": "sink",
            "AWS_DEFAULT_REGION": "eu-central-1",
        }

    def client(self, service: str = "s3", **options: Any) -> Any:
        return client(service, self.url, authority=self.certificates.authority, **options)

    def counters(self) -> Counters:
        return Counters(**json.loads(self._control("/-/counters")))

    def shape(self, latency: float = 0.0, rate: float = 0.0) -> None:
        """From now on: seconds before each answer, bytes per second that one connection is sent
        (0 is unlimited)."""
        self._control(f"/-/shape?latency={latency}&rate={rate}")

    def _control(self, target: str) -> bytes:
        trust = ssl.create_default_context(cafile=str(self.certificates.authority))
        connection = http.client.HTTPSConnection(urlsplit(self.url).netloc, context=trust)
        with contextlib.closing(connection):
            connection.request("GET", target)
            return connection.getresponse().read()
