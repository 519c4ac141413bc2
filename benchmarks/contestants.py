"""What is measured: this project, and the lines that people write instead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import DATABASE
from tests.lab.aws import REGION, REPOSITORY
from tests.lab.httpd import HttpService, Request, Response, answering
from tests.lab.postgres import SUPERUSER, PostgresServer
from tests.lab.sink import Sink
from tests.lab.sts import ACCOUNT, NAMESPACE

BUCKET = "bench"
OURS = "ours"
SLOWEST_ROUNDS = 2  # minutes each
# $ARCHIVE is the address of the backup's archive.
_COPY = (
    'aws s3 cp --only-show-errors --recursive "$ARCHIVE" "$TMPDIR/archive"'
    ' && for pack in "$TMPDIR"/archive/pack-*.tar; do tar -C "$TMPDIR/archive" -xf "$pack"; done'
)


@dataclass(frozen=True)
class Contestant:
    """`command` is an argv; `most_rounds` None means as many as are asked for."""

    name: str
    shown: str
    command: tuple[str, ...]
    most_rounds: int | None = None


def ours(*options: str) -> Contestant:
    command = (sys.executable, "-m", "backup", "backup", "--bucket", BUCKET, "--aws-region", REGION)
    return Contestant(OURS, "python -m backup backup", (*command, *options))


def gzip_pipe() -> Contestant:
    return _pipe("gzip-pipe", "pg_dump -Fc", most_rounds=SLOWEST_ROUNDS)


def zstd_pipe() -> Contestant:
    return _pipe("zstd-pipe", "pg_dump -Fc -Z zstd:1")


def local() -> Contestant:
    """pg_dump alone: no upload, the whole archive on the disk."""
    dump = "pg_dump -Fd -j 2 -Z zstd:1"
    return Contestant("local", dump, ("/bin/sh", "-c", f'{dump} -f "$TMPDIR/dump"'))


def restore(*options: str) -> Contestant:
    """Of the newest backup into the database of TARGET_URL."""
    command = (sys.executable, "-m", "backup", "restore", "--bucket", BUCKET)
    where = ("--aws-region", REGION, "--database", DATABASE, "--jobs", "2")
    shown = " ".join(("python -m backup restore", *options))
    return Contestant(OURS, shown, (*command, *where, *options))


def drill() -> Contestant:
    """As a step of a workflow, whose outputs tell how long the restore in it took."""
    entrypoint = str(REPOSITORY / "entrypoint.py")
    return Contestant(OURS, "operation: verify", (sys.executable, entrypoint))


def copy_then_restore() -> Contestant:
    """The lines that the README gives for restoring by hand."""
    line = f'{_COPY} && pg_restore --jobs=2 --dbname="$PGDATABASE" "$TMPDIR/archive"'
    shown = "aws s3 cp --recursive, pg_restore -j 2"
    return Contestant("copy", shown, ("/bin/sh", "-c", line))


def copy_then_restore_table(table: str) -> Contestant:
    """A table with its indexes: pg_restore -t alone would leave those out."""
    archive = '"$TMPDIR/archive"'
    own = f"(TABLE|TABLE DATA|CONSTRAINT) public {table} |INDEX public {table}_"
    line = f"{_COPY} && pg_restore --list {archive} | grep -E ' {own}' > \"$TMPDIR/list\""
    line += f' && pg_restore --jobs=2 --use-list="$TMPDIR/list" --dbname="$PGDATABASE" {archive}'
    shown = "aws s3 cp --recursive, pg_restore -j 2 -L list"
    return Contestant("copy", shown, ("/bin/sh", "-c", line))


def restore_pipe() -> Contestant:
    """Of the one object that `zstd_pipe` stores."""
    line = f"aws s3 cp --only-show-errors s3://{BUCKET}/{zstd_pipe().name} -"
    line += ' | pg_restore --dbname="$PGDATABASE"'
    return Contestant("pipe", "aws s3 cp - | pg_restore", ("/bin/sh", "-c", line))


def _pipe(name: str, dump: str, most_rounds: int | None = None) -> Contestant:
    line = f"{dump} | aws s3 cp --only-show-errors - s3://{BUCKET}/{name}"
    return Contestant(name, line.replace(" --only-show-errors", ""), ("/bin/sh", "-c", line),
                      most_rounds)  # fmt: skip


def environment(
    binaries: Path, server: PostgresServer, sink: Sink, sts: HttpService, database: str = DATABASE
) -> dict[str, str]:
    """The same for all: one server, verified TLS, one store."""
    assert server.certificates is not None
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join([str(binaries), here, os.environ.get("PATH", os.defpath)])
    kept = ("LANG", "LD_LIBRARY_PATH", "HOME")
    inherited = {name: os.environ[name] for name in kept if name in os.environ}
    url = server.url(
        database,
        SUPERUSER,
        sslmode="verify-full",
        sslrootcert=str(server.certificates.authority),
    )
    return inherited | server.psql_env | sink.env | {
        "PATH": path,
        "PYTHONPATH": str(REPOSITORY),
        "PG_BACKUP_CLIENTS": str(binaries),
        "PGDATABASE": database,
        "PGSSLMODE": "verify-full",
        "DATABASE_URL": url,
        "AWS_ENDPOINT_URL_STS": sts.url,
    }  # fmt: skip


def identity_service() -> HttpService:
    """STS, as far as GetCallerIdentity: the sink is an S3 alone."""

    def answer(_request: Request) -> Response:
        body = f"""<GetCallerIdentityResponse xmlns="{NAMESPACE}"><GetCallerIdentityResult>
            <Arn>arn:aws:iam::{ACCOUNT}:user/bench</Arn><UserId>AIDABENCH</UserId>
            <Account>{ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"""
        return Response(200, body.encode(), {"Content-Type": "text/xml"})

    return HttpService(answering(answer))


def versions(variables: Mapping[str, str]) -> dict[str, str]:
    """Of the programs that are measured."""
    found = {"python": sys.version.split()[0]}
    for program in ("pg_dump", "aws"):
        path = shutil.which(program, path=variables["PATH"])
        if path is None:
            raise FileNotFoundError(f"{program} is not on the PATH; `make bench` installs it")
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
        found[program] = said.stdout.strip()
    return found
