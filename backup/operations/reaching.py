"""The way to a database: direct, or through the SSH server that `tunnel` names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from backup.aws.instance_connect import send_public_key
from backup.aws.secrets import read_tunnel_secret
from backup.aws.session import AwsSession
from backup.console import Console
from backup.errors import BackupError, InputError, Interrupted
from backup.inputs.endpoints import HOST_KEY
from backup.operations.sources import find_source
from backup.postgres.connection import Source
from backup.settings import Secret, SourceSettings, TunnelSettings
from backup.ssh.keys import KeyPair, new_key, with_public
from backup.ssh.tunnel import SshServer, open_tunnel

# Shorter lines of a key are the rest of it, and may stand in any text.
_LEAST_MASKED = 16
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?")


@contextmanager
def reached(
    given: SourceSettings,
    tunnel: TunnelSettings | None,
    session: AwsSession,
    console: Console,
    environment: Mapping[str, str],
) -> Iterator[Source]:
    """Where to connect and how to log in, with the tunnel open for as long as it is used.

    Raises InputError, AccessError, and DumpError or StorageError where there can be no tunnel.
    """
    source = find_source(given, session, console)
    try:
        with through(source, tunnel, session, console, environment) as way:
            yield way
    except (BackupError, Interrupted) as error:
        error.database = source.database  # a secret may be all that has told its name
        raise


@contextmanager
def through(
    source: Source,
    tunnel: TunnelSettings | None,
    session: AwsSession,
    console: Console,
    environment: Mapping[str, str],
) -> Iterator[Source]:
    """The same source, with the tunnel to it open for as long as it is used. Raises as above."""
    if tunnel is None:
        yield source
        return
    names, destinations = _destinations(source)
    server, key = _access(tunnel, session, console, environment)
    meant = ", ".join(f"{host}:{port}" for host, port in destinations)
    with open_tunnel(server, destinations, key, console.info, environment) as opened:
        console.info(f"Through {server} to {meant}")
        # What the certificate is for stays what was named, whatever address it was given.
        forwards = (replace(each, host=name) for each, name in zip(opened, names, strict=True))
        yield replace(source, forwards=tuple(forwards))


def _destinations(source: Source) -> tuple[list[str], list[tuple[str, str]]]:
    """The hosts by name, and of each the address and port that the SSH server is asked for."""
    names = source.host.split(",")
    addresses = dict(source.parameters).get("hostaddr", "").split(",")
    if len(addresses) != len(names):
        addresses = names
    ports = source.port.split(",")
    if len(ports) == 1:
        ports *= len(names)
    hosts = [address or name for address, name in zip(addresses, names, strict=True)]
    for host in hosts:
        if not _HOST.fullmatch(host) and not _is_address(host):
            raise InputError(
                f"no tunnel leads to the host {host!r}",
                detail="it is neither a host name nor an address",
                hint="give host as the SSH server knows it, as in db.internal or 10.0.0.7; for a"
                " database on that server itself localhost",
            )
    if len(ports) != len(hosts):
        raise InputError(
            f"{len(hosts)} hosts and {len(ports)} ports do not go together",
            detail="each host of a list has a port of its own, or all have the same",
            hint="give one port, or as many as there are hosts",
        )
    return names, list(zip(hosts, ports, strict=True))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _access(
    tunnel: TunnelSettings, session: AwsSession, console: Console, environment: Mapping[str, str]
) -> tuple[SshServer, Callable[[], KeyPair]]:
    """The server with the host keys to expect, and what gives a key that it lets in."""
    host_keys = tunnel.host_keys
    stored: KeyPair | None = None
    if tunnel.secret_id:
        secret = read_tunnel_secret(session, tunnel.secret_id)
        _mask(secret.private_key, console)
        stored = with_public(secret.private_key, environment)
        host_keys = host_keys or secret.host_keys
    if not host_keys or not all(map(HOST_KEY.fullmatch, host_keys)):
        problem = "is no public key of a host" if host_keys else "holds no host_key either"
        raise InputError(
            "nothing says which host key the SSH server must show",
            detail=f"tunnel-host-key is not given, and the secret {tunnel.secret_id} {problem}",
            hint=f"Read it on the server (cat /etc/ssh/ssh_host_ed25519_key.pub), compare it with"
            f" ssh-keyscan -p {tunnel.port} {tunnel.host}, and give type and key:"
            " tunnel-host-key: ssh-ed25519 AAAA…",
        )

    def key() -> KeyPair:
        if stored:
            return stored
        made = new_key(environment)
        _mask(made.private, console)
        assert tunnel.instance_id is not None  # noqa: S101 - inputs without either were refused
        send_public_key(session, tunnel.instance_id, tunnel.user, made.public)
        return made

    return SshServer(tunnel.user, tunnel.host, tunnel.port, host_keys), key


def _mask(key: Secret, console: Console) -> None:
    for line in key.value.splitlines():
        if len(line) >= _LEAST_MASKED and not line.startswith("-----"):
            console.mask(line)
