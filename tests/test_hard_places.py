"""Surroundings in which a careless program would store something else than the database."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.lab.aws import REPOSITORY, Ministack
from tests.lab.commands import secrets_seen
from tests.lab.postgres import PostgresServer
from tests.lab.stage import Stage, assert_backed_up, fill, stage
from tests.lab.tcp import TcpProxy

# Bytes per second: a table of 3 MB is seen half written many times.
SLOW = 2_000_000


@pytest.fixture(scope="module")
def trickle(noisy: PostgresServer) -> PostgresServer:
    noisy.sql("CREATE DATABASE trickle")
    fill(noisy, "trickle", "slowly", 1)
    return noisy


@pytest.fixture
def place(trickle: PostgresServer, strict: Ministack) -> Iterator[Stage]:
    with stage(trickle, strict, "trickle") as ready:
        yield ready


def digest_of(manifest: dict[str, Any], table: str) -> str:
    (member,) = [each for each in manifest["members"] if each.get("table") == table]
    return str(member["sha256"])


def test_a_scratch_folder_behind_a_link_stores_whole_files(place: Stage, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with TcpProxy(place.server.port, bandwidth=SLOW) as proxy:
        place.port = proxy.port
        run = place.run(place.inputs(compression="none"), {"TMPDIR": str(tmp_path / "link")})
    manifest = assert_backed_up(run, place)
    folder = tmp_path / "alone"
    command = [f"{place.server.binaries}/pg_dump", "--format=directory", "--compress=0"]
    command += [f"--file={folder}", f"--dbname={place.server.url('trickle')}"]
    subprocess.run(command, check=True)
    (data,) = folder.glob("[0-9]*.dat")
    assert hashlib.sha256(data.read_bytes()).hexdigest() == digest_of(manifest, "slowly")


def test_without_sight_of_open_files_nothing_is_backed_up(place: Stage, tmp_path: Path) -> None:
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("needs root and unshare, to make a PID namespace: .ci/run as root runs it")
    inputs = place.inputs()
    url = inputs.pop("database-url")
    command = ["unshare", "--pid", "--fork", sys.executable, "-m", "backup", "backup"]
    command += [f"--bucket={inputs['bucket']}", f"--aws-region={inputs['aws-region']}"]
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": url, "TMPDIR": str(tmp_path)}
    environment |= place.env() | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    run = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert 5 == run.returncode, run.stderr
    assert "it cannot be seen which files pg_dump still writes" in run.stderr
    assert {} == place.cloud.objects()


def test_a_database_in_another_encoding_is_backed_up_with_its_names(
    noisy: PostgresServer, strict: Ministack
) -> None:
    noisy.sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with psycopg.connect(noisy.url("latin"), client_encoding="utf8") as connection:
        connection.execute('CREATE TABLE "Straße" AS SELECT 1 AS größe')
    with stage(noisy, strict, "latin") as ready:
        manifest = assert_backed_up(ready.run(), ready)
    assert "LATIN1" == manifest["inventory"]["encoding"]
    assert ["Straße"] == [each["table"] for each in manifest["members"] if "table" in each]


def test_the_encoding_of_a_login_does_not_change_the_dump(
    noisy: PostgresServer, strict: Ministack
) -> None:
    noisy.sql("CREATE DATABASE names")
    noisy.sql('CREATE TABLE "Straße" AS SELECT 1 AS x', "names")
    noisy.sql("CREATE ROLE western LOGIN PASSWORD 'western' IN ROLE pg_read_all_data")
    noisy.sql("ALTER ROLE western SET client_encoding = 'LATIN1'")
    with stage(noisy, strict, "names") as ready:
        url = noisy.url("names", "western", "western")
        manifest = assert_backed_up(ready.run(ready.inputs() | {"database-url": url}), ready)
    assert ["Straße"] == [each["table"] for each in manifest["members"] if "table" in each]


@pytest.mark.parametrize("password", ["S3cr3tPart/rest", "S3cr3t@Part", "S3cr3t:Part?x=1"])
def test_a_password_that_is_not_encoded_in_its_url_is_not_shown(
    place: Stage, password: str
) -> None:
    url = f"postgresql://backup:{password}@127.0.0.1:1/shop"
    run = place.run(place.inputs() | {"database-url": url})
    assert run.exit_code
    assert [] == secrets_seen(run.log.printed + run.summary, ["S3cr3t"])
