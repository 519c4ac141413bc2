"""The commands that begin to replicate a bucket, and those that copy what was left behind.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-how-setup.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backup.aws.permissions import partition
from backup.aws.s3_client import key_arn
from backup.aws.session import AwsSession
from backup.operations.auditing.bucket_records import creating
from backup.operations.auditing.shell import aws, document, s3api
from backup.settings import BucketSettings

# Another region under the same law, so that no copy leaves it by default.
_OTHER_REGIONS = {
    "eu": ("eu-west-1", "eu-central-1"),
    "us": ("us-west-2", "us-east-1"),
    "ap": ("ap-southeast-1", "ap-northeast-1"),
    "ca": ("ca-west-1", "ca-central-1"),
}
_LONGEST_BUCKET, _LONGEST_ROLE = 63, 64


@dataclass(frozen=True, slots=True)
class Replica:
    """A second bucket, beside the one of the backups, and what copies into it."""

    source: BucketSettings
    region: str
    partition: str
    account: str
    kms_key_arn: str | None

    @classmethod
    def of(cls, source: BucketSettings, session: AwsSession, key: str | None) -> Replica:
        account = source.expected_owner or session.account
        arn = key_arn(session, key) if key else None
        return cls(source, session.region, partition(session.region), account, arn)

    def script(self, existing: Mapping[str, Any] | None) -> str:
        """All of it; where something is replicated already, its role and its bucket serve."""
        rules = [_modern(rule, number) for number, rule in enumerate(_rules(existing), 1)]
        if existing and rules:
            added = self._rule(str(rules[0]["Destination"]["Bucket"]), rules)
            return self._beside(str(existing["Role"]), [*rules, added])
        role = f"arn:{self.partition}:iam::{self.account}:role/{self._role}"
        return "\n".join(
            (
                # Locked objects are copied only into a bucket that can lock, which keeps versions.
                # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html
                creating(self._name, self._other_region, "--object-lock-enabled-for-bucket"),
                s3api(
                    self.source, self.region, "put-bucket-versioning",
                    "--versioning-configuration", "Status=Enabled",
                ),
                aws(
                    "iam", "create-role", "--role-name", self._role,
                    "--assume-role-policy-document", document(_TRUST),
                ),
                aws(
                    "iam", "put-role-policy", "--role-name", self._role,
                    "--policy-name", "replicate", "--policy-document", document(self._policy()),
                ),
                self._put(role, [self._rule(self._arn(self._name), [])]),
            )
        )  # fmt: skip

    def _beside(self, role: str, rules: Sequence[Mapping[str, Any]]) -> str:
        """Puts the rules, the last of them new; a key of KMS must be of the destination's region,
        which only the bucket itself tells."""
        put = self._put(role, rules)
        if not self.kms_key_arn:
            return put
        name = str(rules[-1]["Destination"]["Bucket"]).rpartition(":")[2]
        region = aws(
            "s3api", "head-bucket", "--bucket", name, "--query", "BucketRegion", "--output", "text"
        )
        guessed = self._replica_key
        told = guessed.replace(f":{self._other_region}:", """:'"$region"':""")
        return (
            f"# its role must be allowed kms:Decrypt on {self.kms_key_arn}, and kms:Encrypt on the"
            f" key of the copies\nregion=$({region})\n{put.replace(guessed, told)}"
        )

    @property
    def _name(self) -> str:
        return f"{self.source.name[: _LONGEST_BUCKET - len('-replica')]}-replica"

    @property
    def _role(self) -> str:
        return f"{self.source.name[: _LONGEST_ROLE - len('-replication')]}-replication"

    @property
    def _other_region(self) -> str:
        """One of the same continent; where none is known, the same: that helps against deletion."""
        near = _OTHER_REGIONS.get(self.region.partition("-")[0], (self.region,))
        return next((each for each in near if each != self.region), self.region)

    def _arn(self, bucket: str) -> str:
        return f"arn:{self.partition}:s3:::{bucket}"

    def _put(self, role: str, rules: Sequence[Mapping[str, Any]]) -> str:
        return s3api(
            self.source, self.region, "put-bucket-replication",
            "--replication-configuration", document({"Role": role, "Rules": list(rules)}),
        )  # fmt: skip

    def _rule(self, destination: str, others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        taken = {each.get("ID") for each in others}
        name, number = "pg-backups", 2
        while name in taken:
            name, number = f"pg-backups-{number}", number + 1
        rule: dict[str, Any] = {
            "ID": name,
            "Status": "Enabled",
            "Priority": max((int(each["Priority"]) for each in others), default=0) + 1,
            "Filter": {"Prefix": f"{self.source.prefix}/" if self.source.prefix else ""},
            "DeleteMarkerReplication": {"Status": "Disabled"},
            "Destination": {"Bucket": destination},
        }
        if self.kms_key_arn:
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-config-for-kms-objects.html
            rule["SourceSelectionCriteria"] = {"SseKmsEncryptedObjects": {"Status": "Enabled"}}
            rule["Destination"]["EncryptionConfiguration"] = {"ReplicaKmsKeyID": self._replica_key}
        return rule

    @property
    def _replica_key(self) -> str:
        return f"arn:{self.partition}:kms:{self._other_region}:{self.account}:alias/aws/s3"

    def _policy(self) -> dict[str, Any]:
        """https://docs.aws.amazon.com/AmazonS3/latest/userguide/setting-repl-config-perm-overview.html"""
        source, replica = self._arn(self.source.name), self._arn(self._name)
        configuration = ["s3:GetReplicationConfiguration", "s3:ListBucket"]
        reading = [
            "s3:GetObjectVersionForReplication",
            "s3:GetObjectVersionAcl",
            "s3:GetObjectVersionTagging",
            "s3:GetObjectRetention",
            "s3:GetObjectLegalHold",
            "s3:InitiateReplication",
        ]
        writing = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
        statements = [
            _allow([*configuration, "s3:PutInventoryConfiguration"], source),
            _allow(reading, f"{source}/*"),
            _allow(writing, f"{replica}/*"),
        ]
        if self.kms_key_arn:
            keys = f"arn:{self.partition}:kms:{self._other_region}:{self.account}:key/*"
            statements += [_allow(["kms:Decrypt"], self.kms_key_arn), _allow(["kms:Encrypt"], keys)]
        return {"Version": "2012-10-17", "Statement": statements}


def copying_again(
    source: BucketSettings, session: AwsSession, replication: Mapping[str, Any], roots: list[str]
) -> str:
    """A job of S3 Batch Replication for what lies below these prefixes and was not copied.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-batch-replication-batch.html
    """
    generator = {
        "S3JobManifestGenerator": {
            "SourceBucket": f"arn:{partition(session.region)}:s3:::{source.name}",
            "EnableManifestOutput": False,
            "Filter": {
                "EligibleForReplication": True,
                "ObjectReplicationStatuses": ["FAILED", "NONE"],
                "KeyNameConstraint": {"MatchAnyPrefix": roots},
            },
        }
    }
    return aws(
        "s3control", "create-job", "--region", session.region,
        "--account-id", source.expected_owner or session.account,
        "--no-confirmation-required", "--priority", "1",
        "--role-arn", str(replication.get("Role", "")),
        "--operation", document({"S3ReplicateObject": {}}),
        "--report", document({"Enabled": False}),
        "--manifest-generator", document(generator),
    )  # fmt: skip


_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": ["s3.amazonaws.com", "batchoperations.s3.amazonaws.com"]},
            "Action": "sts:AssumeRole",
        }
    ],
}


def _allow(actions: list[str], resource: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resource}


def _rules(existing: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    rules: Sequence[Mapping[str, Any]] = (existing or {}).get("Rules", ())
    return rules


def _modern(rule: Mapping[str, Any], number: int) -> dict[str, Any]:
    """S3 mixes no rules with the old `Prefix`, which copied delete markers, with a `Filter`.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-add-config.html
    """
    modern = dict(rule)
    if "Filter" not in modern:
        modern["Filter"] = {"Prefix": modern.pop("Prefix", "")}
        modern.setdefault("DeleteMarkerReplication", {"Status": "Enabled"})
    modern.setdefault("Priority", number)
    return modern
