"""RDS: snapshots of instances; the scripts of their operations."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.estate import Estate, Thing, identifier_of, tags_of
from tests.lab.scripted.keys import Keys

FILTERS = {
    "db-instance-id": ("DBInstanceIdentifier",),
    "db-snapshot-id": ("DBSnapshotIdentifier",),
    "dbi-resource-id": ("DbiResourceId",),
    "snapshot-type": ("SnapshotType",),
    "engine": ("Engine",),
}
# What a snapshot keeps of its instance, by the names in both descriptions.
KEPT = (
    "DBInstanceIdentifier",
    "Engine",
    "AllocatedStorage",
    "AvailabilityZone",
    "InstanceCreateTime",
    "MasterUsername",
    "EngineVersion",
    "LicenseModel",
    "Iops",
    "StorageThroughput",
    "StorageType",
    "KmsKeyId",
    "IAMDatabaseAuthenticationEnabled",
    "DbiResourceId",
    "BackupRetentionPeriod",
    "PreferredBackupWindow",
)
Answer = dict[str, Any]


class Snapshots:
    def __init__(self, estate: Estate, keys: Keys) -> None:
        self.quota = 100  # manual snapshots per region, RDS's own default
        self.states: tuple[str, ...] = ("creating", "available")  # of the next ones
        self.copy_states: tuple[str, ...] = ("creating", "available")
        self._estate = estate
        self._keys = keys

    def create_db_snapshot(self, call: Call) -> Answer:
        identifier = identifier_of(call, "DBSnapshotIdentifier")
        name = call.input["DBInstanceIdentifier"]
        instance = self._estate.find("db", call.region, name)
        if instance is None:
            raise Refused("DBInstanceNotFound", f"DBInstance {name} not found.")
        if "DBClusterIdentifier" in instance.description:
            raise Refused(
                "InvalidParameterValue",
                f"The specified instance {name} is a member of a cluster and a snapshot cannot be"
                " created directly. Please use the CreateDBClusterSnapshot API instead.",
                400,
            )
        self._room_for(identifier, call.region)
        if self.backing_up(instance, call.region) or instance.course.state != "available":
            raise Refused(
                "InvalidDBInstanceState",
                f"Cannot create a snapshot because the database instance {name} is not currently"
                " in the available state.",
            )
        tags = call.input.get("Tags", ())
        # Only where no tag is given does RDS copy any.
        # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Tagging.html
        if not tags and instance.description.get("CopyTagsToSnapshot"):
            tags = instance.description["TagList"]
        thing = self.add(call.region, identifier, instance, "manual", *self.states)
        thing.description["TagList"] = tags_of(tags)
        return {"DBSnapshot": self._told(thing)}

    def copy_db_snapshot(self, call: Call) -> Answer:
        given = call.input["SourceDBSnapshotIdentifier"]
        identifier = identifier_of(call, "TargetDBSnapshotIdentifier")
        source = self._estate.find("snapshot", call.region, given)
        if source is None:
            raise Refused("DBSnapshotNotFound", f"DBSnapshot {given} not found.")
        if source.course.state != "available":
            raise Refused(
                "InvalidDBSnapshotState",
                f"Cannot copy snapshot {given}, it is in the {source.course.state} state.",
            )
        self._room_for(identifier, call.region)
        arn = source.description["DBSnapshotArn"]
        origin = arn.split(":")[3]
        abroad = origin != call.region
        key = self._keys.for_copy(call, source.description.get("KmsKeyId"), abroad)
        inherited = source.description["TagList"] if call.input.get("CopyTags") else ()
        description = {
            **{k: v for k, v in source.description.items() if k != "KmsKeyId"},
            "DBSnapshotIdentifier": identifier,
            "DBSnapshotArn": call.arn(f"snapshot:{identifier}"),
            "SnapshotType": "manual",
            "SnapshotCreateTime": datetime.datetime.now(datetime.UTC),
            "SourceDBSnapshotIdentifier": arn,
            "Encrypted": key is not None,
            "TagList": tags_of([*inherited, *call.input.get("Tags", ())]),
            **({"KmsKeyId": key} if key else {}),
            **({"SourceRegion": origin} if abroad else {}),
        }
        thing = self._estate.add(
            "snapshot", call.region, identifier, description, *self.copy_states
        )
        return {"DBSnapshot": self._told(thing)}

    def delete_db_snapshot(self, call: Call) -> Answer:
        name = call.input["DBSnapshotIdentifier"]
        thing = self._estate.find("snapshot", call.region, name)
        if thing is None:
            raise Refused("DBSnapshotNotFound", f"DBSnapshot {name} not found.")
        kind, state = thing.description["SnapshotType"], thing.course.state
        if kind != "manual" or state not in ("available", "failed"):
            raise Refused(
                "InvalidDBSnapshotState",
                f"Cannot delete the snapshot {name}: it is {kind} and in the {state} state.",
            )
        del self._estate.all("snapshot", call.region)[thing.description["DBSnapshotIdentifier"]]
        return {"DBSnapshot": {**self._told(thing), "Status": "deleted"}}

    def describe_db_snapshots(self, call: Call) -> Answer:
        given = call.input
        things = list(self._estate.all("snapshot", call.region).values())
        for name in ("DBInstanceIdentifier", "DbiResourceId", "SnapshotType"):
            things = [t for t in things if given.get(name) in (None, t.description.get(name))]
        wanted = given.get("DBSnapshotIdentifier")
        if wanted is None and "SnapshotType" not in given:
            # "Both automated and manual snapshots are returned", and no others.
            things = [t for t in things if t.description["SnapshotType"] != "awsbackup"]
        if wanted is not None:
            thing = self._estate.find("snapshot", call.region, wanted)
            if thing is None or thing not in things:
                raise Refused("DBSnapshotNotFound", f"DBSnapshot {wanted} not found.")
            things = [thing]
        page, marker = self._estate.page(call, things, FILTERS)
        return {"DBSnapshots": [self._described(thing) for thing in page], **marker}

    def add(self, region: str, identifier: str, instance: Thing, kind: str, *states: str) -> Thing:
        """A snapshot of an instance as it is now; `kind` is manual, automated or awsbackup."""
        source = instance.description
        now = datetime.datetime.now(datetime.UTC)
        description = {
            **{name: source[name] for name in KEPT if name in source},
            "DBSnapshotIdentifier": identifier,
            "DBSnapshotArn": source["DBInstanceArn"].rsplit(":", 2)[0] + f":snapshot:{identifier}",
            "SnapshotType": kind,
            "SnapshotCreateTime": now,
            "OriginalSnapshotCreateTime": now,
            "Encrypted": source["StorageEncrypted"],
            "Port": source["Endpoint"]["Port"],
            "VpcId": source["DBSubnetGroup"]["VpcId"],
            "OptionGroupName": source["OptionGroupMemberships"][0]["OptionGroupName"],
            "SnapshotTarget": "region",
            "TagList": list(source["TagList"]) if source.get("CopyTagsToSnapshot") else [],
        }
        return self._estate.add("snapshot", region, identifier, description, *states)

    def backing_up(self, instance: Thing, region: str) -> bool:
        """An instance is not available while a snapshot of it is being made."""
        return any(
            snapshot.course.state == "creating"
            and "SourceDBSnapshotIdentifier" not in snapshot.description
            and snapshot.description["DbiResourceId"] == instance.description["DbiResourceId"]
            for snapshot in self._estate.all("snapshot", region).values()
        )

    def _room_for(self, identifier: str, region: str) -> None:
        there = self._estate.all("snapshot", region)
        if identifier in there:
            raise Refused(
                "DBSnapshotAlreadyExists",
                f"Cannot create the snapshot because a snapshot with the identifier {identifier}"
                " already exists.",
            )
        if sum(t.description["SnapshotType"] == "manual" for t in there.values()) >= self.quota:
            raise Refused(
                "SnapshotQuotaExceeded",
                f"Cannot create more than {self.quota} manual snapshots.",
            )

    def _told(self, thing: Thing) -> Mapping[str, Any]:
        """As the answer to what made it, which makes no time pass."""
        return {
            **thing.description,
            "Status": thing.course.state,
            "PercentProgress": thing.course.percent,
        }

    def _described(self, thing: Thing) -> Mapping[str, Any]:
        told = self._told(thing)
        thing.course.describe()
        return told
