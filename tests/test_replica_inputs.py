"""The inputs of the second region, the bucket's role and the tiers: what is refused, and why."""

from __future__ import annotations

import re

import pytest

from backup.errors import InputError
from tests.audits import settings_of

ROLE = "arn:aws:iam::210987654321:role/pg-backup-central"
REPLICA = {"replica_bucket": "my-company-pg-backups-replica", "replica_region": "eu-west-1"}


def test_a_replica_is_named_with_its_region_and_a_wait_in_seconds() -> None:
    settings = settings_of(**REPLICA, replica_wait="15min", read_from="replica", bucket_role=ROLE)
    assert settings.replica is not None
    assert 900 == settings.replica.wait_seconds
    assert ROLE == settings.bucket.role_arn
    assert settings_of(**REPLICA).replica is not None
    assert settings_of().replica is None


@pytest.mark.parametrize(
    ("given", "told", "remedy"),
    [
        ({"replica_bucket": "Replica"}, "replica-bucket", "my-company-pg-backups-replica"),
        ({"replica_bucket": "a-replica"}, "replica-bucket", "name the bucket and its region"),
        ({"replica_region": "eu-west-1"}, "replica-region", "name the bucket and its region"),
        ({**REPLICA, "replica_region": "Ireland"}, "replica-region", "eu-west-1"),
        ({"replica_wait": "15min"}, "replica-wait", "name the bucket and its region"),
        ({**REPLICA, "replica_wait": "soon"}, "replica-wait", "60s, 5min"),
        ({"read_from": "replica"}, "read-from", "give replica-bucket and replica-region"),
        ({"read_from": "both"}, "read-from", "use one of auto, bucket, replica"),
        (
            {
                **REPLICA,
                "read_from": "replica",
                "operation": "backup",
                "verify": "true",
                "database_url": "postgresql://u:p@h/d",
            },
            "read-from",
            "give replica-wait",
        ),
        ({"bucket_role": "central"}, "bucket-role", "arn:aws:iam::210987654321:role/"),
        (
            {"bucket_role": ROLE, "allowed_account_ids": "123456789012"},
            "bucket-role",
            "add it there, or correct the ARN",
        ),
        ({"retention_tier": "hourly"}, "retention-tier", "use one of daily, weekly"),
        (
            {"retention_tier": "auto", "object_tags": "retention-tier=daily"},
            "retention-tier",
            "give it once",
        ),
        (
            {"retention_tier": "auto", "object_tags": "\n".join(f"k{n}=v" for n in range(10))},
            "object-tags",
            "leave some out",
        ),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, str], told: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        settings_of(**given)
    assert re.search(rf"^{told}: .+; .*{re.escape(remedy)}", caught.value.detail, re.MULTILINE)
