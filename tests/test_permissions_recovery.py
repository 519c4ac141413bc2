"""The policy of `restore-instance` is what a lost instance or cluster takes: no more or less."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from backup.aws.grants import PolicyScope
from tests.lab.aws import REGION, Ministack
from tests.lab.cloud import new_cloud
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun
from tests.lab.scripted.asking import asking, refusal
from tests.lab.scripted.made import key_of
from tests.lab.scripted.server import ScriptedAws
from tests.permissions import (
    KEY,
    SCOPE,
    Removal,
    assert_refused,
    assert_warned,
    lacking,
    policy,
    removals,
)
from tests.recoveries import Recovery, recovery
from tests.steps import green

INSTANCE = replace(
    SCOPE,
    kms_key_arn=KEY,
    instance="shop",
    instance_key_arn=key_of(REGION),
    monitoring_role="ROLE",
    secret_arn="SECRET",
)
CLUSTER = replace(INSTANCE, instance=None, cluster="shop")
RESULT = [
    Removal("KeepTheResult", "s3:PutObject"),
    Removal("UseTheBucketsKey", "kms:GenerateDataKey"),
]
# What a restore to a point in time takes, and one from a snapshot does not.
OF_TIMES = ("ToPointInTime", "AutomatedBackups")


@dataclass(frozen=True)
class Lost:
    """What is gone, with its record under the bucket's key, a snapshot and automated backups."""

    around: Recovery
    secret: dict[str, str]
    monitoring_role: str

    def restore(
        self, scope: PolicyScope, without: Removal | None = None, time: str = ""
    ) -> ActionRun:
        mine = replace(
            scope,
            bucket=self.around.cloud.bucket,
            secret_arn=self.secret["ARN"],
            monitoring_role=self.monitoring_role,
        )
        statements = policy("restore-instance", mine, without)
        self.around.cloud.allow(*statements)
        self.around.aws.allow_only(statements)
        subject = {"db_instance": "", "db_cluster": "shop"} if scope.cluster else {}
        return self.around.run(
            kms_key_id=KEY,
            password="",
            password_secret_id=self.secret["Name"],
            restore_time=time,
            **subject,
        )


@contextmanager
def lost(
    ministack: Ministack, issuer: Issuer, postgres: PostgresServer, scope: PolicyScope
) -> Iterator[Lost]:
    secret = ministack.client("secretsmanager").create_secret(
        Name=f"shop/{secrets.token_hex(4)}", SecretString=postgres.password
    )
    with (
        new_cloud(ministack, issuer) as cloud,
        ScriptedAws() as aws,
        recovery(cloud, aws, postgres, f"recovered-{scope.cluster}") as around,
    ):
        if scope.cluster:
            aws.rds.add_cluster("shop", members=1)
            around.snapshot_cluster("shop", "nightly")
        else:
            aws.rds.add_instance("shop")
            aws.rds.add_snapshot("nightly")
        role = around.instance("shop-1" if scope.cluster else "shop")["MonitoringRoleArn"]
        key = around.record(is_cluster=scope.cluster is not None)
        source = {"Bucket": cloud.bucket, "Key": key}
        cloud.s3.copy_object(
            **source, CopySource=source, ServerSideEncryption="aws:kms", SSEKMSKeyId=KEY
        )
        (aws.rds.lose_cluster if scope.cluster else aws.rds.lose)("shop")
        yield Lost(around, secret, role)
        assert [] == aws.wrong


@pytest.fixture(scope="module")
def instance(ministack: Ministack, issuer: Issuer, postgres: PostgresServer) -> Iterator[Lost]:
    with lost(ministack, issuer, postgres, INSTANCE) as ready:
        yield ready


@pytest.fixture(scope="module")
def cluster(ministack: Ministack, issuer: Issuer, postgres: PostgresServer) -> Iterator[Lost]:
    with lost(ministack, issuer, postgres, CLUSTER) as ready:
        yield ready


def time_of(removal: Removal) -> str:
    return "latest" if removal.action.endswith(OF_TIMES) else ""


@pytest.mark.parametrize("time", ["", "latest"])
def test_a_lost_instance_comes_back_with_the_policy(instance: Lost, time: str) -> None:
    assert [] == green(instance.restore(INSTANCE, time=time)).warnings


@lacking("restore-instance", INSTANCE)
def test_a_lost_instance_names_the_action_that_it_lacks(instance: Lost, removal: Removal) -> None:
    run = instance.restore(INSTANCE, removal, time_of(removal))
    (assert_warned if removal in RESULT else assert_refused)(run, removal)


def test_nothing_but_what_was_restored_can_be_changed_with_the_policy(instance: Lost) -> None:
    aws = instance.around.aws
    aws.rds.add_instance("shop-reports")
    aws.allow_only(policy("restore-instance", INSTANCE))
    change = asking(aws).modify_db_instance
    code, _, message = refusal(change, DBInstanceIdentifier="shop-reports", MultiAZ=False)
    assert ("AccessDenied", True) == (code, "rds:ModifyDBInstance" in message)


@pytest.mark.parametrize("time", ["", "latest"])
def test_a_lost_cluster_comes_back_with_the_policy(cluster: Lost, time: str) -> None:
    assert [] == green(cluster.restore(CLUSTER, time=time)).warnings


@lacking("restore-instance", CLUSTER, but=removals("restore-instance", INSTANCE))
def test_a_lost_cluster_names_the_action_that_it_lacks(cluster: Lost, removal: Removal) -> None:
    assert_refused(cluster.restore(CLUSTER, removal, time_of(removal)), removal)
