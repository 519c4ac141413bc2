"""The action's own restore, within each major and to every newer one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import by_hand
from tests.conftest import MAJORS, skip_without
from tests.lab.aws import Ministack
from tests.lab.cloud import Cloud, listing, new_cloud, reading, writing
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer, installed
from tests.lab.runner import ActionRun, start_action
from tests.steps import back_up, database_named, forget, green

EVERYTHING = Path(__file__).with_name("everything.sql")
HOSTILE_NAME = '-it\'s "100%" a=b.c $HOME/🐘\nline two; DROP'
VERSION = re.compile(rb"^-- Dumped from database version .*\n", re.MULTILINE)
PAIRS = [(old, new) for old in MAJORS for new in MAJORS if old <= new]


@dataclass
class Fleet:
    """A server of each major, started when it is asked for, and a backup of each, made once."""

    cloud: Cloud
    servers: dict[int, PostgresServer]
    undo: ExitStack
    backed_up: set[int]

    def server(self, major: int) -> PostgresServer:
        skip_without(major)
        if major not in self.servers:
            self.servers[major] = self.undo.enter_context(PostgresServer(installed()[major]))
        return self.servers[major]

    def source(self, major: int) -> tuple[PostgresServer, str]:
        """A database with everything, backed up under the major's prefix."""
        server = self.server(major)
        if major not in self.backed_up:
            database_named(server, HOSTILE_NAME, EVERYTHING.read_text())
            green(back_up(self.cloud, server, HOSTILE_NAME, {"prefix": f"of-{major}"}))
            self.backed_up.add(major)
        return server, HOSTILE_NAME

    def restore(self, old: int, new: int, target: str) -> ActionRun:
        """With the clients of both majors at hand, as in the image."""
        server = self.server(new)
        inputs = {
            "operation": "restore",
            "prefix": f"of-{old}",
            "database": HOSTILE_NAME,
            "target-database": target,
            "create-database": "true",
            "host": "127.0.0.1",
            "port": str(server.port),
            "user": "postgres",
            "password": server.password,
        }
        clients = f"{self.server(new).binaries}:{self.server(old).binaries}"
        variables = self.cloud.env | {"PG_BACKUP_CLIENTS": clients}
        with start_action(self.cloud.inputs | inputs, variables) as running:
            return running.finish()


@pytest.fixture(scope="module")
def fleet(ministack: Ministack, issuer: Issuer) -> Iterator[Fleet]:
    with ExitStack() as undo:
        cloud = undo.enter_context(new_cloud(ministack, issuer))
        bucket = cloud.bucket
        cloud.allow(writing(bucket, ""), listing(bucket), reading(bucket))
        yield Fleet(cloud, {}, undo, set())


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_everything_comes_back_in_the_same_major_and_in_every_newer_one(
    fleet: Fleet, old: int, new: int
) -> None:
    source, name = fleet.source(old)
    target = f"of {old} 🐘"
    server, _ = fleet.source(new)

    run = fleet.restore(old, new, target)

    assert 0 == run.exit_code, run.output
    assert "0 fatal, 0 degraded" in run.summary
    # The client of the newer major dumps both, so that only the databases can differ.
    newest = fleet.server(new).binaries
    options = ("--data-only",) if old != new else ()
    before = by_hand.plain(source, name, *options, binaries=newest)
    after = by_hand.plain(server, target, *options, binaries=newest)
    before, after = VERSION.sub(b"", before), VERSION.sub(b"", after)
    forget(server, target)
    assert len(before) > 400_000
    assert "" == by_hand.first_difference(before, after)
