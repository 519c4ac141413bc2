"""A small threaded HTTP server on a free loopback port, for the lab's services."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.lab.daemon import LOOPBACK


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is an event of the test, not a fault of the lab."""


class HttpService:
    """Serves `handler` in threads between enter and exit; over TLS with a `context`."""

    def __init__(
        self, handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext | None = None
    ) -> None:
        self._listener = Listener((LOOPBACK, 0), handler)
        self._scheme = "https" if context else "http"
        if context:
            self._listener.socket = context.wrap_socket(self._listener.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://{LOOPBACK}:{self._listener.server_address[1]}"

    def close(self) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()


class Served:
    """A service that is made on enter, for as long as the `with` lasts."""

    _service: HttpService

    def __exit__(self, *_: object) -> None:
        self._service.close()

    @property
    def url(self) -> str:
        return self._service.url


def answering(answer: Callable[[Request], Response]) -> type[BaseHTTPRequestHandler]:
    """A handler class that reads whole requests and sends what `answer` returns."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            response = answer(
                Request(
                    self.command,
                    address.path,
                    parse_qs(address.query, keep_blank_values=True),
                    {name.lower(): value for name, value in self.headers.items()},
                    self.rfile.read(int(self.headers.get("content-length") or 0)),
                )
            )
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Quiet: tests read the counters."""

    return Handler
