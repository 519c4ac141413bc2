"""Parts of the lab that several test files share: each is started once, when first asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.aws import Ministack
from tests.lab.postgres import PostgresServer, installed
from tests.lab.stage import WRITER


@pytest.fixture(scope="session")
def strict_cloud() -> Iterator[Ministack]:
    """The strict double, with the role that writes backups."""
    with Ministack() as double:
        double.make_role(WRITER)
        yield double


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server, of a major whose client compresses with zstd where there is one."""
    majors = installed()
    major = 17 if 17 in majors else max(majors)
    with PostgresServer(majors[major]) as server:
        yield server
