"""A throwaway PostgreSQL server: in a private folder, on no network, gone with its parent."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backup.accounts import user_with_a_name
from backup.errors import BackupError, DumpError, StorageError
from backup.postgres.connection import Source
from backup.postgres.installation import Installation, look_alike, make_open
from backup.postgres.servers import Account, ServerPrograms, prove_way, unprivileged_account
from backup.postgres.throwaway_settings import configure, server_environment
from backup.processes import end_with, family
from backup.wording import size

# A name that no source has: its globals must be able to make their own `postgres`, and to take
# its rights from it, as those of RDS do.
_SUPERUSER = "throwaway_superuser"
_PORT = "5432"
# sun_path of unix(7) with its closing zero is 108 bytes.
_LONGEST_SOCKET = 107
_START_SECONDS, _STOP_SECONDS = 120.0, 10.0
_MOMENT_SECONDS = 0.02
_MIB = 1 << 20


@dataclass(frozen=True)
class ThrowawayServer:
    """A running server; `source` leads to its database postgres, as a superuser.

    `folder` is private to it and holds everything that is its own; `account` is whom it runs as
    where that is somebody else.
    """

    programs: ServerPrograms
    folder: Path
    account: Account | None
    installation: Installation
    source: Source

    @property
    def locales(self) -> Path:
        """Where compiled locales are found by it, before those of the system."""
        return self.folder / "locales"


def prove_room(place: Path, database_bytes: int) -> None:
    """Refuse a disk that cannot hold the restored database. Raises StorageError."""
    needed = database_bytes * 6 // 5 + 256 * _MIB
    free = shutil.disk_usage(place).free
    if free < needed:
        raise StorageError(
            f"the disk has no room for a restore of {size(database_bytes)}",
            detail=f"{place} has {size(free)} free, and a throwaway server needs {size(needed)}:"
            " the database, a fifth more, and its log",
            hint="set TMPDIR to a larger disk, use a runner with a larger one, or restore into a"
            " database of another server: target-url",
        )


@contextmanager
def throwaway_server(
    programs: ServerPrograms, place: Path, *, jobs: int = 2
) -> Iterator[ThrowawayServer]:
    """A new server in a folder of its own under `place`, for `jobs` writers; gone afterwards.

    It ends with the thread that entered. Raises DumpError where it does not start, StorageError
    for a disk that is full or a `place` that the server's account cannot reach.
    """
    account = unprivileged_account()
    prove_way([place.resolve(), programs.folder.resolve()], account)
    with contextlib.ExitStack() as stack:
        folder = _private_folder(stack, place.resolve(), account)
        sockets = _socket_folder(stack, folder, account)
        # What is made for the server later must be in its environment from the start.
        for name in ("locales", "packages/lib"):
            make_open(folder / name)
        known = server_environment(folder) | user_with_a_name(folder)
        _create(programs, folder, known, account)
        installation = look_alike(programs, folder, known, account)
        configure(folder, sockets, programs.major, jobs)
        stack.enter_context(_running(programs, folder, installation, account))
        yield ThrowawayServer(
            programs=programs,
            folder=folder,
            account=account,
            installation=installation,
            source=Source(
                host=str(sockets),
                port=_PORT,
                database="postgres",
                user=_SUPERUSER,
                sslmode="disable",
            ),
        )


def _private_folder(stack: contextlib.ExitStack, place: Path, account: Account | None) -> Path:
    try:
        made = tempfile.TemporaryDirectory(
            prefix="pg-drill-", dir=place, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise StorageError(
            "no folder can be made for a throwaway server",
            detail=str(error),
            hint="set TMPDIR to a folder that this user may write",
        ) from error
    folder = Path(stack.enter_context(made))
    _give(folder, account)
    return folder


def _socket_folder(stack: contextlib.ExitStack, folder: Path, account: Account | None) -> Path:
    """A folder whose path fits into a socket's address, and into a list of hosts."""
    sockets = folder / "sockets"
    if len(os.fsencode(sockets / f".s.PGSQL.{_PORT}")) > _LONGEST_SOCKET or "," in str(sockets):
        made = tempfile.TemporaryDirectory(prefix="pg-drill-", dir="/tmp")
        sockets = Path(stack.enter_context(made))
    else:
        sockets.mkdir(mode=0o700)
    _give(sockets, account)
    return sockets


def _give(path: Path, account: Account | None) -> None:
    if account is None:
        return
    try:
        os.chown(path, account.uid, account.gid)
    except PermissionError as error:
        raise DumpError(
            "a throwaway server cannot be run by this root",
            detail=f"its folder cannot be given to {account.name}: {error.strerror}",
            hint="run the container without --cap-drop, or as another user: --user 1001",
        ) from error


def _create(
    programs: ServerPrograms, folder: Path, environment: Mapping[str, str], account: Account | None
) -> None:
    command = [
        str(programs.folder / "initdb"),
        f"--pgdata={folder / 'data'}",
        f"--username={_SUPERUSER}",
        # The socket's folder lets nobody in but the server's account and ours.
        "--auth-local=trust",
        "--auth-host=reject",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
        "--no-instructions",
        *(["--no-data-checksums"] if programs.major >= 18 else []),
    ]
    made = _run(command, folder, environment, account)
    if made.returncode:
        raise _not_started(programs, made.stderr or made.stdout)


def _run(
    command: list[str], folder: Path, environment: Mapping[str, str], account: Account | None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_START_SECONDS,
            **_as(account),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def _as(account: Account | None) -> dict[str, Any]:
    return account.credentials() if account else {}


@contextmanager
def _running(
    programs: ServerPrograms, folder: Path, installation: Installation, account: Account | None
) -> Iterator[None]:
    log = folder / "server.log"
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                [str(installation.postgres), "-D", str(folder / "data")],
                executable=str(programs.folder / "postgres"),
                cwd=folder,
                env=server_environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                # An immediate shutdown; asked for after the change of user, which would clear it.
                preexec_fn=end_with(os.getpid(), signal.SIGQUIT),
                **_as(account),
            )
        except OSError as error:
            raise _not_started(programs, str(error)) from error
    try:
        _wait_until_ready(process, folder, programs)
        yield
    finally:
        _stop(process)


def _wait_until_ready(
    process: subprocess.Popen[bytes], folder: Path, programs: ServerPrograms
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _ready(folder / "data/postmaster.pid"):
        if process.poll() is not None:
            raise _not_started(programs, _tail(folder / "server.log", 20))
        if time.monotonic() > deadline:
            said = _tail(folder / "server.log", 20)
            raise _not_started(programs, f"not ready after {_START_SECONDS:.0f} s\n{said}".strip())
        time.sleep(_MOMENT_SECONDS)


def _ready(lock_file: Path) -> bool:
    """The last of its lines: src/include/utils/pidfile.h."""
    try:
        lines = lock_file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[7].strip() == "ready"


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # Backends are in sessions of their own, and a busy one does not see that it is alone.
            for number in family(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            process.wait()


def _not_started(programs: ServerPrograms, said: str) -> BackupError:
    if os.strerror(errno.ENOSPC) in said:
        return StorageError(
            "the disk is full, and no throwaway server can be started",
            detail=said.strip(),
            hint="set TMPDIR to a larger disk, or name a database of another server in target-url",
        )
    return DumpError(
        f"the throwaway server (PostgreSQL {programs.version}) did not start",
        detail=said.strip() or "it said nothing",
        hint="use the action's image, or name an empty database of another server in target-url",
    )


def _tail(log: Path, lines: int) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
