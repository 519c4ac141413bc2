"""EC2, as far as it says whether a subnet is private, and EC2 Instance Connect."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.lab.aws import REGION
from tests.lab.scripted import made
from tests.lab.scripted.calls import Call, Refused
from tests.lab.sts import ACCOUNT

Answer = dict[str, Any]
Told = Mapping[str, Any]
# By operation: what its filters look at. An association is a list, one of which must match.
FILTERS: Mapping[str, Callable[[Told], set[str]]] = {
    "subnet-id": lambda told: {told["SubnetId"]},
    "vpc-id": lambda told: {told["VpcId"]},
    "group-id": lambda told: {told["GroupId"]},
    "group-name": lambda told: {told["GroupName"]},
    "route-table-id": lambda told: {told["RouteTableId"]},
    "association.subnet-id": lambda told: {
        one["SubnetId"] for one in told["Associations"] if "SubnetId" in one
    },
    "association.main": lambda told: {str(one["Main"]).lower() for one in told["Associations"]},
}


@dataclass(frozen=True)
class PushedKey:
    """A public key that was sent to an instance, good for 60 seconds there."""

    instance: str
    user: str
    public_key: str


class Network:
    """Subnets, route tables and security groups per region, and keys that were pushed."""

    def __init__(self) -> None:
        self.pushed: list[PushedKey] = []
        # What the instance does with a key that arrives; a test has a real server let it in.
        self.let_in: Callable[[PushedKey], None] = lambda _: None
        self.bastions: dict[str, str] = {}  # instance ids and their state; empty: any will do
        self._subnets: defaultdict[str, dict[str, Answer]] = defaultdict(dict)
        self._tables: defaultdict[str, dict[str, Answer]] = defaultdict(dict)
        self._groups: defaultdict[str, dict[str, Answer]] = defaultdict(dict)

    def tables(self, region: str) -> dict[str, Answer]:
        """Route tables by id, as they are told."""
        return self._tables[region]

    def add_subnet(
        self, identifier: str, *, region: str = REGION, vpc: str = made.VPC, public: bool = False
    ) -> None:
        self._subnets[region][identifier] = {
            "SubnetId": identifier,
            "SubnetArn": f"arn:aws:ec2:{region}:{ACCOUNT}:subnet/{identifier}",
            "VpcId": vpc,
            "State": "available",
            "CidrBlock": "10.0.1.0/24",
            "AvailabilityZone": f"{region}a",
            "AvailableIpAddressCount": 250,
            "MapPublicIpOnLaunch": public,
            "DefaultForAz": False,
            "OwnerId": ACCOUNT,
            "Tags": [],
        }

    def add_route_table(
        self,
        identifier: str,
        *subnets: str,
        region: str = REGION,
        vpc: str = made.VPC,
        main: bool = False,
        way_out: Mapping[str, str] | None = None,
    ) -> None:
        """`way_out` is where 0.0.0.0/0 leads: {"GatewayId": "igw-1"} makes subnets public,
        {"NatGatewayId": "nat-1"} does not; None: nowhere."""
        routes: list[Answer] = [
            {
                "DestinationCidrBlock": "10.0.0.0/16",
                "GatewayId": "local",
                "Origin": "CreateRouteTable",
                "State": "active",
            }
        ]
        if way_out is not None:
            routes.append(
                {
                    "DestinationCidrBlock": "0.0.0.0/0",
                    **way_out,
                    "Origin": "CreateRoute",
                    "State": "active",
                }
            )
        associations: list[Answer] = [
            {
                "RouteTableAssociationId": f"rtbassoc-{identifier}-{number}",
                "RouteTableId": identifier,
                "SubnetId": subnet,
                "Main": False,
                "AssociationState": {"State": "associated"},
            }
            for number, subnet in enumerate(subnets)
        ]
        if main:
            associations.append(
                {
                    "RouteTableAssociationId": f"rtbassoc-{identifier}-main",
                    "RouteTableId": identifier,
                    "Main": True,
                    "AssociationState": {"State": "associated"},
                }
            )
        self._tables[region][identifier] = {
            "RouteTableId": identifier,
            "VpcId": vpc,
            "OwnerId": ACCOUNT,
            "Routes": routes,
            "Associations": associations,
            "PropagatingVgws": [],
            "Tags": [],
        }

    def add_security_group(
        self,
        identifier: str,
        *sources: str,
        region: str = REGION,
        vpc: str = made.VPC,
        port: int = 5432,
    ) -> None:
        """A group that lets in `sources`, CIDR blocks or other groups, to one port."""
        permission: Answer = {
            "IpProtocol": "tcp",
            "FromPort": port,
            "ToPort": port,
            "IpRanges": [{"CidrIp": source} for source in sources if "." in source],
            "Ipv6Ranges": [{"CidrIpv6": source} for source in sources if ":" in source],
            "PrefixListIds": [],
            "UserIdGroupPairs": [
                {"GroupId": source, "UserId": ACCOUNT}
                for source in sources
                if source.startswith("sg-")
            ],
        }
        self._groups[region][identifier] = {
            "GroupId": identifier,
            "GroupName": identifier,
            "Description": identifier,
            "VpcId": vpc,
            "OwnerId": ACCOUNT,
            "IpPermissions": [permission],
            "IpPermissionsEgress": [],
            "Tags": [],
        }

    def describe_subnets(self, call: Call) -> Answer:
        return {
            "Subnets": _chosen(
                call, self._subnets[call.region], "SubnetIds", "InvalidSubnetID.NotFound"
            )
        }

    def describe_route_tables(self, call: Call) -> Answer:
        return {
            "RouteTables": _chosen(
                call, self._tables[call.region], "RouteTableIds", "InvalidRouteTableID.NotFound"
            )
        }

    def describe_security_groups(self, call: Call) -> Answer:
        return {
            "SecurityGroups": _chosen(
                call, self._groups[call.region], "GroupIds", "InvalidGroup.NotFound"
            )
        }

    def send_ssh_public_key(self, call: Call) -> Answer:
        instance = call.input["InstanceId"]
        if self.bastions and instance not in self.bastions:
            raise Refused(
                "EC2InstanceNotFoundException", f"Instance {instance} was not found.", 400
            )
        if self.bastions.get(instance, "running") != "running":
            raise Refused(
                "EC2InstanceStateInvalidException", f"Instance {instance} is not running.", 400
            )
        user, key = call.input["InstanceOSUser"], call.input["SSHPublicKey"]
        self.pushed.append(PushedKey(instance, user, key))
        self.let_in(self.pushed[-1])
        return {"RequestId": str(uuid.uuid4()), "Success": True}


def _chosen(call: Call, there: Mapping[str, Told], named: str, missing: str) -> list[Told]:
    """Those that are named, or all, as far as they pass the filters; never more than a page."""
    for identifier in call.input.get(named, ()):
        if identifier not in there:
            raise Refused(missing, f"The ID '{identifier}' does not exist", 400)
    wanted: Iterable[str] = call.input.get(named) or there
    return [there[one] for one in wanted if _passes(call, there[one])]


def _passes(call: Call, told: Told) -> bool:
    for one in call.input.get("Filters", ()):
        if one["Name"] not in FILTERS:
            raise Refused("InvalidParameterValue", f"The filter '{one['Name']}' is invalid", 400)
        if not FILTERS[one["Name"]](told) & set(one["Values"]):
            return False
    return True
