"""The doctor on the way to the database: names, ports, TLS, the login, the client."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest

from tests.doctor import clients_of, examine
from tests.lab.aws import REGION
from tests.lab.certificates import issue_certificates
from tests.lab.cloud import Cloud, source_inputs
from tests.lab.commands import secrets_seen
from tests.lab.daemon import LOOPBACK
from tests.lab.login import LoginFront, VersionFront
from tests.lab.postgres import PostgresServer
from tests.lab.sshd import Sshd, sshd_is_missing
from tests.lab.tcp import TcpProxy
from tests.steps import database_named, forget
from tests.tunnels import allow_all, keep_secret

HOSTED = {"RUNNER_ENVIRONMENT": "github-hosted"}
IN_THE_DATABASE = [
    "client",
    "connections",
    "inventory",
    "schemas",
    "tables",
    "sequences",
    "large-objects",
    "row-security",
    "lock-table",
    "locks",
]


@pytest.fixture(scope="module")
def shop(postgres: PostgresServer) -> Iterator[dict[str, str]]:
    database = database_named(postgres, "the_way", "CREATE TABLE t AS SELECT 1 AS x")
    yield source_inputs(postgres, database)
    forget(postgres, database)


@pytest.fixture
def env(postgres: PostgresServer) -> dict[str, str]:
    return clients_of(postgres)


# The name and the port


def test_a_host_name_that_is_not_known_is_told(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    found = examine(cloud, shop, {"host": "no-such-host.invalid"}, env)

    assert ["dns"] == found.having("fail")
    assert "no-such-host.invalid" in found.reason("dns")
    assert ["tcp", "tls", "login", *IN_THE_DATABASE] == found.having("unknown")
    assert "“Host name”" in found.reason("locks")
    assert "pass" == found.status("write")


def test_a_closed_port_is_refused_and_a_port_that_is_open_passes(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
    found = examine(cloud, shop, {"port": str(port)}, env)

    assert ["tcp"] == found.having("fail")
    assert f"nothing listens on 127.0.0.1 port {port}" in found.reason("tcp")
    assert "listen_addresses" in found.fix("tcp")
    assert ["tls", "login", *IN_THE_DATABASE] == found.having("unknown")


@contextmanager
def black_hole() -> Iterator[int]:
    """A port whose queue is full: the kernel drops what comes, as a security group does."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex((LOOPBACK, port))
        yield port
        for each in waiting:
            each.close()


def test_a_port_that_drops_packets_is_answered_with_the_three_ways_into_a_private_subnet(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    with black_hole() as port:
        found = examine(cloud, shop, {"port": str(port)}, env | HOSTED)

    assert ["tcp"] == found.having("fail")
    assert "silent for" in found.reason("tcp")
    assert "private" in found.reason("tcp")
    assert "this runner is GitHub's" in found.reason("tcp")
    for way in ("runs-on: codebuild-", "self-hosted", "tunnel: ssh://", "ECS"):
        assert way in found.fix("tcp")
    assert f"--port {port}" in found.fix("tcp")
    assert found.run.seconds < 30


def test_of_several_hosts_one_that_answers_will_do(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        closed = taken.getsockname()[1]
    several = {"host": "127.0.0.1,127.0.0.1", "port": f"{closed},{shop['port']}"}
    found = examine(cloud, shop, several, env)

    assert [] == found.having("fail")
    assert f"port {shop['port']} answers" in found.reason("tcp")


def test_what_listens_and_is_no_postgresql_is_told(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    found = examine(cloud, shop, {"port": cloud.proxy.url.rpartition(":")[2]}, env)

    assert ["tls"] == found.having("fail")
    assert "may be no PostgreSQL" in found.fix("tls")


# TLS


@pytest.fixture(scope="module")
def tls(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A server with a certificate for db.example.org, localhost and 127.0.0.1."""
    with PostgresServer(
        postgres.binaries, tls=True, extra_names=("db.example.org",), certificate_days=90
    ) as server:
        server.sql("CREATE TABLE t AS SELECT 1 AS x")
        yield server


def by_url(server: PostgresServer, host: str = "127.0.0.1", **options: str) -> dict[str, str]:
    return {"database-url": f"{server.url(host=host)}?{urlencode(options)}"}


def authority_of(server: PostgresServer) -> str:
    assert server.certificates
    return str(server.certificates.authority)


def test_a_certificate_that_is_believed_is_shown_with_names_issuer_and_end(
    cloud: Cloud, tls: PostgresServer, env: dict[str, str]
) -> None:
    source = by_url(tls, sslmode="verify-full", sslrootcert=authority_of(tls))
    found = examine(cloud, source, env=env)

    assert "pass" == found.status("tls")
    for word in ("TLSv1.3", "db.example.org", "issued by Lab authority", "good until"):
        assert word in found.reason("tls")
    assert "encrypted" in found.reason("login")
    assert [] == found.having("fail")


def test_a_certificate_for_another_name_is_answered_with_the_name_that_it_is_for(
    cloud: Cloud, tls: PostgresServer, env: dict[str, str]
) -> None:
    options = {"sslmode": "verify-full", "sslrootcert": authority_of(tls)}
    found = examine(cloud, by_url(tls, "127.0.0.2", hostaddr="127.0.0.1", **options), env=env)

    assert ["tls"] == found.having("fail")
    assert "127.0.0.2" in found.reason("tls")
    assert "host: localhost" in found.fix("tls")
    assert ["login", *IN_THE_DATABASE] == found.having("unknown")
    by_name = examine(cloud, by_url(tls, "localhost", **options), env=env)
    assert "pass" == by_name.status("tls")
    chain_alone = options | {"sslmode": "verify-ca"}
    unnamed = examine(cloud, by_url(tls, "127.0.0.2", hostaddr="127.0.0.1", **chain_alone), env=env)
    assert "pass" == unnamed.status("tls")
    assert "pass" == unnamed.status("login")


def test_an_authority_that_is_not_known_is_answered_with_where_its_certificate_goes(
    cloud: Cloud, tls: PostgresServer, env: dict[str, str], tmp_path: Path
) -> None:
    stranger = str(issue_certificates(tmp_path).authority)
    found = examine(cloud, by_url(tls, sslmode="verify-full", sslrootcert=stranger), env=env)
    missing = examine(cloud, by_url(tls, sslmode="verify-full", sslrootcert="/none.pem"), env=env)

    for each in (found, missing):
        assert ["tls"] == each.having("fail")
        assert "sslrootcert=/github/workspace/roots.pem" in each.fix("tls")
    assert "/none.pem" in missing.reason("tls")


@pytest.mark.parametrize(
    ("common_name", "host_names", "status"),
    [
        (LOOPBACK, ("db.example.org",), "pass"),
        ("db.example.org", (LOOPBACK,), "pass"),
        ("127.0.0.2", ("db.example.org",), "fail"),
    ],
)
def test_an_address_may_stand_where_the_certificate_has_names_as_libpq_allows(
    cloud: Cloud,
    postgres: PostgresServer,
    env: dict[str, str],
    tmp_path: Path,
    common_name: str,
    host_names: tuple[str, ...],
    status: str,
) -> None:
    issued = issue_certificates(tmp_path, (common_name,), days=90, host_names=host_names)
    with PostgresServer(postgres.binaries, tls=True) as server:
        assert server.certificates
        server.certificates.certificate.write_bytes(issued.certificate.read_bytes())
        server.certificates.key.write_bytes(issued.key.read_bytes())
        server.sql("SELECT pg_reload_conf()")
        source = by_url(server, sslmode="verify-full", sslrootcert=str(issued.authority))
        found = examine(cloud, source, env=env)
        with contextlib.ExitStack() as stack:
            if status == "fail":
                stack.enter_context(pytest.raises(psycopg.OperationalError, match="certificate"))
            psycopg.connect(source["database-url"]).close()

    assert status == found.status("tls")
    assert ("pass" if status == "pass" else "unknown") == found.status("login")


@pytest.mark.parametrize(("days", "status"), [(2, "warn"), (-3, "fail")])
def test_a_certificate_that_ends_soon_or_has_ended_is_told(
    cloud: Cloud, postgres: PostgresServer, env: dict[str, str], days: int, status: str
) -> None:
    with PostgresServer(postgres.binaries, tls=True, certificate_days=days) as server:
        source = by_url(server, sslmode="verify-full", sslrootcert=authority_of(server))
        found = examine(cloud, source, env=env)

    assert status == found.status("tls")
    assert "renew" in found.fix("tls")
    assert ("expired" in found.reason("tls")) == (days < 0)


def test_a_server_without_tls_fails_where_tls_is_asked_for(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    found = examine(cloud, shop, {"sslmode": "require"}, env)
    usual = examine(cloud, shop, {"sslmode": "prefer"}, env)

    assert ["tls"] == found.having("fail")
    assert "ssl = on" in found.fix("tls")
    assert "pass" == usual.status("tls")


def test_nothing_is_left_open_on_the_server(
    cloud: Cloud, tls: PostgresServer, env: dict[str, str]
) -> None:
    with TcpProxy(tls.port) as proxy:
        source = by_url(tls, sslmode="verify-full", sslrootcert=authority_of(tls))
        url = source["database-url"].replace(f":{tls.port}/", f":{proxy.port}/")
        found = examine(cloud, {"database-url": url}, env=env)

    assert [] == found.having("fail")
    sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pg-backup-action'"
    assert [] == tls.sql(sessions)


# Through a tunnel


@pytest.fixture
def bastion() -> Iterator[Sshd]:
    if why := sshd_is_missing():
        pytest.skip(why)
    with Sshd() as server:
        yield server


def through(cloud: Cloud, bastion: Sshd) -> dict[str, str]:
    allow_all(cloud)
    return bastion.inputs | {"tunnel-secret-id": keep_secret(cloud, bastion.key.private)}


def test_through_a_tunnel_every_step_is_looked_at_and_the_certificate_is_still_checked(
    cloud: Cloud, tls: PostgresServer, env: dict[str, str], bastion: Sshd
) -> None:
    way = through(cloud, bastion)
    options = {"sslmode": "verify-full", "sslrootcert": authority_of(tls)}
    found = examine(cloud, by_url(tls, "localhost", **options), way, env)
    other = examine(cloud, by_url(tls, "127.0.0.2", hostaddr="127.0.0.1", **options), way, env)
    loose = examine(cloud, by_url(tls, "localhost", sslmode="require"), way, env)

    assert [] == found.having("fail")
    assert f"ssh://{bastion.user}@" in found.reason("tunnel")
    assert "SSH server" in found.reason("dns")
    assert "believed with sslmode verify-full" in found.reason("tls")
    assert ["tls"] == other.having("fail")
    assert "warn" == loose.status("tls")
    assert "verify-full" in loose.fix("tls")


def test_a_tunnel_to_a_server_without_tls_warns_of_the_rest_of_the_way(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str], bastion: Sshd
) -> None:
    found = examine(cloud, shop, through(cloud, bastion), env)

    assert "warn" == found.status("tls")
    assert "in the clear" in found.reason("tls")
    assert "pass" == found.status("login")


def test_a_tunnel_that_lets_nobody_in_leaves_the_rest_unknown(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str], bastion: Sshd
) -> None:
    way = through(cloud, bastion)
    bastion.authorize()
    found = examine(cloud, shop, way, env)

    assert ["tunnel"] == found.having("fail")
    assert "“Tunnel”" in found.reason("tls")
    assert ["dns", "tcp", "tls", "login", *IN_THE_DATABASE] == found.having("unknown")


def test_a_port_that_the_ssh_server_cannot_reach_is_told(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str], bastion: Sshd
) -> None:
    way = through(cloud, bastion)
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
    found = examine(cloud, shop, way | {"port": str(port)}, env)

    assert ["tcp"] == found.having("fail")
    assert "the SSH server does not reach" in found.reason("tcp")
    assert "sg-OF-THE-SSH-SERVER" in found.fix("tcp")


def test_an_ssh_server_that_forwards_nothing_is_told_where_that_is_allowed(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str], bastion: Sshd
) -> None:
    way = through(cloud, bastion)
    bastion.authorize(f"restrict {bastion.key.public}")
    found = examine(cloud, shop, way, env)

    assert ["tcp"] == found.having("fail")
    assert "administratively prohibited" in found.run.output
    assert "AllowTcpForwarding" in found.fix("tcp")


# The login


def test_a_wrong_password_fails_the_login_alone(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    found = examine(cloud, shop, {"password": "wrong: 100%"}, env)

    assert ["login"] == found.having("fail")
    assert "password" in found.fix("login")
    assert IN_THE_DATABASE == found.having("unknown")
    assert [] == secrets_seen(found.run.log.visible + found.run.summary, ["wrong: 100%"])


def test_a_user_that_is_not_there_is_shown_the_statements_that_make_it(
    cloud: Cloud, postgres: PostgresServer, shop: dict[str, str], env: dict[str, str]
) -> None:
    rules = postgres.data / "pg_hba.conf"
    usual = rules.read_text()
    rules.write_text(f"host all nobody_yet 127.0.0.1/32 trust\n{usual}")
    postgres.sql("SELECT pg_reload_conf()")
    try:
        asked = {"user": "nobody_yet", "password": ""}
        found = examine(cloud, shop, asked, env)
        postgres.sql(found.fix("login"))
        after = examine(cloud, shop, asked, env)
    finally:
        rules.write_text(usual)
        postgres.sql("SELECT pg_reload_conf()")
        postgres.sql("DROP ROLE IF EXISTS nobody_yet")

    assert ["login"] == found.having("fail")
    assert [] == after.having("fail")


def test_a_database_that_is_not_there_is_told(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    found = examine(cloud, shop, {"database": "no_such"}, env)

    assert ["login"] == found.having("fail")
    assert "there is no database no_such" in found.reason("login")


@pytest.fixture
def token_user(postgres: PostgresServer) -> Iterator[str]:
    """A user who may log in without a password, for what is in front asks for a token."""
    name = "token_checkup"
    postgres.sql(f"CREATE ROLE {name} LOGIN SUPERUSER")
    rules = postgres.data / "pg_hba.conf"
    usual = rules.read_text()
    rules.write_text(f"host all {name} 127.0.0.1/32 trust\n{usual}")
    postgres.sql("SELECT pg_reload_conf()")
    yield name
    rules.write_text(usual)
    postgres.sql("SELECT pg_reload_conf()")
    postgres.sql(f"DROP ROLE {name}")


@pytest.mark.parametrize(("key", "failing"), [("test", []), ("the key of another", ["login"])])
def test_a_login_token_is_made_and_tried(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str], token_user: str, key: str,
    failing: list[str],
) -> None:  # fmt: skip
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    inputs = {"role-to-assume": "", "password": "", "iam-auth": "true", "user": token_user}
    with LoginFront(int(shop["port"]), "test", key, REGION) as front:
        found = examine(cloud, shop, inputs | {"port": str(front.port)}, env | keys)

    assert failing == found.having("fail")
    assert "login token of the role" in found.reason("secret")
    if failing:
        assert "rds-db:connect" in found.fix("login")
    assert [] == secrets_seen(found.run.log.visible + found.run.summary, front.tokens)


# pg_dump


def test_a_server_newer_than_every_client_is_told(
    cloud: Cloud, postgres: PostgresServer, shop: dict[str, str], env: dict[str, str]
) -> None:
    told = postgres.sql("SHOW server_version")[0][0].split(" ")[0]
    newer = "99" + told[2:]
    with VersionFront(postgres.port, told=told, instead=newer) as front:
        found = examine(cloud, shop, {"port": str(front.port)}, env)

    assert "fail" == found.status("client")
    assert "newer than every pg_dump" in found.reason("client")
    assert "PG_BACKUP_CLIENTS" in found.fix("client")


def test_a_server_older_than_every_client_is_a_warning(
    cloud: Cloud, postgres: PostgresServer, shop: dict[str, str], env: dict[str, str]
) -> None:
    told = postgres.sql("SHOW server_version")[0][0].split(" ")[0]
    older = "10" + told[2:]
    with VersionFront(postgres.port, told=told, instead=older) as front:
        found = examine(cloud, shop, {"port": str(front.port)}, env)

    assert "warn" == found.status("client")
    assert "postgresql-client-10" in found.fix("client")


def test_a_compression_that_the_client_lacks_is_told(
    cloud: Cloud, postgres: PostgresServer, shop: dict[str, str], tmp_path: Path
) -> None:
    program = tmp_path / "pg_dump"
    major = postgres.sql("SHOW server_version")[0][0].split(".")[0]
    # As a build without zstd: the version is right, and the question is refused.
    program.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "pg_dump (PostgreSQL) {major}.0"\nexit 1\n'
    )
    program.chmod(0o755)
    found = examine(cloud, shop, {"compression": "zstd:3"}, {"PG_BACKUP_CLIENTS": str(tmp_path)})

    assert "fail" == found.status("client")
    assert "gzip:3" in found.fix("client")


@pytest.mark.parametrize(
    ("says", "status"),
    [
        ('sslmode value "verify-full" invalid when SSL support is not compiled in', "fail"),
        ("permission denied for table pg_authid", "warn"),
    ],
)
def test_a_client_that_cannot_log_in_or_read_the_roles_is_told(
    cloud: Cloud, postgres: PostgresServer, shop: dict[str, str], tmp_path: Path,
    says: str, status: str,
) -> None:  # fmt: skip
    (tmp_path / "pg_dump").symlink_to(postgres.binaries / "pg_dump")
    program = tmp_path / "pg_dumpall"
    program.write_text(f"#!/bin/sh\necho 'pg_dumpall: error: {says}' >&2\nexit 1\n")
    program.chmod(0o755)
    found = examine(cloud, shop, env={"PG_BACKUP_CLIENTS": str(tmp_path)})

    assert status == found.status("client")
    assert says in found.reason("client")
    assert found.fix("client")
    assert "pass" == found.status("tables")
