"""The databases that are read and written: by URL, or by host and the rest of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from backup.reading import Reader, is_number
from backup.settings import Secret, SourceSettings, TunnelSettings

# As ssh-keyscan prints it behind the name of the host.
HOST_KEY = re.compile(r"(?:ssh|ecdsa|sk)-[\w@.-]+ [A-Za-z0-9+/]+=*( .*)?")
# A user or a host that begins with a hyphen would be read as an option of ssh.
_SSH = re.compile(
    r"ssh://(?P<user>[A-Za-z0-9_][\w.@-]*)@(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9a-f:]+\])"
    r"(?::(?P<port>\d+))?/?"
)


def source(reader: Reader, environment: Mapping[str, str]) -> SourceSettings:
    url = _url_parameters(reader, "database-url")
    for name in ("host", "port", "database", "user", "sslmode"):
        if url and reader.given(name):
            reader.fault(name, "is given beside database-url", "give the one or the other")
    password = url.pop("password", "") or reader.text("password") or environment.get("PGPASSWORD")
    port = url.pop("port", "") or reader.text("port")
    if port and not all(is_number(part, 1, 65535) for part in port.split(",")):
        reader.fault("port", f"{port!r} is no port", "write a number from 1 to 65535, and in a URL"
                     " %2F for a / in the password")  # fmt: skip
    sslmode = url.pop("sslmode", "") or reader.text("sslmode")
    modes = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
    if sslmode and sslmode not in modes:
        reader.fault("sslmode", f"{sslmode!r} is no sslmode", f"use one of {', '.join(modes)}")
    found = SourceSettings(
        host=url.pop("host", "") or reader.text("host") or None,
        port=port or None,
        database=url.pop("dbname", "") or reader.text("database") or None,
        user=url.pop("user", "") or reader.text("user") or None,
        sslmode=sslmode or None,
        password=Secret(password) if password else None,
        password_secret_id=reader.text("password-secret-id") or None,
        iam_auth=reader.flag("iam-auth"),
        parameters=tuple(sorted(url.items())),
    )
    given = (found.password, found.password_secret_id, found.iam_auth or None)
    if sum(way is not None for way in given) > 1:
        reader.fault(
            "password",
            "more than one way to log in is given",
            "keep one of password (or PGPASSWORD), password-secret-id, iam-auth",
        )
    return found


def target(reader: Reader, source: SourceSettings) -> SourceSettings | None:
    """The target as the inputs name it: by its URL, or by the host and the rest of them."""
    url = _url_parameters(reader, "target-url")
    if not url:
        named = reader.text("target-database") or source.database
        known = source.host or source.password_secret_id
        to_restore = reader.text("operation") == "restore"
        return replace(source, database=named) if known and to_restore else None
    given = ["target-database"]
    if reader.text("operation") != "backup":
        given += ["host", "port", "user"]
    for name in given:
        if reader.given(name):
            reader.fault(name, "is given beside target-url", "give the one or the other")
    password = url.pop("password", "")
    found = SourceSettings(
        host=url.pop("host", None),
        port=url.pop("port", None),
        database=url.pop("dbname", None),
        user=url.pop("user", None),
        sslmode=url.pop("sslmode", None),
        # A URL without one: the login is given beside it, but never that of the source.
        password=Secret(password) if password else None,
        password_secret_id=None,
        iam_auth=False,
        parameters=tuple(sorted(url.items())),
    )
    if password or reader.text("operation") == "backup":
        return found
    return replace(
        found,
        password=source.password,
        password_secret_id=source.password_secret_id,
        iam_auth=source.iam_auth,
    )


def tunnel(reader: Reader) -> TunnelSettings | None:
    """The SSH server as `tunnel` names it; None where the way is direct."""
    text = reader.text("tunnel")
    rest = ("tunnel-secret-id", "tunnel-host-key", "tunnel-instance-id")
    if not text:
        for name in rest:
            if reader.given(name):
                reader.fault(name, "is given without tunnel", "name the SSH server: tunnel:"
                             " ssh://user@bastion.example.org:22")  # fmt: skip
        return None
    parts = _SSH.fullmatch(text)
    if not parts or not is_number(parts["port"] or "22", 1, 65535):
        reader.fault("tunnel", "is no SSH server", "write ssh://user@bastion.example.org:22")
        return None
    secret_id = reader.text("tunnel-secret-id") or None
    instance_id = reader.matching("tunnel-instance-id", r"i-[0-9a-f]{8,17}", "i-0123456789abcdef0")
    if (secret_id is None) == (instance_id is None):
        reader.fault("tunnel", "needs one way to log in", "give tunnel-secret-id or"
                     " tunnel-instance-id")  # fmt: skip
    host_keys = reader.lines("tunnel-host-key")
    for line in host_keys:
        if not HOST_KEY.fullmatch(line):
            reader.fault("tunnel-host-key", "is no public key of a host", "write what ssh-keyscan"
                         " prints behind the host name: ssh-ed25519 AAAA…")  # fmt: skip
    if instance_id and not host_keys:
        reader.fault("tunnel-host-key", "is missing, and without it any server would be trusted",
                     "compare and add the line of ssh-keyscan HOST")  # fmt: skip
    return TunnelSettings(
        user=parts["user"],
        host=parts["host"].strip("[]"),
        port=int(parts["port"] or 22),
        secret_id=secret_id,
        instance_id=instance_id,
        host_keys=host_keys,
    )


def _url_parameters(reader: Reader, option: str) -> dict[str, str]:
    """The URL as libpq itself reads it; its text, which may hold a password, is never shown."""
    url = reader.text(option)
    if not url:
        return {}
    remedy = "write postgresql://user:password@host:5432/database, with %40 for an @ in a password"
    if not url.startswith(("postgresql://", "postgres://")):
        reader.fault(option, "does not begin with postgresql://", remedy)
        return {}
    import psycopg.conninfo

    try:
        parsed = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        reader.fault(option, "libpq cannot read it", remedy)
        return {}
    return {name: str(value) for name, value in parsed.items() if value is not None}
