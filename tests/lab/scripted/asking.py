"""A client of the scripted server, and what tests ask it again and again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.lab.aws import REGION
from tests.lab.scripted.server import ScriptedAws
from tests.lab.sts import ACCOUNT


@functools.cache
def _session() -> Any:
    """One for all: it reads each service's model once."""
    return botocore.session.Session()


def asking(server: ScriptedAws, service: str = "rds", region: str = REGION) -> Any:
    """A client that tries everything once."""
    return _session().create_client(
        service,
        region_name=region,
        endpoint_url=server.url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 0}),
    )


def arn(resource: str, region: str = REGION) -> str:
    return f"arn:aws:rds:{region}:{ACCOUNT}:{resource}"


def refusal(call: Callable[..., Any], **given: Any) -> tuple[str, int, str]:
    """Code, HTTP status and message of the error that a call must end in."""
    with pytest.raises(ClientError) as caught:
        call(**given)
    response: Any = caught.value.response
    error = response["Error"]
    return error["Code"], response["ResponseMetadata"]["HTTPStatusCode"], error["Message"]


def states(ask: Callable[[], str], *ends: str) -> list[str]:
    """The states that are told one after the other, until one of the last."""
    told: list[str] = []
    for _ in range(50):
        state = ask()
        if told[-1:] != [state]:
            told.append(state)
        if state in ends:
            return told
    raise AssertionError(f"never {ends}: {told}")


def state_of_snapshot(rds: Any, name: str) -> str:
    (told,) = rds.describe_db_snapshots(DBSnapshotIdentifier=name)["DBSnapshots"]
    return str(told["Status"])


def state_of(rds: Any, name: str) -> str:
    (told,) = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"]
    return str(told["DBInstanceStatus"])
