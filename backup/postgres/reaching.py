"""The way to a server without a login: names, addresses, and what it shows when asked for TLS.

It takes the steps of libpq one by one, so that each can fail by itself:
https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup.errors import DumpError
from backup.postgres.connection import Source
from backup.postgres.diagnosis import connection_failure

CONNECT_SECONDS = 8.0
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
# What libpq offers where sslnegotiation is direct.
_ALPN = "postgresql"
# X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL's include/openssl/x509_vfy.h.in.
OTHER_ADDRESS = 64
SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Way:
    """One address of the server: the name it was found by, and an IP or the path of a socket."""

    name: str
    address: str
    port: int

    @property
    def is_socket(self) -> bool:
        return self.address.startswith("/")

    @property
    def is_loopback(self) -> bool:
        return self.is_socket or ipaddress.ip_address(self.address).is_loopback

    @property
    def is_private(self) -> bool:
        """An address that no router of the internet leads to."""
        return not self.is_socket and ipaddress.ip_address(self.address).is_private


@dataclass(frozen=True, slots=True)
class Reached:
    """How an attempt at one way went: `error` is None where it led to something that listens."""

    way: Way
    seconds: float
    error: OSError | None


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a server's certificate says. `names` are those it is good for."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    until: datetime


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What a server shows. `protocol` is empty where it has no TLS.

    `problem` is why its certificate is not believed, empty where it is; `code` that of OpenSSL.
    `certificate` is None where it cannot be read, as one that has expired.
    """

    protocol: str = ""
    certificate: Certificate | None = None
    problem: str = ""
    code: int = 0


def parameter(source: Source, name: str) -> str:
    """The value of a libpq parameter beyond the named ones; empty where it is not given."""
    return dict(source.parameters).get(name, "")


def find_ways(source: Source) -> list[Way]:
    """Every address that libpq would try. Raises DumpError where no name has one."""
    if source.forwards:
        return [Way(each.host, "127.0.0.1", each.local_port) for each in source.forwards]
    names = source.host.split(",")
    given = parameter(source, "hostaddr").split(",")
    ports = source.port.split(",")
    found: list[Way] = []
    unknown: socket.gaierror | None = None
    for place, name in enumerate(names):
        port = int((ports[place] if place < len(ports) else ports[0]) or 5432)
        address = given[place] if place < len(given) else ""
        if name.startswith("/"):
            found.append(Way(name, f"{name}/.s.PGSQL.{port}", port))
            continue
        try:
            looked_up = socket.getaddrinfo(address or name, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            unknown = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            continue
        found += [Way(name, str(entry[4][0]), port) for entry in looked_up]
    if not found:
        raise connection_failure(
            f'could not translate host name "{source.host}" to address: {unknown}',
            None,
            host=source.host,
            port=source.port,
            database=source.database,
            user=source.user,
            sslmode=source.sslmode,
        )
    return list(dict.fromkeys(found))


def reach(way: Way, *, asks: bool) -> Reached:
    """Open a TCP connection, and close it.

    With `asks` the server must answer as well: the near end of a tunnel accepts every connection.
    """
    began = time.monotonic()
    try:
        with _open(way) as opened:
            if asks:
                opened.sendall(_SSL_REQUEST)
                if not opened.recv(1):
                    raise ConnectionResetError("the far end of the tunnel closed the connection")
    except OSError as error:
        return Reached(way, time.monotonic() - began, error)
    return Reached(way, time.monotonic() - began, None)


def roots_of(source: Source) -> str | None:
    """The file of the authorities that libpq would believe, or `system`; None for none.

    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-SSLROOTCERT
    """
    given = parameter(source, "sslrootcert") or source.sslrootcert
    if given := given or os.environ.get("PGSSLROOTCERT"):
        return given
    usual = Path("~/.postgresql/root.crt").expanduser()
    return str(usual) if usual.exists() else None


def look_at_tls(way: Way, source: Source, *, roots: str | None, checks_name: bool) -> ServerTls:
    """Ask for TLS as libpq does, and look at the certificate. Raises DumpError.

    With `checks_name` the certificate must be for the server's name, as for verify-full.
    """
    direct = parameter(source, "sslnegotiation") == "direct"
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    try:
        with _shaken(way, anyone, direct) as shown:
            if shown is None:
                return ServerTls()
            protocol, content = shown.version() or "TLS", shown.getpeercert(binary_form=True)
    except OSError as error:
        raise DumpError(
            f"{way.name} port {way.port} breaks off when it is asked for TLS",
            detail=str(error),
            hint="what listens there may be no PostgreSQL, or a TLS older than 1.2: see its log",
        ) from error
    certificate = _read(way, content or b"", direct)
    if roots is None:
        return ServerTls(protocol, certificate, "no root certificate is known to check it with")
    try:
        believing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        believing.check_hostname = checks_name
        if roots == SYSTEM:
            believing.load_default_certs()
        else:
            believing.load_verify_locations(roots)
        with _shaken(way, believing, direct):
            return ServerTls(protocol, certificate)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == OTHER_ADDRESS and _names_the_address(certificate, way.name):
            return ServerTls(protocol, certificate)
        return ServerTls(protocol, certificate, error.verify_message, error.verify_code)
    except (ssl.SSLError, OSError) as error:
        return ServerTls(protocol, certificate, f"the roots in {roots} cannot be used: {error}")


def _open(way: Way) -> socket.socket:
    if not way.is_socket:
        return socket.create_connection((way.address, way.port), CONNECT_SECONDS)
    opened = socket.socket(socket.AF_UNIX)
    opened.settimeout(CONNECT_SECONDS)
    try:
        opened.connect(way.address)
    except OSError:
        opened.close()
        raise
    return opened


@contextlib.contextmanager
def _shaken(way: Way, context: ssl.SSLContext, direct: bool) -> Iterator[ssl.SSLSocket | None]:
    """A connection after the handshake; None where the server has no TLS. Raises OSError."""
    with contextlib.ExitStack() as undo:
        plain = undo.enter_context(_open(way))
        if direct:
            context.set_alpn_protocols([_ALPN])
        else:
            plain.sendall(_SSL_REQUEST)
            answer = plain.recv(1)
            if answer == b"N":
                yield None
                return
            if answer != b"S":
                raise ConnectionError(f"it answers {answer!r} to the request for TLS")
        yield undo.enter_context(context.wrap_socket(plain, server_hostname=way.name))


def _read(way: Way, content: bytes, direct: bool) -> Certificate | None:
    """What a certificate says. Python reads only those that it believes: this one believes it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=content)
        with _shaken(way, context, direct) as shown:
            said: Any = shown.getpeercert() if shown else None
    except (OSError, ValueError):  # one that has expired is believed by nobody
        return None
    if not said:
        return None
    return Certificate(
        subject=_name(said.get("subject", ())),
        issuer=_name(said.get("issuer", ())),
        names=tuple(str(value) for _, value in said.get("subjectAltName", ())),
        until=datetime.fromtimestamp(ssl.cert_time_to_seconds(said["notAfter"]), UTC),
    )


def _names_the_address(certificate: Certificate | None, address: str) -> bool:
    """Whether it has an address among its host names or as its common name, as libpq allows.

    https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-CERTIFICATES
    """
    if certificate is None:
        return False
    return address in certificate.names or (
        address == certificate.subject and not any(map(_is_address, certificate.names))
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name(parts: Any) -> str:
    """The common name, else all of a distinguished name."""
    said = [(str(key), str(value)) for part in parts for key, value in part]
    common = [value for key, value in said if key == "commonName"]
    return common[0] if common else ", ".join(f"{key}={value}" for key, value in said)
