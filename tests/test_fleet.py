"""A fleet from end to end: plan, one job for each row of the matrix, and the closing job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fleets import Workspace
from tests.lab.aws import REGION
from tests.lab.cloud import Cloud, listing, reading, writing
from tests.lab.github_api import TOKEN, GitHub, github
from tests.lab.postgres import PostgresServer
from tests.steps import database_named, forget, green

# A name that YAML 1.1 takes for a boolean, and one that no shell and no path would take.
NAMES = ("shop", "no", 'a/b "c" ${{ x }}')


@dataclass(frozen=True)
class Stage:
    """Three databases, a bucket, a repository with their file, and a workflow run that began."""

    workspace: Workspace
    cloud: Cloud
    server: PostgresServer

    def back_up(self, **inputs: str) -> dict[str, int]:
        """The exit code of each job of the matrix, by its name."""
        secret = {"password": self.server.password}
        rows = self.workspace.rows()
        return {row["name"]: self.workspace.job(row, **secret, **inputs).exit_code for row in rows}


@pytest.fixture
def hub() -> Iterator[GitHub]:
    with github() as made:
        yield made


@pytest.fixture
def stage(postgres: PostgresServer, cloud: Cloud, hub: GitHub, tmp_path: Path) -> Iterator[Stage]:
    for name in NAMES:
        database_named(postgres, name, "CREATE TABLE t AS SELECT n FROM generate_series(1, 9) n")
    run = hub.ran(0.001, None)  # some seconds ago
    env = {
        **cloud.env,
        **hub.env,
        "GITHUB_RUN_ID": str(run.id),
        "PG_BACKUP_CLIENTS": str(postgres.binaries),
        "AWS_MAX_ATTEMPTS": "2",
    }
    workspace = Workspace(tmp_path, env)
    workspace.write(f"""\
# Every database of the company.
defaults:
  aws-region: {REGION}
  role-to-assume: {cloud.role}
  bucket: {cloud.bucket}
  host: 127.0.0.1
  port: {postgres.port}
  user: postgres
databases:
  - database: shop
    jobs: 3
  - database: no
    compression: gzip:1
  - name: odd
    database: 'a/b "c" ${{{{ x }}}}'
    row-counts: false
""")
    yield Stage(workspace, cloud, postgres)
    for name in NAMES:
        forget(postgres, name)


def test_every_database_of_the_file_is_backed_up_and_collected(stage: Stage) -> None:
    assert {"shop": 0, "no": 0, "odd": 0} == stage.back_up()

    run = green(stage.workspace.collect(github_token=TOKEN))

    manifests = {each["database"]: each for each in stage.cloud.manifests().values()}
    assert set(NAMES) == set(manifests)
    assert "gzip" in manifests["no"]["compression"]
    assert {each["rows"] for each in manifests[NAMES[2]]["inventory"]["relations"]} == {None}
    told = json.loads(run.outputs["backups"])
    assert ["shop", "no", "odd"] == [each["name"] for each in told]
    assert {each["id"] for each in manifests.values()} == {each["id"] for each in told}
    assert [] == json.loads(run.outputs["missing"])
    assert "✅ 3 databases of the fleet, and a fresh backup of each" in run.summary.splitlines()[0]


def test_the_database_whose_job_failed_is_told_of_by_name(stage: Stage) -> None:
    forget(stage.server, "no")

    codes = stage.back_up()
    run = stage.workspace.collect(github_token=TOKEN)

    assert (0, 0) == (codes["shop"], codes["odd"])
    assert codes["no"] not in (0, None)
    assert 6 == run.exit_code, run.output
    (error,) = run.errors
    assert "1 of 3 databases of the fleet without a fresh backup" == error.title
    assert "MISSING: no: there is no backup of it" in error.message
    assert ["no"] == json.loads(run.outputs["missing"])
    assert "without a fresh backup: no" in run.summary.splitlines()[0]


def test_a_drill_takes_a_row_of_the_same_file(stage: Stage) -> None:
    cloud = stage.cloud
    cloud.allow(writing(cloud.bucket), listing(cloud.bucket), reading(cloud.bucket))
    rows = {row["name"]: row for row in stage.workspace.rows()}
    for name in ("shop", "odd"):
        green(stage.workspace.job(rows[name], password=stage.server.password))

    # No password: the databases themselves are not reached.
    run = green(stage.workspace.job(rows["odd"], operation="verify", verify_depth="archive"))

    assert "true" == run.outputs["verified"]
    assert run.outputs["backup-id"] in {
        each["id"] for each in cloud.manifests().values() if each["database"] == NAMES[2]
    }
