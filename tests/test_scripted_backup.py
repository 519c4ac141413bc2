"""Scripted AWS Backup and networks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.scripted import made
from tests.lab.scripted.asking import arn, asking, refusal, states
from tests.lab.scripted.network import PushedKey
from tests.lab.scripted.server import ScriptedAws
from tests.lab.sts import ACCOUNT

ELSEWHERE = "eu-west-1"
EXPORT_ROLE = f"arn:aws:iam::{ACCOUNT}:role/rds-export"
BACKUP_ROLE = f"arn:aws:iam::{ACCOUNT}:role/backup-service"


@pytest.fixture
def rds(scripted: ScriptedAws) -> Any:
    return asking(scripted)


@pytest.fixture
def backup(scripted: ScriptedAws) -> Any:
    scripted.rds.add_instance()
    scripted.backup.vaults.add_vault("ours")
    return asking(scripted, "backup")


def test_a_backup_job_makes_a_recovery_point_that_is_an_rds_snapshot(backup: Any, rds: Any) -> None:
    started = backup.start_backup_job(
        BackupVaultName="ours",
        ResourceArn=arn("db:shop"),
        IamRoleArn=BACKUP_ROLE,
        RecoveryPointTags={"release": "1.2"},
    )
    job = started["BackupJobId"]

    seen = states(lambda: str(backup.describe_backup_job(BackupJobId=job)["State"]), "COMPLETED")
    point = backup.describe_backup_job(BackupJobId=job)["RecoveryPointArn"]
    (snapshot,) = rds.describe_db_snapshots(SnapshotType="awsbackup")["DBSnapshots"]
    by_vault = backup.list_recovery_points_by_backup_vault(BackupVaultName="ours")
    by_resource = backup.list_recovery_points_by_resource(ResourceArn=arn("db:shop"))
    told = backup.describe_recovery_point(BackupVaultName="ours", RecoveryPointArn=point)

    assert ["CREATED", "RUNNING", "COMPLETED"] == seen
    assert "RecoveryPointArn" not in started
    assert arn(f"snapshot:awsbackup:job-{job.lower()}") == point == snapshot["DBSnapshotArn"]
    assert {"Key": "release", "Value": "1.2"} in snapshot["TagList"]
    assert [point] == [one["RecoveryPointArn"] for one in by_vault["RecoveryPoints"]]
    assert [point] == [one["RecoveryPointArn"] for one in by_resource["RecoveryPoints"]]
    assert ("COMPLETED", "RDS") == (told["Status"], told["ResourceType"])
    assert 1 == backup.describe_backup_vault(BackupVaultName="ours")["NumberOfRecoveryPoints"]


def test_a_backup_job_can_fail_be_stopped_and_be_refused(
    scripted: ScriptedAws, backup: Any
) -> None:
    asked = {"ResourceArn": arn("db:shop"), "IamRoleArn": BACKUP_ROLE}
    start = backup.start_backup_job

    first = start(BackupVaultName="ours", **asked)["BackupJobId"]
    backup.stop_backup_job(BackupJobId=first)
    scripted.backup.jobs.failure = "Insufficient privileges to create snapshot"
    second = start(BackupVaultName="ours", **asked)["BackupJobId"]
    failed = states(lambda: str(backup.describe_backup_job(BackupJobId=second)["State"]), "FAILED")
    scripted.backup.jobs.unusable_roles.add(BACKUP_ROLE)

    assert "ABORTED" == backup.describe_backup_job(BackupJobId=first)["State"]
    assert ["CREATED", "FAILED"] == failed
    told = backup.describe_backup_job(BackupJobId=second)
    assert "Insufficient privileges to create snapshot" == told["StatusMessage"]
    assert "ResourceNotFoundException" == refusal(start, BackupVaultName="no", **asked)[0]
    assert "InvalidParameterValueException" == refusal(start, BackupVaultName="ours", **asked)[0]


def test_a_recovery_point_is_copied_to_another_region_and_restored_there(
    scripted: ScriptedAws, backup: Any
) -> None:
    scripted.backup.vaults.add_vault("theirs", region=ELSEWHERE)
    job = backup.start_backup_job(
        BackupVaultName="ours", ResourceArn=arn("db:shop"), IamRoleArn=BACKUP_ROLE
    )["BackupJobId"]
    states(lambda: str(backup.describe_backup_job(BackupJobId=job)["State"]), "COMPLETED")
    copy = backup.start_copy_job(
        RecoveryPointArn=backup.describe_backup_job(BackupJobId=job)["RecoveryPointArn"],
        SourceBackupVaultName="ours",
        DestinationBackupVaultArn=f"arn:aws:backup:{ELSEWHERE}:{ACCOUNT}:backup-vault:theirs",
        IamRoleArn=BACKUP_ROLE,
    )["CopyJobId"]

    def copying() -> Any:
        return backup.describe_copy_job(CopyJobId=copy)["CopyJob"]

    copied = states(lambda: str(copying()["State"]), "COMPLETED")
    point = copying()["DestinationRecoveryPointArn"]
    there = asking(scripted, "backup", ELSEWHERE)
    metadata = there.get_recovery_point_restore_metadata(
        BackupVaultName="theirs", RecoveryPointArn=point
    )["RestoreMetadata"]
    scripted.rds.add_subnet_group("private", region=ELSEWHERE)
    metadata |= {"DBInstanceIdentifier": "shop-2", "AvailabilityZone": f"{ELSEWHERE}a"}
    metadata["MultiAZ"] = "false"
    restore = there.start_restore_job(
        RecoveryPointArn=point, Metadata=metadata, IamRoleArn=BACKUP_ROLE
    )["RestoreJobId"]

    def restoring() -> Any:
        return there.describe_restore_job(RestoreJobId=restore)

    restored = states(lambda: str(restoring()["Status"]), "COMPLETED")
    (new,) = asking(scripted, region=ELSEWHERE).describe_db_instances()["DBInstances"]

    assert ["CREATED", "RUNNING", "COMPLETED"] == copied
    assert ["PENDING", "RUNNING", "COMPLETED"] == restored
    assert arn("db:shop-2", ELSEWHERE) == restoring()["CreatedResourceArn"] == new["DBInstanceArn"]
    assert ("available", "private", made.key_of(ELSEWHERE)) == (
        new["DBInstanceStatus"],
        new["DBSubnetGroup"]["DBSubnetGroupName"],
        new["KmsKeyId"],
    )
    odd = {**metadata, "Colour": "red"}
    assert (
        "InvalidParameterValueException"
        == refusal(
            there.start_restore_job, RecoveryPointArn=point, Metadata=odd, IamRoleArn=BACKUP_ROLE
        )[0]
    )
    twice = there.start_restore_job(
        RecoveryPointArn=point, Metadata=metadata, IamRoleArn=BACKUP_ROLE
    )["RestoreJobId"]
    assert (
        "FAILED"
        == states(lambda: str(there.describe_restore_job(RestoreJobId=twice)["Status"]), "FAILED")[
            -1
        ]
    )


def test_routes_tell_a_public_subnet_from_a_private_one(scripted: ScriptedAws) -> None:
    network = scripted.network
    for name in ("subnet-a", "subnet-b", "subnet-c"):
        network.add_subnet(name)
    network.add_route_table("rtb-main", main=True)
    network.add_route_table("rtb-public", "subnet-a", way_out={"GatewayId": "igw-1"})
    network.add_route_table("rtb-private", "subnet-b", way_out={"NatGatewayId": "nat-1"})
    network.add_security_group("sg-1", "10.0.0.0/8", "sg-2", "::/0")
    ec2 = asking(scripted, "ec2")

    def tables(name: str, *values: str) -> list[str]:
        asked = [{"Name": name, "Values": list(values)}]
        found = ec2.describe_route_tables(Filters=asked)["RouteTables"]
        return [table["RouteTableId"] for table in found]

    (subnet,) = ec2.describe_subnets(SubnetIds=["subnet-a"])["Subnets"]
    (group,) = ec2.describe_security_groups(GroupIds=["sg-1"])["SecurityGroups"]
    (public,) = ec2.describe_route_tables(RouteTableIds=["rtb-public"])["RouteTables"]

    assert made.VPC == subnet["VpcId"]
    assert ["rtb-public", "rtb-private"] == tables("association.subnet-id", "subnet-a", "subnet-b")
    assert [] == tables("association.subnet-id", "subnet-c")
    assert ["rtb-main"] == tables("association.main", "true")
    assert "igw-1" in [route.get("GatewayId") for route in public["Routes"]]
    (rule,) = group["IpPermissions"]
    assert ("10.0.0.0/8", "::/0", "sg-2") == (
        rule["IpRanges"][0]["CidrIp"],
        rule["Ipv6Ranges"][0]["CidrIpv6"],
        rule["UserIdGroupPairs"][0]["GroupId"],
    )
    missing = refusal(ec2.describe_subnets, SubnetIds=["subnet-x"])
    assert ("InvalidSubnetID.NotFound", 400) == missing[:2]


def test_a_key_that_is_pushed_to_a_bastion_is_kept(scripted: ScriptedAws) -> None:
    connect = asking(scripted, "ec2-instance-connect")
    key = "ssh-ed25519 " + "A" * 300
    asked = {"InstanceOSUser": "ec2-user", "SSHPublicKey": key}

    done = connect.send_ssh_public_key(InstanceId="i-0123456789abcdef0", **asked)
    scripted.network.bastions = {"i-0123456789abcdef1": "stopped"}
    stopped = refusal(connect.send_ssh_public_key, InstanceId="i-0123456789abcdef1", **asked)
    unknown = refusal(connect.send_ssh_public_key, InstanceId="i-0123456789abcdef0", **asked)

    assert done["Success"]
    assert [PushedKey("i-0123456789abcdef0", "ec2-user", key)] == scripted.network.pushed
    assert "EC2InstanceStateInvalidException" == stopped[0]
    assert "EC2InstanceNotFoundException" == unknown[0]
