"""Scripted RDS: what a test puts into it, and the scripts that answer its operations."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from tests.lab.aws import REGION
from tests.lab.scripted import made
from tests.lab.scripted.cluster_snapshots import ClusterSnapshots
from tests.lab.scripted.clusters import Clusters
from tests.lab.scripted.estate import GROUPS, Estate, Thing
from tests.lab.scripted.exports import Exports
from tests.lab.scripted.instances import Instances
from tests.lab.scripted.keys import Keys, managed_key
from tests.lab.scripted.operating import Operating
from tests.lab.scripted.restores import Restores
from tests.lab.scripted.snapshots import Snapshots
from tests.lab.scripted.surroundings import Surroundings, automated_backup, retained_backup
from tests.lab.sts import ACCOUNT


class Rds:
    """An account's RDS in all regions. How fast states pass: `pace`; page length: `page_size`.

    The states of what is made next are attributes of the scripts, so that a test can make
    something go wrong: `rds.snapshots.states = ("creating", "failed")`,
    `rds.restores.states = ("creating", "incompatible-restore")`.
    """

    def __init__(self) -> None:
        self.estate = Estate()
        self.pace = self.estate.pace
        self.keys = Keys()
        self.snapshots = Snapshots(self.estate, self.keys)
        self.instances = Instances(self.estate, self.snapshots)
        self.restores = Restores(self.estate, self.instances)
        self.parameters: dict[str, dict[str, str]] = {}  # what a group sets, by its ARN
        self.surroundings = Surroundings(self.estate, self.parameters)
        self.cluster_snapshots = ClusterSnapshots(self.estate, self.keys)
        self.clusters = Clusters(self.estate, self.instances, self.keys)
        self.exports = Exports(self.estate, self.keys)
        self.operating = Operating(
            self.estate, self.instances, self.parameters, self.add_parameter_group
        )
        self.scripts: Sequence[object] = (
            self.snapshots,
            self.instances,
            self.restores,
            self.cluster_snapshots,
            self.clusters,
            self.exports,
            self.surroundings,
            self.operating,
        )

    @property
    def endpoint(self) -> tuple[str, int]:
        """Where a real PostgreSQL listens: told as the endpoint of every instance made later."""
        return self.instances.endpoint

    @endpoint.setter
    def endpoint(self, place: tuple[str, int]) -> None:
        self.instances.endpoint = place

    @property
    def seconds_per_state(self) -> float | None:
        return self.pace.seconds_per_state

    @seconds_per_state.setter
    def seconds_per_state(self, seconds: float | None) -> None:
        self.pace.seconds_per_state = seconds

    def add_instance(
        self,
        identifier: str = "shop",
        *,
        region: str = REGION,
        state: str = "available",
        **other: Any,
    ) -> Thing:
        """A well-kept instance, with its groups; `other` are members of RDS's description."""
        description = made.instance(identifier, region, self.endpoint)
        if other.get("StorageEncrypted") is False:
            del description["KmsKeyId"]
        description.update(other)
        group = description["DBSubnetGroup"]
        self.estate.add("subgrp", region, group["DBSubnetGroupName"], group, "Complete")
        major = description["EngineVersion"].partition(".")[0]
        family = f"{description['Engine']}{major}"
        for parameters in description["DBParameterGroups"]:
            name = parameters["DBParameterGroupName"]
            self.add_parameter_group(name, family=family, region=region)
        return self.estate.add("db", region, identifier, description, state)

    def add_snapshot(
        self,
        identifier: str,
        instance: str = "shop",
        *,
        kind: str = "manual",
        region: str = REGION,
        state: str = "available",
        created: datetime.datetime | None = None,
        **other: Any,
    ) -> Thing:
        """A snapshot of an instance; `kind` is manual, automated or awsbackup."""
        source = self.estate.find("db", region, instance)
        assert source is not None, f"there is no instance {instance} in {region}"
        thing = self.snapshots.add(region, identifier, source, kind, state)
        if created is not None:
            thing.description |= {
                "SnapshotCreateTime": created,
                "OriginalSnapshotCreateTime": created,
            }
        thing.description.update(other)
        return thing

    def add_subnet_group(
        self, name: str, *, region: str = REGION, subnets: Sequence[str] = ()
    ) -> Thing:
        """A group with these subnets, or with three that are named after it."""
        group = made.subnet_group(name, region)
        for place, subnet in zip(group["Subnets"], subnets, strict=False):
            place["SubnetIdentifier"] = subnet
        group["Subnets"] = group["Subnets"][: len(subnets) or None]
        return self.estate.add("subgrp", region, name, group, "Complete")

    def add_parameter_group(
        self,
        name: str,
        *,
        kind: str = "pg",
        family: str = "postgres17",
        region: str = REGION,
        parameters: Mapping[str, str] | None = None,
    ) -> Thing:
        """A group and the values that it sets by itself (source `user`)."""
        word = GROUPS[kind]
        arn = f"arn:aws:rds:{region}:{ACCOUNT}:{kind}:{name}"
        description = {
            f"{word}Name": name,
            f"{word}Arn": arn,
            "DBParameterGroupFamily": family,
            "Description": name,
        }
        self.parameters[arn] = dict({"rds.force_ssl": "1"} if parameters is None else parameters)
        return self.estate.add(kind, region, name, description, "available")

    def add_cluster(
        self,
        identifier: str = "shop",
        *,
        members: int = 2,
        region: str = REGION,
        state: str = "available",
        **other: Any,
    ) -> Thing:
        """A well-kept Aurora cluster; its members are `shop-1` (the writer), `shop-2`, ..."""
        description = made.cluster(identifier, region, self.endpoint) | other
        self.add_subnet_group(description["DBSubnetGroup"], region=region)
        name = description["DBClusterParameterGroup"]
        self.add_parameter_group(
            name, kind="cluster-pg", family="aurora-postgresql16", region=region
        )
        for number in range(1, members + 1):
            self.add_instance(
                f"{identifier}-{number}",
                region=region,
                Engine=description["Engine"],
                EngineVersion=description["EngineVersion"],
                DBClusterIdentifier=identifier,
                DBParameterGroups=[
                    {"DBParameterGroupName": name, "ParameterApplyStatus": "in-sync"}
                ],
                PromotionTier=number,
                MultiAZ=False,
            )
            description["DBClusterMembers"].append(
                {
                    "DBInstanceIdentifier": f"{identifier}-{number}",
                    "IsClusterWriter": number == 1,
                    "DBClusterParameterGroupStatus": "in-sync",
                    "PromotionTier": number,
                }
            )
        return self.estate.add("cluster", region, identifier, description, state)

    def lose(self, identifier: str = "shop", *, region: str = REGION, retain: bool = True) -> None:
        """The instance is gone. `retain`: its automated backups are kept, else they are gone too.

        https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_WorkingWithAutomatedBackups.html
        """
        instance = self.estate.all("db", region).pop(identifier).description
        if not retain:
            self._drop_automated(instance["DbiResourceId"], region)
        elif instance["BackupRetentionPeriod"]:
            backup = automated_backup(instance, "retained")
            kept = {"backup": backup, "instance": instance}
            self.estate.add("auto-backup", region, instance["DbiResourceId"], kept, "retained")

    def lose_cluster(self, identifier: str = "shop", *, region: str = REGION) -> None:
        """The cluster is gone with its instances, and its automated backups are kept."""
        cluster = self.estate.all("cluster", region).pop(identifier).description
        for member in cluster["DBClusterMembers"]:
            del self.estate.all("db", region)[member["DBInstanceIdentifier"]]
        kept = {"backup": retained_backup(cluster), "cluster": cluster}
        name = cluster["DbClusterResourceId"]
        self.estate.add("cluster-auto-backup", region, name, kept, "retained")

    def _drop_automated(self, resource: str, region: str) -> None:
        snapshots = self.estate.all("snapshot", region)
        for name, thing in list(snapshots.items()):
            told = thing.description
            if (told["DbiResourceId"], told["SnapshotType"]) == (resource, "automated"):
                del snapshots[name]

    def put_into(
        self,
        states: Sequence[str],
        identifier: str = "shop",
        *,
        kind: str = "db",
        region: str = REGION,
    ) -> None:
        """Send a thing through states: `put_into(["backing-up", "available"])`."""
        thing = self.estate.find(kind, region, identifier)
        assert thing is not None, f"there is no {kind} {identifier} in {region}"
        self.estate.send(thing, *states)

    def tags_of(self, arn: str) -> Mapping[str, str]:
        """The tags of what an ARN names, for aws:ResourceTag; empty where there is nothing."""
        thing = self.estate.at(arn)
        tags = thing.description.get("TagList", ()) if thing else ()
        return {tag["Key"]: tag["Value"] for tag in tags}

    def customer_key_of(self, arn: str) -> str | None:
        """The customer managed KMS key that encrypts what an ARN names."""
        thing = self.estate.at(arn)
        key = thing.description.get("KmsKeyId") if thing else None
        return None if key is None or key == managed_key(key.split(":")[3]) else str(key)
