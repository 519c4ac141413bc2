"""pg_amcheck: whether the tables and indexes of a database are sound on the disk.

https://www.postgresql.org/docs/current/app-pgamcheck.html
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from backup.model import Client
from backup.postgres.connection import Source, child_environment, conninfo
from backup.verdicts import Check, Finding, Verdict, check

_FOUND_CORRUPTION = 2
_NAME = "pg_amcheck"


def run_amcheck(
    client: Client, source: Source, jobs: int, environment: Mapping[str, str]
) -> Check | str:
    """Check tables and indexes; why it could not be run where that is so.

    Installs the extension amcheck if it is not there, so the database must be a throwaway's.
    """
    program = client.program(_NAME)
    if not os.access(program, os.X_OK):
        return f"{_NAME} was not run: it is not installed beside pg_dump {client.version}"
    result = subprocess.run(
        [
            program,
            f"--jobs={jobs}",
            "--install-missing",
            "--no-password",
            f"--maintenance-db={conninfo(source)}",
            conninfo(source),
        ],
        env=child_environment(source, environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    # What it has found goes to stdout, what has kept it from looking to stderr.
    if result.returncode == _FOUND_CORRUPTION and result.stdout.strip():
        lines = [line.strip() for line in result.stdout.splitlines() if line.strip()]
        return check(_NAME, [Finding(Verdict.FAILED, line) for line in lines], "")
    if result.returncode:
        why, *_ = result.stderr.strip().splitlines() or [f"it ended with {result.returncode}"]
        return f"{_NAME} was not run: {why}"
    return check(_NAME, (), "tables and indexes are sound")
