"""What a well-kept production instance and cluster look like to RDS; tests change what they are
about."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

from tests.lab.sts import ACCOUNT

VPC = "vpc-0a1b2c3d"
ZONES = ("a", "b", "c")


def resource_id(kind: str, identifier: str, region: str) -> str:
    """`db-ABC...`, `cluster-ABC...`: never the same for two things."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    digest = hashlib.sha256(f"{kind} {identifier} {region} {now}".encode()).hexdigest()
    return f"{kind}-{digest[:26].upper()}"


def key_of(region: str) -> str:
    """A customer managed key of the region."""
    return f"arn:aws:kms:{region}:{ACCOUNT}:key/11111111-2222-4333-8444-555555555555"


def subnet_group(name: str, region: str, vpc: str = VPC) -> dict[str, Any]:
    return {
        "DBSubnetGroupName": name,
        "DBSubnetGroupDescription": name,
        "VpcId": vpc,
        "SubnetGroupStatus": "Complete",
        "Subnets": [
            {
                "SubnetIdentifier": f"subnet-{name}-{zone}",
                "SubnetAvailabilityZone": {"Name": f"{region}{zone}"},
                "SubnetOutpost": {},
                "SubnetStatus": "Active",
            }
            for zone in ZONES
        ],
        "DBSubnetGroupArn": f"arn:aws:rds:{region}:{ACCOUNT}:subgrp:{name}",
        "SupportedNetworkTypes": ["IPV4"],
    }


def instance(identifier: str, region: str, endpoint: tuple[str, int]) -> dict[str, Any]:
    """Every setting differs from what a restore would choose by itself."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "DBInstanceIdentifier": identifier,
        "DBInstanceArn": f"arn:aws:rds:{region}:{ACCOUNT}:db:{identifier}",
        "DbiResourceId": resource_id("db", identifier, region),
        "DBInstanceClass": "db.r6g.large",
        "Engine": "postgres",
        "EngineVersion": "17.6",
        "MasterUsername": "postgres",
        "DBName": "shop",
        "Endpoint": {"Address": endpoint[0], "Port": endpoint[1], "HostedZoneId": "Z1RLNUO7B9Q6NB"},
        "AllocatedStorage": 100,
        "MaxAllocatedStorage": 500,
        "StorageType": "gp3",
        "Iops": 3000,
        "StorageThroughput": 125,
        "StorageEncrypted": True,
        "KmsKeyId": key_of(region),
        "InstanceCreateTime": now - datetime.timedelta(days=400),
        "LatestRestorableTime": (now - datetime.timedelta(minutes=4)).replace(microsecond=0),
        "PreferredBackupWindow": "01:00-01:30",
        "BackupRetentionPeriod": 14,
        "BackupTarget": "region",
        "PreferredMaintenanceWindow": "tue:03:00-tue:03:30",
        "DBSecurityGroups": [],
        "VpcSecurityGroups": [{"VpcSecurityGroupId": "sg-0database", "Status": "active"}],
        "DBParameterGroups": [
            {"DBParameterGroupName": "shop-postgres17", "ParameterApplyStatus": "in-sync"}
        ],
        "DBSubnetGroup": subnet_group("private", region),
        "OptionGroupMemberships": [{"OptionGroupName": "default:postgres-17", "Status": "in-sync"}],
        "AvailabilityZone": f"{region}a",
        "SecondaryAvailabilityZone": f"{region}b",
        "MultiAZ": True,
        "PubliclyAccessible": False,
        "AutoMinorVersionUpgrade": True,
        "CopyTagsToSnapshot": True,
        "DeletionProtection": True,
        "IAMDatabaseAuthenticationEnabled": True,
        "MonitoringInterval": 60,
        "MonitoringRoleArn": f"arn:aws:iam::{ACCOUNT}:role/rds-monitoring-role",
        "PerformanceInsightsEnabled": True,
        "PerformanceInsightsRetentionPeriod": 7,
        "PerformanceInsightsKMSKeyId": key_of(region),
        "EnabledCloudwatchLogsExports": ["postgresql", "upgrade"],
        "CACertificateIdentifier": "rds-ca-rsa2048-g1",
        "LicenseModel": "postgresql-license",
        "NetworkType": "IPV4",
        "DbInstancePort": 0,
        "PendingModifiedValues": {},
        "ReadReplicaDBInstanceIdentifiers": [],
        "AssociatedRoles": [],
        "DomainMemberships": [],
        "TagList": [{"Key": "team", "Value": "shop"}],
    }


def cluster(identifier: str, region: str, endpoint: tuple[str, int]) -> dict[str, Any]:
    """An Aurora PostgreSQL cluster without its members."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "DBClusterIdentifier": identifier,
        "DBClusterArn": f"arn:aws:rds:{region}:{ACCOUNT}:cluster:{identifier}",
        "DbClusterResourceId": resource_id("cluster", identifier, region),
        "Engine": "aurora-postgresql",
        "EngineVersion": "16.6",
        "EngineMode": "provisioned",
        "MasterUsername": "postgres",
        "DatabaseName": "shop",
        "Endpoint": endpoint[0],
        "ReaderEndpoint": endpoint[0],
        "Port": endpoint[1],
        "AllocatedStorage": 1,
        "AvailabilityZones": [f"{region}{zone}" for zone in ZONES],
        "StorageEncrypted": True,
        "KmsKeyId": key_of(region),
        "ClusterCreateTime": now - datetime.timedelta(days=400),
        "EarliestRestorableTime": (now - datetime.timedelta(days=14)).replace(microsecond=0),
        "LatestRestorableTime": (now - datetime.timedelta(minutes=4)).replace(microsecond=0),
        "PreferredBackupWindow": "01:00-01:30",
        "BackupRetentionPeriod": 14,
        "PreferredMaintenanceWindow": "tue:03:00-tue:03:30",
        "DBClusterParameterGroup": "shop-aurora-postgresql16",
        "DBSubnetGroup": "private",
        "VpcSecurityGroups": [{"VpcSecurityGroupId": "sg-0database", "Status": "active"}],
        "DBClusterMembers": [],
        "AssociatedRoles": [],
        "MultiAZ": True,
        "AutoMinorVersionUpgrade": True,
        "CopyTagsToSnapshot": True,
        "DeletionProtection": True,
        "IAMDatabaseAuthenticationEnabled": True,
        "HttpEndpointEnabled": False,
        "EnabledCloudwatchLogsExports": ["postgresql"],
        "NetworkType": "IPV4",
        "TagList": [{"Key": "team", "Value": "shop"}],
    }
