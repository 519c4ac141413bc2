"""One backup's whole surroundings: a database, an issuer, an STS, an S3 that can fail, a bucket.

`Stage.start` is the action as the runner starts it; the `assert_…` functions say what must be
true once it has ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.lab.aws import Ministack
from tests.lab.cloud import Cloud, listing, new_cloud, reading, writing
from tests.lab.commands import secrets_seen
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun, RunningAction, start_action

APPLICATION = "pg-backup-action"  # what pg_stat_activity shows of the action's sessions


@dataclass
class Stage:
    """`port` leads to the database, past a proxy where a test put one in between."""

    server: PostgresServer
    cloud: Cloud
    database: str
    port: int = 0

    def inputs(self, **others: str) -> dict[str, str]:
        """The inputs of a backup; `others` by name, with underscores for hyphens."""
        given = self.cloud.inputs | {
            "database-url": self.server.url(self.database, port=self.port or None),
        }
        return given | {name.replace("_", "-"): value for name, value in others.items()}

    def restore_inputs(self, target: str, **others: str) -> dict[str, str]:
        """The inputs of a restore of this database's backup into `target`, on the same server."""
        given = self.cloud.inputs | {
            "operation": "restore",
            "database": self.database,
            "target-url": self.server.url(target, port=self.port or None),
        }
        return given | {name.replace("_", "-"): value for name, value in others.items()}

    def env(self) -> dict[str, str]:
        """What the job's environment adds; few attempts, so that lasting failures end soon."""
        clients = str(self.server.binaries)
        return self.cloud.env | {"AWS_MAX_ATTEMPTS": "2", "PG_BACKUP_CLIENTS": clients}

    def start(
        self, inputs: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None
    ) -> RunningAction:
        return start_action(inputs or self.inputs(), self.env() | dict(env or {}))

    def run(
        self, inputs: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None
    ) -> ActionRun:
        with self.start(inputs, env) as running:
            return running.finish()

    def catalogue(self) -> list[dict[str, Any]]:
        """What `operation: list` shows."""
        inputs = self.inputs(operation="list")
        del inputs["database-url"]
        run = self.run(inputs)
        assert 0 == run.exit_code, run.output
        listed: list[dict[str, Any]] = json.loads(run.outputs["backups"])
        return listed

    def parts_seen(self) -> int:
        """Parts of uploads that S3 was asked to take until now, whatever it answered."""
        return len(self.cloud.proxy.seen("PUT", "partNumber="))

    def sessions(self) -> list[tuple[int, str]]:
        """The action's sessions on the server: backend pids and their latest statements."""
        rows = self.server.sql(
            "SELECT pid, query FROM pg_stat_activity"
            f" WHERE application_name = '{APPLICATION}' AND backend_type = 'client backend'"
        )
        return [(pid, query) for pid, query in rows]


@contextmanager
def stage(server: PostgresServer, double: Ministack, database: str) -> Iterator[Stage]:
    """A stage with a bucket, a role and an issuer of its own."""
    with Issuer() as issuer, new_cloud(double, issuer) as cloud:
        yield Stage(server, cloud, database)


@contextmanager
def readable_stage(server: PostgresServer, double: Ministack, database: str) -> Iterator[Stage]:
    """A stage whose role may read its backups as well."""
    with stage(server, double, database) as ready:
        bucket = ready.cloud.bucket
        ready.cloud.allow(writing(bucket), listing(bucket), reading(bucket))
        yield ready


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Raises TimeoutError when `condition` stays false for that long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} stayed false for {seconds} s")
        time.sleep(0.01)


def fill(server: PostgresServer, database: str, table: str, megabytes: int) -> None:
    """A table of rows that no compression makes smaller; pg_dump writes twice the bytes, in hex."""
    with psycopg.connect(server.url(database)) as connection:
        connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, noise bytea)".encode())
        connection.execute(f"ALTER TABLE {table} ALTER noise SET STORAGE EXTERNAL".encode())
        cursor = connection.cursor()
        with cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)".encode()) as copy:
            copy.set_types(["int4", "bytea"])
            for number in range(megabytes * 10):
                copy.write_row((number, os.urandom(100_000)))


def assert_clean_end(run: ActionRun, stage: Stage) -> None:
    """True of every end: nothing open, nothing running, nothing on the disk, no secret told."""
    cloud = stage.cloud
    assert [] == cloud.open_uploads(), run.output
    assert [] == run.leftovers, run.output
    told = run.log.printed + run.summary + "".join(run.outputs.values())
    keys = [secret for exchange in cloud.sts.exchanges for secret in exchange.secrets]
    secrets = [stage.server.password, cloud.issuer.request_token, *cloud.issuer.issued, *keys]
    assert [] == secrets_seen(told, [*secrets, *run.log.masks])
    lines = run.output.splitlines()
    assert [] == [line for line in lines if "Traceback" in line and "::debug::" not in line]
    if stage.server.daemon.process.poll() is None:
        wait_until(lambda: not stage.sessions())


def the_error(run: ActionRun, *words: str) -> str:
    """The text of a run's only error, which has three parts and holds all these words."""
    assert 1 == len(run.errors), run.output
    (error,) = run.errors
    message, *rest = error.message.splitlines()
    assert message == error.title
    assert len([line for line in rest if line.strip()]) >= 2, error.message
    for word in words:
        assert word in error.message, error.message
    return error.message


def assert_no_backup(run: ActionRun, stage: Stage, exit_code: int) -> str:
    """A failed run: no manifest, a clean end, one error in three parts; the error's text."""
    assert exit_code == run.exit_code, run.output
    assert {} == stage.cloud.manifests()
    assert {} == run.outputs
    assert_clean_end(run, stage)
    assert "❌" in run.summary
    return the_error(run)


def assert_nothing_half_done(run: ActionRun, stage: Stage, exit_code: int) -> str:
    """A run that failed before the first object could become visible; the error's text."""
    assert {} == stage.cloud.objects(), run.output
    return assert_no_backup(run, stage, exit_code)


def assert_backed_up(run: ActionRun, stage: Stage) -> dict[str, Any]:
    """A green run: one manifest, and every byte that it promises is there; the manifest."""
    assert 0 == run.exit_code, run.output
    assert [] == run.errors
    assert_clean_end(run, stage)
    (key, manifest), *others = stage.cloud.manifests().items()
    assert [] == others
    root = key.removesuffix("manifest.json")
    promised = {root + each["key"]: each["size"] for each in manifest["objects"]}
    visible = stage.cloud.objects()
    assert promised | {key: visible[key]} == visible
    stored = {name: stage.cloud.read(name) for name in promised}
    for member in manifest["members"]:
        whole = stored[root + member["object"]]
        content = whole[member["offset"] : member["offset"] + member["size"]]
        assert member["sha256"] == hashlib.sha256(content).hexdigest(), member
    return manifest


def make_client(folder: Path, real: Path, script: str) -> Path:
    """A folder of clients whose pg_dump is a shell script; $real is the true one.

    Questions about the version and the compression go to the true one. Returns the folder.
    """
    folder.mkdir()
    (folder / "pg_dumpall").symlink_to(real / "pg_dumpall")
    program = folder / "pg_dump"
    program.write_text(
        f'#!/bin/bash\nreal={real}/pg_dump\ncase "$*" in *--format=directory*) ;;'
        f' *) exec "$real" "$@" ;; esac\n{script}\n'
    )
    program.chmod(0o755)
    return folder
