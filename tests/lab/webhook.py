"""Whoever is told by a webhook: it remembers what it was sent, and answers as a test wants."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from tests.lab.certificates import Certificates
from tests.lab.httpd import HttpService, Request, Served

# What a hook's URL ends in, and what nobody may see.
TOKEN = "T024BE7LD-B024BE7LE-aBcDeFgHiJkLmNoPqRsTuVwX"

Answer = Callable[[BaseHTTPRequestHandler], None]


def status(code: int, body: bytes = b"ok", **headers: str) -> Answer:
    """An answer with that status; headers by name, with underscores for hyphens."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, text in headers.items():
            handler.send_header(name.replace("_", "-"), text)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def endless(code: int) -> Answer:
    """A body that never ends, as fast as it is taken."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    return answer


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """No answer at all: the connection is closed."""
    handler.close_connection = True


def garbage(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"220 mail.example.org ESMTP\r\n")
    handler.close_connection = True


@dataclass
class Hook(Served):
    """`answers` are given in turn, the last of them for ever."""

    certificates: Certificates | None = None
    answers: list[Answer] = field(default_factory=lambda: [status(200)])
    requests: list[Request] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Hook:
        context = None
        if self.certificates:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificates.certificate, self.certificates.key)
        self._service = HttpService(self._handler(), context)
        return self

    def __exit__(self, *about: object) -> None:
        self._ending.set()
        super().__exit__(*about)

    @property
    def secret_url(self) -> str:
        return f"{self.url}/services/{TOKEN}"

    @property
    def told(self) -> list[dict[str, Any]]:
        """The bodies of what was posted."""
        return [json.loads(request.body) for request in self.requests]

    def silence(self, handler: BaseHTTPRequestHandler) -> None:
        """Nothing, for as long as the test lasts."""
        self._ending.wait()
        handler.close_connection = True

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """A refusal, one byte of it at a time."""
        handler.send_response(500)
        handler.end_headers()
        while not self._ending.wait(0.3):
            handler.wfile.write(b"x")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                path = urlsplit(self.path).path
                request = Request(self.command, path, {}, headers, self.rfile.read(size))
                hook.requests.append(request)
                hook.answers[min(len(hook.requests), len(hook.answers)) - 1](self)

            do_GET = do_POST

            def log_message(self, format: str, *args: object) -> None:
                """Quiet: tests look at `requests`."""

        return Handler
