"""The policies of what RDS and AWS Backup do are what it takes: no action more or less."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import pytest

from backup.aws.grants import PolicyScope
from tests import snapshots
from tests.lab.aws import REGION, Ministack
from tests.lab.cloud import Cloud, new_cloud
from tests.lab.issuer import Issuer
from tests.lab.runner import ActionRun
from tests.lab.scripted.asking import asking, refusal
from tests.lab.scripted.made import key_of
from tests.lab.scripted.server import ScriptedAws
from tests.lab.sts import ACCOUNT
from tests.permissions import SCOPE, Removal, assert_refused, assert_warned, policy, removals
from tests.snapshots import BACKUP_ROLE, ELSEWHERE, KEY_ELSEWHERE
from tests.steps import green

EXPORT_ROLE = f"arn:aws:iam::{ACCOUNT}:role/pg-backup-export"
RECORD = (
    Removal("KeepTheRecord", "s3:PutObject"),
    Removal("EncryptTheRecord", "kms:GenerateDataKey"),
)

INSTANCE = replace(
    SCOPE, kms_key_arn=key_of(REGION), instance="shop", copy_region=ELSEWHERE,
    copy_kms_key_arn=KEY_ELSEWHERE,
)  # fmt: skip
CLUSTER = replace(INSTANCE, instance=None, cluster="shop")
IN_VAULT = replace(INSTANCE, copy_kms_key_arn=None, vault="production", service_role=BACKUP_ROLE)
CLUSTER_IN_VAULT = replace(IN_VAULT, instance=None, cluster="shop")
EXPORT = replace(SCOPE, kms_key_arn=key_of(REGION), instance="shop", service_role=EXPORT_ROLE)
CLUSTER_EXPORT = replace(EXPORT, instance=None, cluster="shop")


@dataclass(frozen=True)
class Account:
    """An instance and a cluster `shop`, and whoever may do what a policy says."""

    cloud: Cloud
    aws: ScriptedAws
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def begin_anew(self) -> None:
        """Whatever a run before has left: all is available, with an old snapshot of the action."""
        self.aws.allow_only([{"Effect": "Allow", "Action": "*", "Resource": "*"}])
        self.aws.rds.add_instance("shop")
        self.aws.rds.add_cluster("shop", members=1)
        rds, name = asking(self.aws), f"old-{next(self.numbers)}"
        rds.create_db_snapshot(
            DBInstanceIdentifier="shop", DBSnapshotIdentifier=name, Tags=self._own(name, "db")
        )
        rds.create_db_cluster_snapshot(
            DBClusterIdentifier="shop",
            DBClusterSnapshotIdentifier=name,
            Tags=self._own(name, "cluster"),
        )
        for _ in range(8):
            rds.describe_db_snapshots()
            rds.describe_db_cluster_snapshots()

    def _own(self, name: str, kind: str) -> list[dict[str, str]]:
        """The tags that the action gives a snapshot."""
        own = {
            "created-by": "pg-backup-action",
            "source": "shop",
            "source-id": snapshots.resource_id(self.aws, kind=kind),
            "snapshot": name,
        }
        return [{"Key": f"{snapshots.OWN}{key}", "Value": value} for key, value in own.items()]

    def run(
        self, operation: str, scope: PolicyScope, without: Removal | None, **inputs: str
    ) -> ActionRun:
        self.begin_anew()
        statements = policy(operation, replace(scope, bucket=self.cloud.bucket), without)
        self.cloud.allow(*statements)
        self.aws.allow_only(statements)
        subject = {"db_cluster": "shop"} if scope.cluster else {}
        return snapshots.run(
            self.cloud, self.aws, operation, kms_key_id=key_of(REGION), **inputs, **subject
        )

    def snapshot(self, scope: PolicyScope, without: Removal | None = None) -> ActionRun:
        """With what takes the most permissions."""
        given = {"copy_to_region": ELSEWHERE}
        if scope.vault:
            given |= {"via": "aws-backup", "backup_vault": scope.vault}
            given |= {"service_role": scope.service_role or ""}
        else:
            given |= {"copy_kms_key_id": KEY_ELSEWHERE, "keep": "1"}
        return self.run("snapshot", scope, without, **given)

    def export(self, scope: PolicyScope, without: Removal | None = None) -> ActionRun:
        return self.run("export", scope, without, service_role=EXPORT_ROLE)


@pytest.fixture(scope="module")
def account(ministack: Ministack, issuer: Issuer) -> Iterator[Account]:
    with new_cloud(ministack, issuer) as cloud, ScriptedAws() as aws:
        for region in (REGION, ELSEWHERE):
            aws.backup.vaults.add_vault("production", region=region)
        yield Account(cloud, aws)
        assert [] == aws.wrong


def each_lacking(operation: str, scopes: Mapping[str, PolicyScope]) -> pytest.MarkDecorator:
    """Every action of the policies in turn, in the first that has it."""
    first: dict[Removal, PolicyScope] = {}
    for scope in scopes.values():
        for removal in removals(operation, scope):
            first.setdefault(removal, scope)
    tried = [(scope, removal) for removal, scope in first.items()]
    return pytest.mark.parametrize(("scope", "removal"), tried, ids=map(str, first))


SNAPSHOTS = {
    "instance": INSTANCE,
    "cluster": CLUSTER,
    "instance-in-vault": IN_VAULT,
    "cluster-in-vault": CLUSTER_IN_VAULT,
}
EXPORTS = {"instance": EXPORT, "cluster": CLUSTER_EXPORT}


@pytest.mark.parametrize("scope", SNAPSHOTS.values(), ids=SNAPSHOTS)
def test_a_snapshot_needs_the_policy(account: Account, scope: PolicyScope) -> None:
    assert [] == green(account.snapshot(scope)).warnings


def test_no_snapshot_but_the_actions_own_can_be_deleted_with_the_policy(account: Account) -> None:
    account.begin_anew()
    account.aws.rds.add_snapshot("theirs")
    account.aws.allow_only(policy("snapshot", INSTANCE))
    delete = asking(account.aws).delete_db_snapshot
    code, _, message = refusal(delete, DBSnapshotIdentifier="theirs")
    assert ("AccessDenied", True) == (code, "rds:DeleteDBSnapshot" in message)


@each_lacking("snapshot", SNAPSHOTS)
def test_a_snapshot_names_the_action_that_it_lacks(
    account: Account, scope: PolicyScope, removal: Removal
) -> None:
    run = account.snapshot(scope, removal)
    (assert_warned if removal in RECORD else assert_refused)(run, removal)


@pytest.mark.parametrize("scope", EXPORTS.values(), ids=EXPORTS)
def test_an_export_needs_the_policy(account: Account, scope: PolicyScope) -> None:
    assert [] == green(account.export(scope)).warnings


@each_lacking("export", EXPORTS)
def test_an_export_names_the_action_that_it_lacks(
    account: Account, scope: PolicyScope, removal: Removal
) -> None:
    run = account.export(scope, removal)
    (assert_warned if removal in RECORD else assert_refused)(run, removal)
