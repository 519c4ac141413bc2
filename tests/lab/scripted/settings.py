"""An instance's settings: as requests name them, and as descriptions tell them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.estate import Estate

# Request and description use the same name for these.
SAME = (
    "AllocatedStorage",
    "AutoMinorVersionUpgrade",
    "AvailabilityZone",
    "BackupRetentionPeriod",
    "BackupTarget",
    "CACertificateIdentifier",
    "CopyTagsToSnapshot",
    "DBInstanceClass",
    "DatabaseInsightsMode",
    "DedicatedLogVolume",
    "DeletionProtection",
    "EngineVersion",
    "Iops",
    "LicenseModel",
    "MaxAllocatedStorage",
    "MonitoringInterval",
    "MonitoringRoleArn",
    "MultiAZ",
    "NetworkType",
    "PerformanceInsightsKMSKeyId",
    "PerformanceInsightsRetentionPeriod",
    "PreferredBackupWindow",
    "PreferredMaintenanceWindow",
    "PromotionTier",
    "PubliclyAccessible",
    "StorageThroughput",
    "StorageType",
)
RENAMED = {
    "EnableIAMDatabaseAuthentication": "IAMDatabaseAuthenticationEnabled",
    "EnablePerformanceInsights": "PerformanceInsightsEnabled",
    "EnableCloudwatchLogsExports": "EnabledCloudwatchLogsExports",
    "MasterUserPassword": "MasterUserPassword",  # only ever told as pending
}
# What the API's PendingModifiedValues can tell; all else is changed at once.
# https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_PendingModifiedValues.html
PENDING = (
    "AllocatedStorage",
    "BackupRetentionPeriod",
    "CACertificateIdentifier",
    "DBInstanceClass",
    "DedicatedLogVolume",
    "EngineVersion",
    "IAMDatabaseAuthenticationEnabled",
    "Iops",
    "LicenseModel",
    "MasterUserPassword",
    "MultiAZ",
    "StorageThroughput",
    "StorageType",
)


def settings_of(call: Call, estate: Estate, present: Mapping[str, Any]) -> dict[str, Any]:
    """What a request sets, as the description tells it. `present`: the instance so far."""
    given = call.input
    settings = {name: given[name] for name in SAME if name in given}
    settings |= {told: given[name] for name, told in RENAMED.items() if name in given}
    if "VpcSecurityGroupIds" in given:
        settings["VpcSecurityGroups"] = [
            {"VpcSecurityGroupId": group, "Status": "active"}
            for group in given["VpcSecurityGroupIds"]
        ]
    if "DBParameterGroupName" in given:
        name = given["DBParameterGroupName"]
        _existing(estate, "pg", call, name, "DBParameterGroupNotFound", "DBParameterGroup")
        settings["DBParameterGroups"] = [
            # A group given to a running instance waits for a reboot.
            {
                "DBParameterGroupName": name,
                "ParameterApplyStatus": "pending-reboot" if present else "in-sync",
            }
        ]
    if "OptionGroupName" in given:
        settings["OptionGroupMemberships"] = [
            {"OptionGroupName": given["OptionGroupName"], "Status": "in-sync"}
        ]
    if "DBSubnetGroupName" in given:
        name = given["DBSubnetGroupName"]
        settings["DBSubnetGroup"] = _existing(
            estate, "subgrp", call, name, "DBSubnetGroupNotFoundFault", "DB subnet group"
        )
    if "CloudwatchLogsExportConfiguration" in given:
        wanted = given["CloudwatchLogsExportConfiguration"]
        kept = set(present.get("EnabledCloudwatchLogsExports", ()))
        kept = (kept | set(wanted.get("EnableLogTypes", ()))) - set(
            wanted.get("DisableLogTypes", ())
        )
        settings["EnabledCloudwatchLogsExports"] = sorted(kept)
    if settings.get("MonitoringInterval") and not (
        settings.get("MonitoringRoleArn") or present.get("MonitoringRoleArn")
    ):
        raise Refused(
            "InvalidParameterCombination",
            "A MonitoringRoleARN value is required if you specify a MonitoringInterval value"
            " other than 0.",
            400,
        )
    if "Port" in given and "Endpoint" in present:
        settings["Endpoint"] = {**present["Endpoint"], "Port": given["Port"]}
    return settings


def applied(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that hold at once, and those that a modification brings."""
    waiting = {name: part for name, part in settings.items() if name in PENDING}
    return {name: part for name, part in settings.items() if name not in waiting}, waiting


def _existing(
    estate: Estate, kind: str, call: Call, name: str, code: str, what: str
) -> dict[str, Any]:
    thing = estate.find(kind, call.region, name)
    if thing is None:
        raise Refused(code, f"{what} not found: {name}")
    return thing.description
