"""Each way to log in to the source, with the most hostile of names and passwords."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from tests import by_hand
from tests.lab.aws import REGION, Moto
from tests.lab.cloud import Cloud, new_cloud, source_inputs
from tests.lab.commands import secrets_seen
from tests.lab.issuer import Issuer
from tests.lab.login import LoginFront
from tests.lab.postgres import PostgresServer
from tests.lab.runner import run_action
from tests.steps import (
    database_named,
    forget,
    identifier,
)

HOSTILE_PASSWORD = " pa:ss\\word' \"%41\nsecond line@/?#& é "


@pytest.fixture(scope="module")
def shop(postgres: PostgresServer) -> Iterator[str]:
    yield database_named(postgres, "logins", "CREATE TABLE t AS SELECT 'x' AS x")
    forget(postgres, "logins")


@pytest.fixture(scope="module")
def clerk(postgres: PostgresServer) -> Iterator[str]:
    """A user with a name and a password that no quoting survives by accident."""
    name = "clerk: @/?#%41 'x' \"y\""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(
                sql.Identifier(name), HOSTILE_PASSWORD
            )
        )
    yield name
    postgres.sql(f"DROP ROLE {identifier(name)}")


@pytest.mark.parametrize("way", ["password", "PGPASSWORD", "database-url"])
def test_a_hostile_user_and_password_log_in_by_every_way(
    postgres: PostgresServer, cloud: Cloud, shop: str, clerk: str, tmp_path: Path, way: str
) -> None:
    parts = source_inputs(postgres, shop, user=clerk)
    del parts["password"]
    env = {}
    match way:
        case "password":
            given = parts | {"password": HOSTILE_PASSWORD}
        case "PGPASSWORD":
            given, env = parts, {"PGPASSWORD": HOSTILE_PASSWORD}
        case _:
            user, password = quote(clerk, safe=""), quote(HOSTILE_PASSWORD, safe="")
            place = f"127.0.0.1:{postgres.port}/{quote(shop)}"
            given = {
                "database-url": f"postgresql://{user}:{password}@{place}?application_name=a%20b"
            }
    run = run_action(
        cloud.inputs | given, cloud.env | env | {"PG_BACKUP_CLIENTS": str(postgres.binaries)}
    )

    by_hand.assert_same_dump(run, cloud, postgres, shop, tmp_path)


@pytest.mark.parametrize("form", ["plain", "the JSON of RDS"])
def test_the_password_comes_from_secrets_manager(
    postgres: PostgresServer, moto: Moto, issuer: Issuer, shop: str, clerk: str,
    tmp_path: Path, form: str,
) -> None:  # fmt: skip
    secret = {
        "engine": "postgres",
        "host": "127.0.0.1",
        "port": postgres.port,
        "username": clerk,
        "password": HOSTILE_PASSWORD,
        "dbname": shop,
    }
    text = HOSTILE_PASSWORD + "\n" if form == "plain" else json.dumps(secret)
    with new_cloud(moto, issuer) as cloud:
        name = f"shop/{cloud.bucket}"
        moto.client("secretsmanager").create_secret(Name=name, SecretString=text)
        parts = {"password-secret-id": name}
        if form == "plain":
            parts |= source_inputs(postgres, shop, user=clerk)
            del parts["password"]
        run = run_action(
            cloud.inputs | parts, cloud.env | {"PG_BACKUP_CLIENTS": str(postgres.binaries)}
        )

        by_hand.assert_same_dump(run, cloud, postgres, shop, tmp_path)


@pytest.fixture
def token_user(postgres: PostgresServer) -> Iterator[str]:
    """A user who may log in without a password, for what is in front asks for a token."""
    postgres.sql("CREATE ROLE token_user LOGIN SUPERUSER")
    rules = postgres.data / "pg_hba.conf"
    usual = rules.read_text()
    rules.write_text(f"host all token_user 127.0.0.1/32 trust\n{usual}")
    postgres.sql("SELECT pg_reload_conf()")
    yield "token_user"
    rules.write_text(usual)
    postgres.sql("SELECT pg_reload_conf()")
    postgres.sql("DROP ROLE token_user")


def test_iam_auth_logs_in_with_a_signed_token_for_each_connection(
    postgres: PostgresServer, cloud: Cloud, shop: str, token_user: str, tmp_path: Path
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    parts = source_inputs(postgres, shop, user=token_user)
    del parts["password"], parts["port"]
    inputs = cloud.inputs | parts | {"iam-auth": "true", "jobs": "2"}
    del inputs["role-to-assume"]
    env = cloud.env | keys | {"PG_BACKUP_CLIENTS": str(postgres.binaries)}
    with LoginFront(postgres.port, "test", "test", REGION) as front:
        run = run_action(inputs | {"port": str(front.port)}, env)
    with LoginFront(postgres.port, "test", "the secret of another key", REGION) as stranger:
        refused = run_action(inputs | {"port": str(stranger.port)}, env)

    by_hand.assert_same_dump(run, cloud, postgres, shop, tmp_path)
    assert [] == front.refusals
    # Ours, pg_dumpall's, pg_dump's own and its two workers'.
    assert len(front.tokens) >= 5
    assert ["its signature is wrong"] == stranger.refusals
    assert 3 == refused.exit_code
    assert "the database refused the login token of user token_user" == refused.errors[0].title
    for ended in (run, refused):
        visible = ended.log.visible + ended.summary
        assert [] == secrets_seen(visible, front.tokens + stranger.tokens)
