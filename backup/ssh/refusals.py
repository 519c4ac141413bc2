"""What OpenSSH's refusals mean, and what to do about each."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from backup.errors import AccessError, BackupError, DumpError, RestoreError
from backup.model import Forward

_LAST_LINES = 8


class Server(Protocol):
    """As much of the SSH server as an error tells; written out it is ssh://user@host:port."""

    @property
    def user(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def host_keys(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class _Rule:
    """Words of ssh, the class of error, and the lines a person needs; braces name the server."""

    pattern: str
    error: type[BackupError]
    message: str
    hint: str


_HOST_KEY = _Rule(
    r"HOST IDENTIFICATION HAS CHANGED|host key is known for|Host key verification failed"
    r"|no matching host key type found",
    DumpError,
    "the SSH server {host} port {port} does not show the host key that it should",
    "If the server was replaced, read the new key on it (cat /etc/ssh/ssh_host_*_key.pub), and put"
    " type and key into tunnel-host-key or the secret's host_key. If it was not, somebody stands"
    " in between: nothing was sent.",
)
_RULES = (
    _HOST_KEY,
    _Rule(
        r"Permission denied|Too many authentication failures|No supported authentication methods",
        AccessError,
        "the SSH server {host} does not let {user} in with this key",
        "With tunnel-secret-id: add to ~{user}/.ssh/authorized_keys there: {public}\n"
        "With tunnel-instance-id: it must be the instance behind {host}, with ec2-instance-connect"
        " installed (Amazon Linux and Ubuntu have it), and the user one of its own: ec2-user,"
        " ubuntu. The server's log tells more: journalctl -u ssh -u sshd.",
    ),
    _Rule(
        r"Could not resolve hostname",
        DumpError,
        "the name of the SSH server, {host}, is not known here",
        "Check its spelling in tunnel. Names in a private zone resolve inside the VPC only: give"
        " the public name or address of the bastion.",
    ),
    _Rule(
        r"Connection refused",
        DumpError,
        "nothing listens on {host} port {port}",
        "Check the port in tunnel, and that sshd runs there.",
    ),
    _Rule(
        r"timed out|No route to host|Network is unreachable",
        DumpError,
        "no answer from the SSH server {host} port {port}",
        "Its security group must let TCP {port} in from the runner, and it needs a public address."
        " Runners of GitHub change their addresses: a larger runner has a static one, and a runner"
        " inside the VPC needs no tunnel at all (docs/network.md).",
    ),
    _Rule(
        r"no matching (?:key exchange method|cipher|MAC)",
        DumpError,
        "the SSH server {host} offers nothing that this OpenSSH still takes for safe",
        "Bring the server's OpenSSH up to date.",
    ),
    _Rule(
        r"closed by|reset by|Connection closed|Invalid SSH identification|banner line contains",
        DumpError,
        "the SSH server {host} port {port} hangs up before the login",
        "Check that SSH answers at this port: ssh-keyscan -p {port} {host}. A server under attack"
        " drops logins (MaxStartups), and fail2ban bars addresses.",
    ),
)
_TRANSIENT = re.compile(
    r"Connection refused|closed by remote host|Connection (?:reset|closed) by|reset by peer"
    r"|Temporary failure in name resolution"
)
# Said of a way through the tunnel that the server did not open: RFC 4254, section 5.1.
_CLOSED_WAY = re.compile(r"^channel \d+: open failed: (.*)$", re.MULTILINE)
_WAYS = (
    _Rule(
        r"administratively prohibited",
        AccessError,
        "the SSH server {host} forwards nothing to {destination}",
        "In its sshd_config: AllowTcpForwarding yes (or local), and no PermitOpen, or one that"
        " names {destination}. In authorized_keys before the key: no `restrict` or"
        ' `no-port-forwarding` without port-forwarding,permitopen="{destination}".',
    ),
    _Rule(
        r"Connection refused",
        DumpError,
        "nothing listens on {destination}, as seen from the SSH server {host}",
        "Check host and port: the server is asked for them as it knows them.",
    ),
    _Rule(
        r"timed out|No route to host|Network is unreachable",
        DumpError,
        "the SSH server {host} gets no answer from {destination}",
        "The database's security group must let the port in from the security group of the SSH"
        " server.",
    ),
    _Rule(
        r"Name or service not known|Temporary failure in name resolution|[Uu]nknown host"
        r"|No address associated",
        DumpError,
        "the SSH server {host} does not know the host of {destination}",
        "Check its spelling: host is a name alone, without scheme, port or path.",
    ),
    _Rule(
        r"",
        DumpError,
        "the SSH server {host} opens no way to {destination}",
        "Try the same by hand: ssh -W {destination} -p {port} {user}@{host}. The server's log tells"
        " more: journalctl -u ssh -u sshd.",
    ),
)


def is_transient(said: str) -> bool:
    """Whether the same attempt may succeed in a moment."""
    return bool(_TRANSIENT.search(said)) and "Permission denied" not in said


def port_was_taken(said: str) -> bool:
    """Whether somebody else took the local port in the moment before ssh did."""
    return "cannot listen to port" in said or "Address already in use" in said


def refused(server: Server, public_key: str, said: str) -> BackupError:
    """The error for a tunnel that was not opened."""
    for rule in _RULES:
        if re.search(rule.pattern, said):
            detail = _host_keys(server, said) if rule is _HOST_KEY else _last_words(said)
            return _error(rule, server, detail, public=public_key)
    return DumpError(
        f"the tunnel through {server} cannot be opened",
        detail=_last_words(said),
        hint="Try the same from the runner:"
        f" ssh -v -N -p {server.port} {server.user}@{server.host}",
    )


def broken(server: Server, said: str, error: BackupError) -> BackupError:
    """The error for a tunnel that ended while it was used; `error` is what came of it."""
    kind = RestoreError if isinstance(error, RestoreError) else DumpError
    return kind(
        f"the tunnel through {server} broke",
        detail=_with_consequence(_last_words(said), error),
        hint="Its server restarted, or the network between failed: run it again, and see the"
        " server's log (journalctl -u ssh -u sshd). A runner inside the VPC needs no tunnel"
        f" (docs/network.md).{_and_then(error)}",
    )


def closed_way(
    server: Server, forwards: Sequence[Forward], said: str, error: BackupError
) -> BackupError | None:
    """The error where the connection that `error` tells of was not let through, else None."""
    reasons = _CLOSED_WAY.findall(said)
    if not reasons or "connection" not in f"{error.message} {error.detail}".lower():
        return None
    (rule, *_) = (rule for rule in _WAYS if re.search(rule.pattern, reasons[-1]))
    destination = ", ".join(_written(each) for each in forwards)
    detail = _with_consequence(f"ssh says: {reasons[-1]}", error)
    return _error(rule, server, detail, destination=destination)


def _error(rule: _Rule, server: Server, detail: str, **words: object) -> BackupError:
    words |= {"host": server.host, "port": server.port, "user": server.user}
    message = rule.message.format_map(words)
    return rule.error(message, detail=detail, hint=rule.hint.format_map(words))


def _host_keys(server: Server, said: str) -> str:
    """Which one was shown and which were expected; ssh's own advice is for its known hosts."""
    changed = re.search(r"the (\S+) key sent by the remote host is\n(SHA256:\S+?)\.?$", said, re.M)
    shown = f"it shows {changed[1]} {changed[2]}" if changed else _last_words(said)
    return f"{shown}\nexpected is {' or '.join(map(_fingerprint, server.host_keys))}"


def _fingerprint(host_key: str) -> str:
    """As OpenSSH prints it, with the type: `ssh-ed25519 SHA256:…`."""
    kind, text = host_key.split()[:2]
    try:
        digest = hashlib.sha256(base64.b64decode(text, validate=True)).digest()
    except ValueError:
        return f"{kind} {text}, which is no whole key"
    return f"{kind} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _written(forward: Forward) -> str:
    host = f"[{forward.host}]" if ":" in forward.host else forward.host
    return f"{host}:{forward.port}"


def _last_words(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip(" @")]
    return "\n".join(lines[-_LAST_LINES:]) or "ssh said nothing before it ended"


def _with_consequence(words: str, error: BackupError) -> str:
    return "\n".join(line for line in (words, error.message, error.detail) if line)


def _and_then(error: BackupError) -> str:
    """What a restore says of its target must not be lost."""
    return f"\n{error.hint}" if isinstance(error, RestoreError) and error.hint else ""
