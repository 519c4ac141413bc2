"""What the inputs tell of a policy: the resources, exact where they are named exactly."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from backup.aws.permissions import partition
from backup.aws.policy import PolicyScope, literal
from backup.settings import Settings

# AWS's own name for it.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Monitoring.OS.Enabling.html
_MONITORING = "rds-monitoring-role"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A resource that the inputs do not name exactly, and what would."""

    resource: str
    remedy: str


def policy_scope(settings: Settings, *, account: str, role: str | None = None) -> PolicyScope:
    """`account` is the first role's; `role` the ARN of the one that an audit looks at.

    What only AWS knows of a login and of an instance becomes a pattern.
    """
    region = settings.role.region or ""
    where, bucket, tunnel = partition(region), settings.bucket, settings.tunnel
    snapshot, told, replica = settings.snapshot, settings.notifications, settings.replica
    owner = bucket.role_arn.split(":")[4] if bucket.role_arn else account
    head = f"arn:{where}:secretsmanager:{region}:{account}:secret:"
    return PolicyScope(
        where,
        region,
        account,
        bucket.name,
        bucket.prefix,
        kms_key_arn=_key(bucket.kms_key_id, where, region, owner),
        tags_objects=bool(bucket.tags or bucket.retention_tier),
        thaws=settings.thaw.wait_seconds > 0,
        secret_arn=_secret(settings.source.password_secret_id, head),
        login_arn=_login(settings, where, region, account),
        role=role,
        instance=settings.rds.instance,
        cluster=settings.rds.cluster,
        vault=snapshot.vault,
        service_role=snapshot.service_role,
        copy_region=snapshot.copy_region,
        copy_kms_key_arn=_key(
            snapshot.copy_kms_key_id, where, snapshot.copy_region or region, account
        ),
        deletes_snapshots=snapshot.keep is not None,
        tunnel_secret_arn=_secret(tunnel.secret_id, head) if tunnel else None,
        bastion_arn=f"arn:{where}:ec2:{region}:{account}:instance/{tunnel.instance_id}"
        if tunnel and tunnel.instance_id
        else None,
        bastion_user=tunnel.user if tunnel else None,
        instance_key_arn=f"arn:{where}:kms:{region}:{account}:key/*",
        monitoring_role=f"arn:{where}:iam::{account}:role/{_MONITORING}",
        bucket_role=bucket.role_arn,
        replica=replica.bucket if replica else None,
        replica_region=replica.region if replica else None,
        read_from=settings.read_from,
        awaits_replica=replica is not None and replica.wait_seconds is not None,
        topic_arn=told.topic_arn,
        namespace=told.namespace,
        remembers_outcomes=told.on == "change" and bool(told.topic_arn or told.webhook_url),
    )


def _key(key: str | None, where: str, region: str, account: str) -> str | None:
    if not key or key.startswith("arn:"):
        return key
    path = key if key.startswith("alias/") else f"key/{literal(key)}"
    return f"arn:{where}:kms:{region}:{account}:{path}"


def _secret(secret: str | None, head: str) -> str | None:
    """Secrets Manager puts a hyphen and six characters of its own behind each name.

    https://docs.aws.amazon.com/secretsmanager/latest/userguide/auth-and-access_iam-policies.html
    """
    if secret is None:
        return None
    arn = secret if secret.startswith("arn:") else f"{head}{literal(secret)}-??????"
    return arn if re.search(r"-(\w{6}|\?{6})$", arn) else f"{arn}-??????"


def _login(settings: Settings, where: str, region: str, account: str) -> str | None:
    """https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.IAMPolicy.html"""
    source, rds = settings.source, settings.rds
    if not source.iam_auth:
        return None
    id = "cluster-*" if rds.cluster else "db-*" if rds.instance else "*"
    return f"arn:{where}:rds-db:{region}:{account}:dbuser:{id}/{literal(source.user or '')}"


def patterns(settings: Settings, scope: PolicyScope) -> Iterator[Pattern]:
    """What of a scope is a pattern, and what would make it exact."""
    tunnel_secret = settings.tunnel.secret_id if settings.tunnel else None
    for option, secret, resource in (
        ("password-secret-id", settings.source.password_secret_id, scope.secret_arn),
        ("tunnel-secret-id", tunnel_secret, scope.tunnel_secret_arn),
    ):
        if secret and resource and resource.endswith("-??????"):
            arn = (
                f"aws secretsmanager describe-secret --secret-id {shlex.quote(secret)} --query ARN"
            )
            yield Pattern(resource, f"give {option} as ARN: {arn}")
    for option, key in (
        ("kms-key-id", scope.kms_key_arn),
        ("copy-kms-key-id", scope.copy_kms_key_arn),
    ):
        if key and ":alias/" in key:
            alias = shlex.quote(f"alias/{key.partition(':alias/')[2]}")
            region = key.split(":")[3]
            told = f"aws kms describe-key --key-id {alias} --region {region}"
            yield Pattern(
                f"{key.partition(':alias/')[0]}:key/*",
                f"any key that bears the alias: give {option} as the key's ARN:"
                f" {told} --query KeyMetadata.Arn",
            )
    if scope.login_arn:
        yield Pattern(scope.login_arn, f"write the resource id for its *: {_resource_id(scope)}")
    if scope.reads_replica and scope.kms_key_arn:
        yield Pattern(
            f"arn:{scope.partition}:kms:{scope.replica_region}:*:key/*",
            "bound to what S3 encrypts in the replica; write the ARN of the replica's key for it:"
            f" aws s3api get-bucket-encryption --bucket {scope.replica}",
        )


def patterns_of_recovery(scope: PolicyScope) -> Iterator[Pattern]:
    """What only the old instance, or its record, tells."""
    look = (
        f"aws rds describe-db-clusters --db-cluster-identifier {scope.cluster}"
        if scope.cluster
        else f"aws rds describe-db-instances --db-instance-identifier {scope.instance}"
    )
    if scope.instance_key_arn:
        yield Pattern(
            scope.instance_key_arn,
            f"bound to use through RDS; write the ARN of the instance's key for it: {look}"
            " --query '*[0].KmsKeyId'",
        )
    if scope.monitoring_role:
        yield Pattern(
            scope.monitoring_role,
            f"AWS's usual name; correct it where another one is set: {look}"
            " --query '*[0].MonitoringRoleArn'",
        )


def _resource_id(scope: PolicyScope) -> str:
    if scope.cluster:
        look = f"aws rds describe-db-clusters --db-cluster-identifier {scope.cluster}"
        return f"{look} --query 'DBClusters[0].DbClusterResourceId'"
    named = f" --db-instance-identifier {scope.instance}" if scope.instance else ""
    query = "'DBInstances[].[DBInstanceIdentifier,DbiResourceId]'"
    return f"aws rds describe-db-instances{named} --query {query}"
