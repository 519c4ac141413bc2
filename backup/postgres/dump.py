"""A running pg_dump, and what its failures mean."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from backup.errors import BackupError, DumpError, disk_full
from backup.model import Client, Snapshot
from backup.postgres.connection import Source, child_environment, conninfo
from backup.postgres.programs import RunningProgram
from backup.processes import FileIdentity, family, open_files
from backup.settings import Compression, DumpSettings


@dataclass(frozen=True)
class DumpPlan:
    """One call of pg_dump into `folder`, which must not exist yet.

    `encoding` is the database's own: a login may have another as its default.
    """

    client: Client
    source: Source
    snapshot: Snapshot
    compression: Compression
    settings: DumpSettings
    encoding: str
    folder: Path

    def arguments(self) -> list[str]:
        selection = self.settings.selection
        patterns = (
            ("schema", selection.schemas),
            ("exclude-schema", selection.exclude_schemas),
            ("table", selection.tables),
            ("exclude-table", selection.exclude_tables),
            ("exclude-table-data", selection.exclude_table_data),
        )
        return [
            self.client.program("pg_dump"),
            "--format=directory",
            f"--file={self.folder}",
            f"--jobs={self.settings.jobs}",
            f"--encoding={self.encoding}",
            f"--snapshot={self.snapshot.id}",
            f"--compress={self._compress()}",
            f"--lock-wait-timeout={self.settings.lock_timeout_ms}",
            "--no-password",
            "--no-sync",  # what is uploaded is checked by its digest, and gone from this disk
            *(f"--{option}={pattern}" for option, given in patterns for pattern in given),
            f"--dbname={conninfo(self.source)}",
        ]

    def _compress(self) -> str:
        # Clients older than 16 know a gzip level only
        # (https://www.postgresql.org/docs/15/app-pgdump.html).
        if self.compression.method == "none":
            return "0"
        if self.client.major < 16:
            return str(self.compression.level or 6)
        return str(self.compression)


class RunningDump(RunningProgram):
    """pg_dump with its workers. Errors of the database and of pg_dump come out of `finished`."""

    def __init__(
        self, plan: DumpPlan, environment: Mapping[str, str], relay: Callable[[str], None]
    ) -> None:
        self._relay = relay
        self._last_lines: deque[str] = deque(maxlen=50)
        super().__init__(
            plan.arguments(), child_environment(plan.source, environment), self._keep_and_relay
        )

    def finished(self) -> bool:
        """Whether it exited with 0. Raises DumpError or StorageError for any other exit."""
        code = self._heard_out()
        if code:
            raise explain_exit(code, list(self._last_lines))
        return code == 0

    def open_files(self) -> frozenset[FileIdentity]:
        """The files that it or any of its workers holds open, be it behind a wrapper."""
        return frozenset().union(*map(open_files, family(self._process.pid)))

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _keep_and_relay(self, lines: Iterator[tuple[int, str]]) -> None:
        for _, line in lines:
            self._last_lines.append(line)
            self._relay(line)


def explain_exit(code: int, lines: list[str]) -> BackupError:
    """What an exit of pg_dump means, from its status and the last lines of its stderr."""
    said = "\n".join(line for line in lines if line)
    if code < 0:
        killed = -code == signal.SIGKILL
        return DumpError(
            f"pg_dump was ended by {signal.Signals(-code).name}",
            detail=said or "it said nothing before",
            hint="if nobody did it by hand, the machine ran out of memory: lower jobs"
            if killed
            else "if nobody did it by hand, report it with the versions of server and pg_dump",
        )
    if "No space left on device" in said:
        return disk_full(said)
    for sign, hint in _HINTS:
        if sign in said:
            return DumpError(f"pg_dump failed with exit code {code}", detail=said, hint=hint)
    return DumpError(
        f"pg_dump failed with exit code {code}",
        detail=said or "it said nothing",
        hint="its messages above name the object; nothing was stored, so run again once mended",
    )


# Messages of the server and of pg_dump, in the order in which they are looked for.
_HINTS = (
    (
        # pg_dump bounds its LOCK TABLE with statement_timeout, and nothing else.
        "canceling statement due to statement timeout",
        "something holds an ACCESS EXCLUSIVE lock, such as a migration: run when it is over,"
        " or give lock-timeout: 10min",
    ),
    (
        "row-level security",
        "the user sees only some of the rows: ALTER ROLE backup_user BYPASSRLS; or, where nobody"
        " may give that, GRANT the role that owns the tables TO backup_user",
    ),
    (
        "permission denied",
        "let the user read everything: GRANT pg_read_all_data TO backup_user;"
        " large objects need their owner, or lo_compat_privileges",
    ),
    (
        "out of shared memory",
        "raise max_locks_per_transaction on the server: the dump locks every table",
    ),
    (
        "invalid snapshot identifier",
        "the connection that holds the snapshot was cut, often by a pooler: connect to the server"
        " itself, not through PgBouncer or RDS Proxy; and through a tunnel by an instance's own"
        " endpoint, for a reader endpoint leads each connection elsewhere",
    ),
    (
        "no matching",
        "no schema or table fits a pattern: names are folded to lower case unless quoted,"
        " as in tables: '\"Orders\"'",
    ),
    (
        "server closed the connection",
        "the server restarted, failed over or ran out of memory: see its log, then run again",
    ),
    (
        "terminating connection",
        "an administrator or a timeout of the server ended the session: see the server's log",
    ),
)
