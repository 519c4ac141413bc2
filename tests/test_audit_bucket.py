"""The audit of a bucket: each check passes, fails with a fix that mends it, or is denied."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from backup.aws.session import open_session
from backup.checks import Status
from backup.operations.auditing import bucket_lifecycle
from backup.operations.auditing.bucket import checks
from backup.operations.auditing.bucket_policy import denies_plain_http
from tests.audited_bucket import Audited, by_id
from tests.audits import KEYS, apply, logged_in, settings_of
from tests.findings import assert_bad, assert_denied
from tests.lab.aws import Moto
from tests.lab.cloud import Cloud
from tests.lab.faults import Answer
from tests.lab.sts import ACCOUNT

PLAIN = {"aws:SecureTransport": "false"}
# Which checks are unknown without an action.
ASKED = {
    "s3:GetBucketVersioning": {"bucket.versioning"},
    "s3:GetEncryptionConfiguration": {"bucket.encryption", "bucket.key", "bucket.key-rotation"},
    "s3:GetBucketPublicAccessBlock": {"bucket.public-access"},
    "s3:GetBucketOwnershipControls": {"bucket.ownership"},
    "s3:GetBucketPolicy": {"bucket.tls"},
    "s3:GetLifecycleConfiguration": {each for each, _ in bucket_lifecycle.IDS},
    "s3:GetBucketObjectLockConfiguration": {"bucket.object-lock"},
    "s3:GetReplicationConfiguration": {"bucket.replication", "bucket.replication-state"},
    "s3:GetBucketLogging": {"bucket.access-log"},
    "s3:GetMetricsConfiguration": {"bucket.metrics"},
    "cloudtrail:DescribeTrails": {"bucket.access-log"},
}
NOW = datetime.now(UTC)


@pytest.fixture
def audited(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Audited:
    return Audited(cloud, monkeypatch)


def test_a_bare_bucket_is_green_once_every_fix_is_run_in_turn(audited: Audited) -> None:
    before = audited.checks()

    for check in before.values():
        apply(check.fix, audited.env)

    assert {} == {
        id: check for id, check in audited.checks().items() if check.status is not Status.PASS
    }
    assert {
        "bucket.versioning": Status.FAIL,
        "bucket.encryption": Status.PASS,
        "bucket.key": Status.PASS,
        "bucket.key-rotation": Status.PASS,
        "bucket.public-access": Status.PASS,
        "bucket.ownership": Status.PASS,
        "bucket.tls": Status.FAIL,
        "bucket.archive": Status.WARN,
        "bucket.archive-class": Status.PASS,
        "bucket.expiry": Status.WARN,
        "bucket.multiparts": Status.WARN,
        "bucket.noncurrent": Status.WARN,
        "bucket.object-lock": Status.WARN,
        "bucket.replication": Status.WARN,
        "bucket.access-log": Status.WARN,
        "bucket.metrics": Status.WARN,
    } == {id: check.status for id, check in before.items()}


def test_the_documented_permissions_answer_every_question(audited: Audited) -> None:
    found = audited.as_role()

    assert [] == [check for check in found.values() if check.status is Status.UNKNOWN]


@pytest.mark.parametrize("action", ASKED)
def test_a_denied_question_makes_its_checks_unknown_and_names_the_permission(
    audited: Audited, action: str
) -> None:
    found = audited.as_role(action)

    unknown = {id for id, check in found.items() if check.status is Status.UNKNOWN}
    assert ASKED[action] == unknown
    assert_denied(found.values(), unknown, f'"{action}"')


def test_a_store_that_does_not_know_a_question_makes_its_check_unknown(audited: Audited) -> None:
    answer = Answer(501, "NotImplemented", "A header you provided implies functionality")
    audited.cloud.proxy.add(answer, pattern="replication|object-lock|metrics")

    found = audited.checks({"AWS_ENDPOINT_URL_S3": audited.cloud.proxy.url})

    for id in ("bucket.replication", "bucket.object-lock", "bucket.metrics"):
        assert_bad(found[id], Status.UNKNOWN, "NotImplemented", "compatible with S3")
    assert Status.FAIL is found["bucket.versioning"].status


def test_a_bucket_of_another_name_is_told_of(audited: Audited) -> None:
    settings = settings_of(bucket=f"{audited.cloud.bucket}-not")
    session = logged_in(audited.monkeypatch, settings, audited.env)

    check = by_id(checks(session, settings, NOW))["bucket.versioning"]

    assert_bad(check, Status.FAIL, "there is no bucket", "aws s3 mb")


def test_suspended_versioning_is_enabled(audited: Audited) -> None:
    audited.s3.put_bucket_versioning(
        Bucket=audited.cloud.bucket, VersioningConfiguration={"Status": "Suspended"}
    )
    audited.mended("bucket.versioning", Status.FAIL, "is suspended")


def test_a_bucket_without_default_encryption_gets_one(
    moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto.make_bucket("unencrypted")  # S3 itself has encrypted by default since 2023
    env = KEYS | {"AWS_ENDPOINT_URL": moto.url}
    settings = settings_of(bucket="unencrypted")
    session = logged_in(monkeypatch, settings, env)

    before = by_id(checks(session, settings, NOW))["bucket.encryption"]
    assert_bad(before, Status.FAIL, "no default encryption")
    apply(before.fix, env)

    assert Status.PASS is by_id(checks(session, settings, NOW))["bucket.encryption"].status


def test_each_public_access_block_that_is_off_is_named(audited: Audited) -> None:
    audited.s3.put_public_access_block(
        Bucket=audited.cloud.bucket,
        PublicAccessBlockConfiguration={"BlockPublicAcls": True, "IgnorePublicAcls": True},
    )
    told = "off: BlockPublicPolicy, RestrictPublicBuckets"
    audited.mended("bucket.public-access", Status.FAIL, told)

    audited.s3.delete_public_access_block(Bucket=audited.cloud.bucket)
    audited.mended("bucket.public-access", Status.FAIL, "BlockPublicAcls")


@pytest.mark.parametrize("ownership", ["BucketOwnerPreferred", "ObjectWriter", ""])
def test_acls_are_turned_off(audited: Audited, ownership: str) -> None:
    if ownership:
        audited.s3.put_bucket_ownership_controls(
            Bucket=audited.cloud.bucket,
            OwnershipControls={"Rules": [{"ObjectOwnership": ownership}]},
        )
    else:
        audited.s3.delete_bucket_ownership_controls(Bucket=audited.cloud.bucket)
    audited.mended("bucket.ownership", Status.FAIL, ownership or "not set")


class TestKeys:
    @pytest.fixture
    def key(self, audited: Audited) -> str:
        """A customer's key, which the bucket encrypts with."""
        arn: str = audited.cloud.double.client("kms").create_key()["KeyMetadata"]["Arn"]
        default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": arn}
        audited.s3.put_bucket_encryption(
            Bucket=audited.cloud.bucket,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": default}]
            },
        )
        return arn

    def test_a_customers_key_that_is_not_rotated_is_told_of(
        self, audited: Audited, key: str
    ) -> None:
        check = audited.mended("bucket.key-rotation", Status.WARN, key)
        assert "enable-key-rotation" in check.fix

    def test_the_key_of_the_input_comes_before_the_buckets(
        self, audited: Audited, key: str
    ) -> None:
        kms = audited.cloud.double.client("kms")
        kms.enable_key_rotation(KeyId=key)
        other = kms.create_key()["KeyMetadata"]["KeyId"]
        kms.create_alias(AliasName=f"alias/{audited.cloud.bucket}", TargetKeyId=other)

        named = {"kms_key_id": f"alias/{audited.cloud.bucket}", "expected_bucket_owner": ACCOUNT}
        settings = settings_of(bucket=audited.cloud.bucket, **named)
        session = logged_in(audited.monkeypatch, settings, audited.env)
        found = by_id(checks(session, settings, NOW))

        assert Status.PASS is audited.checks()["bucket.key-rotation"].status
        assert_bad(found["bucket.key-rotation"], Status.WARN, other)

    def test_a_disabled_key_is_enabled(self, audited: Audited, key: str) -> None:
        audited.cloud.double.client("kms").disable_key(KeyId=key)
        audited.mended("bucket.key", Status.FAIL, "Disabled", "neither be written nor read")

    def test_the_deletion_of_a_key_is_cancelled(self, audited: Audited, key: str) -> None:
        audited.cloud.double.client("kms").schedule_key_deletion(KeyId=key)
        audited.mended("bucket.key", Status.FAIL, "PendingDeletion")

    def test_a_key_that_is_gone_fails(self, audited: Audited) -> None:
        gone = "11111111-2222-4333-8444-555555555555"
        check = audited.checks(kms_key_id=gone)["bucket.key"]
        assert_bad(check, Status.FAIL, gone, "no such key is here")

    @pytest.mark.parametrize(
        ("action", "unknown"),
        [
            ("kms:DescribeKey", ["bucket.key", "bucket.key-rotation"]),
            ("kms:GetKeyRotationStatus", ["bucket.key-rotation"]),
        ],
    )
    def test_a_key_that_may_not_be_looked_at_is_unknown(
        self, audited: Audited, key: str, action: str, unknown: list[str]
    ) -> None:
        both = {"kms:DescribeKey", "kms:GetKeyRotationStatus"}
        audited.cloud.allow(
            {"Effect": "Allow", "Action": "s3:*", "Resource": "*"},
            {"Effect": "Allow", "Action": "cloudtrail:*", "Resource": "*"},
            {"Effect": "Allow", "Action": [*(both - {action})], "Resource": key},
        )
        settings = settings_of(bucket=audited.cloud.bucket, role_to_assume=audited.cloud.role)
        logged_in(audited.monkeypatch, settings_of(bucket="any"), audited.env | audited.cloud.env)
        session = open_session(settings.role, audited.cloud.issuer.token, lambda _: None)

        found = by_id(checks(session, settings, NOW))

        assert unknown == [id for id, each in found.items() if each.status is Status.UNKNOWN]
        assert_denied(found.values(), unknown, f'"{action}"')


class TestTls:
    def test_a_statement_is_added_to_the_policy_that_is_there(self, audited: Audited) -> None:
        theirs = {
            "Sid": "DenyInsecureTransport",
            "Effect": "Deny",
            "Principal": {"AWS": "*"},
            "Action": "s3:DeleteObjectVersion",
            "Resource": f"{audited.arn}/*",
            "Condition": {"StringNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/it's"}},
        }
        audited.put_policy(theirs)

        audited.mended("bucket.tls", Status.FAIL, "no Deny on aws:SecureTransport false")

        kept, added = audited.policy()
        assert theirs == kept
        assert "DenyInsecureTransport2" == added["Sid"]

    @pytest.mark.parametrize(
        ("is_enough", "change"),
        [
            (True, {}),
            (True, {"Principal": {"AWS": ["*"]}}),
            (True, {"Action": ["s3:GetObject", "*"]}),
            (True, {"Action": "S3:*"}),
            (True, {"Resource": "*"}),
            (True, {"Resource": "arn:aws:s3:::backups*"}),
            (True, {"Condition": {"BoolIfExists": {"AWS:securetransport": False}}}),
            (True, {"Condition": {"Bool": {"aws:SecureTransport": ["false"]}}}),
            (True, {"Condition": {}}),
            (False, {"Effect": "Allow"}),
            (False, {"Principal": {"AWS": "arn:aws:iam::123456789012:root"}}),
            (False, {"Principal": {"Service": "*"}}),
            (False, {"Action": "s3:Get*"}),
            (False, {"Resource": "arn:aws:s3:::backups"}),
            (False, {"Resource": "arn:aws:s3:::backups/*"}),
            (False, {"Resource": ["arn:aws:s3:::backups", "arn:aws:s3:::backups/postgresql/*"]}),
            (False, {"Resource": ["arn:aws:s3:::other", "arn:aws:s3:::other/*"]}),
            (False, {"Condition": {"Bool": {"aws:SecureTransport": "true"}}}),
            (False, {"Condition": {"Bool": PLAIN | {"aws:ViaAWSService": "false"}}}),
            (False, {"Condition": {"Bool": PLAIN, "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}),
            (False, {"Condition": {"NumericLessThan": {"s3:TlsVersion": "1.2"}}}),
        ],
    )  # fmt: skip
    def test_only_a_deny_of_all_that_is_not_tls_counts(
        self, is_enough: bool, change: dict[str, Any]
    ) -> None:
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": ["arn:aws:s3:::backups", "arn:aws:s3:::backups/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        policy = {"Statement": statement | change}
        assert is_enough is denies_plain_http(policy, "arn:aws:s3:::backups")

    @pytest.mark.parametrize("left_out", ["NotPrincipal", "NotAction", "NotResource"])
    def test_a_statement_that_leaves_something_out_does_not_count(self, left_out: str) -> None:
        statement: dict[str, Any] = {"Effect": "Deny", "Principal": "*", "Action": "s3:*"}
        statement |= {"Resource": "*", left_out: statement.pop(left_out[3:], "x")}
        assert not denies_plain_http({"Statement": [statement]}, "arn:aws:s3:::backups")

    def test_bucket_and_objects_may_be_denied_by_two_statements(self) -> None:
        statements = [
            {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": resource}
            for resource in ("arn:aws:s3:::backups", "arn:aws:s3:::backups/*")
        ]
        assert denies_plain_http({"Statement": statements}, "arn:aws:s3:::backups")


class TestObjectLock:
    def lock(self, audited: Audited, **rule: Any) -> None:
        audited.s3.put_bucket_versioning(
            Bucket=audited.cloud.bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        audited.s3.put_object_lock_configuration(
            Bucket=audited.cloud.bucket,
            ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"} | rule,
        )

    def test_a_bucket_without_a_lock_gets_one(self, audited: Audited) -> None:
        audited.mended("bucket.object-lock", Status.WARN, "it is off")

    def test_a_lock_without_a_default_retention_locks_nothing(self, audited: Audited) -> None:
        self.lock(audited)
        audited.mended("bucket.object-lock", Status.WARN, "without a default retention")

    @pytest.mark.parametrize(
        ("mode", "words"), [("GOVERNANCE", "BypassGovernance"), ("COMPLIANCE", "not even")]
    )
    def test_the_mode_says_who_can_still_delete(
        self, audited: Audited, mode: str, words: str
    ) -> None:
        self.lock(audited, Rule={"DefaultRetention": {"Mode": mode, "Years": 1}})

        check = audited.checks()["bucket.object-lock"]

        assert Status.PASS is check.status
        assert f"{mode}, 365 days" in check.reason
        assert words in check.reason


class TestRecords:
    def test_an_access_log_is_begun(self, audited: Audited) -> None:
        audited.mended("bucket.access-log", Status.WARN, "neither")
        told = audited.s3.get_bucket_logging(Bucket=audited.cloud.bucket)
        assert f"{audited.cloud.bucket}-logs" == told["LoggingEnabled"]["TargetBucket"]

    @pytest.fixture
    def trail(self, audited: Audited) -> Iterator[Callable[..., str]]:
        """Makes a trail that logs, with these event selectors."""
        client = audited.cloud.double.client("cloudtrail")
        made: list[str] = []

        def make(**selectors: Any) -> str:
            name = f"trail-{audited.cloud.bucket}"
            logs = f"{audited.cloud.bucket}-trail"
            audited.cloud.double.make_bucket(logs)
            client.create_trail(Name=name, S3BucketName=logs)
            client.start_logging(Name=name)
            client.put_event_selectors(TrailName=name, **selectors)
            made.append(name)
            return name

        yield make
        for name in made:
            client.delete_trail(Name=name)

    @pytest.mark.parametrize(
        ("is_enough", "kind", "value"),
        [
            (True, "All", "arn:aws:s3"),
            (True, "All", "{arn}/"),
            (True, "All", "{arn}/postgresql/"),
            (False, "All", "{arn}/postgresql/shop/"),
            (False, "All", "arn:aws:s3:::other/"),
            (False, "WriteOnly", "{arn}/"),
        ],
    )
    def test_a_trail_counts_with_data_events_of_all_backups(
        self, audited: Audited, trail: Callable[..., str], is_enough: bool, kind: str, value: str
    ) -> None:
        resource = {"Type": "AWS::S3::Object", "Values": [value.format(arn=audited.arn)]}
        name = trail(EventSelectors=[{"ReadWriteType": kind, "DataResources": [resource]}])

        assert is_enough is self.is_recorded(audited, name)

        audited.cloud.double.client("cloudtrail").stop_logging(Name=name)
        assert not self.is_recorded(audited, name)

    @pytest.mark.parametrize(
        ("is_enough", "more"),
        [
            (True, []),
            (True, [{"Field": "resources.ARN", "StartsWith": ["{arn}/"]}]),
            (False, [{"Field": "resources.ARN", "StartsWith": ["arn:aws:s3:::other/"]}]),
            (False, [{"Field": "readOnly", "Equals": ["false"]}]),
            (
                False,
                [
                    {
                        "Field": "resources.ARN",
                        "StartsWith": ["{arn}/"],
                        "NotStartsWith": ["{arn}/postgresql/"],
                    }
                ],
            ),
        ],
    )
    def test_so_does_one_with_advanced_selectors(
        self,
        audited: Audited,
        trail: Callable[..., str],
        is_enough: bool,
        more: list[dict[str, Any]],
    ) -> None:
        fields = [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
            *json.loads(json.dumps(more).replace("{arn}", audited.arn)),
        ]
        name = trail(AdvancedEventSelectors=[{"Name": "objects", "FieldSelectors": fields}])

        assert is_enough is self.is_recorded(audited, name)

    @pytest.mark.parametrize(
        "action", ["cloudtrail:GetTrailStatus", "cloudtrail:GetEventSelectors"]
    )
    def test_a_trail_that_may_not_be_looked_at_is_unknown(
        self, audited: Audited, trail: Callable[..., str], action: str
    ) -> None:
        trail(EventSelectors=[{"ReadWriteType": "All"}])

        check = audited.as_role(action)["bucket.access-log"]

        assert_bad(check, Status.UNKNOWN, f'"{action}"')

    @staticmethod
    def is_recorded(audited: Audited, name: str) -> bool:
        check = audited.checks()["bucket.access-log"]
        assert (name in check.reason) is (check.status is Status.PASS), check
        return check.status is Status.PASS

    @pytest.mark.parametrize(
        "filter",
        [
            {"Prefix": "other/"},
            {"AccessPointArn": "arn:aws:s3:eu-central-1:123456789012:accesspoint/one"},
        ],
    )
    def test_metrics_of_other_requests_do_not_count(
        self, audited: Audited, filter: dict[str, str]
    ) -> None:
        audited.s3.put_bucket_metrics_configuration(
            Bucket=audited.cloud.bucket,
            Id="other",
            MetricsConfiguration={"Id": "other", "Filter": filter},
        )
        audited.mended("bucket.metrics", Status.WARN, "no metrics configuration takes in all")
