"""RDS: snapshots of clusters; the scripts of their operations."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.estate import Estate, Thing, identifier_of, tags_of
from tests.lab.scripted.keys import Keys

FILTERS = {
    "db-cluster-id": ("DBClusterIdentifier",),
    "db-cluster-snapshot-id": ("DBClusterSnapshotIdentifier",),
    "snapshot-type": ("SnapshotType",),
    "engine": ("Engine",),
}
# What a snapshot keeps of its cluster, by the names in both descriptions.
KEPT = (
    "AllocatedStorage",
    "AvailabilityZones",
    "BackupRetentionPeriod",
    "ClusterCreateTime",
    "DBClusterIdentifier",
    "DbClusterResourceId",
    "Engine",
    "EngineMode",
    "EngineVersion",
    "IAMDatabaseAuthenticationEnabled",
    "KmsKeyId",
    "MasterUsername",
    "Port",
    "PreferredBackupWindow",
    "StorageEncrypted",
)
Answer = dict[str, Any]


class ClusterSnapshots:
    def __init__(self, estate: Estate, keys: Keys) -> None:
        self.quota = 100
        self.states: tuple[str, ...] = ("creating", "available")  # of the next ones
        self.copy_states: tuple[str, ...] = ("copying", "available")
        self._estate = estate
        self._keys = keys

    def create_db_cluster_snapshot(self, call: Call) -> Answer:
        identifier = identifier_of(call, "DBClusterSnapshotIdentifier")
        name = call.input["DBClusterIdentifier"]
        cluster = self._estate.find("cluster", call.region, name)
        if cluster is None:
            raise Refused("DBClusterNotFoundFault", f"DBCluster {name} not found.")
        self._room_for(identifier, call.region)
        if cluster.course.state != "available":
            raise Refused(
                "InvalidDBClusterStateFault",
                f"DBCluster {name} is in the {cluster.course.state} state, not available.",
            )
        tags = call.input.get("Tags", ())
        # Only where no tag is given does RDS copy any.
        # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Tagging.html
        if not tags and cluster.description.get("CopyTagsToSnapshot"):
            tags = cluster.description["TagList"]
        thing = self.add(call.region, identifier, cluster, "manual", *self.states)
        thing.description["TagList"] = tags_of(tags)
        return {"DBClusterSnapshot": self._told(thing)}

    def copy_db_cluster_snapshot(self, call: Call) -> Answer:
        given = call.input["SourceDBClusterSnapshotIdentifier"]
        identifier = identifier_of(call, "TargetDBClusterSnapshotIdentifier")
        source = self._estate.find("cluster-snapshot", call.region, given)
        if source is None:
            raise Refused("DBClusterSnapshotNotFoundFault", f"{given} not found.")
        if source.course.state != "available":
            raise Refused(
                "InvalidDBClusterSnapshotStateFault",
                f"Cannot copy snapshot {given}, it is in the {source.course.state} state.",
            )
        self._room_for(identifier, call.region)
        arn = source.description["DBClusterSnapshotArn"]
        abroad = arn.split(":")[3] != call.region
        key = self._keys.for_copy(call, source.description.get("KmsKeyId"), abroad)
        inherited = source.description["TagList"] if call.input.get("CopyTags") else ()
        description = {
            **{k: v for k, v in source.description.items() if k != "KmsKeyId"},
            "DBClusterSnapshotIdentifier": identifier,
            "DBClusterSnapshotArn": call.arn(f"cluster-snapshot:{identifier}"),
            "SnapshotType": "manual",
            "SnapshotCreateTime": datetime.datetime.now(datetime.UTC),
            "SourceDBClusterSnapshotArn": arn,
            "StorageEncrypted": key is not None,
            "TagList": tags_of([*inherited, *call.input.get("Tags", ())]),
            **({"KmsKeyId": key} if key else {}),
        }
        thing = self._estate.add(
            "cluster-snapshot", call.region, identifier, description, *self.copy_states
        )
        return {"DBClusterSnapshot": self._told(thing)}

    def delete_db_cluster_snapshot(self, call: Call) -> Answer:
        name = call.input["DBClusterSnapshotIdentifier"]
        thing = self._found(call, name)
        kind, state = thing.description["SnapshotType"], thing.course.state
        if kind != "manual" or state not in ("available", "failed"):
            raise Refused(
                "InvalidDBClusterSnapshotStateFault",
                f"Cannot delete the snapshot {name}: it is {kind} and in the {state} state.",
            )
        del self._estate.all("cluster-snapshot", call.region)[
            thing.description["DBClusterSnapshotIdentifier"]
        ]
        return {"DBClusterSnapshot": {**self._told(thing), "Status": "deleted"}}

    def describe_db_cluster_snapshots(self, call: Call) -> Answer:
        given = call.input
        things = list(self._estate.all("cluster-snapshot", call.region).values())
        for name in ("DBClusterIdentifier", "DbClusterResourceId", "SnapshotType"):
            things = [t for t in things if given.get(name) in (None, t.description.get(name))]
        wanted = given.get("DBClusterSnapshotIdentifier")
        if wanted is not None:
            found = self._found(call, wanted)
            things = [thing for thing in things if thing is found]
        page, marker = self._estate.page(call, things, FILTERS)
        told = [self._told(thing) for thing in page]
        for thing in page:
            thing.course.describe()
        return {"DBClusterSnapshots": told, **marker}

    def add(self, region: str, identifier: str, cluster: Thing, kind: str, *states: str) -> Thing:
        """A snapshot of a cluster as it is now; `kind` is manual, automated or awsbackup."""
        source = cluster.description
        description = {
            **{name: source[name] for name in KEPT if name in source},
            "DBClusterSnapshotIdentifier": identifier,
            "DBClusterSnapshotArn": source["DBClusterArn"].rsplit(":", 2)[0]
            + f":cluster-snapshot:{identifier}",
            "SnapshotType": kind,
            "SnapshotCreateTime": datetime.datetime.now(datetime.UTC),
            "LicenseModel": "postgresql-license",
            "TagList": list(source["TagList"]) if source.get("CopyTagsToSnapshot") else [],
        }
        return self._estate.add("cluster-snapshot", region, identifier, description, *states)

    def _found(self, call: Call, name: str) -> Thing:
        thing = self._estate.find("cluster-snapshot", call.region, name)
        if thing is None:
            raise Refused("DBClusterSnapshotNotFoundFault", f"{name} not found.")
        return thing

    def _room_for(self, identifier: str, region: str) -> None:
        there = self._estate.all("cluster-snapshot", region)
        if identifier in there:
            raise Refused(
                "DBClusterSnapshotAlreadyExistsFault",
                f"A snapshot with the identifier {identifier} already exists.",
            )
        if sum(t.description["SnapshotType"] == "manual" for t in there.values()) >= self.quota:
            raise Refused(
                "SnapshotQuotaExceeded",
                f"Cannot create more than {self.quota} manual snapshots.",
            )

    def _told(self, thing: Thing) -> Mapping[str, Any]:
        return {
            **thing.description,
            "Status": thing.course.state,
            "PercentProgress": thing.course.percent,
        }
