"""Fronts of a PostgreSQL server that change what a client meets at login.

Messages: https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import parse_qsl, quote, urlsplit

from tests.lab.daemon import LOOPBACK
from tests.lab.tcp import TcpProxy

_SSL_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102


@dataclass
class VersionFront(TcpProxy):
    """Lets the server call itself another version, of as many characters."""

    told: str = ""
    instead: str = ""

    def _count_from_server(self, data: bytes) -> bytes:
        name = b"server_version\0"
        return super()._count_from_server(
            data.replace(name + self.told.encode(), name + self.instead.encode())
        )


@dataclass
class LoginFront:
    """Asks for a password as RDS does for a login token, and checks the token's signature.

    The server behind must trust the user. `tokens` are the passwords that were presented, good
    and bad; https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
    """

    upstream_port: int
    access_key: str
    secret_key: str
    region: str
    tokens: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def __enter__(self) -> LoginFront:
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as stream:
            startup = _startup(client, stream.read)
            if not startup:
                return
            (code,) = struct.unpack("!I", startup[4:8])
            if code != _CANCEL_REQUEST:
                words = startup[8:].split(b"\0")
                named = dict(zip(words[::2], words[1::2], strict=False))
                client.sendall(b"R" + struct.pack("!II", 8, 3))  # AuthenticationCleartextPassword
                header = stream.read(5)
                if len(header) < 5:
                    return
                token = stream.read(struct.unpack("!I", header[1:])[0] - 4).rstrip(b"\0").decode()
                self.tokens.append(token)
                if fault := self.fault(token, named[b"user"].decode()):
                    self.refusals.append(fault)
                    client.sendall(_refusal(f"PAM authentication failed: {fault}"))
                    return
            with socket.create_connection((LOOPBACK, self.upstream_port)) as server:
                server.sendall(startup)
                back = threading.Thread(target=_pump, args=(server.recv, client), daemon=True)
                back.start()
                _pump(stream.read1, server)
                back.join()

    def fault(self, token: str, user: str) -> str:
        """What is wrong with a token; empty for a good one."""
        address, query = urlsplit(f"//{token}").netloc, urlsplit(f"//{token}").query
        given = dict(parse_qsl(query, keep_blank_values=True))
        signature = given.pop("X-Amz-Signature", "")
        stamp = given.get("X-Amz-Date", "19700101T000000Z")
        made = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
        scope = f"{stamp[:8]}/{self.region}/rds-db/aws4_request"
        if address != f"{LOOPBACK}:{self.port}":
            return f"it is for {address}"
        if (given.get("Action"), given.get("DBUser")) != ("connect", user):
            return "it is not for this user to connect"
        if given.get("X-Amz-Credential") != f"{self.access_key}/{scope}":
            return f"its credential is {given.get('X-Amz-Credential')}"
        age = (datetime.datetime.now(datetime.UTC) - made).total_seconds()
        if not -60 < age < int(given.get("X-Amz-Expires", "0")) <= 900:
            return "it has expired"
        canonical = "&".join(
            f"{quote(name, safe='-_.~')}={quote(given[name], safe='-_.~')}"
            for name in sorted(given)
        )
        empty = hashlib.sha256(b"").hexdigest()
        request = f"GET\n/\n{canonical}\nhost:{address}\n\nhost\n{empty}"
        digest = hashlib.sha256(request.encode()).hexdigest()
        key = b"AWS4" + self.secret_key.encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        expected = hmac.digest(key, text.encode(), "sha256").hex()
        return "" if hmac.compare_digest(expected, signature) else "its signature is wrong"


def _startup(client: socket.socket, read: Callable[[int], bytes]) -> bytes:
    """The startup message, encryption refused before it; empty when the client went away."""
    while True:
        head = read(8)
        if len(head) < 8:
            return b""
        length, code = struct.unpack("!II", head)
        if code not in (_SSL_REQUEST, _GSS_REQUEST):
            return head + read(length - 8)
        client.sendall(b"N")


def _pump(read: Callable[[int], bytes], sink: socket.socket) -> None:
    try:
        while data := read(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return  # either end went away


def _refusal(message: str) -> bytes:
    fields = (("S", "FATAL"), ("V", "FATAL"), ("C", "28000"), ("M", message))
    body = b"".join(kind.encode() + text.encode() + b"\0" for kind, text in fields) + b"\0"
    return b"E" + struct.pack("!I", len(body) + 4) + body
