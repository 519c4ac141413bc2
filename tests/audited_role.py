"""A role of the strict double, its audit, and the fixes that it prints."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from backup.checks import Check, Status
from backup.operations.auditing.identity import checks
from tests.audits import KEYS, apply, logged_in, settings_of
from tests.lab.aws import Ministack
from tests.lab.cloud import listing, writing
from tests.lab.sts import ACCOUNT

PROVIDER = "token.actions.githubusercontent.com"


PROVIDER_ARN = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{PROVIDER}"


PLAIN = "repo:octo-org/shop:ref:refs/heads/main"


IDS = "repo:octo-org@77/shop@4242:ref:refs/heads/main"


JOB = {
    "GITHUB_REPOSITORY": "octo-org/shop",
    "GITHUB_REPOSITORY_ID": "4242",
    "GITHUB_REPOSITORY_OWNER_ID": "77",
    "GITHUB_REF": "refs/heads/main",
}


BUCKET = "backups"


def entrance(*subjects: str, operator: str = "StringEquals", **more: Any) -> dict[str, Any]:
    """A statement for GitHub's tokens with these values for `sub`."""
    conditions: dict[str, dict[str, Any]] = {
        "StringEquals": {f"{PROVIDER}:aud": "sts.amazonaws.com"}
    }
    conditions.setdefault(operator, {})[f"{PROVIDER}:sub"] = list(subjects)
    return {
        "Effect": "Allow",
        "Principal": {"Federated": PROVIDER_ARN},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": conditions,
        **more,
    }


GOOD = entrance(PLAIN, IDS)


@dataclass
class Audited:
    """A role of the strict double, and the audit of it."""

    double: Ministack
    monkeypatch: pytest.MonkeyPatch
    name: str
    job: dict[str, str] = field(default_factory=lambda: dict(JOB))
    keys: dict[str, str] = field(default_factory=lambda: dict(KEYS))

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{ACCOUNT}:role/{self.name}"

    @property
    def env(self) -> dict[str, str]:
        return self.keys | {"AWS_ENDPOINT_URL": self.double.url}

    def make(
        self,
        trust: list[dict[str, Any]] | None = None,
        policy: list[dict[str, Any]] | None = None,
        longest: int = 3600,
    ) -> None:
        iam = self.double.client("iam")
        trusted = {"Version": "2012-10-17", "Statement": [GOOD] if trust is None else trust}
        iam.create_role(
            RoleName=self.name,
            AssumeRolePolicyDocument=json.dumps(trusted),
            MaxSessionDuration=longest,
        )
        allowed = [writing(BUCKET), listing(BUCKET)] if policy is None else policy
        if allowed:
            iam.put_role_policy(
                RoleName=self.name,
                PolicyName="backup",
                PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": allowed}),
            )

    def checks(self, **inputs: str) -> dict[str, Check]:
        settings = settings_of(**{"bucket": BUCKET, "writer_role": self.arn, **inputs})
        session = logged_in(self.monkeypatch, settings, self.env)
        found = checks(session, settings, self.job)
        return {check.id: check for check in found}

    def mended(self, id: str, status: Status, *words: str, **inputs: str) -> Check:
        """A check with this status, and `words` in its reason; green once its fix is run."""
        before = self.checks(**inputs)[id]
        assert status == before.status, before
        for word in words:
            assert word in before.reason, before.reason
        apply(before.fix, KEYS | {"AWS_ENDPOINT_URL": self.double.url})
        after = self.checks(**inputs)[id]
        assert Status.PASS == after.status, after
        return before

    def trust(self) -> list[dict[str, Any]]:
        told = self.double.client("iam").get_role(RoleName=self.name)["Role"]
        statements: list[dict[str, Any]] = told["AssumeRolePolicyDocument"]["Statement"]
        return statements
