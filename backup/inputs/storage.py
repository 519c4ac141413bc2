"""Who the run is in AWS, and the bucket that it uses."""

from __future__ import annotations

import re
from collections.abc import Mapping

from backup.reading import Reader
from backup.settings import BucketSettings, ReplicaSettings, RoleSettings

_REGION = r"[a-z]{2}(-[a-z]+)+-\d+"
_ROLE = r"arn:aws[a-z-]*:iam::\d{12}:role/.+"
# These go by the fleet's file, which names region and bucket of each database.
_NAMED_BY_THE_FLEET = ("plan", "collect")
# The audit and the policies are of what a backup is allowed.
_WRITE_BACKUPS = ("backup", "audit", "policy")
_TIERS = ("daily", "weekly", "monthly", "yearly", "auto")
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"


def role(reader: Reader, environment: Mapping[str, str]) -> RoleSettings:
    region = (
        reader.matching("aws-region", _REGION, "eu-central-1")
        or environment.get("AWS_REGION")
        or environment.get("AWS_DEFAULT_REGION")
    )
    if not region and reader.text("operation") not in _NAMED_BY_THE_FLEET:
        reader.fault("aws-region", "is missing", "name the bucket's region: eu-central-1")
    accounts = tuple(reader.text("allowed-account-ids").replace(",", " ").split())
    for account in accounts:
        if not re.fullmatch(r"\d{12}", account):
            reader.fault("allowed-account-ids", f"{account!r} is no account id", "write 12 digits")
    return RoleSettings(
        region=region or None,
        arn=reader.matching(
            "role-to-assume",
            _ROLE,
            "arn:aws:iam::123456789012:role/pg-backup-writer",
        ),
        # https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
        session_name=reader.matching("role-session-name", r"[\w+=,.@-]{2,64}", "pg-backup-action")
        or "",
        # botocore renews 15 minutes before the end: a session of 900 s would be renewed at once.
        duration_seconds=reader.number("role-duration-seconds", 3600, 43200),
        audience=reader.text("audience"),
        external_id=reader.text("role-external-id") or None,
        allowed_account_ids=accounts,
    )


def bucket(reader: Reader) -> BucketSettings:
    name = reader.text("bucket")
    if not name and reader.text("operation") not in _NAMED_BY_THE_FLEET:
        reader.fault("bucket", "is missing", "name the bucket: my-company-pg-backups")
    if name and not re.fullmatch(_BUCKET, name):
        reader.fault("bucket", f"{name!r} is no bucket name", "give the name alone, without s3://")
    prefix = reader.text("prefix").strip("/")
    if not re.fullmatch(r"[A-Za-z0-9!_.*'()/-]*", prefix):
        reader.fault("prefix", f"{prefix!r} has characters that S3 keys should not have",
                     "use letters, digits and / ! - _ . * ' ( )")  # fmt: skip
    tags = tuple(reader.tag("object-tags", line) for line in reader.lines("object-tags"))
    tier = reader.choice("retention-tier", _TIERS) if reader.given("retention-tier") else None
    if tier and any(key == "retention-tier" for key, _ in tags):
        reader.fault("retention-tier", "is given among object-tags too", "give it once")
    if len(tags) + (tier is not None) > 10:
        reader.fault("object-tags", f"{len(tags)} tags, and S3 takes ten in all", "leave some out")
    return BucketSettings(
        name=name,
        prefix=prefix,
        kms_key_id=reader.text("kms-key-id") or None,
        expected_owner=reader.matching("expected-bucket-owner", r"\d{12}", "123456789012"),
        # What the others write are records, which their roles may not tag.
        tags=tags if reader.text("operation") in _WRITE_BACKUPS else (),
        role_arn=reader.matching(
            "bucket-role", _ROLE, "arn:aws:iam::210987654321:role/pg-backup-writer"
        ),
        retention_tier=tier,
    )


def replica(reader: Reader) -> ReplicaSettings | None:
    """The second bucket; None where none is named."""
    name = reader.matching("replica-bucket", _BUCKET, "my-company-pg-backups-replica")
    region = reader.matching("replica-region", _REGION, "eu-west-1")
    wait = reader.duration_ms("replica-wait") / 1000 if reader.given("replica-wait") else None
    if name and region:
        return ReplicaSettings(name, region, wait)
    for option in ("replica-bucket", "replica-region", "replica-wait"):
        if reader.given(option):
            reader.fault(option, "is given without replica-bucket and replica-region",
                         "name the bucket and its region")  # fmt: skip
            break
    return None


def read_from(reader: Reader) -> str:
    chosen = reader.choice("read-from", ("auto", "bucket", "replica"))
    if chosen == "replica" and not reader.given("replica-bucket"):
        reader.fault("read-from", "is replica, and none is named",
                     "give replica-bucket and replica-region")  # fmt: skip
    return chosen
