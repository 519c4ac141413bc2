"""AWS Backup: vaults and recovery points; the scripts of their operations.

A recovery point of RDS is an RDS snapshot of the type awsbackup, and has its ARN.
https://docs.aws.amazon.com/aws-backup/latest/devguide/whatisbackup.html
"""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.lab.aws import REGION
from tests.lab.scripted import made
from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.estate import Estate, Thing
from tests.lab.sts import ACCOUNT

ROLE = f"arn:aws:iam::{ACCOUNT}:role/service-role/AWSBackupDefaultServiceRole"
# An instance's settings as restore metadata gives them: all of them are strings.
METADATA = (
    "AutoMinorVersionUpgrade",
    "AvailabilityZone",
    "CopyTagsToSnapshot",
    "DBInstanceClass",
    "DBInstanceIdentifier",
    "DBName",
    "DeletionProtection",
    "Engine",
    "LicenseModel",
    "MultiAZ",
    "PubliclyAccessible",
    "StorageType",
)
Answer = dict[str, Any]


@dataclass
class RecoveryPoint:
    vault: str
    resource: str  # ARN of the instance or cluster
    snapshot: Thing
    metadata: Mapping[str, str]
    role: str
    created: datetime.datetime
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        told = self.snapshot.description
        return str(told.get("DBSnapshotArn") or told["DBClusterSnapshotArn"])

    @property
    def region(self) -> str:
        return self.arn.split(":")[3]

    @property
    def kind(self) -> str:
        return "Aurora" if ":cluster-snapshot:" in self.arn else "RDS"

    @property
    def status(self) -> str:
        state = self.snapshot.course.state
        return {"available": "COMPLETED", "creating": "CREATING"}.get(state, "PARTIAL")


class Vaults:
    def __init__(self, estate: Estate) -> None:
        self.points: dict[str, RecoveryPoint] = {}  # by ARN
        self.page_size = 1000
        self._estate = estate
        self._vaults: dict[tuple[str, str], dict[str, Any]] = {}  # by region and name

    def add_vault(self, name: str = "Default", *, region: str = REGION, **other: Any) -> None:
        """`other` are members of DescribeBackupVault's answer."""
        self._vaults[region, name] = {
            "BackupVaultName": name,
            "BackupVaultArn": f"arn:aws:backup:{region}:{ACCOUNT}:backup-vault:{name}",
            "VaultType": "BACKUP_VAULT",
            "VaultState": "AVAILABLE",
            "EncryptionKeyArn": made.key_of(region),
            "CreationDate": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
            "Locked": False,
            **other,
        }

    def vault(self, name: str, region: str) -> Mapping[str, Any]:
        found = self._vaults.get((region, name))
        if found is None:
            raise Refused("ResourceNotFoundException", f"Backup vault {name} not found.", 400)
        return found

    def point(self, arn: str, vault: str | None = None) -> RecoveryPoint:
        found = self.points.get(arn)
        if found is None or vault not in (None, found.vault):
            raise Refused("ResourceNotFoundException", f"Recovery point {arn} not found.", 400)
        return found

    def describe_backup_vault(self, call: Call) -> Answer:
        name = call.input["BackupVaultName"]
        held = [point for point in self._in(call.region) if point.vault == name]
        return {**self.vault(name, call.region), "NumberOfRecoveryPoints": len(held)}

    def describe_recovery_point(self, call: Call) -> Answer:
        name = call.input["BackupVaultName"]
        self.vault(name, call.region)
        point = self.point(call.input["RecoveryPointArn"], name)
        return {**self._told(point), "StorageClass": "WARM"}

    def get_recovery_point_restore_metadata(self, call: Call) -> Answer:
        name = call.input["BackupVaultName"]
        vault = self.vault(name, call.region)
        point = self.point(call.input["RecoveryPointArn"], name)
        return {
            "BackupVaultArn": vault["BackupVaultArn"],
            "RecoveryPointArn": point.arn,
            "ResourceType": point.kind,
            "RestoreMetadata": dict(point.metadata),
        }

    def list_recovery_points_by_backup_vault(self, call: Call) -> Answer:
        given = call.input
        self.vault(given["BackupVaultName"], call.region)
        points = [
            point
            for point in self._in(call.region)
            if point.vault == given["BackupVaultName"]
            and given.get("ByResourceArn") in (None, point.resource)
            and given.get("ByResourceType") in (None, point.kind)
            and point.created >= given.get("ByCreatedAfter", point.created)
            and point.created <= given.get("ByCreatedBefore", point.created)
        ]
        page, more = self._page(call, points)
        return {"RecoveryPoints": [self._told(point) for point in page], **more}

    def list_recovery_points_by_resource(self, call: Call) -> Answer:
        points = [p for p in self._in(call.region) if p.resource == call.input["ResourceArn"]]
        page, more = self._page(call, points)
        names = ("RecoveryPointArn", "CreationDate", "Status", "EncryptionKeyArn", "ResourceName")
        listed = [
            {
                **{name: part for name, part in self._told(point).items() if name in names},
                "BackupSizeBytes": 1 << 30,
                "BackupVaultName": point.vault,
            }
            for point in page
        ]
        return {"RecoveryPoints": listed, **more}

    def _told(self, point: RecoveryPoint) -> Answer:
        vault = self.vault(point.vault, point.region)
        key = point.snapshot.description.get("KmsKeyId")
        return {
            "RecoveryPointArn": point.arn,
            "BackupVaultName": point.vault,
            "BackupVaultArn": vault["BackupVaultArn"],
            "ResourceArn": point.resource,
            "ResourceType": point.kind,
            "ResourceName": point.resource.rpartition(":")[2],
            "IamRoleArn": point.role,
            "Status": point.status,
            "CreationDate": point.created,
            "BackupSizeInBytes": 1 << 30,
            "IsEncrypted": key is not None,
            **({"EncryptionKeyArn": key} if key else {}),
            **({"CompletionDate": point.created} if point.status == "COMPLETED" else {}),
        }

    def _in(self, region: str) -> Iterable[RecoveryPoint]:
        """The newest first, as AWS Backup lists them."""
        points = [point for point in self.points.values() if point.region == region]
        return sorted(points, key=lambda point: point.created, reverse=True)

    def _page(
        self, call: Call, points: list[RecoveryPoint]
    ) -> tuple[list[RecoveryPoint], dict[str, str]]:
        token = call.input.get("NextToken", "")
        start = int(base64.b64decode(token)) if token else 0
        end = start + min(call.input.get("MaxResults", 1000), self.page_size)
        more = {"NextToken": base64.b64encode(str(end).encode()).decode()}
        return points[start:end], more if end < len(points) else {}


def restore_metadata(instance: Mapping[str, Any]) -> dict[str, str]:
    """What StartRestoreJob takes back to make an instance like this one."""
    texts = {name: instance[name] for name in METADATA if name in instance}
    texts |= {
        "DBSubnetGroupName": instance["DBSubnetGroup"]["DBSubnetGroupName"],
        "EnableIAMDatabaseAuthentication": instance["IAMDatabaseAuthenticationEnabled"],
        "OptionGroupName": instance["OptionGroupMemberships"][0]["OptionGroupName"],
        "Port": instance["Endpoint"]["Port"],
        "VpcSecurityGroupIds": [
            group["VpcSecurityGroupId"] for group in instance["VpcSecurityGroups"]
        ],
    }
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in texts.items()
    }
