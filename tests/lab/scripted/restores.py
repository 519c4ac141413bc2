"""RDS: restores of instances, from a snapshot and to a point in time."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from tests.lab.scripted import made
from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.estate import Estate, Thing, identifier_of, tags_of
from tests.lab.scripted.instances import Instances
from tests.lab.scripted.settings import settings_of

# What comes back by itself, by the names in the descriptions of an instance and of a snapshot.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_RestoreFromSnapshot.html
RESTORED = (
    "AllocatedStorage",
    "BackupRetentionPeriod",
    "Engine",
    "EngineVersion",
    "Iops",
    "KmsKeyId",
    "LicenseModel",
    "MasterUsername",
    "PreferredBackupWindow",
    "StorageThroughput",
    "StorageType",
)
Answer = dict[str, Any]


class Restores:
    def __init__(self, estate: Estate, instances: Instances) -> None:
        self.states: tuple[str, ...] = ("creating", "backing-up", "available")  # of the next
        self.parameter_status = "in-sync"  # of the parameter groups of the next
        self._estate = estate
        self._instances = instances

    def restore_db_instance_from_db_snapshot(self, call: Call) -> Answer:
        name = call.input.get("DBSnapshotIdentifier")
        if name is None:
            raise Refused("InvalidParameterCombination", "DBSnapshotIdentifier is required", 400)
        snapshot = self._estate.find("snapshot", call.region, name)
        if snapshot is None or snapshot.description["DBSnapshotArn"].split(":")[3] != call.region:
            raise Refused("DBSnapshotNotFound", f"DBSnapshot not found: {name}")
        if snapshot.course.state != "available":
            raise Refused(
                "InvalidDBSnapshotState",
                f"Cannot restore from snapshot {name}, it is in the {snapshot.course.state} state.",
            )
        source = self._source_of(snapshot, call.region)
        return self._restore(
            call,
            identifier_of(call, "DBInstanceIdentifier", 63),
            {**snapshot.description, "StorageEncrypted": snapshot.description["Encrypted"]},
            source["DBInstanceClass"] if source else "db.r6g.large",
            source["TagList"] if source else snapshot.description["TagList"],
        )

    def restore_db_instance_to_point_in_time(self, call: Call) -> Answer:
        given = call.input
        source = self._live(call) or self._retained(call)
        if source is None:
            raise Refused("DBInstanceNotFound", f"DBInstance {_named(call)} not found.")
        if not source["BackupRetentionPeriod"]:
            raise Refused(
                "PointInTimeRestoreNotEnabled",
                f"Point in time restore is not enabled for instance {_named(call)}.",
            )
        latest = source["LatestRestorableTime"]
        wanted = given.get("RestoreTime")
        if (wanted is not None) == given.get("UseLatestRestorableTime", False):
            raise Refused(
                "InvalidParameterCombination",
                "Either RestoreTime or UseLatestRestorableTime must be specified, not both.",
                400,
            )
        earliest = source.get("EarliestRestorableTime") or max(
            source["InstanceCreateTime"],
            latest - datetime.timedelta(days=source["BackupRetentionPeriod"]),
        )
        if wanted is not None and not earliest <= wanted <= latest:
            raise Refused(
                "InvalidRestoreFault",
                f"Cannot restore {_named(call)} to {wanted:%Y-%m-%dT%H:%M:%SZ}: it can be restored"
                f" from {earliest:%Y-%m-%dT%H:%M:%SZ} to {latest:%Y-%m-%dT%H:%M:%SZ}.",
            )
        identifier = identifier_of(call, "TargetDBInstanceIdentifier", 63)
        return self._restore(call, identifier, source, source["DBInstanceClass"], source["TagList"])

    def _live(self, call: Call) -> Mapping[str, Any] | None:
        name, wanted = (
            call.input.get("SourceDBInstanceIdentifier"),
            call.input.get("SourceDbiResourceId"),
        )
        for thing in self._estate.all("db", call.region).values():
            told = thing.description
            if told["DBInstanceIdentifier"] == name or told["DbiResourceId"] == wanted:
                if thing.course.state in ("creating", "deleting", "incompatible-restore"):
                    raise Refused(
                        "InvalidDBInstanceState",
                        f"DBInstance {_named(call)} is in the {thing.course.state} state.",
                    )
                return told
        return None

    def _retained(self, call: Call) -> Mapping[str, Any] | None:
        """Automated backups that outlived their instance, or came from another region."""
        wanted = call.input.get("SourceDbiResourceId")
        arn = call.input.get("SourceDBInstanceAutomatedBackupsArn")
        for thing in self._estate.all("auto-backup", call.region).values():
            told = thing.description
            backup = told["backup"]["DBInstanceAutomatedBackupsArn"]
            if arn == backup or wanted == told["instance"]["DbiResourceId"]:
                instance: Mapping[str, Any] = told["instance"]
                return instance
        if arn is not None or wanted is not None:
            raise Refused(
                "DBInstanceAutomatedBackupNotFound",
                f"DBInstanceAutomatedBackup {_named(call)} not found.",
            )
        return None

    def _source_of(self, snapshot: Thing, region: str) -> Mapping[str, Any] | None:
        """The instance a snapshot was taken of, if it still lives here."""
        for thing in self._estate.all("db", region).values():
            if thing.description["DbiResourceId"] == snapshot.description["DbiResourceId"]:
                return thing.description
        return None

    def _restore(
        self,
        call: Call,
        identifier: str,
        source: Mapping[str, Any],
        instance_class: str,
        tags: list[dict[str, str]],
    ) -> Answer:
        given = call.input
        description = _plain(call, identifier, self._instances.endpoint, source)
        description["DBInstanceClass"] = instance_class
        description["DBName"] = source.get("DBName", "shop")
        description["TagList"] = tags_of(given["Tags"]) if given.get("Tags") else list(tags)
        description.update(settings_of(call, self._estate, {}))
        for group in description["DBParameterGroups"]:
            group["ParameterApplyStatus"] = self.parameter_status
        if description["AllocatedStorage"] < source["AllocatedStorage"]:
            raise Refused(
                "InvalidParameterValue",
                f"The allocated storage must be at least {source['AllocatedStorage']} GiB.",
                400,
            )
        if description["MultiAZ"] and "AvailabilityZone" in given:
            raise Refused(
                "InvalidParameterCombination",
                "Requesting a specific availability zone is not valid for Multi-AZ instances.",
                400,
            )
        thing = self._instances.add(call, identifier, description)
        self._estate.send(thing, *self.states)
        return {"DBInstance": self._instances.told(thing, call.region)}


def _plain(
    call: Call, identifier: str, endpoint: tuple[str, int], source: Mapping[str, Any]
) -> dict[str, Any]:
    """A restored instance of which nothing was asked for: the default of everything."""
    description = made.instance(identifier, call.region, endpoint)
    for name in (
        "MonitoringRoleArn",
        "PerformanceInsightsRetentionPeriod",
        "PerformanceInsightsKMSKeyId",
        "MaxAllocatedStorage",
        "SecondaryAvailabilityZone",
        "LatestRestorableTime",
        "KmsKeyId",
    ):
        del description[name]
    major = source["EngineVersion"].partition(".")[0]
    description.update(
        {
            "InstanceCreateTime": datetime.datetime.now(datetime.UTC),
            "StorageEncrypted": source["StorageEncrypted"],
            "VpcSecurityGroups": [{"VpcSecurityGroupId": "sg-default", "Status": "active"}],
            "DBParameterGroups": [
                {
                    "DBParameterGroupName": f"default.postgres{major}",
                    "ParameterApplyStatus": "in-sync",
                }
            ],
            "OptionGroupMemberships": [
                {"OptionGroupName": f"default:postgres-{major}", "Status": "in-sync"}
            ],
            "DBSubnetGroup": made.subnet_group("default", call.region, "vpc-default"),
            "PreferredMaintenanceWindow": "sun:05:00-sun:05:30",
            "MultiAZ": False,
            # In a default VPC, which has a way to the internet, RDS makes an instance public.
            # https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html
            "PubliclyAccessible": "DBSubnetGroupName" not in call.input,
            "CopyTagsToSnapshot": False,
            "DeletionProtection": False,
            "IAMDatabaseAuthenticationEnabled": False,
            "MonitoringInterval": 0,
            "PerformanceInsightsEnabled": False,
            "EnabledCloudwatchLogsExports": [],
            **{name: source[name] for name in RESTORED if name in source},
        }
    )
    return description


def _named(call: Call) -> str:
    names = ("SourceDBInstanceIdentifier", "SourceDbiResourceId")
    return str(next((call.input[name] for name in names if name in call.input), "of the backup"))
