"""What a person does without this project: fetch, unpack, restore, and compare the result."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

from demo.narration import Narrator
from tests.lab.postgres import PostgresServer

# Written into every plain dump by newer clients, with a new random word each time.
_RANDOM_LINES = (b"\\restrict ", b"\\unrestrict ")


class DemoError(Exception):
    """The demo did not come out as it should; the text says where."""


class Shell:
    """Runs lines in `folder` as a person would type them, and prints them before."""

    def __init__(self, folder: Path, environment: Mapping[str, str], narrator: Narrator) -> None:
        self._folder = folder
        self._environment = environment
        self._narrator = narrator

    def run(self, line: str, **variables: str) -> None:
        """Run one line. Raises DemoError, with what it printed, when it exits non-zero."""
        self._narrator.say(f"$ {line}")
        process = subprocess.Popen(
            ["/bin/sh", "-c", line],
            cwd=self._folder,
            env={**self._environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        for shown in said.decode(errors="replace").rstrip().split("\n"):
            if last := shown.rpartition("\r")[2].strip():  # progress overwrites itself
                self._narrator.quote(last)
        if process.returncode:
            raise DemoError(f"`{line}` exited with {process.returncode}")


def environment(binaries: Path, server: PostgresServer, s3: str, region: str) -> dict[str, str]:
    """A shell's environment in which `aws`, `tar`, `psql` and `pg_restore` reach their servers."""
    here = Path(sys.executable).parent
    path = os.pathsep.join([str(binaries), str(here), os.environ.get("PATH", os.defpath)])
    kept = ("LANG", "LD_LIBRARY_PATH", "TMPDIR")
    inherited = {name: os.environ[name] for name in kept if name in os.environ}
    return inherited | server.psql_env | {
        "PATH": path,
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "reader",
        "AWS_SECRET_ACCESS_KEY": "reader",
        "AWS_DEFAULT_REGION": region,
    }  # fmt: skip


def restore_lines(summary: str) -> list[str]:
    """The lines that a job summary tells a person to type. Raises DemoError without any."""
    block = re.search(r"^### Restore .*?^```sh\n(.*?)^```", summary, re.DOTALL | re.MULTILINE)
    if not block:
        raise DemoError("the job summary does not say how to restore")
    # What is to be done only where roles are missing stands behind a comment sign: they are.
    return [re.sub(r"^# [^:]*: ", "", line) for line in block[1].splitlines()]


def dump_plain(shell: Shell, server: PostgresServer, database: str, name: str) -> None:
    """`NAME.sql`, everything in the database, and `NAME-roles.sql`, everything beside it."""
    there = server.psql_env
    shell.run(f"pg_dump --file={name}.sql {database}", **there)
    shell.run(f"pg_dumpall --globals-only --no-role-passwords --file={name}-roles.sql", **there)


def compare(one: Path, other: Path) -> int:
    """Compare byte for byte, but for the lines that are random; the number of lines.

    Raises DemoError with the first difference.
    """
    number = 0
    with one.open("rb") as left, other.open("rb") as right:
        for number, (a, b) in enumerate(zip_longest(left, right, fillvalue=b""), 1):
            if a != b and not (a.startswith(_RANDOM_LINES) and b.startswith(_RANDOM_LINES)):
                raise DemoError(
                    f"{one.name} and {other.name} differ in line {number}:\n  {a!r}\n  {b!r}"
                )
    return number
