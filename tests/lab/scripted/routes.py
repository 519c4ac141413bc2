"""EC2: route tables that are made, and given to subnets."""

from __future__ import annotations

import uuid
from typing import Any

from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.network import Network

Answer = dict[str, Any]


class Routes:
    def __init__(self, network: Network) -> None:
        self._network = network

    def create_route_table(self, call: Call) -> Answer:
        name = f"rtb-{uuid.uuid4().hex[:8]}"
        self._network.add_route_table(name, region=call.region, vpc=call.input["VpcId"])
        return {"RouteTable": self._network.tables(call.region)[name]}

    def associate_route_table(self, call: Call) -> Answer:
        subnet = call.input["SubnetId"]
        for table in self._network.tables(call.region).values():
            if subnet in [one.get("SubnetId") for one in table["Associations"]]:
                raise Refused("Resource.AlreadyAssociated", f"{subnet} has a route table.", 400)
        return self._associate(call, subnet)

    def replace_route_table_association(self, call: Call) -> Answer:
        replaced = call.input["AssociationId"]
        for table in self._network.tables(call.region).values():
            for one in table["Associations"]:
                if one["RouteTableAssociationId"] == replaced:
                    table["Associations"].remove(one)
                    made = self._associate(call, one["SubnetId"])
                    return {
                        "NewAssociationId": made["AssociationId"],
                        "AssociationState": made["AssociationState"],
                    }
        raise Refused("InvalidAssociationID.NotFound", f"There is no {replaced}", 400)

    def _associate(self, call: Call, subnet: str) -> Answer:
        table = call.input["RouteTableId"]
        name = f"rtbassoc-{uuid.uuid4().hex[:8]}"
        self._network.tables(call.region)[table]["Associations"].append(
            {
                "RouteTableAssociationId": name,
                "RouteTableId": table,
                "SubnetId": subnet,
                "Main": False,
                "AssociationState": {"State": "associated"},
            }
        )
        return {"AssociationId": name, "AssociationState": {"State": "associated"}}
