"""RDS: instances, but for their restores; the scripts of their operations."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from tests.lab.scripted import made
from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.estate import GONE, Estate, Thing, identifier_of, tags_of
from tests.lab.scripted.settings import applied, settings_of
from tests.lab.scripted.snapshots import Snapshots

FILTERS = {
    "db-cluster-id": ("DBClusterIdentifier",),
    "db-instance-id": ("DBInstanceIdentifier", "DBInstanceArn"),
    "dbi-resource-id": ("DbiResourceId",),
    "engine": ("Engine",),
}
# Until something exists at the end of it, RDS tells no endpoint.
UNREACHABLE = ("deleting", "failed", "incompatible-restore", "incompatible-network")
Answer = dict[str, Any]


class Instances:
    def __init__(self, estate: Estate, snapshots: Snapshots) -> None:
        self.create_states: tuple[str, ...] = ("creating", "backing-up", "available")
        # RDS stays `available` for a while before it begins to modify: that is the trap.
        self.modify_states: tuple[str, ...] = ("available", "modifying", "available")
        self.delete_states: tuple[str, ...] = ("deleting", GONE)
        self.endpoint = ("127.0.0.1", 5432)  # of the instances that are made from now on
        self._estate = estate
        self._snapshots = snapshots

    def found(self, call: Call, name: str) -> Thing:
        thing = self._estate.find("db", call.region, name)
        if thing is None:
            raise Refused("DBInstanceNotFound", f"DBInstance {name} not found.")
        return thing

    def describe_db_instances(self, call: Call) -> Answer:
        things = list(self._estate.all("db", call.region).values())
        wanted = call.input.get("DBInstanceIdentifier")
        if wanted is not None:
            things = [self.found(call, wanted)]
        page, marker = self._estate.page(call, things, FILTERS)
        answer = {"DBInstances": [self.told(thing, call.region) for thing in page], **marker}
        for thing in page:
            thing.course.describe()
        return answer

    def create_db_instance(self, call: Call) -> Answer:
        """A member of a cluster, or an instance of its own."""
        given = call.input
        identifier = identifier_of(call, "DBInstanceIdentifier", 63)
        description = made.instance(identifier, call.region, self.endpoint)
        description.update(
            {
                "DBInstanceClass": given["DBInstanceClass"],
                "Engine": given["Engine"],
                "InstanceCreateTime": datetime.datetime.now(datetime.UTC),
                "DeletionProtection": False,
                "TagList": tags_of(given.get("Tags", ())),
                **settings_of(call, self._estate, {}),
            }
        )
        if "DBClusterIdentifier" in given:
            self._join(call, description)
        return {"DBInstance": self.told(self.add(call, identifier, description), call.region)}

    def _join(self, call: Call, description: dict[str, Any]) -> None:
        name = call.input["DBClusterIdentifier"]
        cluster = self._estate.find("cluster", call.region, name)
        if cluster is None:
            raise Refused("DBClusterNotFoundFault", f"DBCluster {name} not found.")
        if cluster.course.state != "available":
            raise Refused(
                "InvalidDBClusterStateFault",
                f"The DB cluster {name} is not in the available state.",
                400,
            )
        taken = ("EngineVersion", "StorageEncrypted", "KmsKeyId", "VpcSecurityGroups")
        description.update({name: cluster.description[name] for name in taken})
        description["DBClusterIdentifier"] = cluster.description["DBClusterIdentifier"]
        members = cluster.description["DBClusterMembers"]
        members.append(
            {
                "DBInstanceIdentifier": description["DBInstanceIdentifier"],
                "IsClusterWriter": not members,
                "DBClusterParameterGroupStatus": "in-sync",
                "PromotionTier": call.input.get("PromotionTier", 1),
            }
        )
        cluster.description["MultiAZ"] = len(members) > 1

    def modify_db_instance(self, call: Call) -> Answer:
        thing = self.found(call, call.input["DBInstanceIdentifier"])
        state = thing.course.state
        if state not in ("available", "storage-full", "incompatible-parameters"):
            raise Refused(
                "InvalidDBInstanceState",
                f"Instance {call.input['DBInstanceIdentifier']} cannot be modified in the"
                f" {state} state.",
            )
        settings = settings_of(call, self._estate, thing.description)
        at_once, waiting = applied(settings)
        thing.description.update(at_once)
        thing.pending.update(waiting)
        if "NewDBInstanceIdentifier" in call.input:
            self._rename(call, thing)
        if call.input.get("ApplyImmediately", False) or not waiting:
            self._estate.send(thing, *self.modify_states)
            thing.course.arrive = lambda: settle(thing)
        return {"DBInstance": self.told(thing, call.region)}

    def _rename(self, call: Call, thing: Thing) -> None:
        """At once, where RDS takes minutes; its identifier is in its ARN and in its endpoint."""
        new = identifier_of(call, "NewDBInstanceIdentifier", 63)
        there = self._estate.all("db", call.region)
        if new in there:
            raise Refused("DBInstanceAlreadyExists", "DB instance already exists")
        there[new] = there.pop(call.input["DBInstanceIdentifier"].lower())
        thing.description["DBInstanceIdentifier"] = new
        thing.description["DBInstanceArn"] = call.arn(f"db:{new}")

    def delete_db_instance(self, call: Call) -> Answer:
        name = call.input["DBInstanceIdentifier"]
        thing = self.found(call, name)
        if thing.description.get("DeletionProtection"):
            raise Refused(
                "InvalidParameterCombination",
                "Cannot delete protected DB Instance, please disable deletion protection and try"
                " again.",
                400,
            )
        if not call.input.get("SkipFinalSnapshot", False):
            raise Refused(
                "InvalidParameterCombination",
                "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified.",
                400,
            )
        self._estate.send(thing, *self.delete_states)
        return {"DBInstance": self.told(thing, call.region)}

    def add(self, call: Call, identifier: str, description: dict[str, Any]) -> Thing:
        if identifier in self._estate.all("db", call.region):
            raise Refused("DBInstanceAlreadyExists", "DB instance already exists")
        return self._estate.add("db", call.region, identifier, description, *self.create_states)

    def told(self, thing: Thing, region: str) -> Mapping[str, Any]:
        state = thing.course.state
        if state == "available" and self._snapshots.backing_up(thing, region):
            state = "backing-up"
        begun = "creating" in thing.course.states and not thing.course.over
        hidden = ("Endpoint", "LatestRestorableTime") if begun or state in UNREACHABLE else ()
        told = {name: part for name, part in thing.description.items() if name not in hidden}
        told["DBInstanceStatus"] = state
        told["PendingModifiedValues"] = {
            name: part for name, part in thing.pending.items() if name != "MasterUserPassword"
        }
        if "MasterUserPassword" in thing.pending:
            told["PendingModifiedValues"]["MasterUserPassword"] = "****"
        return told


def settle(thing: Thing) -> None:
    """What was pending is so now."""
    thing.description.update(
        {name: part for name, part in thing.pending.items() if name != "MasterUserPassword"}
    )
    thing.pending.clear()
