"""A tunnel that breaks while it is used: red, told by its name, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest

from tests.drills import assert_not_green, drill_inputs
from tests.lab.aws import Ministack
from tests.lab.postgres import PostgresServer
from tests.lab.runner import RunningAction
from tests.lab.sshd import Sshd, sshd_is_missing
from tests.lab.stage import (
    Stage,
    assert_backed_up,
    assert_nothing_half_done,
    readable_stage,
    the_error,
    wait_until,
)
from tests.lab.tcp import TcpProxy
from tests.restores import assert_unusable, target
from tests.tunnels import allow_all, assert_key_unseen, by_secret

pytestmark = pytest.mark.skipif(bool(sshd_is_missing()), reason=sshd_is_missing())
SLOW = 12_000_000  # bytes per second; the dump has 64 MB
RESTORED = 8_000_000  # bytes per second from S3, which has 36 MiB


@pytest.fixture
def shop(noisy: PostgresServer, strict: Ministack) -> Iterator[Stage]:
    with readable_stage(noisy, strict, "shop") as ready:
        allow_all(ready.cloud)
        yield ready


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    with Sshd() as running:
        yield running


@pytest.fixture
def network(sshd: Sshd) -> Iterator[TcpProxy]:
    """What lies between the action and the SSH server."""
    with TcpProxy(sshd.port, bandwidth=SLOW) as proxy:
        yield proxy


@pytest.fixture
def way(shop: Stage, sshd: Sshd, network: TcpProxy) -> dict[str, str]:
    through = f"ssh://{sshd.user}@127.0.0.1:{network.port}"
    return by_secret(shop, sshd) | {"tunnel": through}


def ssh_of(running: RunningAction) -> int:
    (pid,) = [pid for pid, line in running.processes().items() if line.split()[0].endswith("/ssh")]
    return pid


def clients_of(running: RunningAction) -> int:
    return len([1 for line in running.processes().values() if "/ssh" in line or "pg_" in line])


@pytest.mark.parametrize("end", ["ssh", "server", "network"])
def test_a_tunnel_that_breaks_in_the_middle_of_a_dump(
    shop: Stage, sshd: Sshd, network: TcpProxy, way: dict[str, str], end: str
) -> None:
    with shop.start(shop.inputs() | way) as running:
        wait_until(shop.parts_seen)
        if end == "ssh":
            os.kill(ssh_of(running), signal.SIGKILL)
        elif end == "server":
            sshd.end_sessions()
        else:
            network.reset()
        run = running.finish()

    error = assert_nothing_half_done(run, shop, 4)
    assert f"the tunnel through {way['tunnel']} broke" in error
    # Of a connection that is gone ssh hears as it reads or as it writes.
    last_words = {
        "ssh": "ssh was ended by SIGKILL",
        "server": "closed by remote host|Broken pipe",
        "network": "Connection reset by peer|Broken pipe",
    }
    assert re.search(last_words[end], error)
    # What came of it is told as well.
    assert "pg_dump failed with exit code 1" in error
    assert_key_unseen(run, sshd.key)


def test_a_network_that_falls_silent_is_noticed(
    shop: Stage, network: TcpProxy, way: dict[str, str]
) -> None:
    with shop.start(shop.inputs() | way) as running:
        wait_until(shop.parts_seen)
        network.freeze()
        run = running.finish()
        network.thaw()

    error = assert_nothing_half_done(run, shop, 4)
    assert "broke" in error
    assert "not responding" in error
    assert run.seconds < 60


def test_a_database_that_ends_the_session_is_not_taken_for_a_broken_tunnel(
    shop: Stage, way: dict[str, str]
) -> None:
    with shop.start(shop.inputs() | way) as running:
        wait_until(shop.parts_seen)
        shop.server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'pg-backup-action'"
        )
        run = running.finish()

    error = assert_nothing_half_done(run, shop, 4)
    assert "tunnel" not in error
    assert "pg_dump failed with exit code 1" in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
@pytest.mark.parametrize("moment", ["while it opens", "in the middle of the dump"])
def test_a_signal_ends_the_tunnel_too(
    shop: Stage, network: TcpProxy, way: dict[str, str], number: signal.Signals, moment: str
) -> None:
    if moment == "while it opens":
        network.freeze()
    with shop.start(shop.inputs() | way) as running:
        if moment == "while it opens":
            wait_until(lambda: network.connections)
        else:
            wait_until(shop.parts_seen)
        assert ssh_of(running)
        running.send(number)
        run = running.finish(10)
        network.thaw()

    error = assert_nothing_half_done(run, shop, 128 + number)
    assert number.name in error


def test_a_program_that_is_killed_leaves_no_tunnel(shop: Stage, way: dict[str, str]) -> None:
    with shop.start(shop.inputs() | way) as running:
        wait_until(shop.parts_seen)
        running.process.kill()
        wait_until(lambda: not clients_of(running), 10)


def test_a_tunnel_that_breaks_in_the_middle_of_a_restore(
    shop: Stage, sshd: Sshd, network: TcpProxy, way: dict[str, str]
) -> None:
    network.bucket.rate = None
    assert_backed_up(shop.run(shop.inputs() | way), shop)
    shop.cloud.proxy.bucket.rate = RESTORED
    with target(shop.server, "half") as name:
        with shop.start(shop.restore_inputs(name) | way) as running:
            sent = network.from_client
            wait_until(lambda: network.from_client > sent + 5_000_000)
            sshd.end_sessions()
            run = running.finish()

        assert_unusable(run, shop, name, 4, "the tunnel through", "broke")


def test_a_tunnel_that_breaks_in_the_middle_of_a_drill_proves_nothing(
    shop: Stage, sshd: Sshd, network: TcpProxy, way: dict[str, str]
) -> None:
    network.bucket.rate = None
    assert_backed_up(shop.run(shop.inputs()), shop)
    shop.cloud.proxy.bucket.rate = RESTORED
    with target(shop.server, "half drilled") as name:
        inputs = drill_inputs(shop, target_url=shop.server.url(name))
        with shop.start(inputs | way) as running:
            wait_until(lambda: network.from_client > 5_000_000)
            sshd.end_sessions()
            run = running.finish()

    assert_not_green(run, shop, "not proven", "the tunnel through", exit_code=4)
    the_error(run, "broke")
