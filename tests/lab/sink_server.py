"""The server half of the sink: `python -m tests.lab.sink_server --port PORT ...`.

Bodies are read into one reused buffer per connection and counted. Small objects that were put
whole (a manifest) are kept, so that a catalogue can be listed and read.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.lab.daemon import LOOPBACK
from tests.lab.faults import Bandwidth

BUFFER = 1024 * 1024
KEPT = 4 * 1024 * 1024  # bytes; a larger object is counted and forgotten
XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True)
class Counters:
    """What the sink has seen: requests, bytes put, CPU seconds, objects' sizes."""

    requests: int
    received: int
    cpu_seconds: float
    open_uploads: int
    objects: dict[str, int]


@dataclass
class _Store:
    """What all connections share."""

    bandwidth: Bandwidth
    requests: int = 0
    received: int = 0
    sizes: dict[str, int] = field(default_factory=dict)  # by BUCKET/KEY
    etags: dict[str, str] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, int]] = field(default_factory=dict)  # sizes of parts
    upload_names: dict[str, str] = field(default_factory=dict)  # BUCKET/KEY
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class _Body:
    size: int  # decoded, without the framing of aws-chunked
    content: bytes | None  # None when it was too large to keep
    trailers: dict[str, str]


class _Connection:
    def __init__(self, connection: ssl.SSLSocket, store: _Store) -> None:
        self.connection = connection
        self.store = store
        self.buffer = bytearray(BUFFER)
        self.view = memoryview(self.buffer)
        self.pending = b""  # read from the socket, not yet consumed
        self.last = b""  # the end of the body, where aws-chunked has its trailers

    def serve(self) -> None:
        while head := self._until(b"\r\n\r\n"):
            line, *fields = head.decode("latin-1").rstrip().split("\r\n")
            method, target, _ = line.split(" ")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (entry.partition(":") for entry in fields)
            }
            if headers.get("expect", "").lower() == "100-continue":
                self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            status, answer, content = self._answer(
                method, target, headers, self._body(headers, "partNumber=" not in target)
            )
            lines = [f"HTTP/1.1 {status} Lab", "Connection: keep-alive", *answer]
            if not any(entry.lower().startswith("content-length") for entry in answer):
                lines.append(f"Content-Length: {len(content)}")
            body = b"" if method == "HEAD" else content
            self.connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def _until(self, mark: bytes) -> bytes:
        """Bytes up to and with `mark`; empty at the end of the connection."""
        while mark not in self.pending:
            data = self.connection.recv(65536)
            if not data:
                return b""
            self.pending += data
        found, _, self.pending = self.pending.partition(mark)
        return found + mark

    def _body(self, headers: dict[str, str], keeping: bool) -> _Body:
        keep: list[bytes] | None = [] if keeping else None
        self.last = b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self._until(b"\r\n"), 16):
                keep = self._take(size, keep)
                self._until(b"\r\n")
            while self._until(b"\r\n").strip():
                continue
        else:
            keep = self._take(int(headers.get("content-length", "0")), keep)
        content = b"".join(keep) if keep is not None else None
        trailers: dict[str, str] = {}
        decoded = headers.get("x-amz-decoded-content-length")
        if decoded is not None:
            # https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
            found = re.findall(r"\r\n(x-amz-[\w-]+):([^\r\n]+)", self.last.decode("latin-1"))
            trailers = dict(found)
            if content is not None:
                content = _undo_aws_chunks(content)
        size = int(decoded or headers.get("content-length", "0"))
        return _Body(size, content, trailers)

    def _take(self, size: int, keep: list[bytes] | None) -> list[bytes] | None:
        """Read `size` bytes of body, keeping them as long as they are few."""
        if size and self.pending:
            start, self.pending = self.pending[:size], self.pending[size:]
            size -= len(start)
            self.last = (self.last + start)[-256:]
            if keep is not None:
                keep.append(start)
        if size > KEPT:
            keep = None
        while size:
            got = self.connection.recv_into(self.view, min(size, BUFFER))
            if not got:
                raise ConnectionError("the client went away in the middle of a body")
            self.store.bandwidth.take(got)
            size -= got
            if size < 256:
                self.last = (self.last + self.view[max(0, got - 256) : got])[-256:]
            if keep is not None:
                keep.append(bytes(self.view[:got]))
        return keep

    def _answer(
        self, method: str, target: str, headers: dict[str, str], body: _Body
    ) -> tuple[int, list[str], bytes]:
        address = urlsplit(target)
        query = {name: v[0] for name, v in parse_qs(address.query, keep_blank_values=True).items()}
        bucket, _, key = unquote(address.path).lstrip("/").partition("/")
        name = f"{bucket}/{key}"
        sums = [
            f"{header}: {value}"
            for header, value in {**headers, **body.trailers}.items()
            if re.fullmatch("x-amz-checksum-(crc|sha).*|x-amz-checksum-type", header)
        ]
        with self.store.lock:
            self.store.requests += 1
            self.store.received += body.size if method == "PUT" else 0
            if name == "-/counters":
                return 200, [], self._counters()
            if not key:
                return self._about_bucket(bucket, query)
            match method, query:
                case "POST", {"uploads": _}:
                    return self._create(bucket, key, headers)
                case "PUT", {"uploadId": upload, "partNumber": number}:
                    if upload not in self.store.uploads:
                        return _error(404, "NoSuchUpload")
                    self.store.uploads[upload][int(number)] = body.size
                    return 200, [f'ETag: "{_etag(upload, number)}"', *sums], b""
                case "POST", {"uploadId": upload}:
                    return self._complete(bucket, key, upload, headers)
                case "DELETE", {"uploadId": upload}:
                    known = self.store.uploads.pop(upload, None) is not None
                    return (204, [], b"") if known else _error(404, "NoSuchUpload")
                case "PUT", _:
                    if headers.get("if-none-match") == "*" and name in self.store.sizes:
                        return _error(412, "PreconditionFailed")
                    self.store.sizes[name] = body.size
                    self.store.etags[name] = _etag(name, str(body.size))
                    if body.content is not None:
                        self.store.kept[name] = body.content
                    return 200, [f'ETag: "{self.store.etags[name]}"', *sums], b""
                case "HEAD" | "GET", _:
                    return self._read(method, name)
                case _:
                    return _error(501, "NotImplemented")

    def _counters(self) -> bytes:
        counters = Counters(
            self.store.requests,
            self.store.received,
            time.process_time(),
            len(self.store.uploads),
            dict(self.store.sizes),
        )
        return json.dumps(counters.__dict__).encode()

    def _about_bucket(self, bucket: str, query: dict[str, str]) -> tuple[int, list[str], bytes]:
        region = "x-amz-bucket-region: eu-central-1"
        if "location" in query:
            document = f'<LocationConstraint xmlns="{XMLNS}">eu-central-1</LocationConstraint>'
            return 200, [region], document.encode()
        if "uploads" in query:
            uploads = "".join(
                f"<Upload><Key>{escape(name.partition('/')[2])}</Key>"
                f"<UploadId>{upload}</UploadId></Upload>"
                for upload, name in self.store.upload_names.items()
                if upload in self.store.uploads and name.startswith(f"{bucket}/")
            )
            return 200, [region], _document("ListMultipartUploadsResult", uploads)
        if "list-type" not in query:
            return 200, [region], b""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        entries: dict[str, str] = {}
        for name, size in sorted(self.store.sizes.items()):
            owner, _, key = name.partition("/")
            if owner != bucket or not key.startswith(prefix):
                continue
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut >= 0:
                folder = escape(key[: cut + len(delimiter)])
                entries[folder] = f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
            else:
                entries[key] = (
                    f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size>"
                    f"<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                    f"<ETag>&quot;{self.store.etags[name]}&quot;</ETag></Contents>"
                )
        text = f"<Name>{bucket}</Name><IsTruncated>false</IsTruncated>{''.join(entries.values())}"
        return 200, [region], _document("ListBucketResult", text)

    def _create(
        self, bucket: str, key: str, headers: dict[str, str]
    ) -> tuple[int, list[str], bytes]:
        upload = f"upload-{next(self.store.numbers)}"
        self.store.uploads[upload] = {}
        self.store.upload_names[upload] = f"{bucket}/{key}"
        wanted = ("x-amz-checksum-algorithm", "x-amz-checksum-type", "x-amz-server-side-encryption")
        echoed = [f"{name}: {headers[name]}" for name in wanted if name in headers]
        text = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
        return 200, echoed, _document("InitiateMultipartUploadResult", text)

    def _complete(
        self, bucket: str, key: str, upload: str, headers: dict[str, str]
    ) -> tuple[int, list[str], bytes]:
        if upload not in self.store.uploads:
            return _error(404, "NoSuchUpload")
        parts = self.store.uploads.pop(upload)
        name = f"{bucket}/{key}"
        self.store.sizes[name] = sum(parts.values())
        self.store.etags[name] = f"{_etag(upload, name)}-{len(parts)}"
        self.store.kept.pop(name, None)
        text = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key>"
        text += f"<ETag>&quot;{self.store.etags[name]}&quot;</ETag>"
        for header, value in headers.items():
            if found := re.fullmatch("x-amz-checksum-(crc.*|sha.*)", header):
                tag = f"Checksum{found[1].upper()}"
                text += f"<{tag}>{value}</{tag}><ChecksumType>FULL_OBJECT</ChecksumType>"
        return 200, [], _document("CompleteMultipartUploadResult", text)

    def _read(self, method: str, name: str) -> tuple[int, list[str], bytes]:
        if name not in self.store.sizes:
            return _error(404, "NoSuchKey")
        answer = [
            f'ETag: "{self.store.etags[name]}"',
            "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT",
        ]
        if method == "HEAD":
            return 200, [*answer, f"Content-Length: {self.store.sizes[name]}"], b""
        if name not in self.store.kept:
            return _error(403, "InvalidObjectState")
        return 200, answer, self.store.kept[name]


def _undo_aws_chunks(content: bytes) -> bytes:
    """The data of `SIZE[;chunk-signature=...]\\r\\nDATA\\r\\n...0\\r\\nTRAILERS`."""
    data = b""
    while True:
        head, _, content = content.partition(b"\r\n")
        size = int(head.split(b";")[0], 16)
        if size == 0:
            return data
        data, content = data + content[:size], content[size + 2 :]


def _etag(*words: str) -> str:
    return hashlib.md5("/".join(words).encode(), usedforsecurity=False).hexdigest()


def _document(name: str, text: str) -> bytes:
    declaration = '<?xml version="1.0" encoding="UTF-8"?>'
    return f'{declaration}<{name} xmlns="{XMLNS}">{text}</{name}>'.encode()


def _error(status: int, code: str) -> tuple[int, list[str], bytes]:
    return status, [], f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


def serve(listener: socket.socket, context: ssl.SSLContext, store: _Store) -> None:
    """Serve connections, a thread for each, until the process ends."""

    def run(raw: socket.socket) -> None:
        try:
            with context.wrap_socket(raw, server_side=True) as connection:
                _Connection(connection, store).serve()
        except OSError:
            raw.close()  # the client ended it

    while True:
        raw, _ = listener.accept()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=run, args=(raw,), daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(description="An S3 that discards what it is sent")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--bandwidth", type=float, help="bytes per second over all connections")
    options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)
    listener = socket.create_server((LOOPBACK, options.port), backlog=128)
    serve(listener, context, _Store(Bandwidth(options.bandwidth)))


if __name__ == "__main__":
    main()
