"""Runs of the operations that RDS and AWS Backup do the work of, against the scripted AWS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.lab.aws import REGION
from tests.lab.cloud import Cloud, listing, reading, writing
from tests.lab.runner import ActionRun, RunningAction, start_action
from tests.lab.scripted.estate import Thing
from tests.lab.scripted.server import ScriptedAws
from tests.lab.sts import ACCOUNT

ELSEWHERE = "eu-west-1"
KEY_ELSEWHERE = f"arn:aws:kms:{ELSEWHERE}:{ACCOUNT}:key/99999999-8888-4777-8666-555555555555"
BACKUP_ROLE = f"arn:aws:iam::{ACCOUNT}:role/service-role/AWSBackupDefaultServiceRole"
OWN = "pg-backup-action:"


def env(cloud: Cloud, scripted: ScriptedAws) -> dict[str, str]:
    """A job's variables: quick looks, few attempts."""
    endpoints = {
        f"AWS_ENDPOINT_URL_{service}": scripted.url
        for service in ("RDS", "BACKUP", "EC2", "EC2_INSTANCE_CONNECT")
    }
    quick = {"PG_BACKUP_POLL_SECONDS": "0.01", "AWS_MAX_ATTEMPTS": "2"}
    return cloud.env | endpoints | quick


def start(cloud: Cloud, scripted: ScriptedAws, operation: str, **inputs: str) -> RunningAction:
    """Start an operation on the instance `shop`; inputs by name, underscores for hyphens."""
    given = {name.replace("_", "-"): value for name, value in inputs.items()}
    source = {} if "db-cluster" in given else {"db-instance": "shop"}
    return start_action(
        cloud.inputs | {"operation": operation, "wait": "60s"} | source | given,
        env(cloud, scripted),
    )


def run(cloud: Cloud, scripted: ScriptedAws, operation: str, **inputs: str) -> ActionRun:
    with start(cloud, scripted, operation, **inputs) as running:
        return running.finish()


def record_of(cloud: Cloud, folder: str = "rds/shop/") -> dict[str, Any]:
    """The only record of a kind."""
    (key,) = records(cloud, folder)
    told: dict[str, Any] = json.loads(cloud.read(key))
    return told


def records(cloud: Cloud, folder: str = "rds/shop/") -> list[str]:
    root = f"postgresql/{folder}"
    return [key for key in cloud.objects(root) if "/" not in key.removeprefix(root)]


def allow_reading(cloud: Cloud) -> None:
    """Let the role read records too, and use the keys of KMS."""
    keys = {"Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": "*"}
    cloud.allow(writing(cloud.bucket), listing(cloud.bucket), reading(cloud.bucket), keys)


def thing(scripted: ScriptedAws, name: str, region: str = REGION, kind: str = "snapshot") -> Thing:
    """What is there of that name: a snapshot, or a cluster-snapshot, db or cluster."""
    found = scripted.rds.estate.find(kind, region, name)
    assert found is not None, name
    return found


def resource_id(
    scripted: ScriptedAws, name: str = "shop", region: str = REGION, kind: str = "db"
) -> str:
    """What tells an instance or a cluster from every other that ever bore its name."""
    field = "DbiResourceId" if kind == "db" else "DbClusterResourceId"
    told: str = thing(scripted, name, region, kind).description[field]
    return told


def tags(description: Mapping[str, Any]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in description["TagList"]}
