"""What snapshots and exports ask of AWS.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonrds.html
https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsbackup.html
"""

from __future__ import annotations

from backup.aws.policy import Grant, PolicyScope, on_key, via, with_key

# Only what the action itself has taken has it, so that no slip deletes another. It is no bar to
# malice: RDS has one permission for tags of what is made and of what is there.
_OWN = {"StringEquals": {"aws:ResourceTag/pg-backup-action:created-by": "pg-backup-action"}}


def snapshot(scope: PolicyScope) -> tuple[Grant, ...]:
    """By RDS, or by AWS Backup where the scope has a vault. The copy is for the scope's
    `copy_region`."""
    records = scope.objects(f"rds/{_identifier(scope)}/*")
    return (
        *(_by_backup(scope, scope.vault) if scope.vault else _by_rds(scope)),
        Grant("KeepTheRecord", ("s3:PutObject",), (records,)),
        *on_key("EncryptTheRecord", ("kms:GenerateDataKey",), scope),
    )


def export(scope: PolicyScope) -> tuple[Grant, ...]:
    """Of any snapshot in the region, into the bucket."""
    _, kind = _words(scope)
    use = ("kms:DescribeKey", "kms:CreateGrant")
    records = scope.objects(f"rds/{_identifier(scope)}/exports/*")
    return (
        *_looking(scope, snapshots=True),
        # A task has no ARN.
        Grant("LookAtExports", ("rds:DescribeExportTasks",), ("*",)),
        Grant("ExportSnapshots", ("rds:StartExportTask",), (scope.rds(kind, "*"),)),
        _passing(scope, "export.rds.amazonaws.com"),
        *with_key("EncryptTheExport", use, scope.kms_key_arn, via("rds", scope.region)),
        Grant("KeepTheRecord", ("s3:PutObject",), (records,)),
        *on_key("EncryptTheRecord", ("kms:GenerateDataKey",), scope),
    )


def _by_rds(scope: PolicyScope) -> tuple[Grant, ...]:
    word, kind = _words(scope)
    source = scope.rds("cluster" if scope.cluster else "db", _identifier(scope))
    here, there = scope.rds(kind, "*"), scope.rds(kind, "*", scope.copy_region)
    everywhere = (here, there) if scope.copy_region else (here,)
    delete = Grant("DeleteOwnSnapshots", (f"rds:Delete{word}",), everywhere, _OWN)
    return (
        *_looking(scope, snapshots=True),
        Grant("TakeSnapshots", (f"rds:Create{word}",), (source, here)),
        *((Grant("CopySnapshots", (f"rds:Copy{word}",), everywhere),) if scope.copy_region else ()),
        Grant("TagSnapshots", ("rds:AddTagsToResource",), everywhere),
        *_key_of_copy(scope),
        *((delete,) if scope.deletes_snapshots else ()),
    )


def _by_backup(scope: PolicyScope, vault: str) -> tuple[Grant, ...]:
    head = f"arn:{scope.partition}:backup:{scope.region}:{scope.account}"
    _, kind = _words(scope)
    points, copies = scope.rds(kind, "awsbackup:*"), scope.copy_region is not None
    jobs = ("backup:DescribeBackupJob", *(("backup:DescribeCopyJob",) if copies else ()))
    return (
        *_looking(scope),
        Grant("BackUpIntoTheVault", ("backup:StartBackupJob",), (f"{head}:backup-vault:{vault}",)),
        Grant("LookAtJobs", jobs, ("*",)),
        _passing(scope, "backup.amazonaws.com"),
        *((Grant("CopyRecoveryPoints", ("backup:StartCopyJob",), (points,)),) if copies else ()),
    )


def _key_of_copy(scope: PolicyScope) -> tuple[Grant, ...]:
    if not scope.copy_region:
        return ()
    # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Overview.Encryption.Keys.html
    actions = ("kms:DescribeKey", "kms:CreateGrant")
    there = via("rds", scope.copy_region)
    return with_key("EncryptTheCopy", actions, scope.copy_kms_key_arn, there)


def _passing(scope: PolicyScope, service: str) -> Grant:
    condition = {"StringEquals": {"iam:PassedToService": service}}
    return Grant(
        "PassServiceRole", ("iam:PassRole",), (scope.service_role or "SERVICE-ROLE",), condition
    )


def _looking(scope: PolicyScope, *, snapshots: bool = False) -> tuple[Grant, ...]:
    """At the instance or cluster, and at snapshots, here and where they are copied to."""
    word, kind = _words(scope)
    # Members are only known from the answer, and RDS asks for all of a kind where one is named.
    if scope.cluster:
        of_cluster = (scope.rds("cluster", scope.cluster), *scope.every("db"))
        actions = ("rds:DescribeDBClusters", "rds:DescribeDBInstances")
        look = Grant("LookAtTheSource", actions, of_cluster)
    else:
        instance = scope.rds("db", _identifier(scope))
        look = Grant("LookAtTheSource", ("rds:DescribeDBInstances",), (instance,))
    if not snapshots:
        return (look,)
    kinds = (kind, "cluster" if scope.cluster else "db")
    there = [scope.rds(each, "*", scope.copy_region) for each in kinds if scope.copy_region]
    listed = (*scope.every(*kinds), *there)
    return (look, Grant("LookAtSnapshots", (f"rds:Describe{word}s",), listed))


def _words(scope: PolicyScope) -> tuple[str, str]:
    """How the API and ARNs call a snapshot of what is meant."""
    return (
        ("DBClusterSnapshot", "cluster-snapshot") if scope.cluster else ("DBSnapshot", "snapshot")
    )


def _identifier(scope: PolicyScope) -> str:
    return (scope.cluster or scope.instance or "*").lower()
