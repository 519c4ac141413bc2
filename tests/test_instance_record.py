"""The record of an instance in S3: its form, what is read from it, and where it lies."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from backup.archive.catalogue import entries as backups
from backup.aws import instance_record
from backup.aws.instance_record import InstanceRecord, RecordedRun, RecordedSnapshot, SnapshotCopy
from backup.aws.instances import Cluster, Instance, cluster_of, instance_of
from backup.errors import StorageError
from tests.lab.aws import REGION, REPOSITORY
from tests.lab.scripted import made

SCHEMA = json.loads((REPOSITORY / "docs/instance.schema.json").read_text())
MOMENT = datetime(2026, 11, 22, 2, 0, 0, 123456, tzinfo=UTC)


def an_instance(**others: Any) -> Instance:
    told = made.instance("shop", REGION, ("db.example.org", 5432))
    return instance_of(told | {"DBInstanceStatus": "available"} | others)


def a_cluster() -> Cluster:
    told = made.cluster("ledger", REGION, ("db.example.org", 5432))
    scaling = {"MinCapacity": 0.5, "MaxCapacity": 16.0}
    return cluster_of(told | {"Status": "available", "ServerlessV2ScalingConfiguration": scaling})


def a_record(database: Instance | Cluster, *members: Instance) -> InstanceRecord:
    arn = f"arn:aws:rds:{REGION}:123456789012:snapshot:before"
    copy = SnapshotCopy("before", arn.replace(REGION, "eu-west-1"), "eu-west-1")
    return InstanceRecord(
        taken=MOMENT,
        region=REGION,
        database=database,
        members=members,
        snapshot=RecordedSnapshot("before", arn, "rds", None, copy),
        action=RecordedRun("1.0.0", None),
    )


RECORDS = [
    a_record(an_instance()),
    a_record(an_instance(StorageEncrypted=False, KmsKeyId=None, TagList=[], DBName=None)),
    a_record(a_cluster(), an_instance(DBClusterIdentifier="ledger", PromotionTier=1)),
]


@pytest.mark.parametrize("record", RECORDS)
def test_what_is_written_is_read_again(record: InstanceRecord) -> None:
    assert record == instance_record.decode(instance_record.encode(record), "s3://b/k")


@pytest.mark.parametrize("record", RECORDS)
def test_the_schema_describes_it(record: InstanceRecord) -> None:
    told = json.loads(instance_record.encode(record))

    Draft202012Validator(SCHEMA, format_checker=FormatChecker()).validate(told)


def test_the_schema_has_every_field_of_it() -> None:
    """So that a setting that is added to instances is described as well."""
    kinds: dict[str, type] = {"instance": Instance, "cluster": Cluster, "action": RecordedRun}
    kinds |= {"snapshot": RecordedSnapshot, "copy": SnapshotCopy}
    for name in ("storage", "network", "monitoring", "upkeep"):
        kinds[name] = get_type_hints(Instance)[name]
    for name, kind in kinds.items():
        described = SCHEMA["$defs"][name]
        names = [each.name for each in dataclasses.fields(kind)]
        assert (names, names) == (described["required"], list(described["properties"])), name


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda told: told.update(format=2), "its format is 2"),
        (lambda told: told.update(kind="table"), "kind is neither"),
        (lambda told: told.pop("database"), "database is no JSON object"),
        (lambda told: told.update(taken="yesterday"), "taken is no time"),
        (lambda told: told.update(taken="2026-11-22T02:00:00"), "without a zone"),
        (lambda told: told["database"].update(is_multi_az=1), "database.is_multi_az is no bool"),
        (lambda told: told["database"]["storage"].update(iops="3"), "storage.iops is no int"),
        (lambda told: told["database"]["network"].update(subnets="a"), "subnets is no list"),
        (lambda told: told["database"].update(tags=[]), "database.tags is no JSON object"),
        (lambda told: told["database"].pop("identifier"), "database.identifier is no str"),
    ],
)
def test_what_is_not_so_is_refused_by_its_field(spoil: Any, problem: str) -> None:
    told = json.loads(instance_record.encode(RECORDS[0]))
    spoil(told)

    with pytest.raises(StorageError) as caught:
        instance_record.decode(json.dumps(told).encode(), "s3://b/k")

    assert problem in caught.value.detail
    assert "s3://b/k" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_record_at_all_is_refused(content: bytes) -> None:
    with pytest.raises(StorageError):
        instance_record.decode(content, "s3://b/k")


def test_fields_of_later_versions_are_left_and_missing_ones_are_null() -> None:
    told = json.loads(instance_record.encode(RECORDS[0]))
    told["database"]["tomorrow"] = {"new": 1}
    del told["database"]["ca_certificate"]

    record = instance_record.decode(json.dumps(told).encode(), "s3://b/k")

    assert isinstance(record.database, Instance)
    assert record.database.ca_certificate is None


def test_records_are_found_by_their_keys_and_are_no_backups() -> None:
    root = "postgresql/rds/shop"
    keys = [
        instance_record.key_of("postgresql", "Shop", MOMENT),
        instance_record.key_of("postgresql", "shop", MOMENT, "exports"),
        instance_record.key_of("postgresql", "shop", MOMENT, "restores"),
        f"{root}/20261121T020000Z.json",
        f"{root}/latest.json",
        f"{root}/20269999T020000Z.json",
        f"{root}/exports/shop-20261122t020000z/20261122T020000Z.json",
        f"{root}/others/20261122T020000Z.json",
        "postgresql/rds/20261122T020000Z.json",
        "postgresql/rds/shop-2/20261122T020000Z.json",
        "elsewhere/rds/shop/20261122T020000Z.json",
    ]
    listed = [SimpleNamespace(key=key, size=1) for key in keys]

    found = instance_record.all_entries("postgresql", listed)

    assert [
        ("shop", "", f"{root}/20261121T020000Z.json"),
        ("shop-2", "", "postgresql/rds/shop-2/20261122T020000Z.json"),
        ("shop", "", f"{root}/20261122T020000Z.json"),
        ("shop", "exports", f"{root}/exports/20261122T020000Z.json"),
        ("shop", "restores", f"{root}/restores/20261122T020000Z.json"),
    ] == [(entry.identifier, entry.kind, entry.key) for entry in found]
    assert [keys[3], keys[0]] == [
        entry.key for entry in instance_record.entries("postgresql", "SHOP", listed)
    ]
    assert [] == backups("postgresql", listed)


def test_without_a_prefix_records_lie_at_the_top() -> None:
    key = instance_record.key_of("", "shop", MOMENT)

    assert "rds/shop/20261122T020000Z.json" == key
    assert [key] == [
        entry.key for entry in instance_record.entries("", "shop", [SimpleNamespace(key=key)])
    ]
