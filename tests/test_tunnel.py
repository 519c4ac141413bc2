"""Every operation that connects to a database reaches it through a real SSH server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from backup.errors import InputError
from backup.model import Forward
from backup.postgres.refusals import refuse_the_source
from backup.postgres.target import Target, read_target
from tests import by_hand
from tests.drills import assert_proven, drill_inputs
from tests.lab.aws import REGION, Ministack
from tests.lab.commands import secrets_seen
from tests.lab.daemon import free_port
from tests.lab.login import LoginFront
from tests.lab.postgres import PostgresServer, installed
from tests.lab.scripted.server import ScriptedAws
from tests.lab.sshd import Sshd, sshd_is_missing
from tests.lab.stage import Stage, assert_backed_up, assert_nothing_half_done, readable_stage
from tests.restores import assert_restored, assert_same, target
from tests.steps import database_named
from tests.tunnels import (
    INSTANCE,
    allow_all,
    assert_key_unseen,
    by_secret,
    keep_secret,
    logins,
    plain,
    strictly,
)

pytestmark = pytest.mark.skipif(bool(sshd_is_missing()), reason=sshd_is_missing())


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """It takes TLS alone, and its certificate is for localhost and 127.0.0.1, not 127.0.0.2."""
    settings = {"log_connections": "on", "listen_addresses": "127.0.0.1,127.0.0.2"}
    majors = installed()
    binaries = majors[17 if 17 in majors else max(majors)]
    with PostgresServer(binaries, settings, tls_only=True) as running:
        database_named(
            running,
            "shop",
            "CREATE TABLE orders AS SELECT n, md5(n::text) AS note FROM generate_series(1, 5000) n;"
            "CREATE INDEX ON orders (note)",
        )
        yield running


@pytest.fixture
def shop(server: PostgresServer, strict: Ministack) -> Iterator[Stage]:
    with readable_stage(server, strict, "shop") as ready:
        allow_all(ready.cloud)
        yield ready


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    with Sshd() as running:
        yield running


def test_every_connection_of_a_backup_goes_through_the_tunnel_with_the_certificate_checked(
    shop: Stage, server: PostgresServer, sshd: Sshd, tmp_path: Path
) -> None:
    before = logins(server)
    way = by_secret(shop, sshd)
    run = shop.run(shop.inputs(database_url=strictly(server, "shop"), jobs="3") | way)

    manifest = assert_backed_up(run, shop)
    # Ours, pg_dumpall's, pg_dump's own and those of its workers.
    assert logins(server) - before >= 6
    assert logins(server) - before == sshd.forwarded(server.port)
    assert {"host": "localhost", "port": str(server.port)} == manifest["source"]
    assert f"Through ssh://{sshd.user}@127.0.0.1:{sshd.port} to localhost:{server.port}" in (
        run.output
    )
    assert_key_unseen(run, sshd.key)
    by_hand.assert_same_dump(run, shop.cloud, server, "shop", tmp_path)


def test_the_certificate_must_be_for_the_database_and_not_for_the_end_of_the_tunnel(
    shop: Stage, server: PostgresServer, sshd: Sshd
) -> None:
    url = strictly(server, "shop", host="127.0.0.2")
    run = shop.run(shop.inputs(database_url=url) | by_secret(shop, sshd))

    error = assert_nothing_half_done(run, shop, 4)
    assert "no TLS connection to 127.0.0.2 can be trusted" in error
    assert 'does not match host name "127.0.0.2"' in error


def test_a_restore_writes_through_the_tunnel(
    shop: Stage, server: PostgresServer, sshd: Sshd
) -> None:
    way = by_secret(shop, sshd)
    shop.run(shop.inputs(database_url=strictly(server, "shop")) | way)
    before, seen = logins(server), sshd.forwarded(server.port)
    with target(server, "shop restored") as name:
        url = strictly(server, name)
        run = shop.run(shop.restore_inputs(name, target_url=url) | way)

        assert_restored(run, shop, name)
        assert_same(server, "shop", name)
    assert_key_unseen(run, sshd.key)
    assert logins(server) - before >= 4
    assert logins(server) - before == sshd.forwarded(server.port) - seen


def test_the_source_is_known_again_through_the_tunnel(
    shop: Stage, server: PostgresServer, sshd: Sshd
) -> None:
    assert_backed_up(shop.run(shop.inputs(database_url=strictly(server, "shop"))), shop)
    url = strictly(server, "shop", host="127.0.0.1")
    run = shop.run(shop.restore_inputs("shop", target_url=url) | by_secret(shop, sshd))

    assert 2 == run.exit_code
    assert "the target is the source of this backup" in run.errors[0].message


def test_the_end_of_the_tunnel_is_not_taken_for_the_server(server: PostgresServer) -> None:
    with psycopg.connect(server.url("shop")) as connection:
        direct = read_target(connection, "db.invalid", "1")
        beyond = read_target(connection, "db.invalid", "1", (Forward("db.invalid", "1", 2),))

    def is_source(target: Target, port: str) -> bool:
        try:
            refuse_the_source(target, host="localhost", port=port, database="shop", confirmed=None)
        except InputError:
            return True
        return False

    assert is_source(direct, "1")
    assert not is_source(beyond, "1")
    # What the server calls itself counts all the same.
    assert is_source(beyond, str(server.port))


def test_a_drill_into_a_named_database_goes_through_the_tunnel(
    shop: Stage, server: PostgresServer, sshd: Sshd
) -> None:
    way = by_secret(shop, sshd)
    shop.run(shop.inputs(database_url=strictly(server, "shop")) | way)
    seen = sshd.forwarded(server.port)
    with target(server, "drilled") as name:
        run = shop.run(drill_inputs(shop, target_url=strictly(server, name)) | way)

    assert_proven(run, shop)
    assert_key_unseen(run, sshd.key)
    assert sshd.forwarded(server.port) - seen >= 5


def test_a_drill_with_a_server_of_its_own_opens_no_tunnel(shop: Stage, sshd: Sshd) -> None:
    assert_backed_up(shop.run(), shop)
    run = shop.run(drill_inputs(shop) | by_secret(shop, sshd))

    assert_proven(run, shop)
    assert "Accepted publickey" not in sshd.log.read_text()


def test_the_secret_may_give_the_host_key_as_well(shop: Stage, sshd: Sshd) -> None:
    secret = json.dumps({"private_key": sshd.key.private, "host_key": sshd.host_key})
    way = sshd.inputs | {"tunnel-secret-id": keep_secret(shop.cloud, secret)}
    del way["tunnel-host-key"]
    run = shop.run(shop.inputs() | way)

    assert_backed_up(run, shop)
    assert_key_unseen(run, sshd.key)
    assert secret not in run.output


def test_a_list_of_hosts_gets_a_way_to_each(
    shop: Stage, server: PostgresServer, sshd: Sshd
) -> None:
    nobody = free_port()
    url = strictly(server, "shop").replace(
        f"localhost:{server.port}", f"localhost:{nobody},localhost:{server.port}"
    )
    run = shop.run(shop.inputs(database_url=url) | by_secret(shop, sshd))

    manifest = assert_backed_up(run, shop)
    assert {"host": "localhost", "port": str(server.port)} == manifest["source"]
    assert 1 == sshd.forwarded(nobody)


def test_a_login_token_is_signed_for_the_database_and_not_for_the_end_of_the_tunnel(
    postgres: PostgresServer, strict: Ministack, sshd: Sshd
) -> None:
    postgres.sql("CREATE ROLE tunnel_token LOGIN SUPERUSER")
    rules = postgres.data / "pg_hba.conf"
    usual = rules.read_text()
    rules.write_text(f"host all tunnel_token 127.0.0.1/32 trust\n{usual}")
    postgres.sql("SELECT pg_reload_conf()")
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    try:
        with (
            readable_stage(postgres, strict, database_named(postgres, "tokens")) as ready,
            LoginFront(postgres.port, "test", "test", REGION) as front,
        ):
            inputs = plain(ready.inputs() | by_secret(ready, sshd), postgres, "tokens")
            inputs |= {"user": "tunnel_token", "iam-auth": "true", "port": str(front.port)}
            del inputs["password"], inputs["role-to-assume"]
            run = ready.run(inputs, keys)

            assert_backed_up(run, ready)
            assert [] == front.refusals
            assert len(front.tokens) == sshd.forwarded(front.port)
            assert [] == secrets_seen(run.log.visible + run.summary, front.tokens)
    finally:
        postgres.sql("DROP DATABASE tokens")
        rules.write_text(usual)
        postgres.sql("SELECT pg_reload_conf()")
        postgres.sql("DROP ROLE tunnel_token")


def test_instance_connect_lets_in_a_key_that_was_made_for_the_run(
    shop: Stage, server: PostgresServer, sshd: Sshd, scripted: ScriptedAws
) -> None:
    sshd.authorize()
    scripted.network.let_in = lambda pushed: sshd.authorize(pushed.public_key)
    inputs = shop.inputs(database_url=strictly(server, "shop"))
    inputs |= sshd.inputs | {"tunnel-instance-id": INSTANCE}
    run = shop.run(inputs, {"AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT": scripted.url})

    assert_backed_up(run, shop)
    (pushed,) = scripted.network.pushed
    assert (INSTANCE, sshd.user) == (pushed.instance, pushed.user)
    assert pushed.public_key.startswith("ssh-ed25519 ")
    assert "PRIVATE KEY" not in run.log.printed
    # Each line of it was masked before it could be printed.
    assert any(mask.startswith("b3BlbnNzaC1rZXktdjEA") for mask in run.log.masks)


@pytest.mark.parametrize("hostile", ["config", "agent", "program"])
def test_nothing_of_the_job_changes_the_way(
    shop: Stage, sshd: Sshd, tmp_path: Path, hostile: str
) -> None:
    ran = tmp_path / "ran"
    env: dict[str, str] = {}
    if hostile == "config":
        folder = tmp_path / ".ssh"
        folder.mkdir()
        (folder / "config").write_text(f"Host *\n  ProxyCommand touch {ran}\n  User nobody\n")
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} ssh-ed25519 AAAA\n")
        env = {"HOME": str(tmp_path)}
    elif hostile == "agent":
        env = {"SSH_AUTH_SOCK": str(tmp_path / "agent"), "SSH_ASKPASS": f"touch {ran}"}
    else:
        for name in ("ssh", "ssh-keygen"):
            (tmp_path / name).write_text(f"#!/bin/sh\ntouch {ran}\nexit 1\n")
            (tmp_path / name).chmod(0o755)
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    run = shop.run(shop.inputs() | by_secret(shop, sshd), env)

    assert_backed_up(run, shop)
    assert not ran.exists()
