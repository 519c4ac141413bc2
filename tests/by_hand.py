"""What a person does without this project: `aws`, `tar`, `psql` and `pg_restore` in a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import psycopg.conninfo

from tests.lab.aws import REGION, REPOSITORY
from tests.lab.cloud import Cloud
from tests.lab.postgres import PostgresServer, installed
from tests.lab.runner import ActionRun
from tests.steps import green

# The roles are missing after a disaster, so what is behind this is run as well.
_ROLES = "# roles, if they are missing: "
# Random words of newer clients around a plain dump.
_RESTRICT = re.compile(rb"^\\(un)?restrict .*\n", re.MULTILINE)


@dataclass(frozen=True)
class Shell:
    """A shell in `folder` with the programs of one PostgreSQL in front of its PATH."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, line: str) -> bytes:
        """What the line printed. Raises AssertionError unless it exits with 0."""
        result = subprocess.run(
            ["/bin/sh", "-c", line], cwd=self.folder, env=self.environment, capture_output=True
        )
        assert 0 == result.returncode, f"{line}\n{result.stderr.decode(errors='replace')}"
        return result.stdout


def shell(folder: Path, server: PostgresServer, cloud: Cloud) -> Shell:
    """Reaches the server as superuser, and the bucket as someone who may read it."""
    # Not every build has createdb, and any will do.
    createdb = [str(each) for each in installed().values() if (each / "createdb").exists()][:1]
    tools = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return Shell(
        folder,
        {
            **server.psql_env,
            "PATH": os.pathsep.join([str(server.binaries), *createdb, *tools]),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "AWS_ENDPOINT_URL": cloud.double.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
        },
    )


def restore_lines(run: ActionRun) -> list[str]:
    """The lines of the job summary's code block, those for missing roles among them."""
    block = re.search(r"^### Restore it by hand\n+```sh\n(.*?)^```", run.summary, re.S | re.M)
    assert block is not None, run.summary
    return [line.removeprefix(_ROLES) for line in block[1].splitlines()]


def readme_blocks(heading: str) -> list[str]:
    """The shell blocks of a section of the README, without comment signs before commands."""
    text = (REPOSITORY / "README.md").read_text()
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return [block.replace(f"\n{_ROLES}", "\n") for block in blocks]


def fetch(run: ActionRun, shell: Shell) -> Path:
    """Fetch and unpack the archive as the summary says; its folder."""
    for line in restore_lines(run):
        if line.startswith(("aws ", "tar ")):
            shell.run(line)
    return shell.folder / run.outputs["backup-id"]


def script(run: ActionRun, shell: Shell) -> bytes:
    """The archive as SQL, which is what `pg_dump` of the same selection prints."""
    fetch(run, shell)
    return _RESTRICT.sub(b"", shell.run(f"pg_restore --file=- {run.outputs['backup-id']}"))


def plain(
    server: PostgresServer, database: str, *options: str, binaries: Path | None = None
) -> bytes:
    """A plain `pg_dump` by the server's own client, or by that of another folder."""
    target = psycopg.conninfo.make_conninfo(server.url(), dbname=database)
    result = subprocess.run(
        [(binaries or server.binaries) / "pg_dump", f"--dbname={target}", *options],
        capture_output=True,
        check=True,
    )
    return _RESTRICT.sub(b"", result.stdout)


def roles(server: PostgresServer) -> bytes:
    """Roles and memberships, without passwords."""
    result = subprocess.run(
        [
            server.binaries / "pg_dumpall",
            "--globals-only",
            "--no-role-passwords",
            f"--dbname={server.url()}",
        ],
        capture_output=True,
        check=True,
    )
    return _RESTRICT.sub(b"", result.stdout)


def first_difference(expected: bytes, actual: bytes) -> str:
    """The first lines that differ, with their neighbours; empty for equal texts."""
    if expected == actual:
        return ""
    one, other = expected.splitlines(), actual.splitlines()
    pairs = zip_longest(one, other, fillvalue=b"")
    number = next((n for n, (a, b) in enumerate(pairs) if a != b), 0)
    around = slice(max(0, number - 3), number + 4)
    shown = [
        "\n".join(line[:300].decode(errors="replace") for line in text[around])
        for text in (one, other)
    ]
    return f"line {number + 1}:\n{shown[0]}\n--- and not ---\n{shown[1]}"


def assert_same_dump(
    run: ActionRun,
    cloud: Cloud,
    server: PostgresServer,
    database: str,
    folder: Path,
    *options: str,
) -> None:
    """The step was green, and its archive is what pg_dump prints of the source itself."""
    expected = plain(server, database, *options)
    actual = script(green(run), shell(folder, server, cloud))
    assert "" == first_difference(expected, actual)
