"""The program where there is no GitHub: as a container of any host, and as a Lambda function."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.lab.aws import REGION, REPOSITORY, Ministack, Moto
from tests.lab.httpd import HttpService, Request, Response, Served, answering
from tests.lab.lambda_api import LambdaApi
from tests.lab.runner import INHERITED, RunningAction, folders
from tests.lab.sts import ACCOUNT

HANDLER = "backup.lambda_function.handler"
# What examples/infrastructure/serverless.yaml gives as EntryPoint and Command.
FUNCTION_ENTRY = ("/opt/venv/bin/python", "-E", "-s", "-m", "awslambdaric", HANDLER)


@dataclass(frozen=True)
class RoleKeys:
    """A session of a role, as a platform gives it to what it runs."""

    access_key: str
    secret_key: str
    token: str
    expires: str

    @property
    def env(self) -> dict[str, str]:
        """As Lambda gives them."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_SESSION_TOKEN": self.token,
        }

    @property
    def secrets(self) -> list[str]:
        return [self.secret_key, self.token]


@dataclass
class TaskCredentials(Served):
    """Where a task of ECS, or a pod of EKS, asks for the keys of its role.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html
    """

    keys: RoleKeys
    role: str
    asked: int = 0
    refused: int = 0
    _token: str = field(default_factory=lambda: secrets.token_urlsafe(30))

    def __enter__(self) -> TaskCredentials:
        self._service = HttpService(answering(self._answer))
        return self

    @property
    def env(self) -> dict[str, str]:
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/v2/credentials/task",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": self._token,
        }

    @property
    def secrets(self) -> list[str]:
        return [self._token, *self.keys.secrets]

    def _answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != self._token:
            self.refused += 1
            return Response(401, b"{}")
        self.asked += 1
        told = {
            "RoleArn": self.role,
            "AccessKeyId": self.keys.access_key,
            "SecretAccessKey": self.keys.secret_key,
            "Token": self.keys.token,
            "Expiration": self.keys.expires,
        }
        return Response(200, json.dumps(told).encode(), {"Content-Type": "application/json"})


def role_keys(
    double: Ministack | Moto, name: str, service: str, statements: Sequence[Mapping[str, Any]]
) -> RoleKeys:
    """A role that `service` may assume, with this policy, and a session of it."""
    iam = double.client("iam")
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=_policy([trust]))
    iam.put_role_policy(RoleName=name, PolicyName="backup", PolicyDocument=_policy(statements))
    return keys_of(double, f"arn:aws:iam::{ACCOUNT}:role/{name}")


def keys_of(double: Ministack | Moto, role: str) -> RoleKeys:
    """A session of a role that is there.

    The double has no service that would assume it: the account's root stands in, let in beside it.
    """
    iam, name = double.client("iam"), role.rpartition("/")[2]
    trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    root = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    stand_in = {"Effect": "Allow", "Principal": root, "Action": "sts:AssumeRole"}
    both = _policy([*trust["Statement"], stand_in])
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=both)
    told = double.client("sts").assume_role(RoleArn=role, RoleSessionName="task")["Credentials"]
    return RoleKeys(
        told["AccessKeyId"],
        told["SecretAccessKey"],
        told["SessionToken"],
        told["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def as_variables(inputs: Mapping[str, str]) -> dict[str, str]:
    """Inputs as variables that every platform takes: no hyphens."""
    return {f"INPUT_{name.upper().replace('-', '_')}": value for name, value in inputs.items()}


def start_container(inputs: Mapping[str, str], env: Mapping[str, str]) -> RunningAction:
    """Start entrypoint.py as a container host does: by variables alone."""
    home, marker = folders()
    variables = _inherited() | {
        "HOME": str(home / "home"),
        "TMPDIR": str(home / "temp"),
        "LAB_RUN": marker,
    }
    command = [sys.executable, str(REPOSITORY / "entrypoint.py")]
    return RunningAction(command, variables | as_variables(inputs) | dict(env), home, marker)


def start_function(
    api: LambdaApi, inputs: Mapping[str, str], env: Mapping[str, str]
) -> RunningAction:
    """Start AWS's Runtime Interface Client with our handler, and what Lambda sets for it.

    There is no HOME, as there is none on Lambda.
    """
    home, marker = folders()
    variables = _inherited() | {
        "AWS_REGION": REGION,
        "TMPDIR": str(home / "temp"),
        "LAB_RUN": marker,
    }
    client = [sys.executable, "-E", "-s", "-m", "awslambdaric", HANDLER]
    return RunningAction(
        ["env", "-C", str(REPOSITORY), *client],
        variables | api.env | as_variables(inputs) | dict(env),
        home,
        marker,
    )


def start_hardened(
    image: str, inputs: Mapping[str, str], env: Mapping[str, str], *, as_function: bool = False
) -> RunningAction:
    """Start the image as a platform that gives as little as it can: a user that nobody knows, a
    system that is read-only but for the volume that the image declares, no shared memory; on the
    host's network. With `as_function` under the Runtime Interface Client, without that volume, and
    `env` holds a LambdaApi's.
    """
    home, marker = folders()
    given = as_variables(inputs) | dict(env)
    command = ["docker", "run", "--name", f"lab-{marker}", "--rm", "--network", "host"]
    command += ["--read-only", "--user", "1234:1234", "--ipc", "none"]
    command += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    for name in given:
        command += ["-e", name]  # the value comes from docker's own environment
    if as_function:
        entry, *arguments = FUNCTION_ENTRY
        command += ["--tmpfs", "/tmp", "-e", "HOME=/nonexistent"]  # noqa: S108
        command += ["--entrypoint", entry, image, *arguments]
    else:
        command += [image]
    docker = {name: v for name, v in os.environ.items() if name in ("PATH", "HOME", "DOCKER_HOST")}
    return RunningAction(command, given | docker, home, marker)


def result_of(output: str) -> dict[str, Any]:
    """The line that a container writes to stdout, among what it wrote to stderr.

    Docker passes the two on by themselves, so that it need not be the last, nor begin a line.
    """
    result, _ = json.JSONDecoder().raw_decode(output[output.rindex('{"exit-code": ') :])
    found: dict[str, Any] = result
    return found


def _inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def _policy(statements: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
