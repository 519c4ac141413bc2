"""Runs that the inputs alone do not name: a secret knows the database, or there is none."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from collections.abc import Iterator

import pytest

from tests.lab.aws import Moto
from tests.lab.cloud import Cloud, listing, writing
from tests.lab.daemon import free_port
from tests.lab.postgres import PostgresServer, installed
from tests.lab.runner import ActionRun, run_action
from tests.lab.stage import the_error, wait_until
from tests.listeners import Listeners, listeners
from tests.steps import database_named, forget, green, start_backup


@pytest.fixture
def told(moto: Moto) -> Iterator[Listeners]:
    with listeners(moto) as running:
        yield running


@pytest.fixture(scope="module")
def shop(postgres: PostgresServer) -> Iterator[str]:
    name = database_named(postgres, "shop", "CREATE TABLE t AS SELECT 1 AS x")
    yield name
    forget(postgres, name)


@pytest.fixture
def secret(told: Listeners, postgres: PostgresServer, shop: str) -> str:
    """All that is known of a database, and its name too: the secret's ARN."""
    login = {"username": "postgres", "password": postgres.password, "dbname": shop}
    text = json.dumps({"engine": "postgres", "host": "127.0.0.1", **login})
    client = told.double.client("secretsmanager")
    name = f"pg-backup/shop-{secrets.token_hex(4)}"
    arn: str = client.create_secret(Name=name, SecretString=text)["ARN"]
    return arn


def run(cloud: Cloud, told: Listeners, port: int | str, secret: str, **others: str) -> ActionRun:
    inputs = {"port": str(port), "password-secret-id": secret, **told.inputs(**others)}
    env = {
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": told.double.url,
        "PG_BACKUP_CLIENTS": os.pathsep.join(map(str, installed().values())),
    }
    return run_action(cloud.inputs | inputs, cloud.env | told.env | env)


def test_a_failure_names_the_database_that_its_secret_knows(
    cloud: Cloud, told: Listeners, secret: str
) -> None:
    failed = run(cloud, told, free_port(), secret)

    assert 4 == failed.exit_code, failed.output
    (mail,), (body,) = told.mails(), told.hook.told
    assert mail.subject.startswith("FAILED: backup of shop: nothing listens on 127.0.0.1 port")
    assert "; Connection refused" in mail.subject
    assert "..." not in mail.subject
    assert "shop" == body["database"] == mail.attributes["database"]
    assert {("BackupSucceeded", "Count", "Database=shop"): [0]} == told.metrics()


def test_changes_are_those_of_the_secret_whether_or_not_it_could_be_read(
    cloud: Cloud, told: Listeners, postgres: PostgresServer, secret: str
) -> None:
    """What only a run that comes far enough finds out must not part the good from the failed."""
    client = told.double.client("secretsmanager")
    name = secret.partition(":secret:")[2][:-7]
    subjects = []
    for is_deleted in (True, False, True):
        change = client.delete_secret if is_deleted else client.restore_secret
        change(SecretId=secret)
        ended = run(cloud, told, postgres.port, secret, notify_on="change")
        if is_deleted:
            the_error(ended, "cannot read the secret", f"restore-secret --secret-id {secret}")
        subjects += [mail.subject.partition(": ")[::2] for mail in told.mails()]

    assert ["FAILED", "GOOD AGAIN", "FAILED"] == [word for word, _ in subjects]
    # As people know it, where it could not be read.
    assert subjects[0][1].startswith(f"backup of secret {name}: ")
    assert subjects[1][1].startswith("backup of shop: ")
    assert ["BackupBytes", "BackupSeconds", "BackupSucceeded"] == sorted(
        name for name, _, _ in told.metrics()
    )


def test_two_repositories_with_one_bucket_do_not_pass_for_each_other(
    cloud: Cloud, told: Listeners
) -> None:
    """Where a run is of no one database: the one's failure is no old news to the other."""
    cloud.allow(writing(cloud.bucket), listing(cloud.bucket))
    inputs = cloud.inputs | {"operation": "audit"} | told.inputs(notify_on="change")
    for repository, workflow in (("acme/shop", "audit"), ("acme/crm", "audit")) * 2:
        whose = {"GITHUB_REPOSITORY": repository, "GITHUB_WORKFLOW": workflow}
        failed = run_action(inputs, cloud.env | told.env | whose)
        assert 6 == failed.exit_code, failed.output

    assert ["acme/shop", "acme/crm"] == [body["run"]["repository"] for body in told.hook.told]


def test_inputs_that_are_refused_are_told_each_time(cloud: Cloud, told: Listeners) -> None:
    for _ in range(2):
        inputs = cloud.inputs | {"jobs": "many"} | told.inputs(notify_on="change")
        assert 2 == run_action(inputs, cloud.env | told.env).exit_code

    assert ["FAILED", "FAILED"] == [mail.subject.partition(":")[0] for mail in told.mails()]
    assert {} == cloud.objects()


def test_a_row_of_a_fleet_that_is_refused_is_told_to_whom_the_row_names(
    cloud: Cloud, told: Listeners
) -> None:
    row = {"name": "shop", "database": "shop", "sns-topic-arn": told.topic}
    inputs = cloud.inputs | {"jobs": "many", "fleet-entry": json.dumps(row)}

    assert 2 == run_action(inputs, cloud.env | told.env).exit_code

    (mail,) = told.mails()
    assert mail.subject.startswith("FAILED: backup of shop: ")
    assert "cannot be used; jobs: 'many'" in mail.subject


def test_the_end_of_an_invocation_cuts_the_telling_and_not_the_run(
    cloud: Cloud, told: Listeners, postgres: PostgresServer, shop: str
) -> None:
    """On Lambda nobody would hear how it has ended, once it is killed."""
    told.hook.answers = [told.hook.silence]
    inputs = told.inputs(sns_topic_arn="", cloudwatch_namespace="", notify_on="always")
    with start_backup(cloud, postgres, shop, inputs, told.env) as running:
        wait_until(lambda: told.hook.requests)
        sent = time.monotonic()
        running.send(signal.SIGALRM)
        made = running.finish()

    assert time.monotonic() - sent < 2
    assert "backup-id" in green(made).outputs
