"""A lost instance's surroundings: scripted RDS, a bucket with records, a server as the endpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.session

from backup.aws.instance_record import (
    InstanceRecord,
    RecordedRun,
    RecordedSnapshot,
    encode,
    key_of,
)
from backup.aws.instances import cluster_of, instance_of
from tests.lab.aws import REGION
from tests.lab.cloud import Cloud, listing, reading, writing
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun, RunningAction, start_action
from tests.lab.scripted.server import ScriptedAws
from tests.lab.stage import wait_until
from tests.steps import database_named, forget

ELSEWHERE = "eu-west-1"


@dataclass
class Recovery:
    """`database` is one of `server`, which answers at the endpoint of whatever RDS makes."""

    cloud: Cloud
    aws: ScriptedAws
    server: PostgresServer
    database: str
    more_env: dict[str, str] = field(default_factory=dict)

    def env(self) -> dict[str, str]:
        endpoints = {
            f"AWS_ENDPOINT_URL_{service}": self.aws.url for service in ("RDS", "BACKUP", "EC2")
        }
        few = {"AWS_MAX_ATTEMPTS": "3", "PG_BACKUP_POLL_SECONDS": "0.02"}
        return self.cloud.env | endpoints | few | self.more_env

    def inputs(self, **others: str) -> dict[str, str]:
        given = self.cloud.inputs | {
            "operation": "restore-instance",
            "db-instance": "shop",
            "database": self.database,
            "user": "postgres",
            "password": self.server.password,
            "wait": "1min",
        }
        given |= {name.replace("_", "-"): value for name, value in others.items()}
        return {name: value for name, value in given.items() if value}

    def start(self, **others: str) -> RunningAction:
        return start_action(self.inputs(**others), self.env())

    def run(self, **others: str) -> ActionRun:
        with self.start(**others) as running:
            return running.finish()

    def client(self, region: str = REGION) -> Any:
        return botocore.session.get_session().create_client(
            "rds",
            region_name=region,
            endpoint_url=self.aws.url,
            aws_access_key_id="AKIDTEST",
            aws_secret_access_key="secret",
        )

    def instance(self, identifier: str, region: str = REGION) -> dict[str, Any]:
        """As RDS describes it."""
        answer = self.client(region).describe_db_instances(DBInstanceIdentifier=identifier)
        told: dict[str, Any] = answer["DBInstances"][0]
        return told

    def cluster(self, identifier: str, region: str = REGION) -> dict[str, Any]:
        answer = self.client(region).describe_db_clusters(DBClusterIdentifier=identifier)
        told: dict[str, Any] = answer["DBClusters"][0]
        return told

    def snapshot_cluster(self, identifier: str, snapshot: str) -> None:
        client = self.client()
        client.create_db_cluster_snapshot(
            DBClusterIdentifier=identifier, DBClusterSnapshotIdentifier=snapshot
        )
        wait_until(
            lambda: (
                "available"
                == client.describe_db_cluster_snapshots()["DBClusterSnapshots"][-1]["Status"]
            )
        )

    def identifiers(self, region: str = REGION) -> list[str]:
        """Every instance that there is."""
        listed = self.client(region).describe_db_instances()["DBInstances"]
        return sorted(told["DBInstanceIdentifier"] for told in listed)

    def made(self) -> list[str]:
        """Calls that made or changed something."""
        verbs = ("Restore", "Create", "Modify", "Delete", "Copy", "Start", "Add")
        return [call.operation for call in self.aws.calls if call.operation.startswith(verbs)]

    def record(self, identifier: str = "shop", *, is_cluster: bool = False, **stored: str) -> str:
        """Write the record that a snapshot run of now would write; its key. `stored` are further
        members of PutObject."""
        if is_cluster:
            cluster = self.cluster(identifier)
            database: Any = cluster_of(cluster)
            members = tuple(instance_of(self.instance(name)) for name in database.members)
        else:
            database, members = instance_of(self.instance(identifier)), ()
        taken = datetime.now(UTC)
        record = InstanceRecord(
            taken=taken,
            region=REGION,
            database=database,
            members=members,
            snapshot=RecordedSnapshot("nightly", "arn:aws:rds:…", "rds", None, None),
            action=RecordedRun("1.0.0", None),
        )
        key = key_of("postgresql", identifier, taken)
        bucket, body = self.cloud.bucket, encode(record)
        self.cloud.s3.put_object(Bucket=bucket, Key=key, Body=body, **stored)
        return key

    def kept(self, identifier: str = "shop") -> list[dict[str, Any]]:
        """The records of restores."""
        found = self.cloud.objects(f"postgresql/rds/{identifier}/restores/")
        return [json.loads(self.cloud.read(key)) for key in sorted(found)]


@contextmanager
def recovery(
    cloud: Cloud, aws: ScriptedAws, server: PostgresServer, database: str = "recovered"
) -> Iterator[Recovery]:
    """An instance `shop` with a snapshot of today, and a database behind every new endpoint."""
    cloud.allow(writing(cloud.bucket), listing(cloud.bucket), reading(cloud.bucket))
    aws.rds.endpoint = ("127.0.0.1", server.port)
    aws.rds.pace.describes_per_state = 2
    database_named(server, database, "CREATE TABLE basket (id int); CREATE TABLE item (id int);")
    try:
        yield Recovery(cloud, aws, server, database)
    finally:
        forget(server, database)


def aws(recovery: Recovery, line: str) -> None:
    """Type a line of an error or of a summary into a shell, once RDS is through with it all."""
    for _ in range(20):  # a waiter of the AWS CLI looks every 30 s only
        recovery.identifiers()
        recovery.client().describe_db_clusters()
    env = recovery.env() | {
        "AWS_ACCESS_KEY_ID": "AKIDTEST",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-c", line], env=env, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, f"{line}\n{done.stdout}{done.stderr}"


def commands(text: str) -> list[str]:
    """The lines of a text that are for a shell."""
    return [line.strip() for line in text.splitlines() if line.strip().startswith("aws ")]


def settings_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a copy of an instance has of the old one, by the names of RDS's description."""
    same = (
        "DBInstanceClass", "MultiAZ", "StorageType", "Iops", "StorageThroughput",
        "MaxAllocatedStorage", "StorageEncrypted", "KmsKeyId", "BackupRetentionPeriod",
        "PreferredBackupWindow", "PreferredMaintenanceWindow", "IAMDatabaseAuthenticationEnabled",
        "MonitoringInterval", "MonitoringRoleArn", "PerformanceInsightsEnabled",
        "PerformanceInsightsRetentionPeriod", "PerformanceInsightsKMSKeyId",
        "EnabledCloudwatchLogsExports", "CACertificateIdentifier", "AutoMinorVersionUpgrade",
        "CopyTagsToSnapshot", "VpcSecurityGroups", "NetworkType",
    )  # fmt: skip
    groups = [each["DBParameterGroupName"] for each in told["DBParameterGroups"]]
    return {name: told.get(name) for name in same} | {
        "subnets": told["DBSubnetGroup"]["DBSubnetGroupName"],
        "parameters": groups,
        "options": [each["OptionGroupName"] for each in told["OptionGroupMemberships"]],
    }
