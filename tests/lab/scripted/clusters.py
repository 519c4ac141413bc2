"""RDS: Aurora clusters and their restores; the scripts of their operations."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from tests.lab.scripted import made
from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.estate import GONE, Estate, Thing, identifier_of, tags_of
from tests.lab.scripted.instances import Instances
from tests.lab.scripted.keys import Keys

FILTERS = {
    "db-cluster-id": ("DBClusterIdentifier", "DBClusterArn"),
    "db-cluster-resource-id": ("DbClusterResourceId",),
    "engine": ("Engine",),
}
# Request and description use the same name for these.
SAME = (
    "AutoMinorVersionUpgrade",
    "BackupRetentionPeriod",
    "CopyTagsToSnapshot",
    "DBClusterInstanceClass",
    "DeletionProtection",
    "EngineMode",
    "EngineVersion",
    "Iops",
    "MonitoringInterval",
    "MonitoringRoleArn",
    "NetworkType",
    "Port",
    "PreferredBackupWindow",
    "PreferredMaintenanceWindow",
    "PubliclyAccessible",
    "ServerlessV2ScalingConfiguration",
    "StorageType",
)
RENAMED = {
    "DBClusterParameterGroupName": "DBClusterParameterGroup",
    "DBSubnetGroupName": "DBSubnetGroup",
    "EnableCloudwatchLogsExports": "EnabledCloudwatchLogsExports",
    "EnableIAMDatabaseAuthentication": "IAMDatabaseAuthenticationEnabled",
}
# What comes back by itself, by the names in the descriptions of a cluster and of a snapshot.
RESTORED = (
    "AllocatedStorage",
    "BackupRetentionPeriod",
    "Engine",
    "EngineMode",
    "EngineVersion",
    "KmsKeyId",
    "MasterUsername",
    "PreferredBackupWindow",
    "StorageEncrypted",
)
Answer = dict[str, Any]


class Clusters:
    def __init__(self, estate: Estate, instances: Instances, keys: Keys) -> None:
        self.restore_states: tuple[str, ...] = ("creating", "available")  # of the next
        self.modify_states: tuple[str, ...] = ("modifying", "available")
        self.delete_states: tuple[str, ...] = ("deleting", GONE)
        self._estate = estate
        self._instances = instances
        self._keys = keys

    def describe_db_clusters(self, call: Call) -> Answer:
        things = list(self._estate.all("cluster", call.region).values())
        if "DBClusterIdentifier" in call.input:
            things = [self._found(call, call.input["DBClusterIdentifier"])]
        page, marker = self._estate.page(call, things, FILTERS)
        told = [self._told(thing) for thing in page]
        for thing in page:
            thing.course.describe()
        return {"DBClusters": told, **marker}

    def modify_db_cluster(self, call: Call) -> Answer:
        thing = self._found(call, call.input["DBClusterIdentifier"])
        if thing.course.state != "available":
            raise Refused(
                "InvalidDBClusterStateFault",
                f"DB cluster {call.input['DBClusterIdentifier']} cannot be modified in the"
                f" {thing.course.state} state.",
            )
        thing.description.update(self._settings(call))
        self._estate.send(thing, *self.modify_states)
        return {"DBCluster": self._told(thing)}

    def delete_db_cluster(self, call: Call) -> Answer:
        thing = self._found(call, call.input["DBClusterIdentifier"])
        if thing.description.get("DeletionProtection"):
            raise Refused(
                "InvalidParameterCombination",
                "Cannot delete protected Cluster, please disable deletion protection and try"
                " again.",
                400,
            )
        self._estate.send(thing, *self.delete_states)
        return {"DBCluster": self._told(thing)}

    def restore_db_cluster_from_snapshot(self, call: Call) -> Answer:
        name = call.input["SnapshotIdentifier"]
        snapshot = self._estate.find("cluster-snapshot", call.region, name)
        if (
            snapshot is None
            or snapshot.description["DBClusterSnapshotArn"].split(":")[3] != call.region
        ):
            raise Refused("DBClusterSnapshotNotFoundFault", f"{name} not found.")
        if snapshot.course.state != "available":
            raise Refused(
                "InvalidDBClusterSnapshotStateFault",
                f"Cannot restore from snapshot {name}, it is in the {snapshot.course.state} state.",
            )
        if call.input["Engine"] != snapshot.description["Engine"]:
            raise Refused(
                "InvalidParameterCombination",
                f"The snapshot {name} is of {snapshot.description['Engine']}.",
                400,
            )
        return self._restore(call, snapshot.description, snapshot.description["TagList"])

    def restore_db_cluster_to_point_in_time(self, call: Call) -> Answer:
        given = call.input
        name = given.get("SourceDBClusterIdentifier", given.get("SourceDbClusterResourceId", ""))
        retained = self._estate.find("cluster-auto-backup", call.region, name)
        source = (
            retained.description["cluster"] if retained else self._found(call, name).description
        )
        wanted = given.get("RestoreToTime")
        if (wanted is not None) == given.get("UseLatestRestorableTime", False):
            raise Refused(
                "InvalidParameterCombination",
                "Either RestoreToTime or UseLatestRestorableTime must be specified, not both.",
                400,
            )
        earliest, latest = source["EarliestRestorableTime"], source["LatestRestorableTime"]
        if wanted is not None and not earliest <= wanted <= latest:
            raise Refused(
                "InvalidRestoreFault",
                f"Cannot restore {name} to {wanted:%Y-%m-%dT%H:%M:%SZ}: it can be restored from"
                f" {earliest:%Y-%m-%dT%H:%M:%SZ} to {latest:%Y-%m-%dT%H:%M:%SZ}.",
            )
        return self._restore(call, source, source["TagList"])

    def _restore(self, call: Call, source: Mapping[str, Any], tags: list[dict[str, str]]) -> Answer:
        """A cluster without members, and with the default of all that was not asked for."""
        identifier = identifier_of(call, "DBClusterIdentifier", 63)
        if identifier in self._estate.all("cluster", call.region):
            raise Refused("DBClusterAlreadyExistsFault", f"{identifier} already exists.")
        description = made.cluster(identifier, call.region, self._instances.endpoint)
        del description["KmsKeyId"]
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        major = source["EngineVersion"].partition(".")[0]
        description.update(
            {
                "ClusterCreateTime": now,
                "EarliestRestorableTime": now,
                "LatestRestorableTime": now,
                "DBClusterParameterGroup": f"default.{source['Engine']}{major}",
                "DBSubnetGroup": "default",
                "VpcSecurityGroups": [{"VpcSecurityGroupId": "sg-default", "Status": "active"}],
                "PreferredMaintenanceWindow": "sun:05:00-sun:05:30",
                "CopyTagsToSnapshot": False,
                "DeletionProtection": False,
                "IAMDatabaseAuthenticationEnabled": False,
                "EnabledCloudwatchLogsExports": [],
                "TagList": tags_of(call.input["Tags"]) if call.input.get("Tags") else list(tags),
                **{name: source[name] for name in RESTORED if name in source},
                **self._settings(call),
            }
        )
        if "KmsKeyId" in call.input:
            description["KmsKeyId"] = self._keys.named(call.input["KmsKeyId"], call.region)
            description["StorageEncrypted"] = True
        thing = self._estate.add(
            "cluster", call.region, identifier, description, *self.restore_states
        )
        return {"DBCluster": self._told(thing)}

    def _settings(self, call: Call) -> dict[str, Any]:
        given = call.input
        settings = {name: given[name] for name in SAME if name in given}
        settings |= {told: given[name] for name, told in RENAMED.items() if name in given}
        if "VpcSecurityGroupIds" in given:
            settings["VpcSecurityGroups"] = [
                {"VpcSecurityGroupId": group, "Status": "active"}
                for group in given["VpcSecurityGroupIds"]
            ]
        for kind, name, code in (
            ("cluster-pg", "DBClusterParameterGroupName", "DBClusterParameterGroupNotFound"),
            ("subgrp", "DBSubnetGroupName", "DBSubnetGroupNotFoundFault"),
        ):
            if name in given and self._estate.find(kind, call.region, given[name]) is None:
                raise Refused(code, f"{name} {given[name]} not found.")
        return settings

    def _found(self, call: Call, name: str) -> Thing:
        things = self._estate.all("cluster", call.region).values()
        by_resource = (t for t in things if t.description["DbClusterResourceId"] == name)
        thing = self._estate.find("cluster", call.region, name) or next(by_resource, None)
        if thing is None:
            raise Refused("DBClusterNotFoundFault", f"DBCluster {name} not found.")
        return thing

    def _told(self, thing: Thing) -> Mapping[str, Any]:
        begun = "creating" in thing.course.states and not thing.course.over
        hidden = ("Endpoint", "ReaderEndpoint", "LatestRestorableTime") if begun else ()
        told = {name: part for name, part in thing.description.items() if name not in hidden}
        return {**told, "Status": thing.course.state}
