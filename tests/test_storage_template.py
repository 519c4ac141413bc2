"""storage.yaml and replication.yaml, property by property: what protects their buckets."""

from __future__ import annotations

import re
from typing import Any

import pytest

from backup.aws.bucket_posture import PUBLIC_ACCESS_BLOCKS
from backup.options import OPTIONS
from tests.lab.aws import REGION
from tests.lab.sts import ACCOUNT
from tests.lab.templates import TemplateError, read_template, resolve
from tests.storage_templates import (
    ARN,
    BUCKET,
    EVERYTHING,
    KEY,
    NAME,
    combinations,
    listed,
    made,
    parameters_of,
    policies,
    statements,
    store,
)

TEMPLATES = ["storage", "replication"]
BOTH = pytest.mark.parametrize("template", TEMPLATES)
TLS = {"Bool": {"aws:SecureTransport": "false"}}


@BOTH
def test_the_bucket_is_named_after_account_and_region_unless_it_is_given_a_name(
    template: str,
) -> None:
    kind = {"storage": "bucket", "replication": "replica"}[template]
    name = f"pg-backup-archival-{kind}-{ACCOUNT}-{REGION}"
    by_default = resolve(template).properties("Store")

    assert name == by_default["BucketName"]
    assert [{"Key": "pg-backup-bucket", "Value": name}] == by_default["Tags"]
    assert f"{name}/" == by_default["LoggingConfiguration"]["LogFilePrefix"]
    assert BUCKET == store(template)["BucketName"]
    longest = resolve(template, region="ap-southeast-1").properties("Store")["BucketName"]
    assert len(longest) <= 63


@BOTH
@pytest.mark.parametrize("bucket", ["Store", "LogBucket"])
@pytest.mark.parametrize("block", PUBLIC_ACCESS_BLOCKS)
def test_public_access_is_blocked_in_all_four_ways(template: str, bucket: str, block: str) -> None:
    blocks = made(template).properties(bucket)["PublicAccessBlockConfiguration"]
    assert blocks[block] is True
    assert set(PUBLIC_ACCESS_BLOCKS) == blocks.keys()


@BOTH
def test_acls_are_off_and_versions_are_kept(template: str) -> None:
    enforced = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert enforced == store(template)["OwnershipControls"]
    assert enforced == made(template).properties("LogBucket")["OwnershipControls"]
    assert {"Status": "Enabled"} == store(template)["VersioningConfiguration"]


@BOTH
def test_what_holds_data_outlives_the_stack(template: str) -> None:
    resources = made(template, **EVERYTHING[template]).resources
    kept = {name for name, each in resources.items() if each["Type"] != "AWS::IAM::Role"}
    assert {"Key", "Store", "StorePolicy", "LogBucket", "LogBucketPolicy"} == kept
    for name in kept:
        assert "RetainExceptOnCreate" == resources[name]["DeletionPolicy"]
        assert "Retain" == resources[name]["UpdateReplacePolicy"]


class TestEncryption:
    @staticmethod
    def rule(template: str, **parameters: str) -> dict[str, Any]:
        encryption = store(template, **parameters)["BucketEncryption"]
        (rule,) = encryption["ServerSideEncryptionConfiguration"]
        found: dict[str, Any] = rule
        return found

    @BOTH
    def test_by_default_with_a_key_of_its_own_that_is_rotated(self, template: str) -> None:
        default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
        expected = {"BucketKeyEnabled": True, "ServerSideEncryptionByDefault": default}
        assert expected == self.rule(template)
        assert made(template).properties("Key")["EnableKeyRotation"] is True
        assert KEY == made(template).outputs["KmsKeyId"]

    @BOTH
    def test_with_a_given_key_none_is_made(self, template: str) -> None:
        given = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/given"
        resolved = made(template, KmsKeyArn=given)
        rule = self.rule(template, KmsKeyArn=given)
        assert given == rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"]
        assert given == resolved.outputs["KmsKeyId"]
        assert {} == resolved.of_type("AWS::KMS::Key")
        (denied,) = statements(resolved)["DenyOtherKeys"]["Condition"]["ArnNotEquals"].values()
        assert given == denied

    @BOTH
    @pytest.mark.parametrize("key", ["", KEY])
    def test_with_keys_of_s3_there_is_no_key_of_kms(self, template: str, key: str) -> None:
        resolved = made(template, Encryption="s3", KmsKeyArn=key)
        rule = self.rule(template, Encryption="s3", KmsKeyArn=key)
        assert {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}} == rule
        assert {} == resolved.of_type("AWS::KMS::Key")
        assert "KmsKeyId" not in resolved.outputs
        assert "DenyOtherKeys" not in statements(resolved)

    @BOTH
    @pytest.mark.parametrize(("encryption", "algorithm"), [("kms", "aws:kms"), ("s3", "AES256")])
    def test_an_object_is_refused_that_asks_for_another_one(
        self, template: str, encryption: str, algorithm: str
    ) -> None:
        """And none that asks for nothing, as parts do: a key that is not there equals nothing."""
        name = "s3:x-amz-server-side-encryption"
        denied = statements(made(template, Encryption=encryption))
        assert {
            "Null": {name: "false"},
            "StringNotEquals": {name: algorithm},
        } == denied["DenyOtherEncryption"]["Condition"]
        customers = {"Null": {f"{name}-customer-algorithm": "false"}}
        assert customers == denied["DenyKeysOfWriters"]["Condition"]
        assert f"{ARN}/*" == denied["DenyKeysOfWriters"]["Resource"]

    @BOTH
    def test_an_object_is_refused_with_another_key(self, template: str) -> None:
        name = "s3:x-amz-server-side-encryption-aws-kms-key-id"
        condition = statements(made(template))["DenyOtherKeys"]["Condition"]
        assert {"Null": {name: "false"}, "ArnNotEquals": {name: KEY}} == condition


class TestPolicy:
    @BOTH
    @pytest.mark.parametrize(
        ("policy", "bucket"), [("StorePolicy", ARN), ("LogBucketPolicy", f"{ARN}-logs")]
    )
    def test_plain_http_is_refused_to_everybody(
        self, template: str, policy: str, bucket: str
    ) -> None:
        assert {
            "Sid": "DenyPlainHttp",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [bucket, f"{bucket}/*"],
            "Condition": TLS,
        } == statements(made(template), policy)["DenyPlainHttp"]

    @BOTH
    @pytest.mark.parametrize(
        ("prefix", "exports"),
        [("postgresql", "postgresql/rds/*/exports/*"), ("", "rds/*/exports/*")],
    )
    def test_nothing_is_written_over_but_what_rds_exports(
        self, template: str, prefix: str, exports: str
    ) -> None:
        assert {
            "Sid": "DenyWritingOver",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:PutObject",
            "NotResource": f"{ARN}/{exports}",
            "Condition": {
                "Null": {"s3:if-none-match": "true"},
                "Bool": {"s3:ObjectCreationOperation": "true"},
            },
        } == statements(made(template, Prefix=prefix))["DenyWritingOver"]

    @BOTH
    def test_a_tier_that_an_object_has_stays(self, template: str) -> None:
        denied = statements(made(template))["DenyChangingTiers"]
        tagging = {
            f"s3:{verb}Object{version}Tagging"
            for verb in ("Put", "Delete")
            for version in ("", "Version")
        }
        assert tagging == set(denied["Action"])
        assert {"Null": {"s3:ExistingObjectTag/retention-tier": "false"}} == denied["Condition"]

    @BOTH
    def test_nobody_else_is_let_in_by_default(self, template: str) -> None:
        found = statements(made(template)).values()
        assert {"Deny"} == {each["Effect"] for each in found}

    @BOTH
    def test_every_combination_of_parameters_keeps_the_rules_of_policies(
        self, template: str
    ) -> None:
        """Everybody only where it is denied, on a condition; `*` as a resource in a key's alone."""
        count = 0
        for parameters in combinations(template):
            resolved = made(template, **parameters)
            count += 1
            assert BUCKET == resolved.outputs[NAME[template]]
            for kind, policy in policies(resolved):
                for each in policy["Statement"]:
                    if each.get("Principal") == "*":
                        assert ("Deny", True) == (each["Effect"], bool(each["Condition"]))
                    elif kind != "AWS::IAM::Role":
                        assert all(listed(each["Principal"].get("AWS", ["a service"])))
                    named = listed(each.get("Resource", each.get("NotResource")))
                    assert all(len(arn.split(":")) >= 6 for arn in named) or (
                        kind == "AWS::KMS::Key" and named == ["*"]
                    )
        assert count > 250

    @BOTH
    def test_a_key_is_used_by_those_whom_iam_lets_and_by_others_through_s3_alone(
        self, template: str
    ) -> None:
        root, *others = made(template, **EVERYTHING[template]).properties("Key")["KeyPolicy"][
            "Statement"
        ]
        assert {"AWS": f"arn:aws:iam::{ACCOUNT}:root"} == root["Principal"]
        assert 2 == len(others)
        for each in others:
            through = each["Condition"]["StringEquals"]
            assert {"kms:ViaService": f"s3.{REGION}.amazonaws.com"} == through
            assert not set(listed(each["Action"])) - {
                *("kms:Encrypt", "kms:GenerateDataKey", "kms:Decrypt")
            }


@BOTH
@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_object_lock_is_a_choice_and_off_by_default(template: str, mode: str) -> None:
    properties = store(template)
    assert not {"ObjectLockEnabled", "ObjectLockConfiguration"} & properties.keys()

    locked = store(template, ObjectLockMode=mode, ObjectLockDays="90")
    retention = {"Mode": mode, "Days": "90"}
    assert locked["ObjectLockEnabled"] is True
    assert {
        "ObjectLockEnabled": "Enabled",
        "Rule": {"DefaultRetention": retention},
    } == locked["ObjectLockConfiguration"]


@BOTH
class TestRecords:
    def test_requests_are_logged_into_a_bucket_made_for_it(self, template: str) -> None:
        resolved = made(template)
        told = {"DestinationBucketName": "mine-logs", "LogFilePrefix": "mine/"}
        assert told == resolved.properties("Store")["LoggingConfiguration"]
        assert {
            "Sid": "WriteAccessLog",
            "Effect": "Allow",
            "Principal": {"Service": "logging.s3.amazonaws.com"},
            "Action": "s3:PutObject",
            "Resource": f"{ARN}-logs/*",
            "Condition": {
                "StringEquals": {"aws:SourceAccount": ACCOUNT},
                "ArnLike": {"aws:SourceArn": ARN},
            },
        } == statements(resolved, "LogBucketPolicy")["WriteAccessLog"]

    def test_or_into_a_given_one_or_not_at_all(self, template: str) -> None:
        given = made(template, AccessLog="logs-of-ours")
        logging = given.properties("Store")["LoggingConfiguration"]
        assert "logs-of-ours" == logging["DestinationBucketName"]
        assert ["Store"] == list(given.of_type("AWS::S3::Bucket"))
        assert "LoggingConfiguration" not in store(template, AccessLog="none")
        assert ["Store"] == list(made(template, AccessLog="none").of_type("AWS::S3::Bucket"))

    def test_requests_are_counted_for_the_alarms(self, template: str) -> None:
        assert [{"Id": "EntireBucket"}] == store(template)["MetricsConfigurations"]


@BOTH
def test_every_parameter_is_described_and_has_a_default(template: str) -> None:
    for name, each in parameters_of(template).items():
        assert each["Description"], name
        assert "Default" in each, name
        if each["Type"] == "Number":
            assert {"MinValue", "MaxValue"} <= each.keys(), name
        if "AllowedPattern" in each:
            assert each["ConstraintDescription"], name


@BOTH
@pytest.mark.parametrize(
    ("parameter", "value"),
    [("Encryption", "none"), ("KmsKeyArn", "alias/backup"), ("Prefix", "/postgresql"),
     ("Prefix", "postgresql/"), ("ArchiveDays", "29"), ("NoncurrentDays", "1"),
     ("ObjectLockMode", "governance"), ("AccessLog", "Mine")],
)  # fmt: skip
def test_a_parameter_refuses_what_would_fail_later(
    template: str, parameter: str, value: str
) -> None:
    with pytest.raises(TemplateError, match=parameter):
        made(template, **{parameter: value})


@BOTH
def test_outputs_are_inputs_of_the_action(template: str) -> None:
    inputs = {option.name for option in OPTIONS}
    for name, output in read_template(template)["Outputs"].items():
        words = "-".join(re.findall(r"[A-Z][a-z0-9]+", name)).lower()
        assert words in inputs
        assert output["Description"].startswith(f"{words}: ")
