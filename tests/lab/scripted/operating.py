"""RDS: what an operator does to instances and groups by hand, and what RDS tells beside it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.estate import GROUPS, Estate, Thing
from tests.lab.scripted.instances import Instances

Answer = dict[str, Any]


class Operating:
    def __init__(
        self,
        estate: Estate,
        instances: Instances,
        parameters: dict[str, dict[str, str]],
        add_group: Callable[..., Thing],
    ) -> None:
        # End of standard support, by engine and major; nothing is told of others.
        self.support_ends: dict[tuple[str, str], datetime.datetime] = {}
        self.events: list[dict[str, Any]] = []
        self._estate = estate
        self._instances = instances
        self._parameters = parameters
        self._add_group = add_group

    def create_db_parameter_group(self, call: Call) -> Answer:
        return {"DBParameterGroup": self._create(call, "pg")}

    def create_db_cluster_parameter_group(self, call: Call) -> Answer:
        return {"DBClusterParameterGroup": self._create(call, "cluster-pg")}

    def modify_db_parameter_group(self, call: Call) -> Answer:
        return self._modify(call, "pg")

    def modify_db_cluster_parameter_group(self, call: Call) -> Answer:
        return self._modify(call, "cluster-pg")

    def reboot_db_instance(self, call: Call) -> Answer:
        thing = self._instances.found(call, call.input["DBInstanceIdentifier"])
        if thing.course.state not in ("available", "modifying"):
            raise Refused("InvalidDBInstanceState", f"It is {thing.course.state}.")
        for group in thing.description["DBParameterGroups"]:
            group["ParameterApplyStatus"] = "in-sync"
        self._estate.send(thing, "rebooting", "available")
        return {"DBInstance": self._instances.told(thing, call.region)}

    def start_db_instance(self, call: Call) -> Answer:
        thing = self._instances.found(call, call.input["DBInstanceIdentifier"])
        if thing.course.state != "stopped":
            raise Refused("InvalidDBInstanceState", f"It is {thing.course.state}, not stopped.")
        self._estate.send(thing, "starting", "available")
        thing.course.arrive = lambda: ship(thing)
        return {"DBInstance": self._instances.told(thing, call.region)}

    def start_db_cluster(self, call: Call) -> Answer:
        name = call.input["DBClusterIdentifier"]
        thing = self._estate.find("cluster", call.region, name)
        if thing is None:
            raise Refused("DBClusterNotFoundFault", f"DBCluster {name} not found.")
        if thing.course.state != "stopped":
            raise Refused("InvalidDBClusterStateFault", f"It is {thing.course.state}.")
        self._estate.send(thing, "starting", "available")
        thing.course.arrive = lambda: ship(thing)
        return {"DBCluster": {"DBClusterIdentifier": name, "Status": "starting"}}

    def describe_events(self, call: Call) -> Answer:
        wanted = call.input.get("SourceIdentifier")
        told = [each for each in self.events if wanted in (None, each["SourceIdentifier"])]
        return {"Events": told}

    def describe_db_major_engine_versions(self, call: Call) -> Answer:
        wanted = (call.input.get("Engine"), call.input.get("MajorEngineVersion"))
        told = [
            {
                "Engine": engine,
                "MajorEngineVersion": major,
                "SupportedEngineLifecycles": [
                    {
                        "LifecycleSupportName": "open-source-rds-standard-support",
                        "LifecycleSupportStartDate": end - datetime.timedelta(days=5 * 365),
                        "LifecycleSupportEndDate": end,
                    }
                ],
            }
            for (engine, major), end in self.support_ends.items()
            if wanted in ((engine, major), (engine, None), (None, None))
        ]
        return {"DBMajorEngineVersions": told}

    def _create(self, call: Call, kind: str) -> Answer:
        name = call.input[f"{GROUPS[kind]}Name"]
        if self._estate.find(kind, call.region, name):
            raise Refused("DBParameterGroupAlreadyExists", f"{name} already exists")
        family = call.input["DBParameterGroupFamily"]
        group = self._add_group(name, kind=kind, family=family, region=call.region, parameters={})
        return group.description

    def _modify(self, call: Call, kind: str) -> Answer:
        name = call.input[f"{GROUPS[kind]}Name"]
        if name.startswith("default."):
            raise Refused("InvalidParameterValue", "Cannot modify a default parameter group.", 400)
        if self._estate.find(kind, call.region, name) is None:
            raise Refused("DBParameterGroupNotFound", f"DBParameterGroup not found: {name}")
        for each in call.input["Parameters"]:
            arn = call.arn(f"{kind}:{name}")
            self._parameters[arn][each["ParameterName"]] = each["ParameterValue"]
        return {f"{GROUPS[kind]}Name": name}


def ship(thing: Thing) -> None:
    """Logs go to S3 again, so that the latest restorable time moves on."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    thing.description["LatestRestorableTime"] = now
