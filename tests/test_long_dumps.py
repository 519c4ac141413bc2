"""Dumps that take long: a link slower than the server's patience, and thousands of small files."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.by_hand import plain, script, shell
from tests.lab.aws import Ministack
from tests.lab.postgres import PostgresServer, installed
from tests.lab.stage import assert_backed_up, fill, stage

MIB = 1 << 20
LARGE_OBJECTS, TABLES = 2000, 1500
STAT_BLOCK = 512  # st_blocks counts these; see stat(2)


@pytest.fixture(scope="module")
def impatient() -> Iterator[PostgresServer]:
    """A server that drops a client which has read nothing for 15 s."""
    settings = {"tcp_user_timeout": "15s"}
    majors = installed()
    with PostgresServer(majors[17 if 17 in majors else max(majors)], settings) as server:
        yield server


@contextmanager
def measured(folder: Path) -> Iterator[list[int]]:
    """Samples of the disk that the files of `folder` take, in bytes."""
    samples: list[int] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(0.01):
            taken = 0
            for path in folder.rglob("*"):
                try:
                    taken += path.lstat().st_blocks * STAT_BLOCK
                except FileNotFoundError:
                    continue  # stored meanwhile, and removed
            samples.append(taken)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


@pytest.mark.slow
def test_a_slow_link_neither_fills_the_disk_nor_loses_an_impatient_server(
    impatient: PostgresServer, strict: Ministack, tmp_path: Path
) -> None:
    impatient.sql("CREATE DATABASE slow")
    fill(impatient, "slow", "noise", 100)
    fill(impatient, "slow", "more_noise", 40)
    with stage(impatient, strict, "slow") as shop:
        shop.cloud.proxy.bucket.rate = 6_000_000
        inputs = shop.inputs(scratch_limit="48MiB")
        with shop.start(inputs) as running, measured(running.temp) as samples:
            run = running.finish()
        shop.cloud.proxy.bucket.rate = None
        assert_backed_up(run, shop)
        assert run.seconds > 20
        assert "pg_dump waits for S3" in run.output
        assert max(samples) < 48 * MIB
        assert len(samples) > 100
        restored = script(run, shell(tmp_path, impatient, shop.cloud))
        # Compared by their digests: a difference of 160 MB would be no help in a log.
        assert sha256(plain(impatient, "slow")) == sha256(restored)


@pytest.mark.slow
def test_a_dump_that_is_held_back_for_long_breathes_now_and_then(
    impatient: PostgresServer, strict: Ministack
) -> None:
    """All parts under way end at the same time, after 30 s: no disk is freed before.

    The server's patience is longer than the stop of a dump above its limit, and shorter than
    the whole hold.
    """
    impatient.sql("CREATE DATABASE held")
    impatient.sql("ALTER DATABASE held SET tcp_user_timeout = '13s'")
    fill(impatient, "held", "noise", 45)
    with stage(impatient, strict, "held") as shop:
        shop.cloud.proxy.bucket.rate = 1_000_000
        with shop.start(shop.inputs(scratch_limit="32MiB")) as running:
            running.wait_for("pg_dump waits for S3")
            time.sleep(20)
            shop.cloud.proxy.bucket.rate = None
            run = running.finish()
        assert_backed_up(run, shop)


def test_thousands_of_small_files_become_few_objects_each_member_at_its_place(
    impatient: PostgresServer, strict: Ministack
) -> None:
    impatient.sql("CREATE DATABASE many")
    impatient.sql(
        f"SELECT lo_from_bytea(n, decode(md5(n::text), 'hex'))"
        f" FROM generate_series(100001, {100000 + LARGE_OBJECTS}) n",
        "many",
    )
    for first in range(0, TABLES, 500):
        impatient.sql(
            "".join(
                f"CREATE TABLE t{number} AS SELECT {number} AS n;"
                for number in range(first, first + 500)
            ),
            "many",
        )
    with stage(impatient, strict, "many") as shop:
        manifest = assert_backed_up(shop.run(), shop)
        assert len(manifest["objects"]) <= 2
        assert TABLES == len([each for each in manifest["members"] if each.get("table")])
        large = [each for each in manifest["members"] if each["name"].startswith("blob_")]
        assert LARGE_OBJECTS == len(large)
        (key,) = shop.cloud.manifests()
        for member in random.sample(manifest["members"], 60):
            content = shop.cloud.read(
                key.removesuffix("manifest.json") + member["object"],
                member["offset"],
                member["size"],
            )
            assert member["sha256"] == sha256(content), member


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
