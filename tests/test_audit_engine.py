"""The audit of an instance's engine: version, support, clients, TLS and parameters."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from backup.checks import Status
from tests.audited_instance import NOW, Audited, audited_instance
from tests.audits import apply
from tests.lab.aws import Moto
from tests.lab.scripted.server import ScriptedAws


@pytest.fixture
def audited(
    scripted: ScriptedAws, moto: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Audited:
    return audited_instance(scripted, moto, monkeypatch, tmp_path)


def own_group(audited: Audited, name: str, **parameters: str) -> None:
    """The instance has a parameter group with these values, by their names with `__` for dots."""
    audited.aws.rds.add_instance()
    set_ = {key.replace("__", "."): value for key, value in parameters.items()}
    audited.aws.rds.add_parameter_group("shop-postgres17", parameters=set_)
    assert name == "shop-postgres17"


def test_tls_that_is_not_forced_is_mended_in_the_group_of_the_instance(audited: Audited) -> None:
    own_group(audited, "shop-postgres17", rds__force_ssl="0")
    check = audited.mended("instance.tls", Status.FAIL, "rds.force_ssl is off")
    assert "ApplyMethod=immediate" in check.fix
    assert "reboot" not in check.fix


def test_tls_that_a_default_group_does_not_force_is_mended_by_a_group_of_its_own(
    audited: Audited,
) -> None:
    group = {"DBParameterGroupName": "default.postgres14", "ParameterApplyStatus": "in-sync"}
    audited.aws.rds.add_instance(EngineVersion="14.19", DBParameterGroups=[group])
    audited.aws.rds.add_parameter_group("default.postgres14", family="postgres14", parameters={})
    check = audited.mended("instance.tls", Status.FAIL, "rds.force_ssl is off")
    assert "reboot-db-instance" in check.fix
    told = audited.rds().describe_db_instances()["DBInstances"][0]["DBParameterGroups"]
    assert [("shop-postgres14", "in-sync")] == [
        (each["DBParameterGroupName"], each["ParameterApplyStatus"]) for each in told
    ]


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("fsync", "0", Status.FAIL),
        ("full_page_writes", "off", Status.FAIL),
        ("autovacuum", "0", Status.FAIL),
        ("track_counts", "0", Status.FAIL),
        ("zero_damaged_pages", "1", Status.FAIL),
        ("synchronous_commit", "off", Status.WARN),
    ],
)
def test_a_parameter_that_endangers_data_is_named_and_its_fix_mends_it(
    audited: Audited, name: str, value: str, status: Status
) -> None:
    own_group(audited, "shop-postgres17", **{name: value})
    audited.mended("instance.parameters", status, f"{name} is {value} in shop-postgres17")


def test_parameters_that_wait_for_a_restart_are_not_in_force(audited: Audited) -> None:
    audited.aws.rds.add_instance(
        DBParameterGroups=[
            {"DBParameterGroupName": "shop-postgres17", "ParameterApplyStatus": "pending-reboot"}
        ]
    )
    audited.aws.rds.add_parameter_group("shop-postgres17", parameters={"rds.force_ssl": "1"})
    assert Status.WARN == audited.checks()["instance.parameters"].status
    audited.mended("instance.tls", Status.WARN, "shop takes its parameters over at a restart only")


def test_a_version_that_rds_offers_no_more_is_mended_by_the_newest_of_its_major(
    audited: Audited,
) -> None:
    audited.aws.rds.surroundings.deprecated.add("17.5")
    audited.aws.rds.add_instance(EngineVersion="17.5")
    check = audited.mended("instance.version", Status.FAIL, "17.5")
    assert "--engine-version 17.6 " in check.fix


def test_a_last_minor_that_rds_offers_no_more_is_mended_by_the_next_major(audited: Audited) -> None:
    audited.aws.rds.surroundings.deprecated.add("16.10")
    audited.aws.rds.add_instance(EngineVersion="16.10")
    check = audited.mended("instance.version", Status.FAIL, "16.10")
    assert "--engine-version 17.6 --allow-major-version-upgrade" in check.fix
    assert "--db-parameter-group-name default.postgres17" in check.fix


def test_a_version_that_rds_does_not_know_fails_and_lists_what_there_is(audited: Audited) -> None:
    audited.aws.rds.add_instance(EngineVersion="17.1")
    check = audited.checks()["instance.version"]
    assert Status.FAIL == check.status
    assert "17.6" in apply(check.fix, audited.env)


@pytest.mark.parametrize(("days", "status"), [(-1, Status.FAIL), (100, Status.WARN)])
def test_a_major_whose_support_ends_is_mended_by_the_next(
    audited: Audited, days: int, status: Status
) -> None:
    ends = NOW + timedelta(days=days)
    audited.aws.rds.operating.support_ends["postgres", "16"] = ends
    audited.aws.rds.add_instance(EngineVersion="16.10")
    check = audited.mended("instance.support", status, f"{ends:%Y-%m-%d}")
    assert "--engine-version 17.6 " in check.fix


def test_where_rds_tells_no_end_of_support_there_is_no_check(audited: Audited) -> None:
    audited.aws.rds.add_instance(EngineVersion="15.14")
    assert "instance.support" not in audited.checks()


def test_a_server_newer_than_every_pg_dump_fails_until_one_is_installed(audited: Audited) -> None:
    audited.aws.rds.add_instance(EngineVersion="99.1")
    check = audited.checks()["instance.client"]
    assert Status.FAIL == check.status
    assert "postgresql-client-99" in check.fix
    audited.install("99.1")
    assert Status.PASS == audited.checks()["instance.client"].status


def test_a_pg_dump_of_another_major_is_a_warning_until_the_right_one_is_installed(
    audited: Audited,
) -> None:
    audited.aws.rds.add_instance(EngineVersion="13.22")
    check = audited.checks()["instance.client"]
    assert Status.WARN == check.status
    assert "postgresql-client-13" in check.fix
    audited.install("13.22")
    assert Status.PASS == audited.checks()["instance.client"].status
