"""RDS: what stands around instances: groups, parameters, versions, maintenance, tags."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.estate import Estate, Thing, tags_of

# What RDS says where nobody set anything: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/
# Appendix.PostgreSQL.CommonDBATasks.Parameters.html
SYSTEM_VALUES = {
    "autovacuum": "1",
    "checkpoint_timeout": "300",
    "fsync": "1",
    "full_page_writes": "1",
    "log_statement": "none",
    "max_connections": "LEAST({DBInstanceClassMemory/9531392},5000)",
    "rds.force_ssl": "1",
    "rds.logical_replication": "0",
    "shared_buffers": "{DBInstanceClassMemory/32768}",
    "synchronous_commit": "on",
}
# The codes for what a tag operation names and does not find, by the kind in the ARN.
NOT_FOUND = {
    "db": "DBInstanceNotFound",
    "snapshot": "DBSnapshotNotFound",
    "cluster": "DBClusterNotFoundFault",
    "cluster-snapshot": "DBClusterSnapshotNotFoundFault",
}
Answer = dict[str, Any]


class Surroundings:
    def __init__(self, estate: Estate, parameters: Mapping[str, Mapping[str, str]]) -> None:
        # Engine versions that RDS offers; a test drops one to make it unsupported.
        self.versions: dict[str, list[str]] = {
            "postgres": ["13.22", "14.19", "15.14", "16.10", "17.5", "17.6", "18.1"],
            "aurora-postgresql": ["14.18", "15.13", "16.6", "16.9", "17.5"],
        }
        self.deprecated: set[str] = set()  # versions with the status `deprecated`
        self.maintenance: dict[str, list[dict[str, Any]]] = {}  # details of actions, by ARN
        self._estate = estate
        self._parameters = parameters

    def describe_db_parameter_groups(self, call: Call) -> Answer:
        return self._listed(
            call, "pg", "DBParameterGroupName", "DBParameterGroups", "DBParameterGroupNotFound"
        )

    def describe_db_cluster_parameter_groups(self, call: Call) -> Answer:
        return self._listed(
            call,
            "cluster-pg",
            "DBClusterParameterGroupName",
            "DBClusterParameterGroups",
            "DBParameterGroupNotFound",
        )

    def describe_db_subnet_groups(self, call: Call) -> Answer:
        return self._listed(
            call, "subgrp", "DBSubnetGroupName", "DBSubnetGroups", "DBSubnetGroupNotFoundFault"
        )

    def describe_db_parameters(self, call: Call) -> Answer:
        return self._parameters_of(call, "pg", call.input["DBParameterGroupName"])

    def describe_db_cluster_parameters(self, call: Call) -> Answer:
        return self._parameters_of(call, "cluster-pg", call.input["DBClusterParameterGroupName"])

    def describe_db_engine_versions(self, call: Call) -> Answer:
        wanted = call.input.get("EngineVersion")
        described = [
            self._version(engine, version)
            for engine, versions in self.versions.items()
            for version in versions
            if call.input.get("Engine") in (None, engine)
            and (wanted is None or wanted in (version, version.partition(".")[0]))
            and (call.input.get("IncludeAll") or version not in self.deprecated)
        ]
        page, marker = self._estate.page_of(call, described, {"status": ("Status",)})
        return {"DBEngineVersions": page, **marker}

    def _version(self, engine: str, version: str) -> dict[str, Any]:
        major = version.partition(".")[0]
        versions = self.versions[engine]
        return {
            "Engine": engine,
            "EngineVersion": version,
            "MajorEngineVersion": major,
            "DBParameterGroupFamily": f"{engine}{major}",
            "DBEngineDescription": "PostgreSQL",
            "DBEngineVersionDescription": f"PostgreSQL {version}-R1",
            "Status": "deprecated" if version in self.deprecated else "available",
            "ValidUpgradeTarget": [
                {
                    "Engine": engine,
                    "EngineVersion": later,
                    "Description": f"PostgreSQL {later}-R1",
                    "AutoUpgrade": later.partition(".")[0] == major,
                    "IsMajorVersionUpgrade": later.partition(".")[0] != major,
                }
                for later in versions[versions.index(version) + 1 :]
            ],
        }

    def describe_pending_maintenance_actions(self, call: Call) -> Answer:
        wanted = call.input.get("ResourceIdentifier")
        described = [
            {"ResourceIdentifier": arn, "PendingMaintenanceActionDetails": details}
            for arn, details in self.maintenance.items()
            if arn.split(":")[3] == call.region and wanted in (None, arn) and details
        ]
        filters = dict.fromkeys(("db-instance-id", "db-cluster-id"), ("ResourceIdentifier",))
        page, marker = self._estate.page_of(call, described, filters)
        return {"PendingMaintenanceActions": page, **marker}

    def describe_db_instance_automated_backups(self, call: Call) -> Answer:
        """Of live instances that keep backups, and those that outlived their instance."""
        live = (thing.description for thing in self._estate.all("db", call.region).values())
        backups = [
            automated_backup(told, "active")
            for told in live
            # One that is new has none before its first backup.
            if told["BackupRetentionPeriod"]
            and "LatestRestorableTime" in told
            and "DBClusterIdentifier" not in told
        ]
        kept = self._estate.all("auto-backup", call.region).values()
        backups += [thing.description["backup"] for thing in kept]
        for name in ("DBInstanceIdentifier", "DbiResourceId", "DBInstanceAutomatedBackupsArn"):
            backups = [told for told in backups if call.input.get(name) in (None, told[name])]
        if not backups and "DBInstanceAutomatedBackupsArn" in call.input:
            raise Refused("DBInstanceAutomatedBackupNotFound", "The backup was not found.")
        filters = {
            "status": ("Status",),
            "db-instance-id": ("DBInstanceIdentifier", "DBInstanceArn"),
            "dbi-resource-id": ("DbiResourceId",),
        }
        page, marker = self._estate.page_of(call, backups, filters)
        return {"DBInstanceAutomatedBackups": page, **marker}

    def describe_db_cluster_automated_backups(self, call: Call) -> Answer:
        """Those that outlived their cluster."""
        kept = self._estate.all("cluster-auto-backup", call.region).values()
        backups = [thing.description["backup"] for thing in kept]
        for name in ("DBClusterIdentifier", "DbClusterResourceId"):
            backups = [told for told in backups if call.input.get(name) in (None, told[name])]
        page, marker = self._estate.page_of(call, backups, {"status": ("Status",)})
        return {"DBClusterAutomatedBackups": page, **marker}

    def add_tags_to_resource(self, call: Call) -> Answer:
        thing = self._named(call)
        thing.description["TagList"] = tags_of(
            [*thing.description.get("TagList", ()), *call.input["Tags"]]
        )
        return {}

    def remove_tags_from_resource(self, call: Call) -> Answer:
        thing = self._named(call)
        gone = set(call.input["TagKeys"])
        thing.description["TagList"] = [
            tag for tag in thing.description.get("TagList", ()) if tag["Key"] not in gone
        ]
        return {}

    def list_tags_for_resource(self, call: Call) -> Answer:
        return {"TagList": self._named(call).description.get("TagList", [])}

    def _named(self, call: Call) -> Thing:
        arn = call.input["ResourceName"]
        parts = arn.split(":", 6)
        thing = self._estate.at(arn) if len(parts) == 7 and parts[3] == call.region else None
        if thing is None:
            kind = parts[5] if len(parts) == 7 else ""
            if kind not in NOT_FOUND:
                raise Refused("InvalidParameterValue", f"Invalid resource name: {arn}", 400)
            raise Refused(NOT_FOUND[kind], f"{arn} not found.")
        return thing

    def _listed(self, call: Call, kind: str, name: str, member: str, code: str) -> Answer:
        things = list(self._estate.all(kind, call.region).values())
        if name in call.input:
            thing = self._estate.find(kind, call.region, call.input[name])
            if thing is None:
                raise Refused(code, f"{name} {call.input[name]} not found.")
            things = [thing]
        page, marker = self._estate.page(call, things, {})
        return {member: [thing.description for thing in page], **marker}

    def _parameters_of(self, call: Call, kind: str, name: str) -> Answer:
        thing = self._estate.find(kind, call.region, name)
        if thing is None:
            raise Refused("DBParameterGroupNotFound", f"DBParameterGroup not found: {name}")
        ours = self._parameters.get(call.arn(f"{kind}:{name}"), {})
        values = {**SYSTEM_VALUES, **_forced_tls(thing.description["DBParameterGroupFamily"])}
        described = [
            {
                "ParameterName": parameter,
                "ParameterValue": value,
                "Source": "user" if parameter in ours else "system",
                "ApplyType": "dynamic",
                "DataType": "string",
                "IsModifiable": True,
                "ApplyMethod": "pending-reboot",
            }
            for parameter, value in sorted({**values, **ours}.items())
            if call.input.get("Source") in (None, "user" if parameter in ours else "system")
        ]
        page, marker = self._estate.page_of(call, described, {"parameter-name": ("ParameterName",)})
        return {"Parameters": page, **marker}


def _forced_tls(family: str) -> dict[str, str]:
    """https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/PostgreSQL.Concepts.General.SSL.html"""
    first = 17 if family.startswith("aurora") else 15
    return {"rds.force_ssl": str(int(int(re.sub(r"\D", "", family)) >= first))}


def automated_backup(instance: Mapping[str, Any], status: str) -> dict[str, Any]:
    """An instance's automated backup, as told; `status` is active or retained."""
    arn = instance["DBInstanceArn"].rsplit(":", 2)[0]
    latest = instance["LatestRestorableTime"]
    days = datetime.timedelta(days=instance["BackupRetentionPeriod"])
    same = (
        "AllocatedStorage",
        "BackupRetentionPeriod",
        "DBInstanceArn",
        "DBInstanceIdentifier",
        "DbiResourceId",
        "Engine",
        "EngineVersion",
        "IAMDatabaseAuthenticationEnabled",
        "InstanceCreateTime",
        "KmsKeyId",
        "MasterUsername",
        "PreferredBackupWindow",
        "StorageType",
    )
    return {
        **{name: instance[name] for name in same if name in instance},
        "DBInstanceAutomatedBackupsArn": f"{arn}:auto-backup:{instance['DbiResourceId'].lower()}",
        "Encrypted": instance["StorageEncrypted"],
        "Port": instance["Endpoint"]["Port"],
        "Region": arn.split(":")[3],
        "RestoreWindow": {
            "EarliestTime": max(instance["InstanceCreateTime"], latest - days),
            "LatestTime": latest,
        },
        "Status": status,
        "VpcId": instance["DBSubnetGroup"]["VpcId"],
    }


def retained_backup(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """The automated backup that a deleted cluster leaves, as told."""
    same = (
        "BackupRetentionPeriod", "DBClusterArn", "DBClusterIdentifier", "DbClusterResourceId",
        "ClusterCreateTime", "Engine", "EngineMode", "EngineVersion", "KmsKeyId",
        "MasterUsername", "PreferredBackupWindow", "StorageEncrypted",
    )  # fmt: skip
    arn = cluster["DBClusterArn"].rsplit(":", 2)[0]
    name = cluster["DbClusterResourceId"].lower()
    return {
        **{name: cluster[name] for name in same if name in cluster},
        "DBClusterAutomatedBackupsArn": f"{arn}:cluster-auto-backup:{name}",
        "Region": arn.split(":")[3],
        "RestoreWindow": {
            "EarliestTime": cluster["EarliestRestorableTime"],
            "LatestTime": cluster["LatestRestorableTime"],
        },
        "Status": "retained",
    }
