"""The built image where no runner is: as a task and as a function, with the least of rights."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import by_hand
from tests.lab.aws import REGION, REPOSITORY, Ministack
from tests.lab.cloud import Cloud, listing, reading, source_inputs, writing
from tests.lab.commands import secrets_seen
from tests.lab.lambda_api import LambdaApi
from tests.lab.platforms import RoleKeys, result_of, role_keys, start_hardened
from tests.lab.postgres import PostgresServer
from tests.lab.runner import RunningAction, run_image
from tests.lab.tcp import TcpProxy
from tests.steps import database_named, drop_roles, fill_with_chance, forget

pytestmark = pytest.mark.image

EVERYTHING = Path(__file__).with_name("everything.sql")


@pytest.fixture
def keys(cloud: Cloud, ministack: Ministack) -> RoleKeys:
    """Of a role that may drill as well."""
    bucket = cloud.bucket
    statements = (writing(bucket), listing(bucket), reading(bucket))
    return role_keys(ministack, f"{bucket}-task", "ecs-tasks.amazonaws.com", statements)


@pytest.fixture
def database(image: str, postgres: PostgresServer) -> Iterator[str]:
    """On a server of whose major the image has a client."""
    ((version,),) = postgres.sql("SHOW server_version")
    major = version.split(".")[0]
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "/bin/ls", image]
    there = subprocess.run(
        [*command, "/usr/lib/postgresql"], capture_output=True, text=True, check=True
    )
    if major not in there.stdout.split():
        pytest.skip(f"the image has no client of {major}: an image from apt.postgresql.org has")
    name = database_named(postgres, "beyond", EVERYTHING.read_text())
    yield name
    forget(postgres, name)
    drop_roles(postgres)


@pytest.fixture
def large(postgres: PostgresServer, database: str) -> str:
    """The same with 32 MiB that take their time."""
    postgres.sql("CREATE TABLE noise (block bytea)", database)
    fill_with_chance(postgres, database, "noise", 32)
    return database


def variables(cloud: Cloud, keys: RoleKeys) -> dict[str, str]:
    endpoints = {name: url for name, url in cloud.env.items() if name.startswith("AWS_ENDPOINT")}
    return endpoints | keys.env


def given(cloud: Cloud, postgres: PostgresServer, database: str, **more: str) -> dict[str, str]:
    bucket = {"aws-region": REGION, "bucket": cloud.bucket}
    return bucket | source_inputs(postgres, database) | more


def test_the_image_backs_up_and_drills_with_the_least_of_rights_and_variables_alone(
    image: str, cloud: Cloud, keys: RoleKeys, postgres: PostgresServer, database: str
) -> None:
    inputs = given(cloud, postgres, database, verify="true")
    with start_hardened(image, inputs, variables(cloud, keys)) as running:
        run = running.finish()

    assert 0 == run.exit_code, run.output
    result = result_of(run.output)
    (manifest,) = cloud.manifests().values()
    assert manifest["id"] == result["outputs"]["backup-id"]
    assert "proven" == result["outputs"]["verdict"]
    assert [] == secrets_seen(run.output, [postgres.password, *keys.secrets])


def test_the_image_restores_what_a_task_backed_up(
    image: str, cloud: Cloud, keys: RoleKeys, postgres: PostgresServer, database: str
) -> None:
    source, env = given(cloud, postgres, database), variables(cloud, keys)
    with start_hardened(image, source, env) as running:
        assert 0 == running.finish().exit_code
    forget(postgres, "again")
    target = {
        "operation": "restore",
        "target-database": "again",
        "create-database": "true",
    }
    with start_hardened(image, source | target, env) as running:
        run = running.finish()
    before, after = by_hand.plain(postgres, database), by_hand.plain(postgres, "again")
    forget(postgres, "again")

    assert 0 == run.exit_code, run.output
    assert "" == by_hand.first_difference(before, after)


def test_docker_stop_ends_the_image_in_time_and_leaves_nothing(
    image: str, cloud: Cloud, keys: RoleKeys, postgres: PostgresServer, large: str
) -> None:
    with TcpProxy(postgres.port, bandwidth=8e6) as slow:
        inputs = given(cloud, postgres, large, port=str(slow.port))
        with start_hardened(image, inputs, variables(cloud, keys)) as running:
            _wait_for_a_part(running, cloud)
            began = time.monotonic()
            stop = ["docker", "stop", "--time", "30", f"lab-{running.marker}"]
            subprocess.run(stop, check=True, capture_output=True)
            run = running.finish()
            took = time.monotonic() - began

    assert 143 == run.exit_code, run.output
    assert took < 2.5 + 1  # the docker client takes a part of a second
    assert "interrupted by SIGTERM" == result_of(run.output)["error"]["message"]
    assert {} == cloud.objects()
    assert [] == cloud.open_uploads()


def test_the_image_is_a_function_with_the_least_of_rights(
    image: str, cloud: Cloud, keys: RoleKeys, postgres: PostgresServer, database: str
) -> None:
    """Fails, backs up and drills, in the one instance that Lambda keeps."""
    inputs, env = given(cloud, postgres, database, verify="true"), variables(cloud, keys)
    more = {"AWS_REGION": REGION}
    with (
        LambdaApi() as api,
        start_hardened(image, inputs, env | api.env | more, as_function=True) as running,
    ):
        failed = api.invoke({"inputs": {"database": "nowhere"}})
        made = api.invoke({})
        output = running.output
        subprocess.run(["docker", "kill", f"lab-{running.marker}"], check=True, capture_output=True)

    assert failed.error is not None
    assert "nowhere" in failed.error["errorMessage"]
    assert None is made.error, output
    assert "proven" == made.response["outputs"]["verdict"]
    (manifest,) = cloud.manifests().values()
    assert manifest["id"] == made.response["outputs"]["backup-id"]
    assert [] == secrets_seen(output, [postgres.password, *keys.secrets])


def test_a_function_of_the_image_stops_before_lambda_ends_it(
    image: str, cloud: Cloud, keys: RoleKeys, postgres: PostgresServer, large: str
) -> None:
    with (
        TcpProxy(postgres.port, bandwidth=2e6) as slow,
        LambdaApi() as api,
        start_hardened(
            image,
            given(cloud, postgres, large, port=str(slow.port)),
            variables(cloud, keys) | api.env | {"AWS_REGION": REGION},
            as_function=True,
        ) as running,
    ):
        answer = api.invoke({}, seconds=31)
        inside = ["docker", "exec", f"lab-{running.marker}", "/bin/sh", "-c"]
        look = "ls /tmp; for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done"
        left = subprocess.run([*inside, look], capture_output=True, text=True, check=True)
        subprocess.run(["docker", "kill", f"lab-{running.marker}"], check=True, capture_output=True)

    assert answer.error is not None
    assert "Fargate" in answer.error["errorMessage"]
    assert answer.seconds_left > 2
    assert cloud.proxy.seen("PUT", "partNumber=")
    assert {} == cloud.objects()
    assert [] == cloud.open_uploads()
    lines = [line for line in left.stdout.splitlines() if line and "/bin/sh -c" not in line]
    assert 1 == len([line for line in lines if "awslambdaric" in line])
    assert [] == [line for line in lines if "awslambdaric" not in line and "tr " not in line]


def _wait_for_a_part(running: RunningAction, cloud: Cloud) -> None:
    running.wait_for("Dump and upload")
    deadline = time.monotonic() + 30
    while not cloud.proxy.seen("PUT", "partNumber=") and time.monotonic() < deadline:
        time.sleep(0.02)


def test_the_image_reads_the_file_of_a_fleet(image: str, tmp_path: Path) -> None:
    workflows = tmp_path / ".github"
    workflows.mkdir()
    shutil.copy(REPOSITORY / "examples/pg-backups.yml", workflows)
    run = run_image(image, {"operation": "plan"}, workspace=tmp_path)

    assert 0 == run.exit_code, run.output
    assert "5" == run.outputs["count"]
