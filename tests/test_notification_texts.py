"""In which words a run is told: no secrets, no tricks of a name, and what was given as inputs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.lab.aws import REPOSITORY, Moto
from tests.lab.cloud import Cloud, writing
from tests.lab.commands import secrets_seen
from tests.lab.postgres import PostgresServer
from tests.lab.stage import the_error
from tests.lab.webhook import TOKEN
from tests.listeners import Listeners, listeners, run_backup, run_list
from tests.permissions import printed
from tests.steps import database_named, forget, green

LINK = "https://github.com/octo-org/shop/actions/runs/1234567890"
HOSTILE = "-rf 'x\"\n%0A::error::🐘 <!channel> @channel & *b* Zürich"


@pytest.fixture
def told(moto: Moto) -> Iterator[Listeners]:
    with listeners(moto) as running:
        yield running


def test_inputs_that_are_refused_are_told_by_those_that_can_be_read(
    cloud: Cloud, told: Listeners
) -> None:
    run = run_list(cloud, told, jobs="many", sns_topic_arn="no-topic", datbase="shop")

    assert 2 == run.exit_code, run.output
    error = the_error(run, "3 inputs cannot be used", "sns-topic-arn: ", "datbase: ")
    (body,) = told.hook.told
    assert (2, "list", "shop") == (body["exit_code"], body["operation"], body["database"])
    assert body["cause"] in error
    assert ([], []) == (told.mails(), run.warnings)


def test_an_operation_nobody_knows_says_nothing_about_backups(
    cloud: Cloud, told: Listeners
) -> None:
    run = run_list(cloud, told, operation="../back-up", notify_on="change")

    assert 2 == run.exit_code, run.output
    assert "../back-up of shop" in told.mails()[0].subject
    assert ({}, {}, []) == (told.metrics(), cloud.objects(), run.warnings)


def test_no_secret_is_told_to_anybody(
    cloud: Cloud, postgres: PostgresServer, told: Listeners
) -> None:
    """They stand where errors name them: in a host, a user and a database that are wrong."""
    password, key = "Tr0ub4dor&3/ö ü", "k3y-of-the-webhook"
    source = {
        "host": f"{key}.invalid",
        "database": f"db {TOKEN} {password}",
        "user": told.hook.secret_url,
        "password": password,
        "webhook_secret": key,
    }
    run = run_backup(cloud, postgres, told, "shop", **source)

    assert 4 == run.exit_code, run.output
    (body,), (mail,) = told.hook.told, told.mails()
    assert "***" in body["subject"]
    keys = [secret for exchange in cloud.sts.exchanges for secret in exchange.secrets]
    secrets = [password, key, TOKEN, told.hook.secret_url, *cloud.issuer.issued, *keys]
    everything = f"{body}{mail}{told.hook.requests[0].headers}"
    assert [] == secrets_seen(everything, secrets)
    slack = run_backup(cloud, postgres, told, "shop", **source, webhook_format="slack")
    assert 2 == slack.exit_code, slack.output  # a secret signs nothing there
    assert [] == secrets_seen(str(told.hook.told[1:]), secrets)


@pytest.mark.parametrize("form", ["json", "slack"])
def test_a_name_that_is_hostile_stays_a_name(
    cloud: Cloud, postgres: PostgresServer, told: Listeners, form: str
) -> None:
    name = database_named(postgres, HOSTILE)
    green(run_backup(cloud, postgres, told, name, notify_on="always", webhook_format=form))
    forget(postgres, name)

    (mail,), (body,) = told.mails(), told.hook.told
    assert re.fullmatch("[!-~][ -~]{0,99}", mail.subject)
    assert mail.subject.startswith("GOOD: backup of -rf 'x\" %0A::error::? <!channel>")
    ((_, _, dimension),) = [each for each in told.metrics() if each[0] == "BackupSucceeded"]
    assert re.fullmatch("Database=[!-~]+", dimension)
    if form == "json":
        assert HOSTILE == body["database"]
        assert mail.message.splitlines()[0] == body["subject"]
        return
    assert ["text"] == list(body)
    assert f"<{LINK}|GOOD> backup of -rf 'x\" %0A::error::🐘 &lt;!channel&gt; @" in body["text"]
    assert "@channel" not in body["text"]
    assert body["text"].isprintable() or "\u2060" in body["text"]


def test_slack_is_told_what_is_to_be_pasted_as_it_is(cloud: Cloud, told: Listeners) -> None:
    cloud.allow(writing(cloud.bucket))
    run = run_list(cloud, told, webhook_format="slack")

    (statement,) = printed(run.errors[0].message)
    (body,) = told.hook.told
    text = body["text"].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    line, *blocks = text.split("\n```\n")
    assert f"❌ <{LINK}|FAILED> list of shop: cannot list s3://{cloud.bucket}" in line
    assert [statement] == list(printed("\n".join(blocks)))


def test_a_terminal_takes_the_webhook_from_its_environment(cloud: Cloud, told: Listeners) -> None:
    """Everyone on a machine may read the arguments of a process."""
    run = subprocess.run(
        [sys.executable, "-m", "backup", "list", "--bucket", cloud.bucket, "--notify-on", "always"],
        cwd=REPOSITORY,
        env={
            "PATH": "/usr/bin",
            "AWS_ENDPOINT_URL": cloud.double.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "eu-central-1",
            "WEBHOOK_URL": told.hook.secret_url,
            "WEBHOOK_SECRET": "signed",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert 0 == run.returncode, run.stderr
    (body,) = told.hook.told
    assert ("good", None) == (body["outcome"], body["run"])
    assert f"list of s3://{cloud.bucket}/postgresql" in body["subject"]
    assert "x-pg-backup-signature" in told.hook.requests[0].headers
