"""Whether a subnet leads to the internet: its route table, and the gateways in it.

https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Route_Tables.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backup.aws.refusals import Attempt, explained
from backup.aws.session import AwsSession
from backup.errors import AccessError


@dataclass(frozen=True, slots=True)
class SubnetRoute:
    """The route table of a subnet. `association` is None where it is the VPC's main table.

    `table` is empty where EC2 shows none, as to an account that the VPC is only shared with.
    `gateway` is the internet gateway that the table leads to, None for a private subnet.
    """

    subnet: str
    table: str
    association: str | None
    gateway: str | None


def subnet_routes(
    session: AwsSession, vpc: str, subnets: tuple[str, ...]
) -> tuple[SubnetRoute, ...]:
    """Each subnet's route table: its own, or the main one of the VPC. Raises AccessError."""
    # The action knows no resources: it is allowed on all of them or on none.
    attempt = Attempt(
        f"cannot look at the route tables of {vpc}",
        session.region,
        ("ec2:DescribeRouteTables",),
        "*",
        failure=AccessError,
    )
    with explained(attempt):
        pages = session.client("ec2").get_paginator("describe_route_tables")
        asked = pages.paginate(Filters=[{"Name": "vpc-id", "Values": [vpc]}])
        tables = [table for page in asked for table in page["RouteTables"]]
    return tuple(_route(subnet, tables) for subnet in subnets)


def _route(subnet: str, tables: list[Mapping[str, Any]]) -> SubnetRoute:
    main: SubnetRoute | None = None
    for table in tables:
        for association in table.get("Associations", []):
            found = SubnetRoute(subnet, table["RouteTableId"], None, _gateway(table))
            if association.get("SubnetId") == subnet:
                own = association["RouteTableAssociationId"]
                return SubnetRoute(subnet, found.table, own, found.gateway)
            if association.get("Main"):
                main = found
    return main or SubnetRoute(subnet, "", None, None)


def _gateway(table: Mapping[str, Any]) -> str | None:
    """The internet gateway of a table, whatever the destination: half the internet is public too.

    Egress-only gateways (eigw-) let nobody in, and a blackhole leads nowhere.
    """
    for route in table.get("Routes", []):
        target = str(route.get("GatewayId") or "")
        if target.startswith("igw-") and route.get("State") != "blackhole":
            return target
    return None
