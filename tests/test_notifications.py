"""Who is told how a run ended: of what, in which words, and when."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.lab.aws import Moto
from tests.lab.cloud import Cloud, listing, writing
from tests.lab.daemon import free_port
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer
from tests.lab.runner import run_action
from tests.lab.stage import the_error
from tests.lab.webhook import status
from tests.listeners import Listeners, listeners, run_backup, run_list
from tests.permissions import printed
from tests.steps import back_up, database_named, forget, green

LINK = "https://github.com/octo-org/shop/actions/runs/1234567890"


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
def nowhere() -> str:
    """A port where no database listens."""
    return str(free_port())


def outcomes(told: Listeners) -> list[str]:
    return [body["outcome"] for body in told.hook.told]


def test_a_failed_backup_is_told_with_cause_remedy_and_link(
    cloud: Cloud, postgres: PostgresServer, told: Listeners, nowhere: str
) -> None:
    run = run_backup(cloud, postgres, told, "shop", port=nowhere)

    error = the_error(run, "nothing listens on 127.0.0.1 port")
    assert (4, []) == (run.exit_code, run.warnings)
    what, *rest = error.splitlines()
    (body,), (mail,) = told.hook.told, told.mails()
    assert ("failed", "backup", "shop", what) == tuple(
        body[name] for name in ("outcome", "operation", "database", "what")
    )
    assert "\n".join(rest) == f"{body['cause']}\n{body['remedy']}"
    assert (4, LINK) == (body["exit_code"], body["run"]["url"])
    # All of it on one line, and so far as it fits in the subject.
    for word in ("FAILED: backup of shop", what, "Connection refused", "Check the port", LINK):
        assert word in body["subject"]
    assert body["subject"] == mail.message.splitlines()[0]
    assert f"FAILED: backup of shop: {what}; Connection refused" == mail.subject
    assert len(mail.subject) <= 100
    for text in (body["cause"], body["remedy"], LINK):
        assert text in mail.message
    assert {"outcome": "failed", "operation": "backup", "database": "shop"} == mail.attributes
    assert {("BackupSucceeded", "Count", "Database=shop"): [0]} == told.metrics()


def test_a_good_backup_is_not_told_but_measured(
    cloud: Cloud, postgres: PostgresServer, told: Listeners, shop: str
) -> None:
    first = green(run_backup(cloud, postgres, told, shop))
    measured = told.metrics()

    assert ([], []) == (told.hook.told, told.mails())
    stored, seconds = first.outputs["stored-bytes"], first.outputs["duration-seconds"]
    assert {
        ("BackupSucceeded", "Count", "Database=shop"): [1],
        ("BackupBytes", "Bytes", "Database=shop"): [float(stored)],
        ("BackupSeconds", "Seconds", "Database=shop"): [pytest.approx(float(seconds), abs=0.1)],
    } == measured
    green(run_backup(cloud, postgres, told, shop))
    change = told.metrics()["BackupSizeChange", "Percent", "Database=shop"]
    assert [pytest.approx(0, abs=20)] == change


def test_a_part_of_a_database_does_not_pass_for_its_backup(
    cloud: Cloud, postgres: PostgresServer, told: Listeners, shop: str
) -> None:
    """Or one table by hand would quiet the alarm that no backup has come."""
    green(run_backup(cloud, postgres, told, shop, tables="public.t"))

    assert {} == told.metrics()


@pytest.mark.parametrize(
    ("on", "expected"),
    [("failure", ["failed", "failed"]), ("always", ["good", "failed", "failed", "good"])],
)
def test_who_wants_failures_or_all_is_told_of_them(
    cloud: Cloud, told: Listeners, on: str, expected: list[str]
) -> None:
    for is_allowed in (True, False, False, True):
        cloud.allow(listing(cloud.bucket) if is_allowed else writing(cloud.bucket))
        run = run_list(cloud, told, notify_on=on)
        assert (0 if is_allowed else 3) == run.exit_code, run.output
        assert [] == run.warnings
    assert expected == outcomes(told)
    assert expected == [mail.attributes["outcome"] for mail in told.mails()]
    assert [] == [key for key in cloud.objects() if "outcomes" in key]


def test_who_wants_changes_is_told_when_it_breaks_and_when_it_is_mended(
    cloud: Cloud, postgres: PostgresServer, told: Listeners, shop: str, nowhere: str
) -> None:
    good, bad = str(postgres.port), nowhere
    words = []
    for port in (good, good, bad, bad, good):
        run = run_backup(cloud, postgres, told, shop, notify_on="change", port=port)
        assert [] == run.warnings, run.output
        words += [mail.subject.partition(":")[0] for mail in told.mails()]

    assert ["GOOD", "FAILED", "GOOD AGAIN"] == words
    before = [body["before"] for body in told.hook.told]
    assert [None, "good", "failed"] == before
    # Remembered by a role that can read nothing, and in nobody's way.
    kept = list(cloud.objects("postgresql/outcomes/"))
    names = [re.sub("[0-9]{8}T[0-9]{6}Z", "TIME", key) for key in kept]
    folder = "postgresql/outcomes/backup/shop"
    assert [f"{folder}/TIME-{word}.json" for word in ("good", "failed", "good")] == names
    listed = green(run_list(cloud, told))
    assert 3 == listed.outputs["backups"].count('"manifest-uri"')


def test_what_nobody_remembers_counts_as_a_change(cloud: Cloud, told: Listeners) -> None:
    cloud.allow(listing(cloud.bucket))
    for _ in range(2):
        run = run_list(cloud, told, notify_on="change")
        assert (0, []) == (run.exit_code, run.errors), run.output
        (statement,) = printed("\n".join(each.message for each in run.warnings))
        assert "s3:PutObject" == statement["Action"]
    assert ["good", "good"] == outcomes(told)


def test_what_nobody_was_told_stays_news(cloud: Cloud, told: Listeners) -> None:
    cloud.allow(listing(cloud.bucket), writing(cloud.bucket))
    told.hook.answers = [status(404), status(200)]
    only = {"sns_topic_arn": "", "cloudwatch_namespace": "", "notify_on": "change"}

    green_runs = [run_list(cloud, told, **only) for _ in range(3)]

    assert [0, 0, 0] == [run.exit_code for run in green_runs]
    assert [1, 0, 0] == [len(run.warnings) for run in green_runs]
    assert ["good", "good"] == outcomes(told)


@pytest.mark.parametrize(("days", "kept"), [(6, 1), (8, 2)])
def test_an_outcome_is_written_again_before_a_lifecycle_takes_it(
    cloud: Cloud, told: Listeners, days: int, kept: int
) -> None:
    cloud.allow(listing(cloud.bucket), writing(cloud.bucket))
    folder = "postgresql/outcomes/list/shop/"
    ended = datetime.now(UTC) - timedelta(days=days)
    others = ("20269999T000000Z-failed.json", "notes.txt", "a/20991231T000000Z-failed.json")
    for name in (f"{ended:%Y%m%dT%H%M%SZ}-good.json", *others):
        cloud.s3.put_object(Bucket=cloud.bucket, Key=folder + name, Body=b"")

    run = green(run_list(cloud, told, notify_on="change"))

    assert ([], []) == (told.hook.told, run.warnings)
    names = [key for key in cloud.objects(folder) if key.endswith("-good.json")]
    assert kept == len(names)


@pytest.mark.parametrize("is_good", [True, False])
def test_a_listener_that_is_gone_changes_nothing_about_the_run(
    cloud: Cloud, told: Listeners, is_good: bool
) -> None:
    """Neither does it keep the others from being told."""
    cloud.allow(listing(cloud.bucket) if is_good else writing(cloud.bucket))
    told.hook.answers = [status(500, b"out of order")]

    run = run_list(cloud, told, notify_on="always")

    assert (0 if is_good else 3) == run.exit_code, run.output
    assert is_good == (not run.errors)
    if not is_good:
        the_error(run, "cannot list s3://", "s3:ListBucket")
    (warning,) = run.warnings
    assert "Not everybody was told how this run ended" == warning.title
    assert "answered 500: out of order" in warning.message
    assert 1 == len(told.mails())
    assert [] == run.leftovers


def test_a_topic_that_is_gone_does_not_keep_the_webhook_from_knowing(
    cloud: Cloud, told: Listeners
) -> None:
    run = run_list(cloud, told, notify_on="always", sns_topic_arn=f"{told.topic}-gone")

    assert 0 == run.exit_code, run.output
    (warning,) = run.warnings
    assert "correct sns-topic-arn" in warning.message
    assert ["good"] == outcomes(told)


def test_a_login_that_fails_still_reaches_the_webhook(
    cloud: Cloud, issuer: Issuer, told: Listeners
) -> None:
    issuer.status = 500
    try:
        run = run_list(cloud, told)
    finally:
        issuer.status = 200

    assert 3 == run.exit_code, run.output
    the_error(run, "GitHub refused the id token")
    (body,) = told.hook.told
    assert "GitHub refused the id token" == body["what"]
    assert 1 == len(run.warnings), "the topic and the metrics share one login"


def test_a_topic_that_is_denied_prints_the_line_that_is_missing(cloud: Cloud) -> None:
    """The strict double has the topic, and a role that may list the bucket and no more."""
    topic = cloud.double.client("sns").create_topic(Name="denied")["TopicArn"]
    inputs = cloud.inputs | {"operation": "list", "notify-on": "always", "sns-topic-arn": topic}

    run = run_action(inputs, cloud.env)

    assert 0 == run.exit_code, run.output
    (warning,) = run.warnings
    (statement,) = printed(warning.message)
    assert ("sns:Publish", topic) == (statement["Action"], statement["Resource"])
    cloud.allow(listing(cloud.bucket), statement)
    assert [] == green(run_action(inputs, cloud.env)).warnings


def test_metrics_that_are_denied_print_the_line_that_is_missing(
    cloud: Cloud, postgres: PostgresServer, shop: str
) -> None:
    inputs = {"cloudwatch-namespace": "PgBackup"}

    run = back_up(cloud, postgres, shop, inputs)

    assert 0 == run.exit_code, run.output
    (warning,) = run.warnings
    (statement,) = printed(warning.message)
    assert "cloudwatch:PutMetricData" == statement["Action"]
    condition = {"StringEquals": {"cloudwatch:namespace": "PgBackup"}}
    assert condition == statement["Condition"]
    others = {"StringEquals": {"cloudwatch:namespace": "Other"}}
    cloud.allow(listing(cloud.bucket), writing(cloud.bucket), statement | {"Condition": others})
    assert 1 == len(back_up(cloud, postgres, shop, inputs).warnings)
    cloud.allow(listing(cloud.bucket), writing(cloud.bucket), statement)
    assert [] == green(back_up(cloud, postgres, shop, inputs)).warnings
