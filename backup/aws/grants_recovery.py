"""What a new instance or cluster asks of AWS.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonrds.html
"""

from __future__ import annotations

from backup.aws.grants_backups import listing, logging_in
from backup.aws.permissions import WRITE_KMS
from backup.aws.policy import Grant, PolicyScope, on_key, via, with_key

# Only what was restored has it, so that no slip changes the old one, or another. It is no bar to
# malice: RDS has one permission for tags of what is made and of what is there.
_RESTORED = {"StringLike": {"aws:ResourceTag/pg-backup-action:restored-from": "*"}}


def restore_instance(scope: PolicyScope) -> tuple[Grant, ...]:
    """A new one whose name begins as the old one's does, or is that of the lost one."""
    return (
        *(_of_cluster(scope, scope.cluster) if scope.cluster else _of_instance(scope)),
        *_monitoring(scope),
        *_key_of_instance(scope),
        Grant("ReadRecords", ("s3:GetObject",), (scope.objects("rds/*"),)),
        Grant("KeepTheResult", ("s3:PutObject",), (scope.objects("rds/*/restores/*"),)),
        listing(scope),
        *on_key("UseTheBucketsKey", WRITE_KMS, scope),
        *logging_in(scope),
    )


def _of_instance(scope: PolicyScope) -> tuple[Grant, ...]:
    looks = ("DBInstances", "DBInstanceAutomatedBackups", "DBSnapshots", "DBSubnetGroups",
             "DBParameterGroups")  # fmt: skip
    restores = ("rds:RestoreDBInstanceFromDBSnapshot", "rds:RestoreDBInstanceToPointInTime")
    new = scope.rds("db", f"{scope.instance}*")
    sources = scope.every("snapshot", "auto-backup", "subgrp", "pg")
    return (
        _looking(looks, (*scope.every("db"), *sources)),
        Grant("MakeTheNewOne", restores, (new, *sources, *scope.every("og"))),
        Grant("TagTheNewOne", ("rds:AddTagsToResource",), (new,)),
        Grant("SetUpTheNewOne", ("rds:ModifyDBInstance",), (new,), _RESTORED),
    )


def _of_cluster(scope: PolicyScope, cluster: str) -> tuple[Grant, ...]:
    looks = ("DBClusters", "DBInstances", "DBClusterAutomatedBackups", "DBClusterSnapshots",
             "DBSubnetGroups", "DBClusterParameterGroups", "DBParameterGroups")  # fmt: skip
    restores = ("rds:RestoreDBClusterFromSnapshot", "rds:RestoreDBClusterToPointInTime")
    new, members = scope.rds("cluster", f"{cluster}*"), scope.rds("db", f"{cluster}*")
    sources = scope.every("cluster-snapshot", "cluster-auto-backup", "subgrp", "cluster-pg")
    creation = (members, new, *scope.every("pg"))
    return (
        _looking(looks, (*scope.every("cluster", "db"), *sources, *scope.every("pg"))),
        Grant("MakeTheNewOne", restores, (new, *sources, *scope.every("og"))),
        Grant("MakeItsInstances", ("rds:CreateDBInstance",), creation),
        Grant("TagTheNewOne", ("rds:AddTagsToResource",), (new, members)),
        Grant("SetUpTheNewOne", ("rds:ModifyDBCluster",), (new,), _RESTORED),
    )


def _looking(kinds: tuple[str, ...], resources: tuple[str, ...]) -> Grant:
    # To look for what is there, all of a kind is asked for.
    return Grant("LookAtRds", tuple(f"rds:Describe{kind}" for kind in kinds), resources)


def _monitoring(scope: PolicyScope) -> tuple[Grant, ...]:
    if not scope.monitoring_role:
        return ()
    # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Monitoring.OS.Enabling.html
    condition = {"StringEquals": {"iam:PassedToService": "monitoring.rds.amazonaws.com"}}
    return (Grant("PassMonitoringRole", ("iam:PassRole",), (scope.monitoring_role,), condition),)


def _key_of_instance(scope: PolicyScope) -> tuple[Grant, ...]:
    # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Overview.Encryption.Keys.html
    actions = ("kms:DescribeKey", "kms:CreateGrant")
    here = via("rds", scope.region)
    return with_key("UseTheInstancesKey", actions, scope.instance_key_arn, here)
