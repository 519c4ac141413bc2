"""The image as a Lambda function: our handler under AWS's own Runtime Interface Client."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.aws import Ministack
from tests.lab.cloud import Cloud, listing, source_inputs, writing
from tests.lab.commands import secrets_seen
from tests.lab.lambda_api import Answer, LambdaApi
from tests.lab.platforms import RoleKeys, result_of, role_keys, start_function
from tests.lab.postgres import PostgresServer
from tests.lab.runner import RunningAction
from tests.lab.stage import APPLICATION, wait_until
from tests.lab.tcp import TcpProxy
from tests.steps import database_named, forget

# Of a run that is told to stop: what the handler leaves it, and what is left when it is killed.
STOP_SECONDS, KILL_SECONDS = 10.0, 2.0


@dataclass
class Function:
    """A function of which one instance runs: each `invoke` but the first is a warm start."""

    api: LambdaApi
    running: RunningAction
    cloud: Cloud
    keys: RoleKeys
    server: PostgresServer

    def invoke(self, event: Any, seconds: float = 900.0) -> Answer:
        answer = self.api.invoke(event, seconds)
        assert None is self.running.process.poll(), self.running.output
        return answer

    def fails(self, event: Any, seconds: float = 900.0) -> str:
        """The message of an invocation that fails, as Lambda counts failures."""
        answer = self.invoke(event, seconds)
        assert None is answer.response
        assert answer.error is not None
        assert "BackupFailed" == answer.error["errorType"]
        message: str = answer.error["errorMessage"]
        # The client's log comes by another way than its answer.
        wait_until(lambda: message in self.running.output.replace("\r", "\n"))
        return message

    def assert_nothing_left(self) -> None:
        """Of an invocation: only the client runs, no file, no session, no upload, no secret."""
        (pid,) = self.running.processes()
        assert self.running.process.pid == pid
        assert [] == list(self.running.temp.rglob("*"))
        assert [] == self.cloud.open_uploads()
        wait_until(lambda: not self.sessions())
        secrets = [self.server.password, *self.keys.secrets]
        assert [] == secrets_seen(self.running.output, secrets)

    def sessions(self) -> list[Any]:
        return self.server.sql(
            "SELECT pid, query FROM pg_stat_activity"
            f" WHERE application_name = '{APPLICATION}' AND backend_type = 'client backend'"
        )


@contextmanager
def function_of(
    cloud: Cloud, double: Ministack, server: PostgresServer, **inputs: str
) -> Iterator[Function]:
    """A function whose variables name `shop` on `server`, and a role that may write backups."""
    bucket = cloud.bucket
    statements = (writing(bucket), listing(bucket))
    keys = role_keys(double, f"{bucket}-task", "lambda.amazonaws.com", statements)
    endpoints = {name: url for name, url in cloud.env.items() if name.startswith("AWS_ENDPOINT")}
    given = {"bucket": bucket, **source_inputs(server, "shop"), **inputs}
    env = endpoints | keys.env | {"PG_BACKUP_CLIENTS": str(server.binaries)}
    with LambdaApi() as api, start_function(api, given, env) as running:
        yield Function(api, running, cloud, keys, server)
        assert [] == api.init_errors


@pytest.fixture
def function(cloud: Cloud, ministack: Ministack, noisy: PostgresServer) -> Iterator[Function]:
    with function_of(cloud, ministack, noisy) as started:
        yield started


def test_an_invocation_backs_up_and_answers_what_the_step_would_put_out(
    function: Function,
) -> None:
    answer = function.invoke({})

    (manifest,) = function.cloud.manifests().values()
    assert None is answer.error, function.running.output
    told = answer.response
    assert ("backup", 0) == (told["operation"], told["exit-code"])
    assert manifest["id"] == told["outputs"]["backup-id"]
    assert told["verdict"] in function.running.output
    assert told == result_of(function.running.output)
    assert "::" not in function.running.output.replace("arn:aws:sts::", "")
    assert "run" not in manifest
    function.assert_nothing_left()


def test_an_input_of_the_event_takes_the_place_of_the_functions_own(function: Function) -> None:
    server = function.server
    name = database_named(server, "other", "CREATE TABLE t AS SELECT 1 AS x")
    try:
        event = {"inputs": {"database": name, "port": server.port, "row-counts": False}}
        told = function.invoke(event).response
        second = function.invoke({"inputs": {"tables": "public.small_*", "jobs": 1}}).response
    finally:
        forget(server, name)

    databases = [each["database"] for each in function.cloud.manifests().values()]
    assert ["other", "shop"] == databases, function.running.output
    assert "/other/" in told["outputs"]["s3-uri"]
    assert "/shop/" in second["outputs"]["s3-uri"]


def test_the_event_of_a_schedule_without_inputs_means_the_functions_own(
    function: Function,
) -> None:
    event = {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "detail": "{}",
    }
    answer = function.invoke(event)
    assert None is answer.error, function.running.output
    assert 1 == len(function.cloud.manifests())


def test_a_failure_is_counted_as_one_and_leaves_nothing_for_the_next_invocation(
    function: Function,
) -> None:
    """The second invocation is in the same process of Lambda's."""
    message = function.fails({"inputs": {"database": "nowhere"}})
    function.assert_nothing_left()
    assert {} == function.cloud.objects()
    lines = message.splitlines()
    assert len(lines) >= 3
    assert "nowhere" in lines[0] + lines[1]

    refused = function.fails({"inputs": {"bucket": "backups-of-others"}})
    assert "s3:PutObject" in refused or "backups-of-others" in refused
    told = function.invoke({"inputs": {"tables": "public.small_1"}}).response

    assert 0 == told["exit-code"], function.running.output
    assert 1 == len(function.cloud.manifests())
    function.assert_nothing_left()


def test_a_run_that_will_not_be_done_in_time_is_stopped_before_lambda_ends_it(
    cloud: Cloud, ministack: Ministack, noisy: PostgresServer
) -> None:
    with (
        TcpProxy(noisy.port, bandwidth=2.5e6) as slow,
        function_of(cloud, ministack, noisy, port=str(slow.port)) as function,
    ):
        began = time.monotonic()
        message = function.fails({}, seconds=31)
        took = time.monotonic() - began

        assert "the time of this invocation ran out" in message
        assert "15 minutes" in message
        assert "Fargate" in message
        assert "docs/beyond-the-runner.md" in message
        assert cloud.proxy.seen("PUT", "partNumber="), "the dump had not come far enough"
        assert {} == cloud.objects()
        function.assert_nothing_left()
        # Asked to stop ten seconds before the end, it was done well before that.
        assert 31 - STOP_SECONDS <= took < 31 - KILL_SECONDS
        assert 142 == result_of(function.running.output)["exit-code"]

        told = function.invoke({"inputs": {"tables": "public.small_1"}}).response
        assert 0 == told["exit-code"], function.running.output
        function.assert_nothing_left()


def test_a_run_that_does_not_stop_is_killed_with_all_that_it_started(
    cloud: Cloud, ministack: Ministack, noisy: PostgresServer
) -> None:
    with (
        TcpProxy(noisy.port, bandwidth=2.5e6) as slow,
        function_of(cloud, ministack, noisy, port=str(slow.port)) as function,
    ):
        stopped = False

        def stop_it() -> bool:
            nonlocal stopped
            for pid, line in function.running.processes().items():
                if line.endswith("entrypoint.py") and cloud.proxy.seen("PUT", "partNumber="):
                    os.kill(pid, signal.SIGSTOP)
                    stopped = True
            return stopped

        waiting = threading.Thread(target=wait_until, args=(stop_it,))
        waiting.start()
        answer = function.api.invoke({}, seconds=31)
        waiting.join()

        assert answer.error is not None
        assert "ended by SIGKILL" in answer.error["errorMessage"]
        assert 0.5 < answer.seconds_left < KILL_SECONDS
        (pid,) = function.running.processes()
        assert function.running.process.pid == pid
        assert [] == list(function.running.temp.rglob("*"))
        assert {} == cloud.objects()


def test_a_timeout_that_is_too_short_for_anything_is_said_to_be_so(function: Function) -> None:
    message = function.fails({}, seconds=15)

    assert "Timeout: 900" in message
    assert [] == function.cloud.proxy.records


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ([], "a list"),
        ("shop", "a str"),
        ({"input": {"database": "shop"}}, "an object with 'input'"),
        ({"inputs": ["database"]}, "an object with 'inputs'"),
        ({"inputs": {"database": "shop"}, "more": 1}, "an object with 'inputs', 'more'"),
        ({"inputs": {"databse": "shop"}}, "did you mean database?"),
        ({"inputs": {"x=y\n::error::": "1"}}, "x=y\\n::error::: is not an input"),
        ({"inputs": {"database": ["shop"]}}, "database: is a list or an object"),
        ({"inputs": {"database": "sh\0op"}}, "zero byte"),
        ({"inputs": {"database": "\ud800"}}, "is not UTF-8"),
        ({"inputs": {"tables": "t" * 200_000}}, "tables: is longer than"),
        ({"inputs": {"fleet-entry": '{"password": "x"}'}}, "is a secret"),
        ({"inputs": {"operation": "delete"}}, "'delete' is not known"),
        ({"inputs": {"role-to-assume": "y"}}, "role-to-assume"),
    ],
)
def test_an_event_that_cannot_be_used_is_refused_before_anything_is_touched(
    function: Function, event: Any, words: str
) -> None:
    message = function.fails(event)

    assert words in message
    assert [] == function.cloud.proxy.records
    assert [] == function.sessions()


@pytest.mark.parametrize(
    "inputs",
    [
        {"password": "battery staple"},
        {"database-url": "postgresql://backup:battery staple@db.example.org/shop"},
        {"webhook-secret": "battery staple"},
    ],
)
def test_a_secret_in_an_event_is_refused_and_not_shown(
    function: Function, inputs: dict[str, str]
) -> None:
    message = function.fails({"inputs": inputs})

    assert "password-secret-id" in message
    assert "battery" not in function.running.output
    assert [] == function.cloud.proxy.records


def test_what_a_secret_of_the_function_could_show_up_in_is_masked(
    cloud: Cloud, ministack: Ministack, noisy: PostgresServer
) -> None:
    """A database of the password's name: the server's refusal quotes it."""
    secret = noisy.password
    with function_of(cloud, ministack, noisy, database=secret) as function:
        message = function.fails({})

    assert "***" in message
    assert secret not in json.dumps(function.running.output)
