"""The audit of the backups' role: what it may do, for how long, against a strict IAM."""

from __future__ import annotations

import json
import re
import secrets
from string import Template

import pytest

from backup.checks import Status
from backup.operations.auditing.identity import TITLES, checks
from tests.audited_role import (
    BUCKET,
    JOB,
    Audited,
)
from tests.audits import logged_in, settings_of, statuses
from tests.lab.aws import REPOSITORY, Ministack
from tests.lab.cloud import listing, writing
from tests.lab.sts import ACCOUNT


@pytest.fixture
def audited(ministack: Ministack, monkeypatch: pytest.MonkeyPatch) -> Audited:
    return Audited(ministack, monkeypatch, f"writer-{secrets.token_hex(4)}")


KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/11111111-2222-4333-8444-555555555555"


def test_a_role_as_the_quick_start_makes_it_passes_every_check(audited: Audited) -> None:
    audited.make()
    found = audited.checks()
    assert list(TITLES) == statuses(found, Status.PASS), found
    assert [] == [check for check in found.values() if check.fix]


def test_the_role_of_the_documentation_passes_every_check(audited: Audited) -> None:
    text = (REPOSITORY / "docs/account.md").read_text()
    names = {"organisation": "octo-org", "repository": "shop", "owner_id": "77"}
    names |= {"repository_id": "4242", "subject": "ref:refs/heads/main", "account": ACCOUNT}
    names |= {"bucket": BUCKET, "prefix": "postgresql"}
    written = dict(re.findall(r"^cat >(\w+).json <<JSON\n(.*?)^JSON$", text, re.S | re.M))
    trust, policy = (
        json.loads(Template(written[name]).substitute(names))["Statement"]
        for name in ("trust", "policy")
    )
    audited.make(trust, policy)
    assert list(TITLES) == statuses(audited.checks(), Status.PASS)


def test_the_role_to_assume_is_audited_where_no_other_is_named(audited: Audited) -> None:
    audited.make()
    settings = settings_of(bucket=BUCKET, writer_role=audited.arn)
    assert settings.audit.writer_role == audited.arn
    assumed = settings_of(bucket=BUCKET, role_to_assume=audited.arn)
    session = logged_in(audited.monkeypatch, settings, audited.env)
    assert list(TITLES) == [check.id for check in checks(session, assumed, JOB)]


def test_without_a_role_nothing_is_known(audited: Audited) -> None:
    found = audited.checks(writer_role="")
    assert list(TITLES) == statuses(found, Status.UNKNOWN)
    assert "writer-role" in found["identity.trust"].fix


def test_a_role_that_is_not_there_fails(audited: Audited) -> None:
    found = audited.checks()
    assert ["identity.role"] == statuses(found, Status.FAIL)
    assert "writer-role" in found["identity.role"].fix


def test_a_role_of_another_account_is_not_taken_for_one_of_the_same_name(audited: Audited) -> None:
    audited.make()
    found = audited.checks(writer_role=audited.arn.replace(ACCOUNT, "999999999999"))
    assert ["identity.role"] == statuses(found, Status.FAIL)
    assert "own roles only" in found["identity.role"].fix


def test_sessions_that_are_shorter_than_asked_for_are_mended(audited: Audited) -> None:
    audited.make(longest=3600)
    words = ("3600 s at the most", "7200")
    audited.mended("identity.session", Status.FAIL, *words, role_duration_seconds="7200")


def test_sessions_that_are_longer_than_needed_are_mended(audited: Audited) -> None:
    audited.make(longest=43200)
    audited.mended("identity.session", Status.WARN, "43200 s")


def test_what_a_backup_lacks_is_named_and_its_fix_grants_it(audited: Audited) -> None:
    audited.make(policy=[listing(BUCKET)])
    words = ("s3:PutObject", "s3:AbortMultipartUpload", "implicitDeny")
    check = audited.mended("identity.permissions", Status.FAIL, *words)
    assert "s3:ListBucket" not in check.reason
    assert list(TITLES) == statuses(audited.checks(), Status.PASS)


def test_a_list_that_may_be_left_out_is_a_warning(audited: Audited) -> None:
    audited.make(policy=[writing(BUCKET)])
    audited.mended("identity.permissions", Status.WARN, "s3:ListBucket")


def test_what_the_inputs_use_is_needed_too(audited: Audited) -> None:
    audited.make()
    inputs = {"kms_key_id": KEY, "object_tags": "team=shop", "password_secret_id": "shop"}
    words = ("s3:PutObjectTagging", "kms:GenerateDataKey", "kms:Decrypt", "GetSecretValue")
    audited.mended("identity.permissions", Status.FAIL, *words, **inputs)


def test_a_fix_does_not_take_back_what_an_earlier_one_allowed(audited: Audited) -> None:
    audited.make(policy=[listing(BUCKET)])
    audited.mended("identity.permissions", Status.FAIL, "s3:PutObject")
    audited.mended("identity.permissions", Status.FAIL, "kms:Decrypt", kms_key_id=KEY)


def test_a_fix_does_not_take_back_what_an_earlier_one_denied(audited: Audited) -> None:
    audited.make()
    for name in ("s3:DeleteObject", "s3:PutBucketPolicy"):
        audited.double.client("iam").put_role_policy(
            RoleName=audited.name,
            PolicyName=name.partition(":")[2],
            PolicyDocument=json.dumps(
                {"Statement": [{"Effect": "Allow", "Action": name, "Resource": "*"}]}
            ),
        )
        if audited.checks()["identity.excess"].status is Status.FAIL:
            audited.mended("identity.excess", Status.FAIL, name)
    assert Status.PASS == audited.checks()["identity.excess"].status


def test_a_key_by_its_alias_is_allowed_by_a_condition(audited: Audited) -> None:
    audited.make()
    audited.mended("identity.permissions", Status.FAIL, "kms:Decrypt", kms_key_id="alias/backups")


def test_a_denial_is_said_to_be_one(audited: Audited) -> None:
    denial = {"Effect": "Deny", "Action": "s3:PutObject", "Resource": "*"}
    audited.make(policy=[writing(BUCKET), listing(BUCKET), denial])
    check = audited.checks()["identity.permissions"]
    assert Status.FAIL == check.status
    assert "explicitDeny" in check.reason
    assert "a Deny in one of the role's policies" in check.fix


def test_a_prefix_of_none_is_understood(audited: Audited) -> None:
    audited.make(policy=[writing(BUCKET, ""), listing(BUCKET)])
    assert list(TITLES) == statuses(audited.checks(prefix="/"), Status.PASS)


EXCESS = [
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:BypassGovernanceRetention",
    "s3:PutLifecycleConfiguration",
    "s3:PutBucketPolicy",
    "s3:PutBucketVersioning",
    "s3:DeleteBucket",
    "iam:UpdateAssumeRolePolicy",
    "kms:ScheduleKeyDeletion",
    "rds:DeleteDBInstance",
]


@pytest.mark.parametrize("action", EXCESS)
def test_what_could_undo_a_backup_is_named(audited: Audited, action: str) -> None:
    more = {"Effect": "Allow", "Action": action, "Resource": "*"}
    key = {"Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": KEY}
    audited.make(policy=[writing(BUCKET), listing(BUCKET), key, more])
    check = audited.checks(kms_key_id=KEY, db_instance="shop")["identity.excess"]
    assert Status.FAIL == check.status
    assert check.reason.endswith(f": {action}")


@pytest.mark.parametrize(
    ("id", "action"),
    [("identity.excess", "s3:DeleteObject"), ("identity.resources", "s3:GetObject")],
)
def test_what_depends_on_a_condition_is_no_pass(audited: Audited, id: str, action: str) -> None:
    """IAM denies what it knows no value for, and a request may bring that value."""
    more = {"Effect": "Allow", "Action": action, "Resource": "*",
            "Condition": {"StringEquals": {"aws:SourceVpce": "vpce-1"}}}  # fmt: skip
    audited.make(policy=[writing(BUCKET), listing(BUCKET), more])
    check = audited.checks()[id]
    assert Status.WARN == check.status
    assert action in check.reason
    assert "aws:SourceVpce" in check.reason


def test_a_role_that_may_do_everything_is_mended_and_can_still_write(audited: Audited) -> None:
    audited.make(policy=[{"Effect": "Allow", "Action": "*", "Resource": "*"}])
    inputs = {"kms_key_id": KEY, "db_instance": "shop"}
    check = audited.mended("identity.excess", Status.FAIL, "s3:DeleteObject", **inputs)
    assert all(action in check.reason for action in EXCESS)
    audited.mended("identity.resources", Status.FAIL, "other buckets", **inputs)
    assert list(TITLES) == statuses(audited.checks(**inputs), Status.PASS)


def test_the_whole_bucket_where_a_prefix_would_do_is_a_warning_and_mended(
    audited: Audited,
) -> None:
    audited.make(policy=[writing(BUCKET, ""), listing(BUCKET)])
    audited.mended("identity.resources", Status.WARN, "other prefixes", "s3:PutObject")


@pytest.mark.parametrize(
    ("allowed", "denied", "unknown"),
    [
        ("iam:SimulatePrincipalPolicy", "iam:GetRole", list(TITLES)[:4]),
        ("iam:GetRole", "iam:SimulatePrincipalPolicy", list(TITLES)[4:]),
    ],
)
def test_a_denied_question_leaves_its_checks_unknown_and_names_the_permission(
    audited: Audited, allowed: str, denied: str, unknown: list[str]
) -> None:
    audited.make()
    iam = audited.double.client("iam")
    statement = {"Effect": "Allow", "Action": allowed, "Resource": audited.arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.create_user(UserName=audited.name)
    iam.put_user_policy(UserName=audited.name, PolicyName="audit", PolicyDocument=policy)
    key = iam.create_access_key(UserName=audited.name)["AccessKey"]
    audited.keys |= {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    found = audited.checks()
    assert unknown == statuses(found, Status.UNKNOWN), found
    for id in unknown:
        assert json.dumps(denied) in found[id].fix
        assert audited.arn in found[id].fix
    assert [id for id in TITLES if id not in unknown] == statuses(found, Status.PASS)
