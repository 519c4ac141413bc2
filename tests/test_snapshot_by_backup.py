"""`operation: snapshot` with `via: aws-backup`: jobs, their copies, and their ends."""

from __future__ import annotations

import pytest

from tests.lab.aws import REGION, Ministack
from tests.lab.cloud import Cloud
from tests.lab.runner import ActionRun, start_action
from tests.lab.scripted.server import ScriptedAws
from tests.lab.stage import the_error
from tests.lab.sts import ACCOUNT
from tests.snapshots import BACKUP_ROLE, ELSEWHERE, OWN, record_of, records, resource_id, run
from tests.steps import green


def take(cloud: Cloud, scripted: ScriptedAws, **inputs: str) -> ActionRun:
    given = {"via": "aws-backup", "backup_vault": "production", "service_role": BACKUP_ROLE}
    return run(cloud, scripted, "snapshot", **(given | inputs))


@pytest.fixture
def vaults(scripted: ScriptedAws) -> ScriptedAws:
    """An instance, and a vault of one name in both regions."""
    scripted.rds.add_instance("shop")
    for region in (REGION, ELSEWHERE):
        scripted.backup.vaults.add_vault("production", region=region)
    return scripted


def test_a_recovery_point_is_made_waited_for_and_told(cloud: Cloud, vaults: ScriptedAws) -> None:
    made = green(take(cloud, vaults, tags="ticket=OPS-7"))

    (arn,) = vaults.backup.vaults.points
    assert arn == made.outputs["snapshot-arn"]
    assert made.outputs["snapshot-id"].startswith("awsbackup:job-")
    assert arn.endswith(made.outputs["snapshot-id"])
    point = vaults.backup.vaults.points[arn]
    assert {
        "ticket": "OPS-7",
        f"{OWN}created-by": "pg-backup-action",
        f"{OWN}source": "shop",
        f"{OWN}source-id": resource_id(vaults),
        f"{OWN}release": "0000000",
    } == point.tags
    assert BACKUP_ROLE == point.role
    assert "is COMPLETED" in made.output
    assert f"snapshot-id: {arn}" in made.summary


def test_the_record_names_the_vault(cloud: Cloud, vaults: ScriptedAws) -> None:
    made = green(take(cloud, vaults))

    assert {
        "id": made.outputs["snapshot-id"],
        "arn": made.outputs["snapshot-arn"],
        "via": "aws-backup",
        "vault": "production",
        "copy": None,
    } == record_of(cloud)["snapshot"]


def test_a_cluster_has_a_recovery_point_too(cloud: Cloud, vaults: ScriptedAws) -> None:
    vaults.rds.add_cluster("ledger", members=1)

    made = green(take(cloud, vaults, db_cluster="ledger"))

    assert ":cluster-snapshot:awsbackup:job-" in made.outputs["snapshot-arn"]


def test_a_copy_goes_to_the_vault_of_the_same_name_elsewhere(
    cloud: Cloud, vaults: ScriptedAws
) -> None:
    made = green(take(cloud, vaults, copy_to_region=ELSEWHERE))

    copy = vaults.backup.vaults.points[made.outputs["copy-arn"]]
    assert (ELSEWHERE, "production") == (copy.region, copy.vault)
    assert made.outputs["copy-arn"] == record_of(cloud)["snapshot"]["copy"]["arn"]


def test_without_waiting_the_job_is_named(cloud: Cloud, vaults: ScriptedAws) -> None:
    made = green(take(cloud, vaults, wait="none"))

    assert ("", "") == (made.outputs["snapshot-id"], made.outputs["snapshot-arn"])
    assert "⏳ shop: AWS goes on making" in made.summary
    assert [] == vaults.asked("backup:DescribeBackupJob")
    assert 1 == len(records(cloud))


def test_a_busy_instance_is_waited_for(cloud: Cloud, vaults: ScriptedAws) -> None:
    vaults.rds.put_into(["modifying", "available"])

    made = green(take(cloud, vaults))

    assert "shop is modifying" in made.output


def test_a_job_that_fails_is_told_in_the_words_of_aws_backup(
    cloud: Cloud, vaults: ScriptedAws
) -> None:
    vaults.backup.jobs.failure = "Backup job failed because the vault is locked"

    made = take(cloud, vaults)

    assert (4, {}) == (made.exit_code, made.outputs)
    the_error(made, "is FAILED", "the vault is locked", "describe-backup-job")
    assert [] == records(cloud)


def test_a_copy_that_fails_leaves_the_recovery_point(cloud: Cloud, vaults: ScriptedAws) -> None:
    vaults.rds.snapshots.copy_states = ("creating", "failed")

    made = take(cloud, vaults, copy_to_region=ELSEWHERE)

    assert 4 == made.exit_code
    the_error(made, "copy job", "is FAILED", "is made and can be restored")
    assert made.outputs["snapshot-arn"]
    assert "" == made.outputs["copy-arn"]


def test_a_vault_that_is_not_there_is_named(cloud: Cloud, vaults: ScriptedAws) -> None:
    made = take(cloud, vaults, backup_vault="elsewhere")

    assert 2 == made.exit_code
    the_error(made, "ResourceNotFoundException", "correct backup-vault", "list-backup-vaults")


def test_a_service_role_that_aws_backup_cannot_take_is_named(
    cloud: Cloud, vaults: ScriptedAws
) -> None:
    vaults.backup.jobs.unusable_roles.add(BACKUP_ROLE)

    made = take(cloud, vaults)

    assert 2 == made.exit_code
    the_error(made, "correct service-role", "backup.amazonaws.com")


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("backup:StartBackupJob", f"arn:aws:backup:{REGION}:{ACCOUNT}:backup-vault:production"),
        ("iam:PassRole", BACKUP_ROLE),
        ("backup:DescribeBackupJob", "*"),
    ],
)
def test_a_denial_names_the_line_to_add(
    cloud: Cloud, vaults: ScriptedAws, action: str, resource: str
) -> None:
    vaults.deny(action)

    made = take(cloud, vaults)

    assert 3 == made.exit_code
    the_error(made, f'"Action": "{action}", "Resource": "{resource}"')


@pytest.mark.parametrize("action", ["backup:StartCopyJob", "backup:DescribeCopyJob"])
def test_a_denied_copy_leaves_the_recovery_point(
    cloud: Cloud, vaults: ScriptedAws, action: str
) -> None:
    vaults.deny(action)

    made = take(cloud, vaults, copy_to_region=ELSEWHERE)

    assert 3 == made.exit_code
    the_error(made, action, "is made and can be restored")
    assert made.outputs["snapshot-arn"]


def test_throttling_is_waited_out(cloud: Cloud, vaults: ScriptedAws) -> None:
    vaults.throttle("backup:DescribeBackupJob", times=5)

    green(take(cloud, vaults))


def test_the_strict_double_makes_a_recovery_point_too(ministack: Ministack, cloud: Cloud) -> None:
    """A server that somebody else wrote understands the requests."""
    rds, backup = ministack.client("rds"), ministack.client("backup")
    rds.create_db_instance(
        DBInstanceIdentifier="strict", DBInstanceClass="db.t4g.micro", Engine="postgres",
        AllocatedStorage=20, MasterUsername="postgres", MasterUserPassword="secret-1",
    )  # fmt: skip
    backup.create_backup_vault(BackupVaultName="strict")
    allowed = ["rds:DescribeDBInstances", "backup:*", "iam:PassRole", "s3:PutObject"]
    cloud.allow({"Effect": "Allow", "Action": allowed, "Resource": "*"})
    inputs = cloud.inputs | {
        "operation": "snapshot", "db-instance": "strict", "via": "aws-backup", "wait": "60s",
        "backup-vault": "strict", "service-role": BACKUP_ROLE,
    }  # fmt: skip

    with start_action(inputs, cloud.env | {"PG_BACKUP_POLL_SECONDS": "0.01"}) as running:
        made = green(running.finish())

    (job,) = backup.list_backup_jobs(ByBackupVaultName="strict")["BackupJobs"]
    assert ("COMPLETED", BACKUP_ROLE) == (job["State"], job["IamRoleArn"])
    assert job["RecoveryPointArn"] == made.outputs["snapshot-arn"]
