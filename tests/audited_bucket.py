"""A bucket of the strict double, its audit, and the fixes that it prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest

from backup.aws.grants import PolicyScope, needed
from backup.aws.session import open_session
from backup.checks import Check, Status
from backup.operations.auditing.bucket import checks
from tests.audits import KEYS, apply, logged_in, settings_of
from tests.findings import assert_bad
from tests.lab.aws import REGION
from tests.lab.cloud import PREFIX, Cloud
from tests.lab.sts import ACCOUNT

NONE: Mapping[str, str] = MappingProxyType({})


@dataclass
class Audited:
    """A bucket of the strict double, the keys of its owner, and the audit of it."""

    cloud: Cloud
    monkeypatch: pytest.MonkeyPatch

    @property
    def env(self) -> dict[str, str]:
        return KEYS | {"AWS_ENDPOINT_URL": self.cloud.double.url}

    @property
    def arn(self) -> str:
        return f"arn:aws:s3:::{self.cloud.bucket}"

    @property
    def s3(self) -> Any:
        return self.cloud.s3

    def checks(
        self, env: Mapping[str, str] = NONE, now: datetime | None = None, /, **inputs: str
    ) -> dict[str, Check]:
        settings = settings_of(bucket=self.cloud.bucket, **inputs)
        session = logged_in(self.monkeypatch, settings, self.env | dict(env))
        return by_id(checks(session, settings, now or datetime.now(UTC)))

    def as_role(self, *without: str) -> dict[str, Check]:
        """The audit by a role with the permissions of the documentation, but for some."""
        scope = PolicyScope("aws", REGION, ACCOUNT, self.cloud.bucket, PREFIX)
        statements = [grant.statement() for grant in needed("audit", scope)]
        for each in statements:
            actions = each["Action"] if isinstance(each["Action"], list) else [each["Action"]]
            each["Action"] = [action for action in actions if action not in without]
        self.cloud.allow(*(each for each in statements if each["Action"]))
        settings = settings_of(bucket=self.cloud.bucket, role_to_assume=self.cloud.role)
        logged_in(self.monkeypatch, settings_of(bucket="any"), self.env | self.cloud.env)
        session = open_session(settings.role, self.cloud.issuer.token, lambda _: None)
        return by_id(checks(session, settings, datetime.now(UTC)))

    def mended(self, id: str, status: Status, *words: str, **inputs: str) -> Check:
        """A check with this status that says so; green once its fix is run."""
        before = self.checks(**inputs)[id]
        assert_bad(before, status, *words)
        apply(before.fix, self.env)
        after = self.checks(**inputs)[id]
        assert Status.PASS is after.status, after
        return before

    def put_lifecycle(self, *rules: dict[str, Any]) -> None:
        self.s3.put_bucket_lifecycle_configuration(
            Bucket=self.cloud.bucket, LifecycleConfiguration={"Rules": list(rules)}
        )

    def lifecycle(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.s3.get_bucket_lifecycle_configuration(
            Bucket=self.cloud.bucket
        )["Rules"]
        return found

    def put_policy(self, *statements: dict[str, Any]) -> None:
        policy = {"Version": "2012-10-17", "Statement": list(statements)}
        self.s3.put_bucket_policy(Bucket=self.cloud.bucket, Policy=json.dumps(policy))

    def policy(self) -> list[dict[str, Any]]:
        told = self.s3.get_bucket_policy(Bucket=self.cloud.bucket)["Policy"]
        found: list[dict[str, Any]] = json.loads(told)["Statement"]
        return found


def by_id(found: list[Check]) -> dict[str, Check]:
    ids = [check.id for check in found]
    assert len(ids) == len(set(ids)), ids
    assert all(check.fix for check in found if check.status is not Status.PASS)
    return {check.id: check for check in found}
