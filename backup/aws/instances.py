"""RDS instances and clusters as they are: every setting that a copy of one would need.

https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DBInstance.html
https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DBCluster.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backup.aws.permissions import partition
from backup.aws.refusals import Attempt, Remedy, explained
from backup.aws.session import AwsSession
from backup.aws.uncopied import uncopied
from backup.errors import AccessError, InputError

AVAILABLE = "available"
_UNKNOWN = Remedy(
    InputError,
    "correct db-instance or db-cluster, or aws-region; this lists what is there:\n"
    "aws rds describe-db-instances --query 'DBInstances[].DBInstanceIdentifier'",
)
_REMEDIES = {"DBInstanceNotFound": _UNKNOWN, "DBClusterNotFoundFault": _UNKNOWN}

Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Storage:
    """GiB, IOPS and MiB/s; None where the storage type sets none, or it does not grow by itself."""

    type: str | None
    allocated_gib: int | None
    max_allocated_gib: int | None
    iops: int | None
    throughput: int | None
    kms_key_id: str | None
    is_encrypted: bool


@dataclass(frozen=True, slots=True)
class Network:
    """Where it stands. `endpoint` is None until it has one; `subnets` and `vpc` are those of the
    subnet group, empty for a cluster, whose members know them."""

    endpoint: str | None
    port: int | None
    subnet_group: str | None
    vpc: str | None
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    network_type: str | None
    is_public: bool


@dataclass(frozen=True, slots=True)
class Monitoring:
    """`interval`: seconds between samples of enhanced monitoring, 0 for off."""

    interval: int
    role: str | None
    insights: bool
    insights_kms_key_id: str | None
    insights_days: int | None
    log_exports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Upkeep:
    """Backups and upgrades that RDS makes by itself."""

    retention_days: int
    backup_window: str | None
    maintenance_window: str | None
    latest_restorable: datetime | None
    earliest_restorable: datetime | None
    upgrades_minor: bool
    copies_tags: bool


@dataclass(frozen=True, slots=True)
class Instance:
    """One RDS instance; `cluster` names the cluster that it is a member of. `uncopied` says in
    words what a restore does not give to a new one; None where an older record does not tell."""

    identifier: str
    arn: str
    resource_id: str
    status: str
    engine: str
    engine_version: str
    instance_class: str
    cluster: str | None
    is_multi_az: bool
    storage: Storage
    network: Network
    monitoring: Monitoring
    upkeep: Upkeep
    parameter_group: str | None
    option_group: str | None
    master_user: str | None
    database: str | None
    ca_certificate: str | None
    promotion_tier: int | None
    has_iam_login: bool
    has_deletion_protection: bool
    tags: Tags
    uncopied: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """An Aurora cluster, or a Multi-AZ cluster of RDS; `members` with the writer first.

    `instance_class` is set for a Multi-AZ cluster only, whose members RDS makes itself.
    """

    identifier: str
    arn: str
    resource_id: str
    status: str
    engine: str
    engine_version: str
    engine_mode: str | None
    instance_class: str | None
    members: tuple[str, ...]
    is_multi_az: bool
    serverless: tuple[float, float] | None
    storage: Storage
    network: Network
    monitoring: Monitoring
    upkeep: Upkeep
    parameter_group: str | None
    master_user: str | None
    database: str | None
    has_iam_login: bool
    has_deletion_protection: bool
    tags: Tags
    uncopied: tuple[str, ...] | None


Database = Instance | Cluster


def describe_instance(session: AwsSession, identifier: str) -> Instance:
    """Raises InputError where there is no such instance, AccessError."""
    resource = rds_arn(session, "db", identifier)
    attempt = rds_attempt(
        session, f"cannot look at the instance {identifier}", "rds:DescribeDBInstances", resource
    )
    with explained(attempt):
        answer = session.client("rds").describe_db_instances(DBInstanceIdentifier=identifier)
    return instance_of(answer["DBInstances"][0])


def describe_cluster(session: AwsSession, identifier: str) -> Cluster:
    """Raises InputError where there is no such cluster, AccessError."""
    resource = rds_arn(session, "cluster", identifier)
    attempt = rds_attempt(
        session, f"cannot look at the cluster {identifier}", "rds:DescribeDBClusters", resource
    )
    with explained(attempt):
        answer = session.client("rds").describe_db_clusters(DBClusterIdentifier=identifier)
    return cluster_of(answer["DBClusters"][0])


def rds_arn(session: AwsSession, kind: str, name: str) -> str:
    """https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Tagging.ARN.Constructing.html"""
    region = session.region
    return f"arn:{partition(region)}:rds:{region}:{session.account}:{kind}:{name}"


def rds_attempt(
    session: AwsSession, message: str, action: str, resource: str | tuple[str, ...]
) -> Attempt:
    """An attempt at one call of RDS about an instance or a cluster that exists."""
    return Attempt(
        message, session.region, (action,), resource, failure=AccessError, remedies=_REMEDIES
    )


def instance_of(told: Mapping[str, Any]) -> Instance:
    """An instance from RDS's answer."""
    return Instance(
        identifier=told["DBInstanceIdentifier"],
        arn=told["DBInstanceArn"],
        resource_id=told.get("DbiResourceId", ""),
        status=told["DBInstanceStatus"],
        engine=told["Engine"],
        engine_version=told["EngineVersion"],
        instance_class=told["DBInstanceClass"],
        cluster=told.get("DBClusterIdentifier"),
        is_multi_az=bool(told.get("MultiAZ")),
        storage=_storage(told),
        network=_network_of_instance(told),
        monitoring=_monitoring(told),
        upkeep=_upkeep(told),
        parameter_group=_first(told.get("DBParameterGroups"), "DBParameterGroupName"),
        option_group=_first(told.get("OptionGroupMemberships"), "OptionGroupName"),
        master_user=told.get("MasterUsername"),
        database=told.get("DBName"),
        ca_certificate=told.get("CACertificateIdentifier"),
        promotion_tier=told.get("PromotionTier"),
        has_iam_login=bool(told.get("IAMDatabaseAuthenticationEnabled")),
        has_deletion_protection=bool(told.get("DeletionProtection")),
        tags=tags_of(told),
        uncopied=uncopied(told),
    )


def cluster_of(told: Mapping[str, Any]) -> Cluster:
    """A cluster from RDS's answer."""
    members = sorted(told.get("DBClusterMembers", []), key=lambda each: not each["IsClusterWriter"])
    scaling = told.get("ServerlessV2ScalingConfiguration")
    groups = tuple(each["VpcSecurityGroupId"] for each in told.get("VpcSecurityGroups", []))
    return Cluster(
        identifier=told["DBClusterIdentifier"],
        arn=told["DBClusterArn"],
        resource_id=told.get("DbClusterResourceId", ""),
        status=told["Status"],
        engine=told["Engine"],
        engine_version=told["EngineVersion"],
        engine_mode=told.get("EngineMode"),
        instance_class=told.get("DBClusterInstanceClass"),
        members=tuple(each["DBInstanceIdentifier"] for each in members),
        is_multi_az=bool(told.get("MultiAZ")),
        serverless=(scaling["MinCapacity"], scaling["MaxCapacity"]) if scaling else None,
        storage=_storage(told),
        network=Network(
            endpoint=told.get("Endpoint"),
            port=told.get("Port"),
            subnet_group=told.get("DBSubnetGroup"),
            vpc=None,
            subnets=(),
            security_groups=groups,
            network_type=told.get("NetworkType"),
            is_public=bool(told.get("PubliclyAccessible")),
        ),
        monitoring=_monitoring(told),
        upkeep=_upkeep(told),
        parameter_group=told.get("DBClusterParameterGroup"),
        master_user=told.get("MasterUsername"),
        database=told.get("DatabaseName"),
        has_iam_login=bool(told.get("IAMDatabaseAuthenticationEnabled")),
        has_deletion_protection=bool(told.get("DeletionProtection")),
        tags=tags_of(told),
        uncopied=uncopied(told),
    )


def tags_of(told: Mapping[str, Any]) -> Tags:
    """The tags in RDS's answer, sorted."""
    return tuple(sorted((each["Key"], each.get("Value", "")) for each in told.get("TagList", [])))


def _storage(told: Mapping[str, Any]) -> Storage:
    return Storage(
        type=told.get("StorageType"),
        allocated_gib=told.get("AllocatedStorage"),
        max_allocated_gib=told.get("MaxAllocatedStorage"),
        iops=told.get("Iops"),
        throughput=told.get("StorageThroughput"),
        kms_key_id=told.get("KmsKeyId"),
        is_encrypted=bool(told.get("StorageEncrypted")),
    )


def _network_of_instance(told: Mapping[str, Any]) -> Network:
    endpoint = told.get("Endpoint") or {}
    group = told.get("DBSubnetGroup") or {}
    groups = tuple(each["VpcSecurityGroupId"] for each in told.get("VpcSecurityGroups", []))
    return Network(
        endpoint=endpoint.get("Address"),
        port=endpoint.get("Port"),
        subnet_group=group.get("DBSubnetGroupName"),
        vpc=group.get("VpcId"),
        subnets=tuple(each["SubnetIdentifier"] for each in group.get("Subnets", [])),
        security_groups=groups,
        network_type=told.get("NetworkType"),
        is_public=bool(told.get("PubliclyAccessible")),
    )


def _monitoring(told: Mapping[str, Any]) -> Monitoring:
    return Monitoring(
        interval=int(told.get("MonitoringInterval") or 0),
        role=told.get("MonitoringRoleArn"),
        insights=bool(told.get("PerformanceInsightsEnabled")),
        insights_kms_key_id=told.get("PerformanceInsightsKMSKeyId"),
        insights_days=told.get("PerformanceInsightsRetentionPeriod"),
        log_exports=tuple(told.get("EnabledCloudwatchLogsExports", [])),
    )


def _upkeep(told: Mapping[str, Any]) -> Upkeep:
    return Upkeep(
        retention_days=int(told.get("BackupRetentionPeriod") or 0),
        backup_window=told.get("PreferredBackupWindow"),
        maintenance_window=told.get("PreferredMaintenanceWindow"),
        latest_restorable=told.get("LatestRestorableTime"),
        earliest_restorable=told.get("EarliestRestorableTime"),
        upgrades_minor=bool(told.get("AutoMinorVersionUpgrade")),
        copies_tags=bool(told.get("CopyTagsToSnapshot")),
    )


def _first(listed: list[Mapping[str, Any]] | None, name: str) -> str | None:
    return str(listed[0][name]) if listed else None
