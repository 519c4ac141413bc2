"""What an audit asks of AWS: to read, and nothing else."""

from __future__ import annotations

from backup.aws.grants_backups import listing_of_read
from backup.aws.policy import Grant, PolicyScope, on_key, on_read_keys, with_key

READ_BELOW = ("*/manifest.json", "*/drills/*", "rds/*/restores/*")


def audit(scope: PolicyScope) -> tuple[Grant, ...]:
    return (
        *_reading(scope),
        *_audit_of_bucket(scope),
        *_audit_of_instance(scope),
        *_audit_of_identity(scope),
    )


def _reading(scope: PolicyScope) -> tuple[Grant, ...]:
    """What tells of backups, drills and restores, and no archive: an auditor cannot restore."""
    read = [place for below in READ_BELOW for place in scope.read_objects(below)]
    return (
        Grant("ReadRecords", ("s3:GetObject",), tuple(read)),
        listing_of_read(scope),
        *on_read_keys("DecryptRecords", ("kms:Decrypt",), scope),
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
        Grant("AuditBucket", bucket, scope.read_buckets),
        Grant("ListTrails", ("cloudtrail:DescribeTrails",), ("*",)),
        Grant("AuditTrails", of_trail, (trails,)),
        *_audit_of_keys(scope),
    )


def _audit_of_keys(scope: PolicyScope) -> tuple[Grant, ...]:
    actions = ("kms:DescribeKey", "kms:GetKeyRotationStatus")
    first = on_key("AuditKey", actions, scope) if scope.reads_bucket else ()
    if not scope.kms_key_arn or not scope.reads_replica:
        return first
    keys = f"arn:{scope.partition}:kms:{scope.replica_region}:{scope.account}:key/*"
    return (*first, *with_key("AuditKeyOfReplica", actions, scope.replica_key_arn or keys))


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
