"""What a caller needs permission for: per operation, each action on each resource.

From the "Actions" tables of AWS's Service Authorization Reference, with their dependent actions:
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonrds.html
https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsbackup.html
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2instanceconnect.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.lab.scripted.calls import Call
from tests.lab.scripted.keys import managed_key, resolved
from tests.lab.scripted.scalars import WireFault
from tests.lab.sts import ACCOUNT

# A key's ARN for an ARN that is encrypted with a customer managed key.
KeyOf = Callable[[str], str | None]


@dataclass(frozen=True)
class Need:
    """Permission for one action on one resource."""

    action: str
    resource: str
    tags: Mapping[str, str] = field(default_factory=dict)  # of the request
    context: Mapping[str, str | Sequence[str]] = field(default_factory=dict)  # beside tags


# `{Member|default}` is a member of the input; a resource whose member is absent and has no
# default is not asked for. The first resource is the one that is made, where one is.
RESOURCES: Mapping[str, Sequence[str]] = {
    "rds:AddTagsToResource": ("{ResourceName}",),
    "rds:CancelExportTask": ("*",),
    "rds:CopyDBClusterSnapshot": (
        "cluster-snapshot:{TargetDBClusterSnapshotIdentifier}",
        "cluster-snapshot:{SourceDBClusterSnapshotIdentifier}",
    ),
    "rds:CopyDBSnapshot": (
        "snapshot:{TargetDBSnapshotIdentifier}",
        "snapshot:{SourceDBSnapshotIdentifier}",
    ),
    "rds:CreateDBClusterSnapshot": (
        "cluster-snapshot:{DBClusterSnapshotIdentifier}",
        "cluster:{DBClusterIdentifier}",
    ),
    "rds:CreateDBInstance": (
        "db:{DBInstanceIdentifier}",
        "cluster:{DBClusterIdentifier}",
        "og:{OptionGroupName}",
        "pg:{DBParameterGroupName}",
        "subgrp:{DBSubnetGroupName}",
    ),
    "rds:CreateDBClusterParameterGroup": ("cluster-pg:{DBClusterParameterGroupName}",),
    "rds:CreateDBParameterGroup": ("pg:{DBParameterGroupName}",),
    "rds:CreateDBSnapshot": ("snapshot:{DBSnapshotIdentifier}", "db:{DBInstanceIdentifier}"),
    "rds:DeleteDBCluster": ("cluster:{DBClusterIdentifier}",),
    "rds:DeleteDBClusterSnapshot": ("cluster-snapshot:{DBClusterSnapshotIdentifier}",),
    "rds:DeleteDBInstance": ("db:{DBInstanceIdentifier}",),
    "rds:DeleteDBSnapshot": ("snapshot:{DBSnapshotIdentifier}",),
    "rds:DescribeDBClusterAutomatedBackups": (
        "cluster-auto-backup:*",
        "cluster:{DBClusterIdentifier|*}",
    ),
    "rds:DescribeDBClusterParameterGroups": ("cluster-pg:{DBClusterParameterGroupName|*}",),
    "rds:DescribeDBClusterParameters": ("cluster-pg:{DBClusterParameterGroupName}",),
    "rds:DescribeDBClusterSnapshots": (
        "cluster-snapshot:{DBClusterSnapshotIdentifier|*}",
        "cluster:{DBClusterIdentifier|*}",
    ),
    "rds:DescribeDBClusters": ("cluster:{DBClusterIdentifier|*}",),
    "rds:DescribeDBEngineVersions": ("*",),
    "rds:DescribeDBInstanceAutomatedBackups": ("auto-backup:*", "db:{DBInstanceIdentifier|*}"),
    "rds:DescribeDBInstances": ("db:{DBInstanceIdentifier|*}",),
    "rds:DescribeDBMajorEngineVersions": ("*",),
    "rds:DescribeDBParameterGroups": ("pg:{DBParameterGroupName|*}",),
    "rds:DescribeDBParameters": ("pg:{DBParameterGroupName}",),
    "rds:DescribeDBSnapshots": (
        "snapshot:{DBSnapshotIdentifier|*}",
        "db:{DBInstanceIdentifier|*}",
    ),
    "rds:DescribeDBSubnetGroups": ("subgrp:{DBSubnetGroupName|*}",),
    "rds:DescribeEvents": ("*",),
    "rds:DescribeExportTasks": ("{SourceArn|*}",),
    "rds:DescribePendingMaintenanceActions": ("{ResourceIdentifier|db:*}",),
    "rds:ListTagsForResource": ("{ResourceName}",),
    "rds:ModifyDBCluster": (
        "cluster:{DBClusterIdentifier}",
        "cluster-pg:{DBClusterParameterGroupName}",
    ),
    "rds:ModifyDBInstance": (
        "db:{DBInstanceIdentifier}",
        "og:{OptionGroupName}",
        "pg:{DBParameterGroupName}",
        "subgrp:{DBSubnetGroupName}",
    ),
    "rds:ModifyDBClusterParameterGroup": ("cluster-pg:{DBClusterParameterGroupName}",),
    "rds:ModifyDBParameterGroup": ("pg:{DBParameterGroupName}",),
    "rds:RebootDBInstance": ("db:{DBInstanceIdentifier}",),
    "rds:RemoveTagsFromResource": ("{ResourceName}",),
    "rds:RestoreDBClusterFromSnapshot": (
        "cluster:{DBClusterIdentifier}",
        "cluster-pg:{DBClusterParameterGroupName|default*}",
        "og:{OptionGroupName|default*}",
        "subgrp:{DBSubnetGroupName|default}",
        "cluster-snapshot:{SnapshotIdentifier}",
    ),
    "rds:RestoreDBClusterToPointInTime": (
        "cluster:{DBClusterIdentifier}",
        "cluster-pg:{DBClusterParameterGroupName|default*}",
        "og:{OptionGroupName|default*}",
        "subgrp:{DBSubnetGroupName|default}",
        "cluster:{SourceDBClusterIdentifier}",
    ),
    "rds:RestoreDBInstanceFromDBSnapshot": (
        "db:{DBInstanceIdentifier}",
        "og:{OptionGroupName|default*}",
        "pg:{DBParameterGroupName|default*}",
        "subgrp:{DBSubnetGroupName|default}",
        "snapshot:{DBSnapshotIdentifier}",
    ),
    "rds:RestoreDBInstanceToPointInTime": (
        "db:{TargetDBInstanceIdentifier}",
        "db:{SourceDBInstanceIdentifier}",
        "og:{OptionGroupName|default*}",
        "pg:{DBParameterGroupName|default*}",
        "subgrp:{DBSubnetGroupName|default}",
        "{SourceDBInstanceAutomatedBackupsArn}",
    ),
    "rds:StartDBCluster": ("cluster:{DBClusterIdentifier}",),
    "rds:StartDBInstance": ("db:{DBInstanceIdentifier}",),
    "rds:StartExportTask": ("{SourceArn}",),
    "backup:DescribeBackupJob": ("*",),
    "backup:DescribeBackupVault": ("backup-vault:{BackupVaultName}",),
    "backup:DescribeCopyJob": ("*",),
    "backup:DescribeRecoveryPoint": ("{RecoveryPointArn}",),
    "backup:DescribeRestoreJob": ("*",),
    "backup:GetRecoveryPointRestoreMetadata": ("{RecoveryPointArn}",),
    "backup:ListRecoveryPointsByBackupVault": ("backup-vault:{BackupVaultName}",),
    "backup:ListRecoveryPointsByResource": ("*",),
    "backup:StartBackupJob": ("backup-vault:{BackupVaultName}",),
    "backup:StartCopyJob": ("{RecoveryPointArn}",),
    "backup:StartRestoreJob": ("{RecoveryPointArn}",),
    "backup:StopBackupJob": ("*",),
    "ec2:AssociateRouteTable": ("route-table/{RouteTableId}", "subnet/{SubnetId}"),
    "ec2:CreateRouteTable": ("vpc/{VpcId}", "route-table/*"),
    "ec2:DescribeRouteTables": ("*",),
    "ec2:DescribeSecurityGroups": ("*",),
    "ec2:DescribeSubnets": ("*",),
    "ec2:ReplaceRouteTableAssociation": ("route-table/{RouteTableId}",),
    "ec2-instance-connect:SendSSHPublicKey": (
        f"arn:aws:ec2:{{region}}:{ACCOUNT}:instance/{{InstanceId}}",
    ),
}
# iam:PassRole is asked for where a call names a role, with the service that takes the role.
PASSED = {
    "rds:StartExportTask": ("IamRoleArn", "export.rds.amazonaws.com"),
    "rds:CreateDBInstance": ("MonitoringRoleArn", "monitoring.rds.amazonaws.com"),
    "rds:ModifyDBInstance": ("MonitoringRoleArn", "monitoring.rds.amazonaws.com"),
    "backup:StartBackupJob": ("IamRoleArn", "backup.amazonaws.com"),
    "backup:StartCopyJob": ("IamRoleArn", "backup.amazonaws.com"),
    "backup:StartRestoreJob": ("IamRoleArn", "backup.amazonaws.com"),
}
# "To create an RDS resource using a customer managed key, a user must have permissions to call
# kms:CreateGrant and kms:DescribeKey on it": the key that is named, or else the source's.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Overview.Encryption.Keys.html
ENCRYPTED = {
    "rds:CopyDBSnapshot": "snapshot:{SourceDBSnapshotIdentifier}",
    "rds:CopyDBClusterSnapshot": "cluster-snapshot:{SourceDBClusterSnapshotIdentifier}",
    "rds:RestoreDBInstanceFromDBSnapshot": "snapshot:{DBSnapshotIdentifier}",
    "rds:RestoreDBInstanceToPointInTime": "db:{SourceDBInstanceIdentifier}",
    "rds:RestoreDBClusterFromSnapshot": "cluster-snapshot:{SnapshotIdentifier}",
    "rds:RestoreDBClusterToPointInTime": "cluster:{SourceDBClusterIdentifier}",
    "rds:StartExportTask": "{SourceArn}",
}
MEMBER = re.compile(r"{(\w+)(?:\|([^}]*))?}")


def needs_of(call: Call, key_of: KeyOf) -> list[Need]:
    """In the order in which they are checked; an operation that is not in the table is a fault."""
    if call.action not in RESOURCES:
        raise WireFault(f"it is not written down what {call.action} needs permission for")
    return list(_needs(call, key_of))


def _needs(call: Call, key_of: KeyOf) -> Iterator[Need]:
    tags = _tags(call)
    resources = [arn for arn in (_arn(call, text) for text in RESOURCES[call.action]) if arn]
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-connect-configure-IAM-role.html
    user = call.input.get("InstanceOSUser")
    context = {"ec2:osuser": user} if user else {}
    for resource in resources:
        yield Need(call.action, resource, tags, context)
    if tags and call.service == "rds" and call.operation != "AddTagsToResource":
        yield Need("rds:AddTagsToResource", resources[0], tags)
    role, service = PASSED.get(call.action, ("", ""))
    if role in call.input:
        yield Need("iam:PassRole", call.input[role], context={"iam:PassedToService": service})
    if call.action in ENCRYPTED:
        source = _arn(call, ENCRYPTED[call.action])
        key = call.input.get("KmsKeyId") or (key_of(source) if source else None)
        if key is not None:
            yield from _key_needs(call, key)


def _key_needs(call: Call, given: str) -> Iterator[Need]:
    key = resolved(given, call.region)
    if key.arn == managed_key(call.region):
        return  # anyone in the account may use it through RDS
    via = {"kms:ViaService": f"rds.{call.region}.amazonaws.com", "kms:ResourceAliases": key.aliases}
    yield Need("kms:DescribeKey", key.arn, context=via)
    yield Need("kms:CreateGrant", key.arn, context={**via, "kms:GrantIsForAWSResource": "true"})


def _tags(call: Call) -> dict[str, str]:
    given: Any = call.input.get("Tags", ())
    return {tag["Key"]: tag.get("Value", "") for tag in given}


def _arn(call: Call, template: str) -> str | None:
    text = template.replace("{region}", call.region)
    for found in MEMBER.finditer(text):
        value = call.input.get(found[1], found[2])
        if value is None:
            return None
        if str(value).startswith("arn:") or value == "*" == text:
            return str(value)
        text = text.replace(found[0], str(value))
    return text if text == "*" else call.arn(text)
