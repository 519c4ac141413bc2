"""A running pg_restore: into a database, or into a pipe as a script."""

from __future__ import annotations

import os
import re
import subprocess
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from backup.errors import BackupError, RestoreError
from backup.model import Client, Complaint, ObjectName
from backup.postgres.complaints import classify
from backup.postgres.connection import Connection, Source, child_environment, connect, conninfo
from backup.postgres.lost_loads import ends_all, explain_exit
from backup.postgres.messages import Message, read_messages
from backup.postgres.programs import RunningProgram

# Limits that a role or a database may set for its sessions. pg_restore lifts only those that its
# own major knows, and never idle_session_timeout, while workers idle for as long as the others'
# longest index: https://www.postgresql.org/docs/current/runtime-config-client.html
_LIMITS = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
)


@dataclass(frozen=True)
class LoadPlan:
    """One run of pg_restore over the archive in `folder`: toc.dat and data files.

    Without a folder the archive is a stream, written to `stdin` of the running load.
    It restores the entries `ids` in that order, so that of the table of contents is to be kept.
    `settings` are the server's, for its sessions; see `session_settings`.
    """

    client: Client
    target: Source
    folder: Path | None
    ids: Sequence[int]
    jobs: int = 1
    no_owner: bool = False
    no_privileges: bool = False
    role: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        return [
            *_arguments(self.client, self.folder),
            f"--jobs={self.jobs}",
            "--no-password",
            *(["--no-owner"] if self.no_owner else []),
            *(["--no-privileges"] if self.no_privileges else []),
            *([f"--role={self.role}"] if self.role else []),
            f"--dbname={conninfo(_with_settings(self.target, self.settings))}",
            *_place(self.folder),
        ]


def session_settings(connection: Connection, target: Source) -> dict[str, str]:
    """The settings that a load's sessions need on this target, as far as the login may set them.

    Limits of time are lifted. Messages are asked for in English, which only a superuser, or who
    was granted it, may: errors in another language are classed as fatal. No commit waits for the
    disk: the last one, which takes the mark of the unfinished restore away, waits for all.
    Empty where no settings can be given, as through some poolers.
    """
    found = connection.execute(
        "SELECT name FROM pg_catalog.pg_settings WHERE name = ANY (%s) AND setting <> '0'",
        [list(_LIMITS)],
    )
    settings = {name: "0" for (name,) in found}
    if not _speaks_english(connection) and _may_choose_language(connection):
        settings["lc_messages"] = "C"
    settings["synchronous_commit"] = "off"
    try:
        connect(_with_settings(target, settings), pauses=()).close()
    except BackupError:
        return {}
    return settings


def _speaks_english(connection: Connection) -> bool:
    row = connection.execute("SELECT pg_catalog.current_setting('lc_messages')").fetchone()
    return row is not None and bool(re.match(r"(?:C|POSIX|en)(?:\b|_)|English|\Z", row[0]))


def _may_choose_language(connection: Connection) -> bool:
    # SET on a parameter can be granted since 15:
    # https://www.postgresql.org/docs/15/ddl-priv.html
    granted = (
        "pg_catalog.has_parameter_privilege('lc_messages', 'SET')"
        if connection.info.server_version >= 150000
        else "pg_catalog.current_setting('is_superuser') = 'on'"
    )
    row = connection.execute(f"SELECT {granted}".encode()).fetchone()
    return row is not None and bool(row[0])


class RunningLoad(RunningProgram):
    """pg_restore with its workers, loading into a database.

    `relay` gets its errors and warnings, without statements and the values of rows.
    """

    def __init__(
        self, plan: LoadPlan, environment: Mapping[str, str], relay: Callable[[str], None]
    ) -> None:
        self._relay = relay
        self._messages: list[Message] = []
        self._jobs = plan.jobs
        with _list_of(plan.ids) as entries:
            super().__init__(
                [*plan.arguments(), _list_argument(entries)],
                child_environment(plan.target, environment),
                self._keep_and_relay,
                stdin=_source(plan.folder),
                inherited=(entries.fileno(),),
            )

    def finished(self) -> bool:
        """Whether it has exited, with whatever status."""
        return self._heard_out() is not None

    def complaints(
        self, names: Mapping[int, ObjectName] | None = None, needed: Collection[int] = ()
    ) -> tuple[Complaint, ...]:
        """What it complained of, once it has finished. `names` are those of the entries.

        `needed` are entries that were not asked for, but that others need: they may exist.
        Raises RestoreError or AccessError where it did not come to its end.
        """
        code = self._heard_out()
        assert code is not None  # noqa: S101 - the caller waits for the end
        errors = [message for message in self._messages if message.is_error]
        # It goes on past most errors, and counts them in its last line.
        counts = [
            message.ignored_errors
            for message in self._messages
            if message.ignored_errors is not None
        ]
        to_the_end = code == 0 or (code > 0 and counts)
        if not to_the_end or any(map(ends_all, self._messages)):
            raise explain_exit(code, self._messages)
        ignored = sum(counts)
        # An entry that failed in a worker counts one more than its errors: parseWorkerResponse()
        # adds them up, and mark_restore_job_done() counts the entry.
        if ignored > len(errors) * (1 if self._jobs == 1 else 2):
            raise RestoreError(
                "pg_restore failed in ways that it did not tell",
                detail=f"it counted {ignored} errors, and named {len(errors)}",
                hint="report it, with the versions of the server and of pg_restore",
            )
        return classify(errors, names or {}, needed)

    def _keep_and_relay(self, lines: Iterator[tuple[int, str]]) -> None:
        for message in read_messages(lines):
            if message.level:
                self._messages.append(message)
                if ends_all(message):
                    self.kill()
                self._relay(f"pg_restore: {message.level}: {message.text}")


class RunningScript(RunningProgram):
    """pg_restore writing a script of the entries `ids` to a pipe; no server takes part.

    Read `stdout` to its end, then ask `finished`. Without a folder the archive is a stream,
    written to `stdin`.
    """

    def __init__(self, client: Client, folder: Path | None, ids: Sequence[int]) -> None:
        self._messages: deque[Message] = deque(maxlen=50)
        with _list_of(ids) as entries:
            super().__init__(
                [
                    *_arguments(client, folder),
                    "--file=-",
                    *_place(folder),
                    _list_argument(entries),
                ],
                {"LC_ALL": "C"},
                self._keep,
                stdin=_source(folder),
                inherited=(entries.fileno(),),
                stdout=subprocess.PIPE,
            )
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        self.stdout: IO[bytes] = self._process.stdout

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        super().__exit__()

    def finished(self) -> bool:
        """Whether it exited with 0. Raises RestoreError for any other exit."""
        code = self._heard_out()
        if code:
            raise explain_exit(code, list(self._messages))
        return code == 0

    def _keep(self, lines: Iterator[tuple[int, str]]) -> None:
        self._messages.extend(read_messages(lines))


def _arguments(client: Client, folder: Path | None) -> list[str]:
    # Only -v names the entry of an error.
    form = "directory" if folder else "custom"
    return [client.program("pg_restore"), f"--format={form}", "--verbose"]


def _place(folder: Path | None) -> list[str]:
    return [str(folder)] if folder else []


def _source(folder: Path | None) -> int:
    return subprocess.DEVNULL if folder else subprocess.PIPE


def _list_argument(entries: IO[bytes]) -> str:
    return f"--use-list=/dev/fd/{entries.fileno()}"


def _list_of(ids: Sequence[int]) -> IO[bytes]:
    """A file without a name that pg_restore can open anew, with a line for each entry."""
    listed = os.fdopen(os.memfd_create("entries"), "w+b")
    listed.write("".join(f"{number};\n" for number in dict.fromkeys(ids)).encode())
    listed.flush()
    return listed


def _with_settings(target: Source, settings: Mapping[str, str]) -> Source:
    """The same target, with those settings after the ones that its URL may give."""
    if not settings:
        return target
    ours = " ".join(f"-c {name}={_escaped(value)}" for name, value in settings.items())
    given = dict(target.parameters)
    given["options"] = f"{given.get('options', '')} {ours}".strip()
    return replace(target, parameters=tuple(given.items()))


def _escaped(value: str) -> str:
    # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
