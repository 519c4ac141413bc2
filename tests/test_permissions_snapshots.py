"""Snapshots and exports run with exactly the documented policy, and fail without any part of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from backup.aws.grants import PolicyScope
from tests.lab.aws import REGION
from tests.lab.cloud import Cloud
from tests.lab.runner import ActionRun
from tests.lab.scripted.server import ScriptedAws
from tests.lab.sts import ACCOUNT
from tests.permissions import SCOPE, Removal, assert_refused, assert_warned, policy, removals
from tests.snapshots import BACKUP_ROLE, ELSEWHERE, KEY_ELSEWHERE, OWN, run, thing
from tests.steps import green

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-4333-8444-555555555555"
BY_RDS = replace(
    SCOPE, instance="shop", copy_region=ELSEWHERE, copy_kms_key_arn=KEY_ELSEWHERE, kms_key_arn=KEY
)
BY_BACKUP = replace(
    SCOPE, instance="shop", vault="production", service_role=BACKUP_ROLE, copy_region=ELSEWHERE
)
EXPORT = replace(SCOPE, instance="shop", kms_key_arn=KEY, service_role=BACKUP_ROLE)


def of_cluster(scope: PolicyScope) -> PolicyScope:
    return replace(scope, instance=None, cluster="ledger")


SCENES = {
    "snapshot": ("snapshot", BY_RDS),
    "snapshot of a cluster": ("snapshot", of_cluster(BY_RDS)),
    "recovery point": ("snapshot", BY_BACKUP),
    "recovery point of a cluster": ("snapshot", of_cluster(BY_BACKUP)),
    "export": ("export", EXPORT),
    "export of a cluster": ("export", of_cluster(EXPORT)),
}
# What a snapshot or an export is worth having without; a warning says so.
WARNED = ("KeepTheRecord", "EncryptTheRecord")


@dataclass(frozen=True)
class Scene:
    """An operation with all that its policy is for."""

    cloud: Cloud
    scripted: ScriptedAws
    operation: str
    scope: PolicyScope

    def run(self, without: Removal | None = None) -> ActionRun:
        scope = replace(self.scope, bucket=self.cloud.bucket)
        statements = policy(self.operation, scope, without)
        self.scripted.allow_only(statements)
        self.cloud.allow(*statements)
        return run(self.cloud, self.scripted, self.operation, **self._inputs())

    def _inputs(self) -> dict[str, str]:
        scope = self.scope
        given = {
            "db_cluster": scope.cluster,
            "kms_key_id": scope.kms_key_arn,
            "service_role": scope.service_role,
            "copy_to_region": scope.copy_region,
            "copy_kms_key_id": scope.copy_kms_key_arn,
            "backup_vault": scope.vault,
        }
        chosen = {name: value for name, value in given.items() if value}
        if scope.vault:
            return chosen | {"via": "aws-backup"}
        return chosen | ({"keep": "1"} if self.operation == "snapshot" else {})


@contextmanager
def scene(cloud: Cloud, scripted: ScriptedAws, name: str) -> Iterator[Scene]:
    operation, scope = SCENES[name]
    scripted.rds.pace.describes_per_state = 1
    scripted.rds.add_instance("shop")
    scripted.rds.add_cluster("ledger", members=1)
    for region in (REGION, ELSEWHERE):
        scripted.backup.vaults.add_vault("production", region=region)
    source = scope.cluster or scope.instance or ""
    own = {"created-by": "pg-backup-action", "source": source, "snapshot": "old"}
    if scope.cluster:
        ledger = thing(scripted, "ledger", kind="cluster")
        old = scripted.rds.cluster_snapshots.add(REGION, "old", ledger, "manual", "available")
    else:
        old = scripted.rds.add_snapshot("old", "shop")
    old.description["TagList"] = [{"Key": OWN + key, "Value": own[key]} for key in own]
    yield Scene(cloud, scripted, operation, scope)


@pytest.mark.parametrize("name", SCENES)
def test_the_documented_policy_is_enough(cloud: Cloud, scripted: ScriptedAws, name: str) -> None:
    with scene(cloud, scripted, name) as ready:
        made = green(ready.run())

    assert [] == made.warnings
    deleted = [call for call in scripted.calls if call.operation.startswith("Delete")]
    assert (name.startswith("snapshot")) == (len(deleted) == 1)


@pytest.mark.parametrize(
    ("name", "removal"),
    [(name, removal) for name, (operation, scope) in SCENES.items() if "cluster" not in name
     for removal in removals(operation, scope)],
    ids=str,
)  # fmt: skip
def test_without_any_of_it_the_run_says_what_is_missing(
    cloud: Cloud, scripted: ScriptedAws, name: str, removal: Removal
) -> None:
    with scene(cloud, scripted, name) as ready:
        made = ready.run(removal)

    if removal.sid in WARNED:
        assert_warned(made, removal)
    else:
        assert_refused(made, removal)


def test_a_snapshot_of_someone_else_cannot_be_deleted_with_it(
    cloud: Cloud, scripted: ScriptedAws
) -> None:
    with scene(cloud, scripted, "snapshot") as ready:
        scripted.rds.estate.all("snapshot", REGION)["old"].description["TagList"] = []
        green(ready.run())

    assert "old" in scripted.rds.estate.all("snapshot", REGION)
