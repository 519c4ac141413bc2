"""The policy of an audit is all that it asks: whatever is missing, a check prints the line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest

from backup.aws.grants import Grant, PolicyScope, needed
from tests.buckets import put_backup
from tests.lab.aws import Ministack
from tests.lab.cloud import Cloud, new_cloud, role_of
from tests.lab.github_api import TOKEN, GitHub, github
from tests.lab.issuer import Issuer
from tests.lab.runner import start_action
from tests.lab.scripted.server import ScriptedAws
from tests.lab.sts import Trust
from tests.manifests import manifest_of
from tests.permissions import NOTHING, SCOPE, printed

INSTANCE = replace(SCOPE, instance="shop")
CLUSTER = replace(SCOPE, cluster="shop")
KEY_UNKNOWN = re.compile(r"arn:aws:kms:[a-z0-9-]+:\w+:key/KEY_ID")


@dataclass
class Audited:
    """An account in which every question of the audit has an answer."""

    cloud: Cloud
    aws: ScriptedAws
    hub: GitHub
    key: str

    @property
    def writer(self) -> str:
        return role_of(f"writer-of-{self.cloud.bucket}")

    def mine(self, scope: PolicyScope) -> PolicyScope:
        bucket = self.cloud.bucket
        return replace(scope, bucket=bucket, kms_key_arn=self.key, role=self.writer)

    def unknown(self, policy: Sequence[Mapping[str, Any]], **subject: str) -> list[dict[str, str]]:
        """The checks that have no answer for who has this policy."""
        self.cloud.allow(*policy, NOTHING)
        self.aws.allow_only(policy)
        inputs = self.cloud.inputs | {
            "operation": "audit",
            "writer-role": self.writer,
            "release-tag": "v1",
            "github-token": TOKEN,
            "report-file": "audit.json",
            **{name.replace("_", "-"): text for name, text in subject.items()},
        }
        endpoints = {"AWS_ENDPOINT_URL_RDS": self.aws.url, "AWS_ENDPOINT_URL_EC2": self.aws.url}
        env = self.cloud.env | self.hub.env | endpoints | {"AWS_MAX_ATTEMPTS": "2"}
        with start_action(inputs, env) as running:
            run = running.finish()
            told = json.loads((running.home / "workspace/audit.json").read_text())
        assert run.exit_code in (0, 6), run.output
        return [each for each in told["checks"] if each["status"] == "unknown"]

    def printed(self, checks: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        """The statements that their fixes hold; S3 names no key, so its reader has to."""
        lines = "\n".join(check["fix"] for check in checks)
        return list(printed(KEY_UNKNOWN.sub(self.key, lines)))


@pytest.fixture(scope="module")
def audited(ministack: Ministack, issuer: Issuer) -> Iterator[Audited]:
    with new_cloud(ministack, issuer) as cloud, ScriptedAws() as aws, github() as hub:
        key = ministack.client("kms").create_key()["KeyMetadata"]["Arn"]
        made = Audited(cloud, aws, hub, key)
        hub.tags["v1"] = datetime.now(UTC) - timedelta(days=1)
        ministack.make_role([NOTHING], Trust(made.writer))
        aws.rds.pace.seconds_per_state = 0
        aws.rds.add_instance()
        # Of two zones, and no Aurora: that one has no storage of its own to ask about.
        aws.rds.add_cluster(Engine="postgres", EngineVersion="17.6")
        aws.network.add_route_table("rtb-main", main=True)
        back_up_and_drill(cloud, key)
        with trail(cloud):
            yield made
        assert [] == aws.wrong


def back_up_and_drill(cloud: Cloud, key: str) -> None:
    """A backup of today and its proof, which lies under the key."""
    moment = datetime.now(UTC)
    manifest = manifest_of(f"{moment - timedelta(hours=1):%Y%m%dT%H%M%SZ}-1f9c3a")
    cloud.s3.put_object(
        Bucket=cloud.bucket,
        Key=f"{put_backup(cloud, manifest)}drills/{moment:%Y%m%dT%H%M%SZ}.json",
        Body=json.dumps({"depth": "restore", "verdict": "proven", "restore_seconds": 9}).encode(),
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId=key,
    )
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    cloud.s3.put_bucket_encryption(
        Bucket=cloud.bucket,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": default}]
        },
    )


@contextmanager
def trail(cloud: Cloud) -> Iterator[None]:
    """One that records no objects."""
    client = cloud.double.client("cloudtrail")
    name, logs = f"trail-{cloud.bucket}", f"{cloud.bucket}-trail"
    cloud.double.make_bucket(logs)
    client.create_trail(Name=name, S3BucketName=logs)
    client.start_logging(Name=name)
    try:
        yield
    finally:
        client.delete_trail(Name=name)


@pytest.mark.parametrize(
    ("scope", "subject"),
    [(INSTANCE, {"db_instance": "shop"}), (CLUSTER, {"db_cluster": "shop"})],
    ids=["instance", "cluster"],
)
def test_who_pastes_what_the_audit_prints_ends_with_the_documented_policy(
    audited: Audited, scope: PolicyScope, subject: dict[str, str]
) -> None:
    pasted: list[dict[str, Any]] = []
    while unknown := audited.unknown(pasted, **subject):
        printed = audited.printed(unknown)
        new = [each for each in printed if each not in pasted]
        assert [] != new, unknown
        pasted += new

    documented = needed("audit", audited.mine(scope))
    actions = {each["Action"] for each in pasted}
    assert {action for grant in documented for action in grant.actions} == actions
    assert [] == [each for each in pasted if not any(covers(grant, each) for grant in documented)]
    assert [] == audited.unknown([grant.statement() for grant in documented], **subject)


def covers(grant: Grant, statement: Mapping[str, Any]) -> bool:
    """Whether a statement allows no more than the grant does."""
    resources = statement["Resource"]
    return statement["Action"] in grant.actions and all(
        any(fnmatchcase(each, pattern) for pattern in grant.resources)
        for each in ([resources] if isinstance(resources, str) else resources)
    )
