"""Why a tunnel was not opened: each cause is told, with its remedy, and nothing is left behind."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.aws import Ministack
from tests.lab.cloud import listing, writing
from tests.lab.daemon import free_port
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun
from tests.lab.scripted.server import ScriptedAws
from tests.lab.sshd import Sshd, make_key, sshd_is_missing
from tests.lab.stage import Stage, assert_nothing_half_done, readable_stage
from tests.lab.tcp import TcpProxy
from tests.steps import database_named, forget
from tests.tunnels import INSTANCE, allow_all, by_secret, keep_secret, plain

pytestmark = pytest.mark.skipif(bool(sshd_is_missing()), reason=sshd_is_missing())
DATABASE = "behind"


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[str]:
    yield database_named(postgres, DATABASE, "CREATE TABLE t AS SELECT 1 AS x")
    forget(postgres, DATABASE)


@pytest.fixture
def shop(postgres: PostgresServer, database: str, strict: Ministack) -> Iterator[Stage]:
    with readable_stage(postgres, strict, database) as ready:
        allow_all(ready.cloud)
        yield ready


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with Sshd() as running:
        yield running


def refused(run: ActionRun, shop: Stage, exit_code: int, *words: str) -> str:
    """A red run that published nothing and left nothing; the error holds these words."""
    error = assert_nothing_half_done(run, shop, exit_code)
    for word in words:
        assert word in error, error
    return error


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_server_with_another_host_key_is_not_talked_to(
    shop: Stage, sshd: Sshd, tmp_path: Path, kind: str
) -> None:
    other = make_key(tmp_path / "other", kind=kind)
    way = by_secret(shop, sshd) | {"tunnel-host-key": " ".join(other.public.split()[:2])}
    before = sshd.log.read_text().count("Accepted publickey")
    run = shop.run(shop.inputs() | way)

    refused(
        run,
        shop,
        4,
        f"the SSH server 127.0.0.1 port {sshd.port} does not show the host key that it should",
        "somebody stands in between: nothing was sent",
        f"expected is {other.public.split()[0]} {other.fingerprint}",
        f"it shows ED25519 {sshd.fingerprint}",
    )
    assert before == sshd.log.read_text().count("Accepted publickey")


def test_a_key_that_the_server_does_not_know_is_denied(
    shop: Stage, sshd: Sshd, tmp_path: Path
) -> None:
    stranger = make_key(tmp_path / "stranger")
    way = by_secret(shop, sshd, stranger)
    run = shop.run(shop.inputs() | way)

    refused(
        run,
        shop,
        3,
        f"the SSH server 127.0.0.1 does not let {sshd.user} in with this key",
        "Permission denied (publickey)",
        f"add to ~{sshd.user}/.ssh/authorized_keys there: {stranger.public}",
    )


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"AllowTcpForwarding": "no"}, ""),
        ({"PermitOpen": "127.0.0.1:1"}, ""),
        ({}, "restrict "),
    ],
    ids=["AllowTcpForwarding no", "PermitOpen another", "restrict"],
)
def test_a_server_that_forwards_nothing_is_told_from_a_database_that_does_not_answer(
    shop: Stage, settings: dict[str, str], options: str
) -> None:
    with Sshd(settings) as sshd:
        sshd.authorize(f"{options}{sshd.key.public}")
        run = shop.run(shop.inputs() | by_secret(shop, sshd))

    refused(
        run,
        shop,
        3,
        f"the SSH server 127.0.0.1 forwards nothing to 127.0.0.1:{shop.server.port}",
        "administratively prohibited",
        "AllowTcpForwarding yes",
    )


def test_nothing_listens_at_the_port_of_the_server(shop: Stage, sshd: Sshd) -> None:
    with socket.socket() as silent:  # bound, so that nobody else gets the port, and not listening
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        way = by_secret(shop, sshd) | {"tunnel": f"ssh://{sshd.user}@127.0.0.1:{port}"}
        run = shop.run(shop.inputs() | way)

    refused(run, shop, 4, f"nothing listens on 127.0.0.1 port {port}", "Connection refused")


def test_a_server_that_does_not_answer_is_not_waited_for_long(shop: Stage, sshd: Sshd) -> None:
    with TcpProxy(sshd.port) as network:
        network.freeze()
        way = by_secret(shop, sshd) | {"tunnel": f"ssh://{sshd.user}@127.0.0.1:{network.port}"}
        run = shop.run(shop.inputs() | way)

    error = refused(run, shop, 4, "no answer from the SSH server 127.0.0.1 port", "timed out")
    assert "docs/network.md" in error
    assert 14 < run.seconds < 30


def test_a_server_that_hangs_up_is_tried_again_and_then_told(shop: Stage, sshd: Sshd) -> None:
    way = by_secret(shop, sshd) | {"tunnel": f"ssh://{sshd.user}@127.0.0.1:{shop.server.port}"}
    run = shop.run(shop.inputs() | way)

    refused(run, shop, 4, f"127.0.0.1 port {shop.server.port} hangs up before the login")
    assert run.seconds > 7


def test_the_name_of_the_server_is_not_known(shop: Stage, sshd: Sshd) -> None:
    way = by_secret(shop, sshd) | {"tunnel": f"ssh://{sshd.user}@bastion.invalid"}
    run = shop.run(shop.inputs() | way)

    refused(run, shop, 4, "the name of the SSH server, bastion.invalid, is not known here")


def test_nothing_listens_at_the_database_as_the_server_sees_it(shop: Stage, sshd: Sshd) -> None:
    port = free_port()
    inputs = plain(shop.inputs() | by_secret(shop, sshd), shop.server, DATABASE)
    run = shop.run(inputs | {"port": str(port)})

    refused(run, shop, 4, f"nothing listens on 127.0.0.1:{port}, as seen from the SSH server")


def test_the_server_does_not_know_the_name_of_the_database(shop: Stage, sshd: Sshd) -> None:
    inputs = plain(shop.inputs() | by_secret(shop, sshd), shop.server, DATABASE)
    run = shop.run(inputs | {"host": "db.invalid"})

    refused(run, shop, 4, "the SSH server 127.0.0.1 does not know the host of db.invalid:")


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=touch${IFS}ran", "a:22:b", "a b", "$(touch ran)", "a%h", "a..-"]
)
def test_a_host_that_ssh_could_read_otherwise_is_refused(
    shop: Stage, sshd: Sshd, host: str
) -> None:
    inputs = plain(shop.inputs() | by_secret(shop, sshd), shop.server, DATABASE)
    run = shop.run(inputs | {"host": host})

    refused(run, shop, 2, "no tunnel leads to the host")
    assert "127.0.0.1" not in run.errors[0].message


def test_a_socket_on_this_machine_is_not_reached_through_a_tunnel(shop: Stage, sshd: Sshd) -> None:
    inputs = plain(shop.inputs() | by_secret(shop, sshd), shop.server, DATABASE)
    run = shop.run(inputs | {"host": "/var/run/postgresql"})

    refused(run, shop, 2, "no tunnel leads to the host '/var/run/postgresql'", "localhost")


@pytest.mark.parametrize("kind", ["with a passphrase", "cut short"])
def test_a_key_that_cannot_be_used_is_bad_input(
    shop: Stage, sshd: Sshd, tmp_path: Path, kind: str
) -> None:
    if kind == "with a passphrase":
        key = make_key(tmp_path / "closed", passphrase="open sesame").private
    else:
        lines = sshd.key.private.splitlines()
        key = "\n".join([*lines[:2], lines[-1]])
    run = shop.run(shop.inputs() | sshd.inputs | {"tunnel-secret-id": keep_secret(shop.cloud, key)})

    refused(run, shop, 2, "the private key for the tunnel cannot be used", "without a passphrase")
    assert [] == [line for line in key.splitlines()[1:-1] if line in run.log.printed]


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("hunter2", ["holds no private key", "does not begin with -----BEGIN"]),
        ('{"host_key": "ssh-ed25519 AAAA"}', ["holds no private key", "its JSON has host_key"]),
        ('{"private_key": "-----BEGIN', ["is no JSON", "line 1"]),
        ("-----BEGIN X----- hunter2 -----END X-----", ["its line breaks are gone"]),
    ],
    ids=["a password", "no key in it", "broken JSON", "one line"],
)
def test_a_secret_without_a_key_is_bad_input(
    shop: Stage, sshd: Sshd, secret: str, words: list[str]
) -> None:
    name = keep_secret(shop.cloud, secret)
    run = shop.run(shop.inputs() | sshd.inputs | {"tunnel-secret-id": name})

    refused(run, shop, 2, name, "put-secret-value", *words)
    assert "hunter2" not in run.output


@pytest.mark.parametrize("host_key", [None, "bastion ssh-ed25519 AAAA"])
def test_no_server_is_trusted_whose_key_nobody_gave(
    shop: Stage, sshd: Sshd, host_key: str | None
) -> None:
    secret = {"private_key": sshd.key.private} | ({"host_key": host_key} if host_key else {})
    way = sshd.inputs | {"tunnel-secret-id": keep_secret(shop.cloud, json.dumps(secret))}
    del way["tunnel-host-key"]
    run = shop.run(shop.inputs() | way)

    refused(run, shop, 2, "nothing says which host key", f"ssh-keyscan -p {sshd.port} 127.0.0.1")


def test_a_denied_secret_is_answered_with_the_statement_to_add(shop: Stage, sshd: Sshd) -> None:
    bucket = shop.cloud.bucket
    shop.cloud.allow(writing(bucket), listing(bucket))
    run = shop.run(shop.inputs() | by_secret(shop, sshd))

    refused(run, shop, 3, "cannot read the secret tunnel/", "secretsmanager:GetSecretValue")


@pytest.mark.parametrize(
    ("code", "exit_code", "words"),
    [
        ("AuthException", 3, ["ec2-instance-connect:SendSSHPublicKey", f"instance/{INSTANCE}"]),
        ("EC2InstanceNotFoundException", 2, ["correct tunnel-instance-id"]),
        ("EC2InstanceStateInvalidException", 2, [f"start-instances --instance-ids {INSTANCE}"]),
        ("ServiceException", 4, ["run it again"]),
    ],
)
def test_instance_connect_may_refuse_the_key(
    shop: Stage, sshd: Sshd, scripted: ScriptedAws, code: str, exit_code: int, words: list[str]
) -> None:
    scripted.fail("ec2-instance-connect:SendSSHPublicKey", code, "no")
    run = shop.run(
        shop.inputs() | sshd.inputs | {"tunnel-instance-id": INSTANCE},
        {"AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT": scripted.url},
    )

    refused(run, shop, exit_code, f"cannot send a key to {INSTANCE} by EC2 Instance", *words)


def test_instance_connect_needs_the_permission_that_is_named(
    shop: Stage, sshd: Sshd, scripted: ScriptedAws
) -> None:
    scripted.deny("ec2-instance-connect:SendSSHPublicKey")
    run = shop.run(
        shop.inputs() | sshd.inputs | {"tunnel-instance-id": INSTANCE},
        {"AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT": scripted.url},
    )

    refused(run, shop, 3, '"Action": "ec2-instance-connect:SendSSHPublicKey"')


def test_a_server_without_instance_connect_denies_the_key(
    shop: Stage, sshd: Sshd, scripted: ScriptedAws
) -> None:
    run = shop.run(
        shop.inputs() | sshd.inputs | {"tunnel-instance-id": INSTANCE},
        {"AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT": scripted.url},
    )

    refused(run, shop, 3, "does not let", "with ec2-instance-connect installed")
