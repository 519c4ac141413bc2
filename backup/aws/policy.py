"""Statements of a policy, and what a policy is about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Condition = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Grant:
    """One statement of a policy."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    condition: Condition = field(default_factory=dict)

    def statement(self) -> dict[str, object]:
        """As IAM's JSON, in the order in which people write it."""
        written: dict[str, object] = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": _one_or_list(self.actions),
            "Resource": _one_or_list(self.resources),
        }
        if self.condition:
            written["Condition"] = self.condition
        return written


@dataclass(frozen=True, slots=True)
class PolicyScope:
    """What a policy is about: one bucket and prefix, and what is used with them.

    `kms_key_arn` encrypts the backups. `secret_arn` is the secret of the password and `login_arn`
    the login by IAM (`arn:aws:rds-db:REGION:ACCOUNT:dbuser:RESOURCE-ID/USER`). `thaws`: backups
    may lie in Glacier. `role` is the ARN of the role that an audit looks at.
    `tunnel_secret_arn` is the secret of a tunnel's key, and `bastion_arn` the instance that lets
    in `bastion_user` by EC2 Instance Connect in its place. `instance_key_arn` encrypts the instance
    or cluster, and `monitoring_role` is its role for enhanced monitoring.

    `deletes_snapshots`: old ones go, but for those that `keep` counts.

    `bucket_role` touches bucket, replica and their keys in place of the first role. `replica` is a
    bucket in `replica_region`: `read_from` says whether it is read (`bucket`, `replica` or `auto`:
    either), and `awaits_replica` whether a backup waits for it. `topic_arn` and `namespace` are
    told how runs end; `remembers_outcomes`: notified is what has changed since the last run.
    """

    partition: str
    region: str
    account: str
    bucket: str
    prefix: str
    kms_key_arn: str | None = None
    tags_objects: bool = False
    thaws: bool = False
    secret_arn: str | None = None
    login_arn: str | None = None
    role: str | None = None
    instance: str | None = None
    cluster: str | None = None
    vault: str | None = None
    service_role: str | None = None
    copy_region: str | None = None
    copy_kms_key_arn: str | None = None
    deletes_snapshots: bool = True
    tunnel_secret_arn: str | None = None
    bastion_arn: str | None = None
    bastion_user: str | None = None
    instance_key_arn: str | None = None
    monitoring_role: str | None = None
    bucket_role: str | None = None
    replica: str | None = None
    replica_region: str | None = None
    replica_key_arn: str | None = None
    read_from: str = "bucket"
    awaits_replica: bool = False
    topic_arn: str | None = None
    namespace: str | None = None
    remembers_outcomes: bool = False

    @property
    def bucket_arn(self) -> str:
        return f"arn:{self.partition}:s3:::{self.bucket}"

    @property
    def replica_arn(self) -> str:
        return f"arn:{self.partition}:s3:::{self.replica}"

    @property
    def reads_bucket(self) -> bool:
        return self.replica is None or self.read_from != "replica"

    @property
    def reads_replica(self) -> bool:
        return self.replica is not None and self.read_from != "bucket"

    @property
    def read_buckets(self) -> tuple[str, ...]:
        """The ARNs of the buckets that backups may be read from."""
        first, second = (self.bucket_arn,), (self.replica_arn,)
        return first * self.reads_bucket + second * self.reads_replica

    def objects(self, below: str = "*") -> str:
        """The ARN of what lies below the prefix."""
        return self._objects(self.bucket_arn, below)

    def read_objects(self, below: str = "*") -> tuple[str, ...]:
        """The same in each of the buckets that are read."""
        return tuple(self._objects(bucket, below) for bucket in self.read_buckets)

    def rds(self, kind: str, name: str, region: str | None = None) -> str:
        """https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Tagging.ARN.Constructing.html"""
        return f"arn:{self.partition}:rds:{region or self.region}:{self.account}:{kind}:{name}"

    def every(self, *kinds: str) -> tuple[str, ...]:
        """All that RDS has of these kinds in the region."""
        return tuple(self.rds(kind, "*") for kind in kinds)

    def _objects(self, bucket: str, below: str) -> str:
        return "/".join(filter(None, (bucket, literal(self.prefix), below)))


def literal(text: str) -> str:
    """A text for a place of a policy where `*`, `?` and `${…}` would mean something else.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html#policy-vars-specialchars
    """
    return re.sub(r"[*?$]", lambda found: f"${{{found[0]}}}", text)


def example(resource: str) -> str:
    """A resource that a pattern of ours takes in."""
    free = re.sub(r"(?<!\{)\*", "simulated", resource)
    free = re.sub(r"(?<!\{)\?", "x", free)
    return re.sub(r"\$\{([*?$])\}", r"\1", free)


def via(service: str, region: str) -> Condition:
    """That a key is used through a service alone."""
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return {"StringEquals": {"kms:ViaService": f"{service}.{region}.{suffix}"}}


def with_key(
    sid: str, actions: tuple[str, ...], key_arn: str | None, condition: Condition | None = None
) -> tuple[Grant, ...]:
    """What a key is used for; nothing where there is none."""
    if not key_arn:
        return ()
    # IAM knows keys by ARN: an alias becomes a condition.
    # https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html
    head, separator, alias = key_arn.partition(":alias/")
    if not separator:
        return (Grant(sid, actions, (key_arn,), condition or {}),)
    named = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": f"alias/{alias}"}}
    return (Grant(sid, actions, (f"{head}:key/*",), {**(condition or {}), **named}),)


def on_key(sid: str, actions: tuple[str, ...], scope: PolicyScope) -> tuple[Grant, ...]:
    """What the key of the backups is used for; nothing where there is none."""
    return with_key(sid, actions, scope.kms_key_arn)


def on_read_keys(sid: str, actions: tuple[str, ...], scope: PolicyScope) -> tuple[Grant, ...]:
    """The same for the keys of the buckets that are read.

    Where the replica's key is not known, it is named by what it encrypts.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html#encryption-context
    """
    first = on_key(sid, actions, scope) if scope.reads_bucket else ()
    if not scope.reads_replica or not scope.kms_key_arn:
        return first
    if scope.replica_key_arn:
        return (*first, *with_key(f"{sid}OfReplica", actions, scope.replica_key_arn))
    condition = {
        **via("s3", scope.replica_region or ""),
        "StringLike": {
            "kms:EncryptionContext:aws:s3:arn": [scope.replica_arn, f"{scope.replica_arn}/*"]
        },
    }
    keys = f"arn:{scope.partition}:kms:{scope.replica_region}:*:key/*"
    return (*first, Grant(f"{sid}OfReplica", actions, (keys,), condition))


def _one_or_list(texts: tuple[str, ...]) -> object:
    return list(texts) if len(texts) > 1 else texts[0]
