"""A cancelled run: it stops pg_dump, aborts its uploads, says so, and is gone in time.

The runner sends SIGINT, 7.5 s later SIGTERM, and 2.5 s later it kills.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.lab.aws import REPOSITORY, Ministack
from tests.lab.faults import ACCESS_DENIED, Stall
from tests.lab.postgres import PostgresServer
from tests.lab.runner import RunningAction
from tests.lab.stage import Stage, assert_nothing_half_done, stage, wait_until
from tests.lab.tcp import TcpProxy

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
SECONDS = {signal.SIGINT: 7.0, signal.SIGTERM: 2.4}
FOREVER = 600.0


@pytest.fixture
def shop(noisy: PostgresServer, strict: Ministack, network: TcpProxy) -> Iterator[Stage]:
    with stage(noisy, strict, "shop") as ready:
        ready.port = network.port
        yield ready


@pytest.fixture
def network(noisy: PostgresServer) -> Iterator[TcpProxy]:
    """What lies between the action and the database."""
    with TcpProxy(noisy.port) as proxy:
        yield proxy


def interrupted(
    running: RunningAction, number: signal.Signals, shop: Stage, network: TcpProxy
) -> str:
    """Send the signal, and see that it ends the run in time; the error's text."""
    sent = time.monotonic()
    running.send(number)
    run = running.finish()
    took = time.monotonic() - sent
    network.thaw()  # the server cannot know before that its client is gone
    error = assert_nothing_half_done(run, shop, 128 + number)
    assert number.name in error
    assert took < SECONDS[number], run.output
    return error


def listens(pid: int) -> bool:
    """Whether the process has a handler for SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:\t")[2][:16], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@BOTH
def test_before_anything_is_touched(shop: Stage, number: signal.Signals) -> None:
    with shop.start() as running:
        wait_until(lambda: listens(running.process.pid))
        running.send(number)
        run = running.finish(10)
    assert number.name in assert_nothing_half_done(run, shop, 128 + number)


@BOTH
def test_while_aws_does_not_answer_the_login(
    shop: Stage, network: TcpProxy, number: signal.Signals
) -> None:
    shop.cloud.proxy.add(Stall(FOREVER), pattern="list-type")
    with shop.start() as running:
        running.wait_for("Log in to AWS")
        time.sleep(1)
        interrupted(running, number, shop, network)


@BOTH
def test_while_the_database_does_not_answer(
    shop: Stage, network: TcpProxy, number: signal.Signals
) -> None:
    network.freeze()
    with shop.start() as running:
        wait_until(lambda: network.connections)
        interrupted(running, number, shop, network)


@BOTH
def test_while_a_lock_is_waited_for(shop: Stage, network: TcpProxy, number: signal.Signals) -> None:
    with psycopg.connect(shop.server.url(shop.database)) as migration:
        migration.execute("LOCK TABLE small_5 IN ACCESS EXCLUSIVE MODE")
        with shop.start() as running:
            wait_until(lambda: any("pg_table_size" in query for _, query in shop.sessions()))
            interrupted(running, number, shop, network)


@BOTH
def test_in_the_middle_of_the_dump(shop: Stage, network: TcpProxy, number: signal.Signals) -> None:
    network.bucket.rate = 12_000_000
    with shop.start() as running:
        wait_until(shop.parts_seen)
        interrupted(running, number, shop, network)


@BOTH
def test_when_the_database_falls_silent_in_the_middle(
    shop: Stage, network: TcpProxy, number: signal.Signals
) -> None:
    network.stop_after(30_000_000)
    with shop.start() as running:
        wait_until(shop.parts_seen)
        wait_until(lambda: network.from_server >= 30_000_000)
        interrupted(running, number, shop, network)


@BOTH
def test_while_pg_dump_is_stopped_by_back_pressure(
    shop: Stage, network: TcpProxy, number: signal.Signals
) -> None:
    shop.cloud.proxy.bucket.rate = 500_000
    network.bucket.rate = 30_000_000
    with shop.start(shop.inputs(scratch_limit="32MiB", compression="none")) as running:
        wait_until(
            lambda: any(
                is_stopped(pid)
                for pid, line in running.processes().items()
                if "--format=directory" in line
            )
        )
        interrupted(running, number, shop, network)


@BOTH
def test_while_s3_takes_no_parts(shop: Stage, network: TcpProxy, number: signal.Signals) -> None:
    shop.cloud.proxy.add(Stall(FOREVER), method="PUT", pattern="partNumber=")
    with shop.start() as running:
        wait_until(lambda: shop.cloud.proxy.faults[0].hits)
        interrupted(running, number, shop, network)


@BOTH
def test_while_s3_begins_an_upload(shop: Stage, network: TcpProxy, number: signal.Signals) -> None:
    """The upload's id comes when nobody wants it any more: it is aborted all the same."""
    shop.cloud.proxy.add(Stall(2.0), method="POST", pattern=r"\?uploads")
    with shop.start() as running:
        wait_until(lambda: shop.cloud.proxy.faults[0].hits)
        time.sleep(1.6)
        interrupted(running, number, shop, network)


@BOTH
def test_while_s3_completes_an_object(
    shop: Stage, network: TcpProxy, number: signal.Signals
) -> None:
    shop.cloud.proxy.add(Stall(FOREVER), method="POST", pattern="uploadId=")
    with shop.start() as running:
        wait_until(lambda: shop.cloud.proxy.faults[0].hits)
        interrupted(running, number, shop, network)


@BOTH
def test_uploads_that_s3_does_not_abort_in_time_are_named(
    shop: Stage, number: signal.Signals
) -> None:
    shop.cloud.proxy.add(Stall(FOREVER), method="PUT", pattern="partNumber=")
    shop.cloud.proxy.add(Stall(FOREVER), method="DELETE")
    with shop.start() as running:
        wait_until(lambda: shop.cloud.proxy.faults[0].hits)
        sent = time.monotonic()
        running.send(number)
        run = running.finish()
    assert time.monotonic() - sent < SECONDS[number]
    assert 128 + number == run.exit_code
    assert [] == run.leftovers
    assert {} == shop.cloud.objects()
    (warning,) = run.warnings
    assert "could not be aborted" in warning.title
    assert "lifecycle" in warning.message
    assert all(key.rpartition("/")[2] in warning.message for key in shop.cloud.open_uploads())


@pytest.mark.parametrize("pause", [0.02, 0.4])
def test_further_signals_do_not_break_off_the_cleaning_up(
    shop: Stage, network: TcpProxy, pause: float
) -> None:
    shop.cloud.proxy.add(Stall(1.0), method="DELETE")
    network.bucket.rate = 12_000_000
    with shop.start() as running:
        wait_until(shop.parts_seen)
        running.send(signal.SIGINT)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            time.sleep(pause)
            running.send(number)
        run = running.finish()
    assert "SIGINT" in assert_nothing_half_done(run, shop, 130)


def test_a_signal_does_not_break_off_the_cleaning_up_after_a_failure(shop: Stage) -> None:
    shop.cloud.proxy.add(ACCESS_DENIED, method="PUT", pattern="partNumber=")
    shop.cloud.proxy.add(Stall(1.0), method="DELETE")
    with shop.start() as running:
        wait_until(lambda: shop.cloud.proxy.faults[1].hits)
        running.send(signal.SIGINT)
        run = running.finish()
    assert_nothing_half_done(run, shop, 3)


IN_A_FINALIZER = """
import os, signal, time
from backup import interruption
from backup.errors import Interrupted

class Told:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

interruption.listen()
try:
    Told()
    time.sleep(10)
except Interrupted as interrupted:
    raise SystemExit(interrupted.exit_code)
"""


def test_a_signal_is_not_lost_in_a_finalizer() -> None:
    """Python drops what is raised there, and with it the only signal that is heard."""
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", IN_A_FINALIZER], cwd=REPOSITORY, check=False)
    assert 130 == ended.returncode
    assert time.monotonic() - began < 5
