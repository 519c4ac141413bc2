"""The policy of a new instance or cluster is what it takes: no action more or less."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from backup.aws.grants import PolicyScope
from tests.lab.aws import REGION
from tests.lab.cloud import Cloud
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun
from tests.lab.scripted.made import key_of
from tests.lab.scripted.server import ScriptedAws
from tests.lab.sts import ACCOUNT
from tests.permissions import KEY, SCOPE, Removal, assert_refused, assert_warned, policy, removals
from tests.recoveries import Recovery, recovery
from tests.steps import green

INSTANCE = replace(
    SCOPE,
    kms_key_arn=KEY,
    instance="shop",
    instance_key_arn=key_of(REGION),
    monitoring_role=f"arn:aws:iam::{ACCOUNT}:role/rds-monitoring-role",
)
CLUSTER = replace(INSTANCE, instance=None, cluster="shop")
SCOPES = {"instance": INSTANCE, "cluster": CLUSTER}
OF_TIME = ("AutomatedBackups", "ToPointInTime")
# The instance is worth having without the record of the time that it took.
WARNED = (
    Removal("KeepTheResult", "s3:PutObject"),
    Removal("UseTheBucketsKey", "kms:GenerateDataKey"),
)


@pytest.fixture
def lost(cloud: Cloud, scripted: ScriptedAws, postgres: PostgresServer) -> Iterator[Recovery]:
    """An instance and a cluster `shop` that are gone, with records under a KMS key."""
    with recovery(cloud, scripted, postgres) as ready:
        yield ready


def lose(lost: Recovery, scope: PolicyScope) -> None:
    encrypted: dict[str, Any] = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KEY}
    rds = lost.aws.rds
    if scope.cluster:
        rds.add_cluster("shop", members=1)
        lost.snapshot_cluster("shop", "nightly")
        lost.record(is_cluster=True, **encrypted)
        rds.lose_cluster("shop")
    else:
        rds.add_instance("shop")
        rds.add_snapshot("nightly")
        lost.record(**encrypted)
        rds.lose("shop", retain=True)


def run(lost: Recovery, scope: PolicyScope, time: str, without: Removal | None = None) -> ActionRun:
    lose(lost, scope)
    statements = policy("restore-instance", replace(scope, bucket=lost.cloud.bucket), without)
    lost.aws.allow_only(statements)
    lost.cloud.allow(*statements)
    subject = {"db_cluster": "shop", "db_instance": ""} if scope.cluster else {}
    return lost.run(restore_time=time, kms_key_id=KEY, **subject)


@pytest.mark.parametrize("time", ["", "latest"])
@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_a_new_one_needs_the_policy(lost: Recovery, scope: PolicyScope, time: str) -> None:
    assert [] == green(run(lost, scope, time)).warnings


TRIED = {
    f"{name}-{removal}": (scope, removal)
    for name, scope in SCOPES.items()
    for removal in removals("restore-instance", scope)
}


@pytest.mark.parametrize(("scope", "removal"), TRIED.values(), ids=TRIED)
def test_it_names_the_action_that_it_lacks(
    lost: Recovery, scope: PolicyScope, removal: Removal
) -> None:
    time = "latest" if removal.action.endswith(OF_TIME) else ""
    ended = run(lost, scope, time, removal)
    (assert_warned if removal in WARNED else assert_refused)(ended, removal)
