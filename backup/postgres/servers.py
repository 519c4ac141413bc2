"""The server programs that are installed here, and the account that may run them."""

from __future__ import annotations

import os
import pwd
import re
import stat
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backup.errors import DumpError, StorageError
from backup.postgres.clients import folders

# In this order: the image's own, then the one that owns nothing anywhere.
_UNPRIVILEGED = ("pg-drill", "nobody")


@dataclass(frozen=True, slots=True)
class ServerPrograms:
    """A folder that holds initdb and postgres; `version` as in 17.4."""

    major: int
    version: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as, where we are root."""

    name: str
    uid: int
    gid: int

    def credentials(self) -> dict[str, Any]:
        """The arguments of subprocess.Popen that make a process this account's."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def installed_servers(environment: Mapping[str, str]) -> list[ServerPrograms]:
    """One of each major, lowest first, from the folders in which clients are looked for."""
    found: dict[int, ServerPrograms] = {}
    for folder in dict.fromkeys(folders(environment)):
        if server := _ask(Path(folder)):
            found.setdefault(server.major, server)
    return [found[major] for major in sorted(found)]


def _ask(folder: Path) -> ServerPrograms | None:
    if not all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
        return None
    try:
        told = subprocess.run(
            [folder / "postgres", "--version"],
            env={"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\(PostgreSQL\) ((\d+)\S*)", told.stdout)
    return ServerPrograms(int(match[2]), match[1], folder) if match else None


def choose_server(major: int, servers: Sequence[ServerPrograms]) -> ServerPrograms:
    """The server of that major, else the nearest newer one. Raises DumpError where none is."""
    fitting = [server for server in servers if server.major >= major]
    if fitting:
        return min(fitting, key=lambda server: server.major)
    found = ", ".join(server.version for server in servers) or "none"
    raise DumpError(
        f"no PostgreSQL {major} server is installed here to restore into",
        detail=f"looked for initdb and postgres where the clients lie; found {found}",
        hint=f"use the action's image, which holds them, or install postgresql-{major}; or name"
        " an empty database of another server in target-url",
    )


def unprivileged_account() -> Account | None:
    """None where we are not root: PostgreSQL refuses to run as root, and only then needs another.

    A restore runs the SQL of the archive as a superuser, who may start programs: the account owns
    nothing else, and cannot read our environment.
    """
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise DumpError(
        "a throwaway server cannot run as root, and there is no other account for it",
        detail=f"looked for the users {' and '.join(_UNPRIVILEGED)}",
        hint="run as another user, use the action's image, or name a database in target-url",
    )


def prove_way(paths: Iterable[Path], account: Account | None) -> None:
    """Refuse paths that the account cannot reach. Raises StorageError."""
    if account is None:
        return
    for path in paths:
        for folder in (path, *path.parents):
            status = folder.stat()
            if status.st_uid == account.uid:
                needed = stat.S_IXUSR
            elif status.st_gid == account.gid:
                needed = stat.S_IXGRP
            else:
                needed = stat.S_IXOTH
            if not status.st_mode & needed:
                raise StorageError(
                    f"the throwaway server cannot enter {folder}",
                    detail=f"it runs as {account.name}, since PostgreSQL refuses root, and the"
                    f" folder's mode is {stat.filemode(status.st_mode)}",
                    hint=f"chmod o+x {folder}, set TMPDIR to a folder that all may enter, or run"
                    " as another user than root",
                )
