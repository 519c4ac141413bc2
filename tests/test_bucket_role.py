"""`bucket-role`: the first role assumes another one, in the account of a central bucket."""

from __future__ import annotations

import ast
import functools
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest

from backup.aws.grants import PolicyScope, needed, needed_of_bucket_role
from tests.lab.aws import REGION, REPOSITORY, Ministack, visible_objects
from tests.lab.cloud import PREFIX
from tests.lab.commands import read_log
from tests.lab.faults import FaultProxy
from tests.lab.httpd import Request, Response
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun
from tests.lab.stage import Stage, stage, the_error
from tests.lab.sts import ACCOUNT, Sts, Trust
from tests.replicas import ORDERS
from tests.steps import database_named

DATABASE = "spoke"
CENTRAL = "210987654321"


@dataclass(frozen=True)
class Hub:
    """A bucket in an account of its own, and the role that is for it."""

    double: Ministack
    bucket: str

    @property
    def role(self) -> str:
        return f"arn:aws:iam::{CENTRAL}:role/{self.bucket}"

    @functools.cached_property
    def s3(self) -> Any:
        return self.double.client("s3", access_key=CENTRAL)

    @functools.cached_property
    def iam(self) -> Any:
        return self.double.client("iam", access_key=CENTRAL)

    def make(self, trusted: str) -> None:
        place = {"LocationConstraint": REGION}
        self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration=place)
        document = json.dumps(trusting(trusted))
        self.iam.create_role(RoleName=self.bucket, AssumeRolePolicyDocument=document)

    def trust(self, document: Mapping[str, Any]) -> None:
        self.iam.update_assume_role_policy(
            RoleName=self.bucket, PolicyDocument=json.dumps(document)
        )

    def allow(self, operation: str, scope: PolicyScope) -> None:
        statements = [each.statement() for each in needed_of_bucket_role(operation, scope)]
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.iam.put_role_policy(
            RoleName=self.bucket, PolicyName="backups", PolicyDocument=document
        )

    def objects(self) -> dict[str, int]:
        return visible_objects(self.s3, self.bucket)


def trusting(arn: str) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> str:
    return database_named(postgres, DATABASE, ORDERS)


@pytest.fixture
def shop(postgres: PostgresServer, strict: Ministack, database: str) -> Iterator[Stage]:
    with stage(postgres, strict, database) as ready:
        yield ready


@pytest.fixture
def hub(shop: Stage, strict: Ministack) -> Hub:
    """Both roles have what is documented for a backup, and no more."""
    made = Hub(strict, f"central-{secrets.token_hex(4)}")
    made.make(shop.cloud.role)
    allow(shop, made, "backup")
    return made


def allow(shop: Stage, hub: Hub, operation: str) -> None:
    scope = PolicyScope("aws", REGION, ACCOUNT, hub.bucket, PREFIX, bucket_role=hub.role)
    shop.cloud.allow(*(each.statement() for each in needed(operation, scope)))
    hub.allow(operation, scope)


def run(shop: Stage, hub: Hub, operation: str = "backup", **env: str) -> ActionRun:
    given = shop.inputs(bucket=hub.bucket, bucket_role=hub.role, operation=operation)
    if operation != "backup":
        del given["database-url"]
        given["database"] = shop.database
    return shop.run(given, env)


def keys_at_the_bucket(shop: Stage, hub: Hub) -> set[str]:
    """The access keys that have signed requests to the bucket."""
    found = (each.headers.get("authorization", "") for each in shop.cloud.proxy.records
             if each.path.startswith(f"/{hub.bucket}"))  # fmt: skip
    return {key[1] for each in found if (key := re.search("Credential=([^/]+)/", each))}


def test_a_backup_goes_into_the_bucket_of_another_account(shop: Stage, hub: Hub) -> None:
    made = run(shop, hub)
    assert 0 == made.exit_code, made.output
    assert {} == shop.cloud.objects()
    assert [key for key in hub.objects() if key.endswith("/manifest.json")]
    first = {each.access_key for each in shop.cloud.sts.exchanges}
    assert first.isdisjoint(keys_at_the_bucket(shop, hub))


@pytest.mark.parametrize("operation", ["list", "verify", "audit"])
def test_every_operation_comes_to_the_bucket_by_that_role(
    shop: Stage, hub: Hub, operation: str
) -> None:
    assert 0 == run(shop, hub).exit_code
    shop.cloud.proxy.records.clear()
    allow(shop, hub, operation)
    done = run(shop, hub, operation)
    assert done.exit_code in (0, 6) if operation == "audit" else 0 == done.exit_code, done.output
    first = {each.access_key for each in shop.cloud.sts.exchanges}
    assert keys_at_the_bucket(shop, hub)
    assert first.isdisjoint(keys_at_the_bucket(shop, hub))


def test_the_keys_of_both_roles_are_masked_before_anything_could_print_them(
    shop: Stage, hub: Hub
) -> None:
    with FaultProxy(shop.cloud.sts.url) as sts:
        made = run(shop, hub, ACTIONS_STEP_DEBUG="true", AWS_ENDPOINT_URL_STS=sts.url)
    assert 0 == made.exit_code, made.output
    for key in keys_at_the_bucket(shop, hub):
        assert key in made.log.masks
        before, _, _ = made.output.partition(f"::add-mask::{key}\n")
        assert key not in read_log(before).printed
    # Three for each of the two roles, besides what is masked anyway.
    assert 2 == len([each for each in made.log.masks if re.fullmatch("ASIA[A-Z0-9]+", each)])


class Watched(Sts):
    """An STS that remembers how the second role was asked for, and whose chained sessions end
    within the minute; like AWS's it gives none of more than an hour."""

    def __enter__(self) -> Watched:
        self.asked: list[int] = []
        super().__enter__()
        return self

    def _forward(self, request: Request) -> Response:
        form = dict(parse_qsl(request.body.decode()))
        answer = super()._forward(request)
        if form.get("Action") != "AssumeRole":
            return answer
        self.asked.append(int(form["DurationSeconds"]))
        if self.asked[-1] > 3600:
            return Response(400, TOO_LONG.encode())
        ends = f"{datetime.now(UTC) + timedelta(seconds=60):%Y-%m-%dT%H:%M:%SZ}"
        body = re.sub(b"<Expiration>[^<]*", f"<Expiration>{ends}".encode(), answer.body)
        return Response(answer.status, body, answer.headers)


TOO_LONG = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code><Message>The requested"
    " DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
    "</Message></Error></ErrorResponse>"
)


def test_a_chained_session_lasts_an_hour_at_the_most_and_renews_itself(
    shop: Stage, hub: Hub
) -> None:
    trust = Trust(shop.cloud.role, max_duration=43200)
    with Watched(shop.cloud.issuer.jwks_url, shop.cloud.double.url, [trust]) as sts:
        given = shop.inputs(bucket=hub.bucket, bucket_role=hub.role, role_duration_seconds="43200")
        made = shop.run(given, {"AWS_ENDPOINT_URL_STS": sts.url})
    assert 0 == made.exit_code, made.output
    assert 1 == len(sts.exchanges)
    assert {3600} == set(sts.asked)
    # One and the same client has gone on with new keys, each of them masked.
    assert len(keys_at_the_bucket(shop, hub)) > 2
    assert keys_at_the_bucket(shop, hub) <= set(made.log.masks)


def test_a_trust_policy_that_lacks_the_first_role_is_told_with_both_statements(
    shop: Stage, hub: Hub
) -> None:
    hub.trust(trusting(f"arn:aws:iam::{ACCOUNT}:role/somebody-else"))
    made = run(shop, hub)
    assert 3 == made.exit_code, made.output
    assert {} == hub.objects()
    error = the_error(made, f"cannot assume {hub.role}", f"in account {CENTRAL}")
    assert f'"AWS": "{shop.cloud.role}"' in error
    assert_statements(error, shop, hub)


def test_a_bucket_role_that_is_refused_is_no_reason_to_read_the_replica(
    shop: Stage, hub: Hub
) -> None:
    hub.trust(trusting(f"arn:aws:iam::{ACCOUNT}:role/somebody-else"))
    given = shop.inputs(
        operation="list",
        bucket=hub.bucket,
        bucket_role=hub.role,
        replica_bucket="a-replica",
        replica_region="eu-west-1",
    )
    del given["database-url"]
    listed = shop.run(given)
    assert 3 == listed.exit_code, listed.output
    assert "the replica" not in the_error(listed, f"cannot assume {hub.role}")


def test_a_first_role_that_may_not_assume_the_second_is_told_with_both_statements(
    shop: Stage, hub: Hub
) -> None:
    shop.cloud.allow({"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"})
    made = run(shop, hub)
    assert 3 == made.exit_code, made.output
    error = the_error(made, f"cannot assume {hub.role}", f"in account {ACCOUNT}")
    assert_statements(error, shop, hub)


def assert_statements(error: str, shop: Stage, hub: Hub) -> None:
    """What is told to be added is all that is lacking: added, the backup is made."""
    (allowance,) = [line for line in error.splitlines() if line.startswith('{"Effect"')]
    _, _, trust = error.partition("trust policy")
    trusted = json.loads(trust[trust.index("{") :])
    shop.cloud.allow(json.loads(allowance))
    hub.trust({"Version": "2012-10-17", "Statement": [trusted]})
    made = run(shop, hub)
    assert 0 == made.exit_code, made.output


def test_a_second_role_that_may_not_write_is_told_so_in_its_own_name(shop: Stage, hub: Hub) -> None:
    hub.iam.delete_role_policy(RoleName=hub.bucket, PolicyName="backups")
    made = run(shop, hub)
    assert 3 == made.exit_code, made.output
    the_error(made, "s3:PutObject", f"assumed-role/{hub.bucket}/")


def test_no_operation_comes_to_a_bucket_in_another_way() -> None:
    """Or it would not be by the bucket's role, nor from the replica."""
    folder = REPOSITORY / "backup/operations"
    openers = {
        path.name
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("Bucket", "ReadableBucket")
    }
    assert {"opening.py"} == openers
