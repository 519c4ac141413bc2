"""The program on any container host: variables, keys of the platform, signals, two streams."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.lab.aws import REGION, REPOSITORY, Ministack
from tests.lab.cloud import Cloud, listing, source_inputs, writing
from tests.lab.commands import secrets_seen
from tests.lab.platforms import (
    TaskCredentials,
    as_variables,
    result_of,
    role_keys,
    start_container,
)
from tests.lab.postgres import PostgresServer
from tests.lab.sts import ACCOUNT
from tests.lab.tcp import TcpProxy
from tests.steps import database_named, forget

RUNNERS_WORDS = ("::", "workflow", "timeout-minutes", "summary")


@dataclass(frozen=True)
class Task:
    """What a task definition says: inputs and variables; and where its keys come from."""

    inputs: dict[str, str]
    env: dict[str, str]
    credentials: TaskCredentials


@contextmanager
def task_of(
    cloud: Cloud, double: Ministack, server: PostgresServer, lifetime: timedelta | None = None
) -> Iterator[Task]:
    bucket = cloud.bucket
    name = f"{bucket}-task"
    keys = role_keys(double, name, "ecs-tasks.amazonaws.com", (writing(bucket), listing(bucket)))
    if lifetime:
        ends = datetime.now(UTC) + lifetime
        keys = dataclasses.replace(keys, expires=ends.strftime("%Y-%m-%dT%H:%M:%SZ"))
    endpoints = {name: url for name, url in cloud.env.items() if name.startswith("AWS_ENDPOINT")}
    inputs = {"aws-region": REGION, "bucket": bucket, **source_inputs(server, "shop")}
    with TaskCredentials(keys, f"arn:aws:iam::{ACCOUNT}:role/{name}") as credentials:
        env = endpoints | credentials.env | {"PG_BACKUP_CLIENTS": str(server.binaries)}
        yield Task(inputs, env, credentials)


@pytest.fixture
def task(cloud: Cloud, ministack: Ministack, noisy: PostgresServer) -> Iterator[Task]:
    with task_of(cloud, ministack, noisy) as ready:
        yield ready


@dataclass(frozen=True)
class Ended:
    exit_code: int
    log: str  # stderr
    result: dict[str, Any]  # stdout, which is one line


def run(inputs: Mapping[str, str], env: Mapping[str, str]) -> Ended:
    """Run the image's entrypoint as a container host does, with the two streams apart."""
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, REPOSITORY / "entrypoint.py"],
            env={"HOME": home, "PATH": os.defpath, **as_variables(inputs), **env},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert [] == list(Path(home).iterdir())
    (line,) = done.stdout.splitlines()
    return Ended(done.returncode, done.stderr, json.loads(line))


def test_a_task_backs_up_with_variables_and_the_keys_of_its_role_alone(
    task: Task, cloud: Cloud, noisy: PostgresServer
) -> None:
    ended = run(task.inputs, task.env)

    assert 0 == ended.exit_code, ended.log
    (manifest,) = cloud.manifests().values()
    assert ["exit-code", "operation", "outputs", "verdict"] == sorted(ended.result)
    assert (0, "backup") == (ended.result["exit-code"], ended.result["operation"])
    assert manifest["id"] == ended.result["outputs"]["backup-id"]
    assert "run" not in manifest
    assert ended.result["verdict"] in ended.log
    assert "▸ Dump and upload" in ended.log
    assert "\x1b" not in ended.log
    assert [] == [word for word in RUNNERS_WORDS if word in ended.log.replace("arn:aws:sts::", "")]
    assert task.credentials.asked >= 1
    assert 0 == task.credentials.refused
    told = ended.log + json.dumps(ended.result)
    assert [] == secrets_seen(told, [noisy.password, *task.credentials.secrets])


def test_keys_of_the_platform_that_near_their_end_are_asked_for_again(
    cloud: Cloud, ministack: Ministack, noisy: PostgresServer
) -> None:
    with task_of(cloud, ministack, noisy, lifetime=timedelta(minutes=9)) as task:
        ended = run(task.inputs, task.env)

        assert 0 == ended.exit_code, ended.log
        assert task.credentials.asked > 1
    assert 1 == len(cloud.manifests())


def test_the_platform_that_refuses_keys_is_an_error_with_a_remedy(task: Task, cloud: Cloud) -> None:
    wrong = {"AWS_CONTAINER_AUTHORIZATION_TOKEN": "wrong"}
    ended = run(task.inputs, task.env | wrong | {"AWS_METADATA_SERVICE_NUM_ATTEMPTS": "1"})

    assert 3 == ended.exit_code, ended.log
    assert 3 == ended.result["exit-code"]
    assert {"message", "detail", "hint"} == set(ended.result["error"])
    assert all(ended.result["error"].values())
    for line in ended.result["error"].values():
        assert all(part.strip() in ended.log for part in line.splitlines())
    assert {} == cloud.objects()


def test_inputs_may_have_hyphens_or_underscores_in_their_names() -> None:
    ended = run(
        {},
        {
            "INPUT_LOCK_TIMEOUT": "soon",
            "INPUT_SCRATCH-LIMIT": "little",
            "INPUT_KMS_KEY_ID": "",
            "INPUT_BUKET": "mine",
        },
    )

    assert 2 == ended.exit_code
    detail = ended.result["error"]["detail"]
    assert "lock-timeout: 'soon'" in detail
    assert "scratch-limit: 'little'" in detail
    assert "buket: is not an input of this action; did you mean bucket?" in detail
    assert "kms-key-id" not in detail


def test_on_the_runner_the_runners_form_of_names_alone_counts() -> None:
    import entrypoint

    given = {"INPUT_LOCK-TIMEOUT": "1s", "INPUT_KMS_KEY_ID": "x", "INPUT_BUCKET": ""}
    on_runner = given | {"GITHUB_ACTIONS": "true"}

    assert {"lock-timeout": "1s", "kms_key_id": "x"} == entrypoint.inputs(on_runner)
    assert {"lock-timeout": "1s", "kms-key-id": "x"} == entrypoint.inputs(given)


def test_a_failure_has_the_exit_code_that_it_has_on_the_runner(task: Task, cloud: Cloud) -> None:
    ended = run(task.inputs | {"password": "wrong horse"}, task.env)

    assert 3 == ended.exit_code, ended.log
    assert ["error", "exit-code", "operation"] == sorted(ended.result)
    assert [] == secrets_seen(ended.log + json.dumps(ended.result), ["wrong horse"])
    assert {} == cloud.objects()


def test_a_secret_is_masked_in_the_result_too(task: Task, noisy: PostgresServer) -> None:
    """A database of the password's name is quoted in what the server says."""
    ended = run(task.inputs | {"database": noisy.password}, task.env)

    assert ended.exit_code
    assert "***" in json.dumps(ended.result)
    assert [] == secrets_seen(ended.log + json.dumps(ended.result), [noisy.password])


@pytest.mark.parametrize(
    ("sent", "code", "within"), [(signal.SIGTERM, 143, 2.5), (signal.SIGINT, 130, 7.5)]
)
def test_a_task_that_is_stopped_ends_in_time_and_leaves_nothing(
    cloud: Cloud,
    ministack: Ministack,
    noisy: PostgresServer,
    sent: signal.Signals,
    code: int,
    within: float,
) -> None:
    with (
        TcpProxy(noisy.port, bandwidth=6e6) as slow,
        task_of(cloud, ministack, noisy) as task,
        start_container(task.inputs | {"port": str(slow.port)}, task.env) as running,
    ):
        running.wait_for("Dump and upload")
        while not cloud.proxy.seen("PUT", "partNumber="):
            running.wait_for("Dump and upload")
        began = datetime.now(UTC)
        running.send(sent)
        ended = running.finish()
        took = datetime.now(UTC) - began

    assert code == ended.exit_code, ended.output
    assert took.total_seconds() < within
    result = result_of(ended.output)
    assert code == result["exit-code"]
    assert f"interrupted by {sent.name}" == result["error"]["message"]
    assert "nothing was published" in result["error"]["hint"]
    assert [] == [word for word in RUNNERS_WORDS[1:] if word in ended.output]
    assert [] == ended.leftovers
    assert [] == cloud.open_uploads()
    assert {} == cloud.objects()


def test_a_traceback_is_shown_only_where_someone_asks_for_it(task: Task) -> None:
    quiet = run(task.inputs | {"host": "nowhere.invalid"}, task.env)
    asked = run(task.inputs | {"host": "nowhere.invalid"}, task.env | {"RUNNER_DEBUG": "1"})

    assert quiet.exit_code == asked.exit_code != 0
    assert "Traceback" not in quiet.log
    assert "Traceback" in asked.log


def test_another_operation_names_itself_in_its_result(task: Task, noisy: PostgresServer) -> None:
    name = database_named(noisy, "tiny", "CREATE TABLE t AS SELECT 1 AS x")
    made = run(task.inputs | {"database": name}, task.env)
    listed = run(
        {"operation": "list", "aws-region": REGION, "bucket": task.inputs["bucket"]}, task.env
    )
    forget(noisy, name)

    assert "list" == listed.result["operation"]
    (backup,) = json.loads(listed.result["outputs"]["backups"])
    assert made.result["outputs"]["backup-id"] == backup["id"]
