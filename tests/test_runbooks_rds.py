"""The runbooks for RDS: their commands and their YAML as they are written, on a scripted AWS."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import by_hand
from tests.lab.aws import REGION, REPOSITORY
from tests.lab.cloud import Cloud
from tests.lab.postgres import PostgresServer
from tests.lab.runner import run_action
from tests.lab.scripted.made import key_of
from tests.lab.scripted.server import ScriptedAws
from tests.lab.stage import wait_until
from tests.lab.sts import ACCOUNT
from tests.recoveries import ELSEWHERE, Recovery, recovery
from tests.runbooks import Runbook
from tests.steps import green

yaml: Any = importlib.import_module("yaml")  # has no type information of its own

EXAMPLES = REPOSITORY / "examples/workflows"
PASSWORD = "it's: 100% /?#"
QUOTED = PASSWORD.replace("'", "''")
WAYS = pytest.mark.parametrize("way", ["terminal", "workflow"])


@dataclass
class RdsDesk:
    """A person with a page, a shell, and an instance `shop-production`."""

    place: Recovery
    shell: by_hand.Shell
    filled: dict[str, str]

    def open(self, page: str) -> Runbook:
        return Runbook(page, self.filled)

    def type(self, book: Runbook, heading: str, number: int = 0) -> str:
        block = book.block(heading, number)
        return self.shell.run(f"set -e\n{book.names_before(block)}{block}").decode()

    def paste(self, book: Runbook, heading: str) -> None:
        (step,) = yaml.safe_load(book.block(heading, language="yaml"))
        given = {name: str(value) for name, value in step["with"].items()}
        moment = step["with"].get("restore-time")
        if isinstance(moment, datetime):  # YAML knows times, and the runner gives them as typed
            given["restore-time"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
        role = {"role-to-assume": self.place.cloud.role}
        green(run_action(given | role, self.place.env()))

    def make(self, book: Runbook, heading: str, way: str) -> None:
        """The step of the page that makes the instance, the one way or the other."""
        self.type(book, heading) if way == "terminal" else self.paste(book, heading)


@pytest.fixture
def desk(
    cloud: Cloud, scripted: ScriptedAws, postgres: PostgresServer, tmp_path: Path
) -> Iterator[RdsDesk]:
    with recovery(cloud, scripted, postgres, "shop") as place:
        postgres.sql(f"CREATE ROLE restore SUPERUSER LOGIN PASSWORD '{QUOTED}'")
        postgres.sql("CREATE TABLE orders AS SELECT n AS id FROM generate_series(1, 42) n", "shop")
        scripted.rds.add_instance("shop-production")
        scripted.rds.add_snapshot("nightly", "shop-production")
        event = {"SourceIdentifier": "shop-production", "Message": "Storage failure"}
        scripted.rds.operating.events.append(event | {"Date": datetime.now(UTC)})
        program = tmp_path / "venv/bin/python"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} "$@"\n')
        program.chmod(0o755)
        environment = dict(by_hand.shell(tmp_path, postgres, cloud).environment)
        for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"):
            del environment[name]
        environment |= {"AWS_ENDPOINT_URL_RDS": scripted.url, "PG_BACKUP_POLL_SECONDS": "0.02"}
        bucket = cloud.bucket
        filled = {
            "my-company-pg-backups-replica": bucket,
            "my-company-pg-backups": bucket,
            "port=5432": f"port={postgres.port}",
            "'THE-PASSWORD'": "'" + PASSWORD.replace("'", "'\\''") + "'",
            "${{ secrets.RESTORE_PASSWORD }}": json.dumps(PASSWORD),
        }
        try:
            yield RdsDesk(place, by_hand.Shell(tmp_path, environment), filled)
        finally:
            postgres.sql("DROP ROLE restore")


@WAYS
def test_a_lost_instance(desk: RdsDesk, way: str) -> None:
    book, rds = desk.open("lost-instance.md"), desk.place
    assert "available" in desk.type(book, "1. Is it lost?", 0)
    assert "Storage failure" in desk.type(book, "1. Is it lost?", 1)
    assert "nightly" in desk.type(book, "2. What is there to restore from?", 0)
    assert "active" in desk.type(book, "2. What is there to restore from?", 1)
    desk.make(book, "3. Restore", way)
    assert ["shop-production", "shop-restored"] == rds.identifiers()
    resource = rds.instance("shop-restored")["DbiResourceId"]

    endpoint = desk.type(book, "4. Look at it", 0)
    assert "" == endpoint
    looked = book.block("4. Look at it", 0) + book.block("4. Look at it", 1)
    assert (
        "42" in desk.shell.run(book.names_before(book.block("4. Look at it", 0)) + looked).decode()
    )

    desk.type(book, "5. Switch over", 0)
    settle(rds, "shop-production-old", "shop-restored")
    desk.type(book, "5. Switch over", 1)
    assert ["shop-production", "shop-production-old"] == rds.identifiers()
    assert resource == rds.instance("shop-production")["DbiResourceId"]


def test_a_new_instance_that_was_not_needed(desk: RdsDesk) -> None:
    book, rds = desk.open("lost-instance.md"), desk.place
    desk.type(book, "3. Restore")
    desk.type(book, "6. Afterwards", 0)
    settle(rds, "shop-restored")
    desk.type(book, "6. Afterwards", 1)
    wait_until(lambda: ["shop-production"] == rds.identifiers())


@WAYS
def test_a_point_in_time(desk: RdsDesk, way: str, tmp_path: Path) -> None:
    moment = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    desk.filled["2026-11-22T01:59:30Z"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    book, rds = desk.open("point-in-time.md"), desk.place
    assert f"{moment:%Y-%m-%d}" in desk.type(book, "1. When was it?", 0)
    desk.make(book, "2. Make the instance of that moment", way)
    (asked,) = rds.aws.asked("rds:RestoreDBInstanceToPointInTime")
    assert moment == asked.input["RestoreTime"]

    check = "3. Was it the right second?"
    take = "4a. Take back what was lost, and keep the instance that runs"
    names = book.names_before(book.block(check, 0))
    lines = book.block(check, 0) + book.block(check, 1) + book.block(take, 0)
    assert "42" in desk.shell.run(f"set -e\n{names}{lines}").decode()
    script = (tmp_path / "orders.sql").read_text()
    assert 42 == script.count("INSERT INTO public.orders")


@WAYS
def test_a_lost_region(desk: RdsDesk, way: str) -> None:
    rds = desk.place
    rds.record("shop-production")
    rds.client(ELSEWHERE).copy_db_snapshot(
        SourceDBSnapshotIdentifier=f"arn:aws:rds:{REGION}:{ACCOUNT}:snapshot:nightly",
        TargetDBSnapshotIdentifier="nightly-copy",
        KmsKeyId=key_of(ELSEWHERE),
        SourceRegion=REGION,
    )
    for _ in range(9):
        rds.client(ELSEWHERE).describe_db_snapshots()
    rds.aws.rds.add_subnet_group("private", region=ELSEWHERE)
    rds.aws.rds.add_parameter_group("shop-postgres17", region=ELSEWHERE)
    book = desk.open("region-lost.md")

    assert "nightly-copy" in desk.type(book, "1. What is there?", 0)
    assert ".json" in desk.type(book, "1. What is there?", 1)
    desk.make(book, "2. Make it there", way)
    assert ["shop-production"] == rds.identifiers(ELSEWHERE)
    section = "3. Look at it, and switch over"
    lines = book.block(section, 0) + book.block(section, 1)
    names = book.names_before(book.block(section, 0))
    assert "42" in desk.shell.run(f"set -e\n{names}{lines}").decode()


def test_the_drill_deletes_what_it_made_and_nothing_else(desk: RdsDesk) -> None:
    workflow = yaml.safe_load((EXAMPLES / "lost-instance-drill.yml").read_text())
    restore, remove = workflow["jobs"]["restore"], workflow["jobs"]["remove"]
    given = {name: str(value) for name, value in restore["steps"][0]["with"].items()}
    of_here = {"bucket": desk.place.cloud.bucket, "role-to-assume": desk.place.cloud.role,
               "user": "restore", "password": PASSWORD}  # fmt: skip
    green(run_action(given | of_here, desk.place.env()))
    assert ["shop-production", "shop-production-drill"] == desk.place.identifiers()
    desk.place.aws.rds.seconds_per_state = 0.01  # the waiters of the AWS CLI look every 30 s
    names = "".join(f"export {name}={value}\n" for name, value in workflow["env"].items())
    desk.shell.run(f"{names}set -e\n{remove['steps'][1]['run']}")
    assert ["shop-production"] == desk.place.identifiers()


def settle(rds: Recovery, *identifiers: str) -> None:
    wait_until(
        lambda: all("available" == rds.instance(name)["DBInstanceStatus"] for name in identifiers)
    )


def test_the_pages_are_in_the_index() -> None:
    index = (REPOSITORY / "docs/runbooks/README.md").read_text()
    for page in ("lost-instance.md", "point-in-time.md", "region-lost.md"):
        assert f"]({page})" in index
