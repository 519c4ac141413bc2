"""The scripted AWS reads what botocore writes and writes what botocore reads, or refuses."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import pytest
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from tests.lab.httpd import Request
from tests.lab.scripted.scalars import WireFault
from tests.lab.scripted.server import wire_of
from tests.lab.scripted.wire import service_model

THEN = datetime.datetime(2026, 11, 22, 10, 30, 15, tzinfo=datetime.UTC)
POINT = "arn:aws:rds:eu-central-1:123456789012:snapshot:awsbackup:job-1"


def written(service: str, operation: str, given: Mapping[str, Any]) -> Request:
    """The request as botocore's own serializer writes it."""
    model = service_model(service)
    request = create_serializer(model.metadata["protocol"], False).serialize_to_request(
        dict(given), model.operation_model(operation)
    )
    body = request["body"]
    if isinstance(body, dict):
        body = urlencode(body).encode()
    return Request(
        request["method"],
        request["url_path"],
        parse_qs(urlencode(request["query_string"] or {}, doseq=True, quote_via=quote)),
        {name.lower(): text for name, text in request["headers"].items()},
        body,
    )


@pytest.mark.parametrize(
    ("service", "operation", "given"),
    [
        ("rds", "DescribeDBInstances", {}),
        (
            "rds",
            "CreateDBSnapshot",
            {
                "DBSnapshotIdentifier": "s",
                "DBInstanceIdentifier": "shop",
                "Tags": [{"Key": "a", "Value": "b & c"}, {"Key": "d"}],
            },
        ),
        ("rds", "AddTagsToResource", {"ResourceName": "r", "Tags": []}),
        (
            "rds",
            "RestoreDBInstanceToPointInTime",
            {
                "TargetDBInstanceIdentifier": "t",
                "RestoreTime": THEN,
                "MultiAZ": False,
                "Port": 5432,
                "VpcSecurityGroupIds": ["sg-1", "sg-2"],
                "ProcessorFeatures": [{"Name": "coreCount", "Value": "4"}],
            },
        ),
        (
            "rds",
            "DescribeDBSnapshots",
            {"Filters": [{"Name": "engine", "Values": ["postgres", "x"]}], "MaxRecords": 20},
        ),
        ("sns", "CreateTopic", {"Name": "n", "Attributes": {"A": "1", "B": "2"}}),
        (
            "iam",
            "SimulatePrincipalPolicy",
            {
                "PolicySourceArn": "arn:aws:iam::123456789012:role/r",
                "ActionNames": ["s3:GetObject", "s3:PutObject"],
                "ContextEntries": [
                    {
                        "ContextKeyName": "k",
                        "ContextKeyValues": ["v", "w"],
                        "ContextKeyType": "string",
                    }
                ],
            },
        ),
        (
            "ec2",
            "DescribeRouteTables",
            {
                "Filters": [{"Name": "vpc-id", "Values": ["v"]}],
                "RouteTableIds": ["r"],
                "DryRun": False,
            },
        ),
        (
            "kms",
            "Encrypt",
            {"KeyId": "k", "Plaintext": b"\x00\xff", "EncryptionContext": {"a": "b"}},
        ),
        ("cloudtrail", "LookupEvents", {"StartTime": THEN, "MaxResults": 5}),
        (
            "backup",
            "ListRecoveryPointsByBackupVault",
            {"BackupVaultName": "v", "ByCreatedAfter": THEN, "MaxResults": 7},
        ),
        ("backup", "DescribeRecoveryPoint", {"BackupVaultName": "v", "RecoveryPointArn": POINT}),
        (
            "backup",
            "StartBackupJob",
            {
                "BackupVaultName": "v",
                "ResourceArn": "r",
                "IamRoleArn": "i",
                "Lifecycle": {"DeleteAfterDays": 30},
                "RecoveryPointTags": {"a": "b"},
            },
        ),
    ],
)
def test_what_botocore_writes_is_read(
    service: str, operation: str, given: Mapping[str, Any]
) -> None:
    assert (operation, given) == wire_of(service).parse(written(service, operation, given))


@pytest.mark.parametrize(
    ("service", "operation", "answer"),
    [
        (
            "rds",
            "DescribeDBSnapshots",
            {
                "Marker": "m",
                "DBSnapshots": [
                    {
                        "DBSnapshotIdentifier": "a <b> & c",
                        "Encrypted": True,
                        "AllocatedStorage": 100,
                        "SnapshotCreateTime": THEN,
                        "TagList": [{"Key": "a", "Value": ""}],
                        "ProcessorFeatures": [],
                    },
                    {"DBSnapshotIdentifier": "second", "Encrypted": False},
                ],
            },
        ),
        ("rds", "AddTagsToResource", {}),
        (
            "ec2",
            "DescribeSubnets",
            {"Subnets": [{"SubnetId": "s", "MapPublicIpOnLaunch": True, "Tags": []}]},
        ),
        ("sns", "GetTopicAttributes", {"Attributes": {"A": "1", "B": "2"}}),
        ("kms", "Encrypt", {"CiphertextBlob": b"\x00\xff", "KeyId": "k"}),
        (
            "backup",
            "DescribeBackupJob",
            {"State": "RUNNING", "CreationDate": THEN, "PercentDone": "5.0", "IsParent": False},
        ),
    ],
)
def test_what_is_answered_is_what_botocore_reads(
    service: str, operation: str, answer: Mapping[str, Any]
) -> None:
    model = service_model(service)
    response = wire_of(service).answer(operation, answer)

    read = create_parser(model.metadata["protocol"]).parse(
        {
            "body": response.body,
            "headers": {name.lower(): text for name, text in response.headers.items()},
            "status_code": response.status,
        },
        model.operation_model(operation).output_shape,
    )

    assert read.pop("ResponseMetadata")["RequestId"]
    assert answer == read


@pytest.mark.parametrize(
    "answer",
    [
        {"DBSnapshot": {"DBSnapshotIdentifer": "misspelt"}},
        {"DBSnapshot": {"AllocatedStorage": "100"}},
        {"DBSnapshot": {"Encrypted": 1}},
        {"DBSnapshot": {"SnapshotCreateTime": "2026-11-22T10:00:00Z"}},
        {"DBSnapshot": {"SnapshotCreateTime": datetime.datetime(2026, 11, 22, 10)}},
        {"DBSnapshot": {"KmsKeyId": None}},
        {"DBSnapshots": []},
    ],
)
def test_an_answer_that_does_not_fit_the_model_is_refused(answer: Mapping[str, Any]) -> None:
    with pytest.raises(WireFault, match="answer to CreateDBSnapshot"):
        wire_of("rds").answer("CreateDBSnapshot", answer)


def test_an_answer_with_a_word_that_the_model_does_not_list_is_refused() -> None:
    with pytest.raises(WireFault, match="COMPLETED"):
        wire_of("backup").answer("DescribeBackupJob", {"State": "DONE"})


@pytest.mark.parametrize(
    ("service", "request_"),
    [
        ("rds", Request("POST", "/", {}, {}, b"Action=CopyDBSnapshot&Version=2014-10-31")),
        ("rds", Request("POST", "/", {}, {}, b"Action=MoveDBSnapshot&Version=2014-10-31")),
        ("rds", Request("POST", "/", {}, {}, b"Action=DescribeDBInstances&Version=2013-09-09")),
        ("rds", Request("POST", "/", {}, {}, b"Action=DescribeDBInstances&Version=2014-10-31&X=1")),
        (
            "rds",
            Request(
                "POST",
                "/",
                {},
                {},
                b"Action=DescribeDBInstances&Version=2014-10-31&Filters.Filter.2.Name=engine",
            ),
        ),
        ("backup", Request("GET", "/no-such-jobs/1", {}, {}, b"")),
        ("backup", Request("PUT", "/restore-jobs", {}, {}, b'{"RecoveryPointArn": "a"}')),
        ("ec2-instance-connect", Request("POST", "/", {}, {"x-amz-target": "a.B"}, b"{}")),
    ],
)
def test_a_request_that_the_model_does_not_know_is_refused(service: str, request_: Request) -> None:
    with pytest.raises(WireFault):
        wire_of(service).parse(request_)
