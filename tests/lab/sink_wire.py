"""HTTP for the sink: requests read from one connection, answers written to it.

Bodies that nobody keeps pass through one reused buffer for each connection.
"""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from tests.lab.faults import Bandwidth

BUFFER = 1024 * 1024
# Sent between two looks at the rate: 4 ms at 60 MB/s.
_SHAPED_PIECE = 256 * 1024
# The trailers of aws-chunked are among the last bytes of a body.
_TAIL = 256


@dataclass(frozen=True)
class Body:
    """`size` and `content` are without the framing of aws-chunked."""

    size: int
    content: memoryview | None  # None when it was not to be kept
    trailers: dict[str, str]


@dataclass(frozen=True)
class Request:
    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: Body

    @property
    def name(self) -> str:
        return f"{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Answer:
    """`content` follows the head as it is; `size` is told instead of its length on HEAD."""

    status: int
    headers: Sequence[str] = ()
    content: Sequence[bytes | memoryview] = ()
    size: int | None = None


@dataclass
class Traffic:
    """What all connections share: limits, which may be changed while they last, and sums."""

    bandwidth: Bandwidth  # of all bodies that are received
    latency: float = 0.0  # seconds before each answer
    rate: float | None = None  # bytes per second that one connection is sent
    served: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Connection:
    """Answers one request after the other; `keeps(target, size)` tells which bodies are kept."""

    def __init__(
        self,
        connection: ssl.SSLSocket,
        traffic: Traffic,
        keeps: Callable[[str, int], bool],
        answer: Callable[[Request], Answer],
    ) -> None:
        self._connection = connection
        self._traffic = traffic
        self._keeps = keeps
        self._answer = answer
        self._buffer = memoryview(bytearray(BUFFER))
        self._pending = b""  # read from the socket, not yet consumed
        self._tail = b""  # the end of the body
        self._sent = Bandwidth()

    def serve(self) -> None:
        while head := self._until(b"\r\n\r\n"):
            line, *fields = head.decode("latin-1").rstrip().split("\r\n")
            method, target, _ = line.split(" ")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (entry.partition(":") for entry in fields)
            }
            if headers.get("expect", "").lower() == "100-continue":
                self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            address = urlsplit(target)
            query = parse_qs(address.query, keep_blank_values=True)
            bucket, _, key = unquote(address.path).lstrip("/").partition("/")
            request = Request(
                method,
                bucket,
                key,
                {name: values[0] for name, values in query.items()},
                headers,
                self._body(headers, target),
            )
            self._send(method, self._answer(request), is_control=bucket == "-")

    def _until(self, mark: bytes) -> bytes:
        """Bytes up to and with `mark`; empty at the end of the connection."""
        while mark not in self._pending:
            data = self._connection.recv(65536)
            if not data:
                return b""
            self._pending += data
        found, _, self._pending = self._pending.partition(mark)
        return found + mark

    def _body(self, headers: dict[str, str], target: str) -> Body:
        self._tail = b""
        content: memoryview | None
        if headers.get("transfer-encoding", "").lower() == "chunked":
            chunks = bytearray()
            while size := int(self._until(b"\r\n"), 16):
                chunks += self._take(size, keep=True) or b""
                self._until(b"\r\n")
            while self._until(b"\r\n").strip():
                continue
            content = memoryview(chunks)
        else:
            size = int(headers.get("content-length", "0"))
            content = self._take(size, keep=self._keeps(target, size))
        trailers: dict[str, str] = {}
        decoded = headers.get("x-amz-decoded-content-length")
        if decoded is not None:
            # https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
            found = re.findall(r"\r\n(x-amz-[\w-]+):([^\r\n]+)", self._tail.decode("latin-1"))
            trailers = dict(found)
            if content is not None:
                content = _undo_aws_chunks(content)
        return Body(int(decoded or headers.get("content-length", "0")), content, trailers)

    def _take(self, size: int, *, keep: bool) -> memoryview | None:
        """Read `size` bytes of body into a buffer of their own, or into the reused one."""
        content = memoryview(bytearray(size)) if keep else None
        got = min(size, len(self._pending))
        piece = memoryview(self._pending)[:got]
        self._pending = self._pending[got:]
        if content is not None:
            content[:got] = piece
        at = got
        while True:
            if size - at < _TAIL:
                self._tail = (self._tail + piece[-_TAIL:])[-_TAIL:]
            if at == size:
                return content
            space = self._buffer if content is None else content[at:]
            got = self._connection.recv_into(space, min(size - at, BUFFER))
            if not got:
                raise ConnectionError("the client went away in the middle of a body")
            self._traffic.bandwidth.take(got)
            piece = space[:got]
            at += got

    def _send(self, method: str, answer: Answer, *, is_control: bool) -> None:
        size = sum(map(len, answer.content)) if answer.size is None else answer.size
        head = [f"HTTP/1.1 {answer.status} Lab", "Connection: keep-alive", *answer.headers]
        head += [f"Content-Length: {size}", "", ""]
        if is_control:
            self._connection.sendall("\r\n".join(head).encode() + b"".join(answer.content))
            return
        time.sleep(self._traffic.latency)
        self._connection.sendall("\r\n".join(head).encode())
        if method == "HEAD":
            return
        self._sent.rate = self._traffic.rate
        length = _SHAPED_PIECE if self._sent.rate else BUFFER
        for content in answer.content:
            for start in range(0, len(content), length):
                piece = memoryview(content)[start : start + length]
                self._sent.take(len(piece))
                self._connection.sendall(piece)
                with self._traffic.lock:
                    self._traffic.served += len(piece)


def _undo_aws_chunks(content: memoryview) -> memoryview:
    """The data of `SIZE[;chunk-signature=...]\\r\\nDATA\\r\\n...0\\r\\nTRAILERS`."""
    data = bytearray()
    framed = content.obj
    assert isinstance(framed, bytearray)
    at = 0
    while True:
        end = framed.index(b"\r\n", at)
        size = int(framed[at:end].split(b";")[0], 16)
        if size == 0:
            return memoryview(data)
        data += content[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
