"""The settings of a copy, as RDS's calls name them, and what of them a restore leaves out.

What is wanted is an `Instance` (or `Cluster`) itself: the old one, with what must differ. RDS takes
its own defaults for all that a restore does not say: the default security group and parameter
group, one zone, no deletion protection, no tags of its own, and public where the subnets are.
https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RestoreDBInstanceFromDBSnapshot.html
https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RestoreDBInstanceToPointInTime.html
"""

from __future__ import annotations

from typing import Any

from backup.aws.instances import Cluster, Instance, Monitoring, Storage, Tags
from backup.aws.recovery.points import Point, SnapshotPoint

Arguments = dict[str, Any]

# "You can't specify IOPS or storage throughput for engine postgres and a storage size less than
# 400": https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Storage.html#gp3-storage
_LEAST_GP3_GIB = 400
_AURORA = "aurora-postgresql"

# Of ModifyDBInstance and of ModifyDBCluster. A protected instance that RDS could not make would
# stay for good, for it cannot be modified either: so this comes once it answers.
PROTECTION: Arguments = {"DeletionProtection": True}


def instance_restore(wanted: Instance) -> Arguments:
    """The arguments of RestoreDBInstanceFromDBSnapshot, or of RestoreDBInstanceToPointInTime."""
    arguments: Arguments = {
        "DBInstanceClass": wanted.instance_class,
        "Port": wanted.network.port,
        "DBSubnetGroupName": wanted.network.subnet_group,
        "VpcSecurityGroupIds": list(wanted.network.security_groups),
        "NetworkType": wanted.network.network_type,
        "MultiAZ": wanted.is_multi_az,
        "PubliclyAccessible": False,
        "DBParameterGroupName": _custom(wanted.parameter_group),
        "OptionGroupName": _custom(wanted.option_group),
        "EnableIAMDatabaseAuthentication": wanted.has_iam_login,
        "EnableCloudwatchLogsExports": list(wanted.monitoring.log_exports),
        "AutoMinorVersionUpgrade": wanted.upkeep.upgrades_minor,
        "CopyTagsToSnapshot": wanted.upkeep.copies_tags,
        "BackupRetentionPeriod": wanted.upkeep.retention_days,
        "PreferredBackupWindow": wanted.upkeep.backup_window,
        "CACertificateIdentifier": wanted.ca_certificate,
        "Tags": _tags(wanted.tags),
        **_storage(wanted.storage),
    }
    return _given(arguments)


def instance_later(wanted: Instance) -> Arguments:
    """The arguments of the ModifyDBInstance that brings what the restore could or should not."""
    arguments: Arguments = PROTECTION | {
        "PreferredMaintenanceWindow": wanted.upkeep.maintenance_window,
        "MaxAllocatedStorage": wanted.storage.max_allocated_gib,
        **_monitoring(wanted.monitoring),
    }
    return _given(arguments)


def cluster_restore(wanted: Cluster, point: Point) -> Arguments:
    """The arguments of RestoreDBClusterFromSnapshot, or of RestoreDBClusterToPointInTime."""
    arguments: Arguments = {
        "Port": wanted.network.port,
        "DBSubnetGroupName": wanted.network.subnet_group,
        "VpcSecurityGroupIds": list(wanted.network.security_groups),
        "NetworkType": wanted.network.network_type,
        "DBClusterParameterGroupName": _custom(wanted.parameter_group),
        "EnableIAMDatabaseAuthentication": wanted.has_iam_login,
        "EnableCloudwatchLogsExports": list(wanted.monitoring.log_exports),
        "CopyTagsToSnapshot": wanted.upkeep.copies_tags,
        "BackupRetentionPeriod": wanted.upkeep.retention_days,
        "PreferredBackupWindow": wanted.upkeep.backup_window,
        "Tags": _tags(wanted.tags),
    }
    if wanted.serverless:
        least, most = wanted.serverless
        arguments["ServerlessV2ScalingConfiguration"] = {"MinCapacity": least, "MaxCapacity": most}
    if is_aurora(wanted):
        arguments["StorageType"] = wanted.storage.type
    else:
        # RDS makes the instances of a Multi-AZ cluster itself.
        arguments["DBClusterInstanceClass"] = wanted.instance_class
        arguments["PubliclyAccessible"] = False
        arguments |= {"StorageType": wanted.storage.type, "Iops": wanted.storage.iops}
        arguments |= _monitoring(wanted.monitoring)
    if isinstance(point, SnapshotPoint):
        # Without it RDS would take the default version of the region.
        arguments |= {"Engine": wanted.engine, "EngineVersion": point.engine_version}
    return _given(arguments)


def cluster_later(wanted: Cluster) -> Arguments:
    """The same for ModifyDBCluster."""
    return _given(PROTECTION | {"PreferredMaintenanceWindow": wanted.upkeep.maintenance_window})


def member_creation(wanted: Instance, cluster: Cluster) -> Arguments:
    """The arguments of CreateDBInstance for a member of an Aurora cluster, which knows the rest."""
    return _given(
        {
            "DBInstanceIdentifier": wanted.identifier,
            "DBClusterIdentifier": cluster.identifier,
            "Engine": cluster.engine,
            "DBInstanceClass": wanted.instance_class,
            "DBParameterGroupName": _custom(wanted.parameter_group),
            "PubliclyAccessible": False,
            "PromotionTier": wanted.promotion_tier,
            "AutoMinorVersionUpgrade": wanted.upkeep.upgrades_minor,
            "PreferredMaintenanceWindow": wanted.upkeep.maintenance_window,
            "CACertificateIdentifier": wanted.ca_certificate,
            "Tags": _tags(wanted.tags),
            **_monitoring(wanted.monitoring),
        }
    )


def is_aurora(cluster: Cluster) -> bool:
    """Whether its instances are to be made one by one."""
    return cluster.engine == _AURORA


def _custom(group: str | None) -> str | None:
    """A group of the account's own; RDS finds the default of the version by itself."""
    return None if group is None or group.startswith(("default.", "default:")) else group


def _storage(storage: Storage) -> Arguments:
    arguments: Arguments = {"StorageType": storage.type}
    if storage.type in ("io1", "io2") or (
        storage.type == "gp3" and (storage.allocated_gib or 0) >= _LEAST_GP3_GIB
    ):
        arguments["Iops"] = storage.iops
    if "Iops" in arguments and storage.type == "gp3":
        arguments["StorageThroughput"] = storage.throughput
    return arguments


def _monitoring(monitoring: Monitoring) -> Arguments:
    arguments: Arguments = {}
    if monitoring.interval:
        arguments["MonitoringInterval"] = monitoring.interval
        arguments["MonitoringRoleArn"] = monitoring.role
    if monitoring.insights:
        arguments["EnablePerformanceInsights"] = True
        arguments["PerformanceInsightsKMSKeyId"] = monitoring.insights_kms_key_id
        arguments["PerformanceInsightsRetentionPeriod"] = monitoring.insights_days
    return arguments


def _tags(tags: Tags) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags]


def _given(arguments: Arguments) -> Arguments:
    return {name: value for name, value in arguments.items() if value is not None and value != []}
