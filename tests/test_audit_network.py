"""The audit of an instance's network: its subnets are private, by their route tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from backup.checks import Status
from tests.audited_instance import Audited, audited_instance
from tests.findings import assert_bad
from tests.lab.aws import Moto
from tests.lab.scripted.made import VPC
from tests.lab.scripted.server import ScriptedAws


@pytest.fixture
def audited(
    scripted: ScriptedAws, moto: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Audited:
    return audited_instance(scripted, moto, monkeypatch, tmp_path)


def test_a_subnet_with_a_way_to_the_internet_is_public_until_it_gets_another_table(
    audited: Audited,
) -> None:
    audited.aws.rds.add_instance()
    audited.aws.network.add_route_table(
        "rtb-public", "subnet-private-b", way_out={"GatewayId": "igw-1"}
    )
    words = ("subnet-private-b (rtb-public to igw-1)",)
    check = audited.mended("instance.subnets", Status.FAIL, *words)
    assert "subnet-private-a" not in check.reason
    assert "subnet-private-c" not in check.reason


def test_a_subnet_without_a_table_of_its_own_has_that_of_the_vpc(audited: Audited) -> None:
    audited.aws.rds.add_instance()
    audited.aws.network.add_route_table("rtb-main", main=True, way_out={"GatewayId": "igw-2"})
    words = ("subnet-private-b (rtb-main to igw-2)", "subnet-private-c (rtb-main to igw-2)")
    check = audited.mended("instance.subnets", Status.FAIL, *words)
    assert "subnet-private-a" not in check.reason


@pytest.mark.parametrize(
    ("way_out", "is_public"),
    [
        ({"EgressOnlyInternetGatewayId": "eigw-1"}, False),
        ({"TransitGatewayId": "tgw-1"}, False),
        ({"GatewayId": "vgw-1"}, False),
        ({"GatewayId": "igw-1"}, True),
    ],
)
def test_only_an_internet_gateway_makes_a_subnet_public(
    audited: Audited, way_out: Mapping[str, str], is_public: bool
) -> None:
    audited.aws.rds.add_instance()
    audited.aws.network.add_route_table("rtb-b", "subnet-private-b", way_out=way_out)
    expected = Status.FAIL if is_public else Status.PASS
    assert expected == audited.checks()["instance.subnets"].status


def test_a_gateway_for_ipv6_or_for_half_the_internet_is_a_way_out_and_a_lost_one_is_not(
    audited: Audited,
) -> None:
    audited.aws.rds.add_instance()
    network = audited.aws.network
    network.add_route_table("rtb-b", "subnet-private-b", way_out={"GatewayId": "igw-1"})
    route = network.tables("eu-central-1")["rtb-b"]["Routes"][1]
    route["State"] = "blackhole"
    assert Status.PASS == audited.checks()["instance.subnets"].status
    route |= {"State": "active", "DestinationCidrBlock": "128.0.0.0/1"}
    assert Status.FAIL == audited.checks()["instance.subnets"].status
    del route["DestinationCidrBlock"]
    route["DestinationIpv6CidrBlock"] = "::/0"
    assert Status.FAIL == audited.checks()["instance.subnets"].status


def test_tables_of_another_vpc_say_nothing_of_a_subnet(audited: Audited) -> None:
    audited.aws.rds.add_instance()
    audited.aws.network.add_route_table(
        "rtb-other", vpc="vpc-other", main=True, way_out={"GatewayId": "igw-1"}
    )
    assert VPC != "vpc-other"
    assert Status.PASS == audited.checks()["instance.subnets"].status


def test_a_subnet_whose_table_nobody_shows_is_unknown(audited: Audited) -> None:
    audited.aws.rds.add_instance()
    audited.aws.network.tables("eu-central-1").pop("rtb-main")
    check = audited.checks()["instance.subnets"]
    assert_bad(check, Status.UNKNOWN, "no route table of subnet-private-b", VPC)
