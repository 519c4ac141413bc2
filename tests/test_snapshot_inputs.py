"""Inputs of snapshots and exports that cannot be used, told before anything is touched."""

from __future__ import annotations

import re

import pytest

from tests.lab.cloud import Cloud
from tests.lab.scripted.server import ScriptedAws
from tests.snapshots import BACKUP_ROLE, KEY_ELSEWHERE, run

BY_BACKUP = {"via": "aws-backup", "backup_vault": "production", "service_role": BACKUP_ROLE}


@pytest.mark.parametrize(
    ("operation", "inputs", "told"),
    [
        ("snapshot", {"db_instance": ""}, "db-instance: is missing"),
        ("snapshot", {"db_instance": "1shop"}, "db-instance: .*write it like"),
        ("snapshot", {"db_instance": "shop", "db_cluster": "shop"}, "db-instance: is given beside"),
        ("snapshot", {"snapshot_id": "before--1"}, "snapshot-id: .*shop-v1-4-2"),
        ("snapshot", {"via": "hand"}, "via: .*rds, aws-backup"),
        ("snapshot", {"via": "aws-backup"}, "backup-vault: is missing"),
        ("snapshot", {"via": "aws-backup"}, "service-role: is missing"),
        ("snapshot", BY_BACKUP | {"snapshot_id": "before"}, "snapshot-id: is for via: rds"),
        ("snapshot", BY_BACKUP | {"keep": "3"}, "keep: is for via: rds"),
        (
            "snapshot",
            BY_BACKUP | {"copy_to_region": "eu-west-1", "copy_kms_key_id": KEY_ELSEWHERE},
            "copy-kms-key-id: is for via: rds",
        ),
        ("snapshot", {"backup_vault": "production"}, "backup-vault: is given without"),
        ("snapshot", {"service_role": "backup"}, "service-role: .*arn:aws:iam"),
        ("snapshot", {"keep": "0"}, "keep: .*1"),
        ("snapshot", {"keep": "all"}, "keep: "),
        ("snapshot", {"tags": "team"}, "tags: .*key=value"),
        ("snapshot", {"tags": "aws:team=shop"}, "tags: aws:team is a key of its own meaning"),
        ("snapshot", {"tags": "pg-backup-action:source=crm"}, "tags: .*own meaning"),
        ("snapshot", {"copy_to_region": "Ireland"}, "copy-to-region: .*eu-west-1"),
        ("snapshot", {"copy_to_region": "eu-central-1"}, "copy-to-region: is the region"),
        ("snapshot", {"copy_kms_key_id": "alias/x"}, "copy-kms-key-id: is given without"),
        ("snapshot", {"copy_to_region": "eu-west-1", "wait": "none"}, "wait: is none"),
        ("snapshot", {"wait": "soon"}, "wait: "),
        ("export", {}, "service-role: is missing, and an export needs it"),
        ("export", {"service_role": BACKUP_ROLE}, "kms-key-id: is missing"),
    ],
)
def test_a_bad_input_is_told_before_anything_is_touched(
    cloud: Cloud, scripted: ScriptedAws, operation: str, inputs: dict[str, str], told: str
) -> None:
    made = run(cloud, scripted, operation, **inputs)

    assert 2 == made.exit_code, made.output
    (error,) = made.errors
    assert re.search(rf"^{told}", error.message, re.MULTILINE), error.message
    assert [] == scripted.calls
    assert [] == cloud.sts.exchanges
