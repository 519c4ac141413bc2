"""Which pg_dump: the installed clients, the right one for a server, and what it can compress."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backup.errors import DumpError
from backup.model import Client, ServerVersion
from backup.settings import Compression

# The layout of Debian's and PGDG's packages.
_PACKAGED = Path("/usr/lib/postgresql")
_BARE_ENVIRONMENT = {"LC_ALL": "C"}


@dataclass(frozen=True)
class Choice:
    """The client to use; `warning` says what it means where it is not of the server's major."""

    client: Client
    warning: str | None = None


def installed(environment: Mapping[str, str]) -> list[Client]:
    """One client of each major, lowest major first.

    Looks in the folders of PG_BACKUP_CLIENTS, in the packages' own, and last in PATH, so that a
    job's PATH adds majors and never replaces one.
    """
    found: dict[int, Client] = {}
    for folder in dict.fromkeys(folders(environment)):
        if client := _ask(folder):
            found.setdefault(client.major, client)
    return [found[major] for major in sorted(found)]


def folders(environment: Mapping[str, str]) -> Iterator[str]:
    """Where programs of PostgreSQL may lie, those that count most first; some twice."""
    yield from filter(None, environment.get("PG_BACKUP_CLIENTS", "").split(os.pathsep))
    yield from (str(folder) for folder in sorted(_PACKAGED.glob("*/bin")))
    for folder in environment.get("PATH", "").split(os.pathsep):
        # A relative entry would let a checked-out repository bring its own pg_dump.
        program = shutil.which("pg_dump", path=folder) if Path(folder).is_absolute() else None
        # Debian's wrapper starts one of the packaged clients, all of which are known by now.
        if program and Path(program).resolve().name != "pg_wrapper":
            yield folder


def _ask(folder: str) -> Client | None:
    program = f"{folder}/pg_dump"
    if not os.access(program, os.X_OK):
        return None
    text = _run([program, "--version"]).stdout
    match = re.search(r"\(PostgreSQL\) ((\d+)\S*)", text)
    return Client(major=int(match[2]), version=match[1], folder=folder) if match else None


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env=_BARE_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def choose(server: ServerVersion, clients: Sequence[Client]) -> Choice:
    """The client of the server's major, else the nearest newer one.

    Raises DumpError where there is none: pg_dump refuses servers newer than itself
    (https://www.postgresql.org/docs/current/app-pgdump.html#PG-DUMP-NOTES).
    """
    if not clients:
        raise DumpError(
            "no pg_dump is installed",
            detail="looked in PG_BACKUP_CLIENTS, /usr/lib/postgresql/*/bin and PATH",
            hint=f"Install postgresql-client-{server.major}; the action's image holds all majors.",
        )
    fitting = sorted(
        (client for client in clients if client.major >= server.major),
        key=lambda client: client.major,
    )
    if not fitting:
        found = ", ".join(client.version for client in clients)
        raise DumpError(
            f"the server is PostgreSQL {server.text}, newer than every pg_dump here",
            detail=f"found pg_dump {found}; pg_dump cannot dump a server newer than itself",
            hint=f"Use a version of the action that knows PostgreSQL {server.major}, or install"
            f" postgresql-client-{server.major} and name its bin folder in PG_BACKUP_CLIENTS.",
        )
    client = fitting[0]
    if client.major == server.major:
        return Choice(client)
    return Choice(client, _consequences(server, client))


def _consequences(server: ServerVersion, client: Client) -> str:
    text = (
        f"the server is PostgreSQL {server.text} and no pg_dump {server.major} is installed:"
        f" pg_dump {client.version} dumps it. Restore the archive with pg_restore {client.major}"
        f" or newer, best into PostgreSQL {client.major}."
    )
    # The archive sets transaction_timeout, which came with 17:
    # https://www.postgresql.org/docs/17/release-17.html
    if server.major < 17 <= client.major:
        text += (
            f" In PostgreSQL {server.major} its `SET transaction_timeout` is an unrecognized"
            " parameter: pg_restore reports one error, goes on, restores everything and exits 1;"
            " with --exit-on-error or --single-transaction it stops there."
        )
    return text


def supports(client: Client, method: str) -> bool:
    """Whether this build of pg_dump can compress so.

    `none` and `gzip` are in all; zstd and lz4 came with 16, and a build may lack them. The build
    is asked with options that are refused in any case before it connects: `-j 2` does not go with
    the plain format, and the compression is checked first (main() in src/bin/pg_dump/pg_dump.c).
    """
    if method in ("none", "gzip"):
        return True
    # pg_dump 14 takes `-Z zstd:1` for the number 0, and does not compress at all.
    if client.major < 16:
        return False
    probe = _run(
        [client.program("pg_dump"), "--format=plain", "--jobs=2", f"--compress={method}:1"]
    )
    return "parallel backup only supported" in probe.stderr


def best_compression(client: Client) -> Compression:
    """zstd at level 1 where the client has it, else gzip at level 1."""
    return Compression("zstd" if supports(client, "zstd") else "gzip", 1)
