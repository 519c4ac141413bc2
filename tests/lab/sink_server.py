"""The server half of the sink: `python -m tests.lab.sink_server --port PORT ...`.

Small objects that were put whole (a manifest) are kept, so that a catalogue can be listed and
read; with --keep all are, in memory, and served whole or in ranges.
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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from tests.lab.daemon import LOOPBACK
from tests.lab.faults import Bandwidth
from tests.lab.sink_wire import Answer, Connection, Request, Traffic

KEPT = 4 * 1024 * 1024  # bytes; a larger object is counted and forgotten without --keep
XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
_REGION = "x-amz-bucket-region: eu-central-1"


@dataclass(frozen=True)
class Counters:
    """What the sink has seen: requests, bytes put and got, CPU seconds, objects' sizes."""

    requests: int
    received: int
    served: int
    cpu_seconds: float
    open_uploads: int
    objects: dict[str, int]


@dataclass(frozen=True)
class _Part:
    size: int
    content: memoryview | None  # None when it was not kept


@dataclass(frozen=True)
class _Object:
    etag: str
    parts: Sequence[_Part]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def read(self, start: int, end: int) -> list[memoryview] | None:
        """The bytes from `start` to before `end`; None when they were not kept."""
        pieces = []
        at = 0
        for part in self.parts:
            if part.content is None:
                return None
            pieces.append(part.content[max(0, start - at) : max(0, end - at)])
            at += part.size
        return [piece for piece in pieces if piece]


@dataclass
class _Upload:
    name: str  # BUCKET/KEY
    parts: dict[int, _Part] = field(default_factory=dict)


@dataclass
class _Store:
    """Objects by BUCKET/KEY and open uploads by id; all connections answer from it."""

    traffic: Traffic
    keeps_all: bool
    requests: int = 0
    received: int = 0
    objects: dict[str, _Object] = field(default_factory=dict)
    uploads: dict[str, _Upload] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def keeps(self, target: str, size: int) -> bool:
        return self.keeps_all or (size <= KEPT and "partNumber=" not in target)

    def answer(self, request: Request) -> Answer:
        with self.lock:
            match request.name:
                case "-/counters":
                    return self._counters()
                case "-/shape":
                    return self._shape(request.query)
            self.requests += 1
            self.received += request.body.size if request.method == "PUT" else 0
            if not request.key:
                return self._about_bucket(request.bucket, request.query)
            return self._about_object(request)

    def _about_object(self, request: Request) -> Answer:
        name, headers = request.name, request.headers
        sums = [
            f"{header}: {value}"
            for header, value in {**headers, **request.body.trailers}.items()
            if re.fullmatch("x-amz-checksum-(crc|sha).*|x-amz-checksum-type", header)
        ]
        part = _Part(request.body.size, request.body.content)
        match request.method, request.query:
            case "POST", {"uploads": _}:
                return self._create(request)
            case "PUT", {"uploadId": upload, "partNumber": number}:
                if upload not in self.uploads:
                    return _error(404, "NoSuchUpload")
                self.uploads[upload].parts[int(number)] = part
                return Answer(200, [f'ETag: "{_etag(upload, number)}"', *sums])
            case "POST", {"uploadId": upload}:
                return self._complete(request, upload)
            case "DELETE", {"uploadId": upload}:
                known = self.uploads.pop(upload, None) is not None
                return Answer(204) if known else _error(404, "NoSuchUpload")
            case "PUT", _:
                if headers.get("if-none-match") == "*" and name in self.objects:
                    return _error(412, "PreconditionFailed")
                self.objects[name] = _Object(_etag(name, str(part.size)), [part])
                return Answer(200, [f'ETag: "{self.objects[name].etag}"', *sums])
            case "HEAD" | "GET", _:
                return self._read(request)
            case _:
                return _error(501, "NotImplemented")

    def _counters(self) -> Answer:
        counters = Counters(
            self.requests,
            self.received,
            self.traffic.served,
            time.process_time(),
            len(self.uploads),
            {name: each.size for name, each in self.objects.items()},
        )
        return Answer(200, content=[json.dumps(counters.__dict__).encode()])

    def _shape(self, query: dict[str, str]) -> Answer:
        self.traffic.latency = float(query["latency"])
        self.traffic.rate = float(query["rate"]) or None
        return Answer(200)

    def _about_bucket(self, bucket: str, query: dict[str, str]) -> Answer:
        if "location" in query:
            document = f'<LocationConstraint xmlns="{XMLNS}">eu-central-1</LocationConstraint>'
            return Answer(200, [_REGION], [document.encode()])
        if "uploads" in query:
            uploads = "".join(
                f"<Upload><Key>{escape(upload.name.partition('/')[2])}</Key>"
                f"<UploadId>{number}</UploadId></Upload>"
                for number, upload in self.uploads.items()
                if upload.name.startswith(f"{bucket}/")
            )
            return Answer(200, [_REGION], [_document("ListMultipartUploadsResult", uploads)])
        if "list-type" not in query:
            return Answer(200, [_REGION])
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        entries: dict[str, str] = {}
        for name, each in sorted(self.objects.items()):
            owner, _, key = name.partition("/")
            if owner != bucket or not key.startswith(prefix):
                continue
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut >= 0:
                folder = escape(key[: cut + len(delimiter)])
                entries[folder] = f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
            else:
                entries[key] = (
                    f"<Contents><Key>{escape(key)}</Key><Size>{each.size}</Size>"
                    f"<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                    f"<ETag>&quot;{each.etag}&quot;</ETag></Contents>"
                )
        text = f"<Name>{bucket}</Name><IsTruncated>false</IsTruncated>{''.join(entries.values())}"
        return Answer(200, [_REGION], [_document("ListBucketResult", text)])

    def _create(self, request: Request) -> Answer:
        upload = f"upload-{next(self.numbers)}"
        self.uploads[upload] = _Upload(request.name)
        wanted = ("x-amz-checksum-algorithm", "x-amz-checksum-type", "x-amz-server-side-encryption")
        echoed = [f"{name}: {request.headers[name]}" for name in wanted if name in request.headers]
        text = f"{_place(request)}<UploadId>{upload}</UploadId>"
        return Answer(200, echoed, [_document("InitiateMultipartUploadResult", text)])

    def _complete(self, request: Request, number: str) -> Answer:
        upload = self.uploads.pop(number, None)
        if upload is None:
            return _error(404, "NoSuchUpload")
        parts = [part for _, part in sorted(upload.parts.items())]
        etag = f"{_etag(number, request.name)}-{len(parts)}"
        self.objects[request.name] = _Object(etag, parts)
        text = f"{_place(request)}<ETag>&quot;{etag}&quot;</ETag>"
        for header, value in request.headers.items():
            if found := re.fullmatch("x-amz-checksum-(crc.*|sha.*)", header):
                tag = f"Checksum{found[1].upper()}"
                text += f"<{tag}>{value}</{tag}><ChecksumType>FULL_OBJECT</ChecksumType>"
        return Answer(200, content=[_document("CompleteMultipartUploadResult", text)])

    def _read(self, request: Request) -> Answer:
        found = self.objects.get(request.name)
        if found is None:
            return _error(404, "NoSuchKey")
        if request.headers.get("if-match", found.etag).strip('"') != found.etag:
            return _error(412, "PreconditionFailed")
        headers = [f'ETag: "{found.etag}"', "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT"]
        status, start, end = 200, 0, found.size
        if wanted := re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", "")):
            first, last = wanted.groups()
            start = int(first) if first else max(0, end - int(last))
            end = min(end, int(last) + 1) if first and last else end
            if start >= end:
                return _error(416, "InvalidRange")
            status = 206
            headers.append(f"Content-Range: bytes {start}-{end - 1}/{found.size}")
        if request.method == "HEAD":
            return Answer(status, headers, size=end - start)
        content = found.read(start, end)
        return (
            _error(403, "InvalidObjectState")
            if content is None
            else Answer(status, headers, content)
        )


def _place(request: Request) -> str:
    return f"<Bucket>{request.bucket}</Bucket><Key>{escape(request.key)}</Key>"


def _etag(*words: str) -> str:
    return hashlib.md5("/".join(words).encode(), usedforsecurity=False).hexdigest()


def _document(name: str, text: str) -> bytes:
    declaration = '<?xml version="1.0" encoding="UTF-8"?>'
    return f'{declaration}<{name} xmlns="{XMLNS}">{text}</{name}>'.encode()


def _error(status: int, code: str) -> Answer:
    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return Answer(status, content=[text.encode()])


def serve(listener: socket.socket, context: ssl.SSLContext, store: _Store) -> None:
    """Serve connections, a thread for each, until the process ends."""

    def run(raw: socket.socket) -> None:
        try:
            with context.wrap_socket(raw, server_side=True) as connection:
                Connection(connection, store.traffic, store.keeps, store.answer).serve()
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
    parser.add_argument("--keep", action="store_true", help="all objects, in memory")
    options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)
    listener = socket.create_server((LOOPBACK, options.port), backlog=128)
    traffic = Traffic(Bandwidth(options.bandwidth))
    serve(listener, context, _Store(traffic, options.keep))


if __name__ == "__main__":
    main()
