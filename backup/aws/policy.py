"""Statements of a policy, and what a policy is about."""

from __future__ import annotations

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
    tunnel_secret_arn: str | None = None
    bastion_arn: str | None = None
    bastion_user: str | None = None
    instance_key_arn: str | None = None
    monitoring_role: str | None = None

    @property
    def bucket_arn(self) -> str:
        return f"arn:{self.partition}:s3:::{self.bucket}"

    def objects(self, below: str = "*") -> str:
        """The ARN of what lies below the prefix."""
        return "/".join(filter(None, (self.bucket_arn, self.prefix, below)))

    def rds(self, kind: str, name: str, region: str | None = None) -> str:
        """https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Tagging.ARN.Constructing.html"""
        return f"arn:{self.partition}:rds:{region or self.region}:{self.account}:{kind}:{name}"

    def every(self, *kinds: str) -> tuple[str, ...]:
        """All that RDS has of these kinds in the region."""
        return tuple(self.rds(kind, "*") for kind in kinds)


def via_rds(region: str) -> Condition:
    """That a key is used through RDS alone."""
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return {"StringEquals": {"kms:ViaService": f"rds.{region}.{suffix}"}}


def on_key(sid: str, actions: tuple[str, ...], scope: PolicyScope) -> tuple[Grant, ...]:
    """What the key of the backups is used for; nothing where there is none."""
    if not scope.kms_key_arn:
        return ()
    # IAM knows keys by ARN: an alias becomes a condition.
    # https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html
    head, separator, alias = scope.kms_key_arn.partition(":alias/")
    if not separator:
        return (Grant(sid, actions, (scope.kms_key_arn,)),)
    condition = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": f"alias/{alias}"}}
    return (Grant(sid, actions, (f"{head}:key/*",), condition),)


def _one_or_list(texts: tuple[str, ...]) -> object:
    return list(texts) if len(texts) > 1 else texts[0]
