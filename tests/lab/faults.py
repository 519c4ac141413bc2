"""An HTTP proxy in front of an S3 double that fails in the ways S3 and networks do."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from tests.lab.httpd import HttpService, Served

BLOCK = 64 * 1024
HOP_HEADERS = {"connection", "keep-alive", "expect", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Answer:
    """Answers with an S3 error document. With `instead` false the request is forwarded first, and
    the double's own answer is dropped."""

    status: int
    code: str
    message: str
    instead: bool = True


@dataclass(frozen=True)
class Reset:
    """Resets the connection: before anything is forwarded, or in place of the double's answer."""

    after_forwarding: bool = False


@dataclass(frozen=True)
class Stall:
    """Holds the request for some seconds, then handles it as usual."""

    seconds: float


@dataclass(frozen=True)
class Corrupt:
    """Flips one bit of the request's body on its way."""


@dataclass(frozen=True)
class CorruptAnswer:
    """Flips one bit of the body of the double's answer."""


@dataclass(frozen=True)
class CutShort:
    """Sends the double's answer up to some bytes of its body; then resets the connection, closes
    it as if that were all, or holds it for `stall` seconds before the rest."""

    after: int
    ending: Literal["reset", "close", "stall"]
    stall: float = 0.0


@dataclass(frozen=True)
class OtherRange:
    """Asks the double for another Range than the client did; None for the whole object."""

    range: str | None


@dataclass(frozen=True)
class Without:
    """Forwards the request without that header, which a store may not know."""

    name: str


@dataclass(frozen=True)
class Header:
    """Sets a header of the double's answer."""

    name: str
    value: str


Action: TypeAlias = (
    Answer | Reset | Stall | Corrupt | CorruptAnswer | CutShort | OtherRange | Without | Header
)

SLOW_DOWN = Answer(503, "SlowDown", "Please reduce your request rate.")
INTERNAL_ERROR = Answer(500, "InternalError", "We encountered an internal error. Please try again.")
ACCESS_DENIED = Answer(403, "AccessDenied", "Access Denied")
EXPIRED_TOKEN = Answer(400, "ExpiredToken", "The provided token has expired.")
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html: "a 200 OK
# response can contain either a success or an error".
ERROR_IN_200 = Answer(200, "InternalError", "We encountered an internal error. Please try again.")


@dataclass
class Fault:
    """A script line: the action for requests that match, `times` times (None: until removed).

    `pattern` is searched in the path with its query; `after` matching requests pass untouched
    first. `hits` counts how often it acted.
    """

    action: Action
    method: str = "*"
    pattern: str = ""
    times: int | None = None
    after: int = 0
    hits: int = 0

    def claims(self, method: str, target: str) -> bool:
        if self.method not in ("*", method) or not re.search(self.pattern, target):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


@dataclass(frozen=True)
class Record:
    """One request as it was seen; status 0 when its connection was reset."""

    method: str
    path: str
    query: str
    status: int
    bytes_received: int
    headers: dict[str, str]  # the request's, names in lower case
    at: float  # time.monotonic() when it came


class Bandwidth:
    """A token bucket shared by all connections; `rate` is bytes per second, None is unlimited."""

    def __init__(self, rate: float | None = None) -> None:
        self.rate = rate
        self._free_at = 0.0
        self._lock = threading.Lock()

    def take(self, amount: int) -> None:
        """Wait until `amount` bytes may pass."""
        if not self.rate:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + amount / self.rate
            wait = self._free_at - now
        time.sleep(max(0.0, wait))


@dataclass
class FaultProxy(Served):
    """Forwards to `upstream` (an endpoint URL), the signed Host kept, and acts out its faults.

    With `is_expired` (an Sts's), requests signed by an expired key are answered ExpiredToken.
    """

    upstream: str
    bandwidth: float | None = None  # bytes per second, of request bodies
    is_expired: Callable[[str], bool] | None = None
    faults: list[Fault] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def __enter__(self) -> FaultProxy:
        self.bucket = Bandwidth(self.bandwidth)
        self._lock = threading.Lock()
        self._service = HttpService(_handler(self))
        return self

    def add(
        self,
        action: Action,
        *,
        method: str = "*",
        pattern: str = "",
        times: int | None = None,
        after: int = 0,
    ) -> Fault:
        fault = Fault(action, method, pattern, times, after)
        with self._lock:
            self.faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self.faults.clear()

    def seen(self, method: str = "*", pattern: str = "") -> list[Record]:
        """The requests so far that match, in the order in which they ended."""
        return [
            record
            for record in list(self.records)
            if method in ("*", record.method)
            and re.search(pattern, f"{record.path}?{record.query}")
        ]

    def choose(self, method: str, target: str, headers: dict[str, str]) -> Action | None:
        access_key = re.search(r"Credential=([^/]+)/", headers.get("authorization", ""))
        if access_key and self.is_expired and self.is_expired(access_key[1]):
            return EXPIRED_TOKEN
        with self._lock:
            for fault in self.faults:
                if fault.claims(method, target):
                    return fault.action
        return None


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        received = 0
        arrived = 0.0
        corrupting = False

        def do_GET(self) -> None:
            self.received, self.arrived, self.corrupting = 0, time.monotonic(), False
            headers = {name.lower(): value for name, value in self.headers.items()}
            match proxy.choose(self.command, self.path, headers):
                case Stall(seconds):
                    time.sleep(seconds)
                    self._pass_on(*self._forward())
                case Reset(after_forwarding):
                    if after_forwarding:
                        self._forward()
                    self._reset()
                case Answer() as answer:
                    self._drain() if answer.instead else self._forward()
                    self._refuse(answer)
                case Corrupt():
                    self.corrupting = True
                    self._pass_on(*self._forward())
                case CorruptAnswer():
                    status, answered, body = self._forward()
                    self._pass_on(status, answered, bytes([body[0] ^ 1]) + body[1:])
                case CutShort() as cut:
                    self._pass_on(*self._forward(), cut)
                case OtherRange(other):
                    del self.headers["Range"]
                    if other:
                        self.headers["Range"] = other
                    self._pass_on(*self._forward())
                case Without(name):
                    del self.headers[name]
                    self._pass_on(*self._forward())
                case Header(name, value):
                    status, answered, body = self._forward()
                    others = [each for each in answered if each[0].lower() != name.lower()]
                    self._pass_on(status, [*others, (name, value)], body)
                case None:
                    self._pass_on(*self._forward())

        do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

        def _body(self) -> Iterator[bytes]:
            """The request's body in blocks, chunks undone, at the proxy's bandwidth."""
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    yield from self._blocks(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    continue
            else:
                yield from self._blocks(int(self.headers.get("content-length") or 0))

        def _blocks(self, size: int) -> Iterator[bytes]:
            while size > 0:
                block = self.rfile.read(min(size, BLOCK))
                if not block:
                    raise ConnectionError("the client went away in the middle of a body")
                proxy.bucket.take(len(block))
                size -= len(block)
                self.received += len(block)
                if self.corrupting:
                    block, self.corrupting = bytes([block[0] ^ 1]) + block[1:], False
                yield block

        def _drain(self) -> None:
            for _ in self._body():
                continue

        def _forward(self) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(urlsplit(proxy.upstream).netloc, timeout=120)
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in HOP_HEADERS:
                    connection.putheader(name, value)
            chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
            if chunked:
                connection.putheader("Transfer-Encoding", "chunked")
            elif "content-length" in self.headers:
                connection.putheader("Content-Length", self.headers["content-length"])
            connection.endheaders()
            for block in self._body():
                connection.send(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
            if chunked:
                connection.send(b"0\r\n\r\n")
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            return answer.status, answer.getheaders(), body

        def _pass_on(
            self,
            status: int,
            headers: list[tuple[str, str]],
            body: bytes,
            cut: CutShort | None = None,
        ) -> None:
            self.send_response_only(status)
            length = str(len(body))
            for name, value in headers:
                if name.lower() == "content-length" and self.command == "HEAD":
                    length = value
                elif name.lower() not in HOP_HEADERS:
                    self.send_header(name, value)
            if status not in (204, 304):
                self.send_header("Content-Length", length)
            self._remember(status)  # before the client can know the answer
            self.end_headers()
            if cut is None:
                self.wfile.write(body)
                return
            self.wfile.write(body[: cut.after])
            self.wfile.flush()
            self.close_connection = True
            if cut.ending == "stall":
                time.sleep(cut.stall)
                self.wfile.write(body[cut.after :])
            elif cut.ending == "reset":
                time.sleep(0.1)  # so that what was sent arrives before the reset
                reset(self.connection)

        def _refuse(self, answer: Answer) -> None:
            request_id = uuid.uuid4().hex[:16].upper()
            text = (
                '<?xml version="1.0" encoding="UTF-8"?>\n'
                f"<Error><Code>{answer.code}</Code><Message>{answer.message}</Message>"
                f"<RequestId>{request_id}</RequestId><HostId>lab</HostId></Error>"
            )
            headers = [("Content-Type", "application/xml"), ("x-amz-request-id", request_id)]
            self._pass_on(answer.status, headers, b"" if self.command == "HEAD" else text.encode())

        def _reset(self) -> None:
            self._remember(0)
            self.close_connection = True
            reset(self.connection)

        def _remember(self, status: int) -> None:
            address = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            proxy.records.append(
                Record(
                    self.command,
                    address.path,
                    address.query,
                    status,
                    self.received,
                    headers,
                    self.arrived,
                )
            )

        def log_message(self, format: str, *args: object) -> None:
            """Quiet: tests read the records."""

    return Handler


def reset(connection: socket.socket) -> None:
    """Close with a RST instead of a FIN: the peer sees ECONNRESET."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RD)
    connection.close()
