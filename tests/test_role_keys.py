"""What the keys of each role of github-oidc.yaml can do to a bucket whose own policy forbids
nothing: make new objects, or read; never delete, write over or tag anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.lab.aws import Ministack, client
from tests.lab.cloud import PREFIX
from tests.lab.issuer import Issuer
from tests.lab.stacks import deploy
from tests.lab.sts import ACCOUNT

ROLES = ("writer", "restorer", "operator", "auditor")


@dataclass(frozen=True)
class Thief:
    """Who has the keys of a role's session, and a bucket whose own policy forbids nothing."""

    s3: Any
    bucket: str

    def refusal(self, call: str, **given: Any) -> str:
        """The code of the refusal; empty where there was none."""
        try:
            getattr(self.s3, call)(Bucket=self.bucket, **given)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return ""


OLD = f"{PREFIX}/shop/20260101T000000Z-1f9c3a/manifest.json"


@pytest.fixture(scope="module")
def thieves(ministack: Ministack) -> Iterator[dict[str, Thief]]:
    """One for each role, of a stack of its own."""
    double, name = ministack, secrets.token_hex(4)
    bucket = f"plain-{name}"
    double.make_bucket(bucket)
    double.client("s3").put_object(
        Bucket=bucket, Key=OLD, Body=b"{}", Tagging="retention-tier=yearly"
    )
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com"
    outputs = deploy(
        double,
        "github-oidc",
        f"roles-{name}",
        {
            "Repository": "acme/shop",
            "Bucket": bucket,
            "RolePrefix": f"plain-{name}",
            "OidcProviderArn": provider,
            "OperatorSubject": "ref:refs/heads/main",
            "DbInstance": "shop",
        },
    )
    sts = double.client("sts")
    with Issuer("repo:acme/shop:ref:refs/heads/main") as issuer:
        token = issuer.token()
    made = {}
    for role in ROLES:
        keys = sts.assume_role_with_web_identity(
            RoleArn=outputs[f"{role.title()}Role"], RoleSessionName="thief", WebIdentityToken=token
        )["Credentials"]
        s3 = client(
            "s3", double.url, keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]
        )
        made[role] = Thief(s3, bucket)
    yield made


@pytest.mark.parametrize("role", ROLES)
def test_who_has_a_roles_keys_can_destroy_no_backup(thieves: dict[str, Thief], role: str) -> None:
    thief = thieves[role]
    daily = {"TagSet": [{"Key": "retention-tier", "Value": "daily"}]}
    assert "AccessDenied" == thief.refusal("delete_object", Key=OLD)
    assert "AccessDenied" == thief.refusal("put_object", Key=OLD, Body=b"")
    assert thief.refusal("put_object", Key=OLD, Body=b"", IfNoneMatch="*") in (
        "AccessDenied",
        "PreconditionFailed",
    )
    assert "AccessDenied" == thief.refusal("put_object_tagging", Key=OLD, Tagging=daily)
    assert "AccessDenied" == thief.refusal("delete_object_tagging", Key=OLD)
    assert "AccessDenied" == thief.refusal(
        "put_bucket_versioning", VersioningConfiguration={"Status": "Suspended"}
    )
    assert "AccessDenied" == thief.refusal("delete_bucket_lifecycle")


def test_who_has_the_writers_keys_can_make_new_objects_and_read_none(
    thieves: dict[str, Thief],
) -> None:
    thief = thieves["writer"]
    new = f"{PREFIX}/shop/{secrets.token_hex(4)}/archive/1.dat"
    made = {"Key": new, "Body": b"x", "IfNoneMatch": "*", "Tagging": "retention-tier=daily"}
    assert "" == thief.refusal("put_object", **made)
    assert "AccessDenied" == thief.refusal("get_object", Key=new)
    assert "AccessDenied" == thief.refusal("get_object", Key=OLD)
    # Without the header not even what is new: it could be something that is there by then.
    assert "AccessDenied" == thief.refusal("put_object", Key=f"{new}-2", Body=b"x")
    assert "AccessDenied" == thief.refusal(
        "put_object", Key="elsewhere", Body=b"x", IfNoneMatch="*"
    )


def test_who_has_the_restorers_keys_reads_backups_and_thaws_them(
    thieves: dict[str, Thief],
) -> None:
    thief = thieves["restorer"]
    assert "" == thief.refusal("get_object", Key=OLD)
    thaw = {"Days": 1, "GlacierJobParameters": {"Tier": "Bulk"}}
    assert "AccessDenied" != thief.refusal("restore_object", Key=OLD, RestoreRequest=thaw)
    assert "AccessDenied" == thieves["auditor"].refusal(
        "restore_object", Key=OLD, RestoreRequest=thaw
    )


def test_who_has_the_auditors_keys_reads_manifests_and_no_data(thieves: dict[str, Thief]) -> None:
    thief = thieves["auditor"]
    assert "" == thief.refusal("get_object", Key=OLD)
    data = OLD.replace("manifest.json", "archive/pack-0001.tar")
    assert "AccessDenied" == thief.refusal("get_object", Key=data)
