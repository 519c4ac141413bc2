"""Parts of the lab that several test files share: each is started once, when first asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.lab.aws import Ministack, Moto
from tests.lab.cloud import Cloud, new_cloud
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer, installed
from tests.lab.scripted.server import ScriptedAws
from tests.lab.stage import fill

# What is supported; a major that is missing here is tested where all are installed.
MAJORS = (14, 15, 16, 17, 18)


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[int], PostgresServer]]:
    """The server of a major, started when it is first asked for; tests make databases in it."""
    with ExitStack() as stack:
        running: dict[int, PostgresServer] = {}

        def server_of(major: int) -> PostgresServer:
            skip_without(major)
            if major not in running:
                running[major] = stack.enter_context(PostgresServer(installed()[major]))
            return running[major]

        yield server_of


def skip_without(major: int) -> None:
    if major not in installed():
        pytest.skip(
            f"PostgreSQL {major} is not installed here: name its folder of programs in"
            f" PG_BACKUP_TEST_POSTGRES ({major}=/path/bin); .ci/run and the workflow `test` do"
        )


@pytest.fixture(scope="session")
def postgres(servers: Callable[[int], PostgresServer]) -> PostgresServer:
    """One server, where the major does not matter: 17 is the one in a wheel that has zstd."""
    return servers(17 if 17 in installed() else max(installed()))


@pytest.fixture(scope="session")
def image() -> str:
    """The built image's name."""
    name = os.environ.get("PG_BACKUP_TEST_IMAGE")
    if not name:
        pytest.skip(
            "no image is named in PG_BACKUP_TEST_IMAGE; on a machine with a Docker engine:"
            " make image && PG_BACKUP_TEST_IMAGE=pg-backup-action:dev make test"
        )
    return name


@pytest.fixture(scope="session")
def ministack() -> Iterator[Ministack]:
    with Ministack() as double:
        yield double


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    with Moto() as double:
        yield double


@pytest.fixture
def scripted() -> Iterator[ScriptedAws]:
    """Scripted RDS, AWS Backup and networks; every request must have the API's own form."""
    with ScriptedAws() as server:
        yield server
        assert [] == server.wrong


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    with Issuer() as running:
        yield running


@pytest.fixture
def cloud(ministack: Ministack, issuer: Issuer) -> Iterator[Cloud]:
    """A bucket of the strict double, and a role that may write to it and list it."""
    with new_cloud(ministack, issuer) as made:
        yield made


@pytest.fixture(scope="session")
def strict(ministack: Ministack) -> Ministack:
    """The strict double of AWS."""
    return ministack


@pytest.fixture(scope="session")
def noisy() -> Iterator[PostgresServer]:
    """A server whose database shop has one table of 64 MB in the dump and some small ones."""
    majors = installed()
    # 17 is the one in a wheel that has zstd.
    with PostgresServer(majors[17 if 17 in majors else max(majors)]) as server:
        server.sql("CREATE DATABASE shop")
        fill(server, "shop", "noise", 32)
        for number in range(1, 9):
            server.sql(
                f"CREATE TABLE small_{number} AS SELECT n FROM generate_series(1, 100) n", "shop"
            )
        server.sql(
            "SELECT lo_from_bytea(n, '\\xcafe') FROM generate_series(70001, 70003) n", "shop"
        )
        server.sql("CREATE ROLE reader LOGIN PASSWORD 'reader: 100%'", "shop")
        server.sql("ALTER ROLE reader SET statement_timeout = '1min'", "shop")
        server.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", "shop")
        yield server
