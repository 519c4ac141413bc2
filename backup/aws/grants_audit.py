"""What an audit asks of AWS: to read, and nothing else."""

from __future__ import annotations

from backup.aws.grants_backups import reading
from backup.aws.policy import Grant, PolicyScope, on_key


def audit(scope: PolicyScope) -> tuple[Grant, ...]:
    return (
        *reading(scope),
        *_audit_of_bucket(scope),
        *_audit_of_instance(scope),
        *_audit_of_identity(scope),
    )


def _audit_of_bucket(scope: PolicyScope) -> tuple[Grant, ...]:
    bucket = (
        "s3:GetBucketVersioning",
        "s3:GetEncryptionConfiguration",
        "s3:GetBucketPublicAccessBlock",
        "s3:GetBucketOwnershipControls",
        "s3:GetBucketPolicy",
        "s3:GetLifecycleConfiguration",
        "s3:GetBucketObjectLockConfiguration",
        "s3:GetReplicationConfiguration",
        "s3:GetBucketLogging",
        "s3:GetMetricsConfiguration",
        "s3:ListBucketMultipartUploads",
    )
    # Which trails there are is only known from the answer; an organisation's are another account's.
    trails = f"arn:{scope.partition}:cloudtrail:*:*:trail/*"
    of_trail = ("cloudtrail:GetTrailStatus", "cloudtrail:GetEventSelectors")
    return (
        Grant("AuditBucket", bucket, (scope.bucket_arn,)),
        Grant("ListTrails", ("cloudtrail:DescribeTrails",), ("*",)),
        Grant("AuditTrails", of_trail, (trails,)),
        *on_key("AuditKey", ("kms:DescribeKey", "kms:GetKeyRotationStatus"), scope),
    )


def _audit_of_instance(scope: PolicyScope) -> tuple[Grant, ...]:
    if not scope.instance and not scope.cluster:
        return ()
    # Members, groups and snapshots are only known from the answers.
    if scope.cluster:
        kinds: tuple[str, ...] = ("Clusters", "ClusterSnapshots", "ClusterParameters",
                                  "Instances", "Parameters")  # fmt: skip
        source = scope.rds("cluster", scope.cluster)
        resources = (source, *scope.every("cluster-snapshot", "cluster-pg", "db", "pg"))
    else:
        kinds = ("Instances", "Snapshots", "Parameters")
        resources = (scope.rds("db", scope.instance or ""), *scope.every("snapshot", "pg"))
    # These know no resources.
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonrds.html
    about_all = (
        "rds:DescribeDBEngineVersions",
        "rds:DescribeDBMajorEngineVersions",
        "ec2:DescribeRouteTables",
        "cloudwatch:GetMetricStatistics",
    )
    return (
        Grant("AuditInstance", tuple(f"rds:DescribeDB{kind}" for kind in kinds), resources),
        Grant("AuditAroundIt", about_all, ("*",)),
    )


def _audit_of_identity(scope: PolicyScope) -> tuple[Grant, ...]:
    if not scope.role:
        return ()
    return (Grant("AuditIdentity", ("iam:GetRole", "iam:SimulatePrincipalPolicy"), (scope.role,)),)
