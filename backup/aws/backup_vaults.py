"""Jobs of AWS Backup: a recovery point of an instance or cluster, and its copy elsewhere.

https://docs.aws.amazon.com/aws-backup/latest/devguide/API_StartBackupJob.html
https://docs.aws.amazon.com/aws-backup/latest/devguide/API_StartCopyJob.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backup.aws.instances import Tags
from backup.aws.permissions import partition
from backup.aws.refusals import Attempt, Remedy, explained
from backup.aws.session import AwsSession
from backup.aws.work import Standing, Unreachable
from backup.errors import DumpError, InputError

# Of a job: https://docs.aws.amazon.com/aws-backup/latest/devguide/API_BackupJob.html
_ENDED = {
    "FAILED": "AWS Backup could not finish it",
    "ABORTED": "someone stopped it",
    "ABORTING": "someone stops it",
    "EXPIRED": "it did not start within its window",
    "PARTIAL": "AWS Backup finished a part of it",
}


@dataclass(frozen=True, slots=True)
class Job:
    """A job that is under way or done. `recovery_point` is "" until AWS Backup tells its ARN."""

    id: str
    standing: Standing
    recovery_point: str


class Vault:
    """A backup vault in the session's region, filled with the help of a service role.

    Methods raise AccessError; InputError for what an input could mend; else DumpError, which is
    Unreachable where AWS could not be asked how things are.
    """

    def __init__(self, session: AwsSession, name: str, account: str, service_role: str) -> None:
        self._session = session
        self._client = session.client("backup")
        self._account = account
        self._role = service_role
        self.name = name

    def arn(self, region: str) -> str:
        """The ARN of the vault of this name in a region."""
        head = f"arn:{partition(region)}:backup:{region}:{self._account}"
        return f"{head}:backup-vault:{self.name}"

    def back_up(self, resource: str, token: str, tags: Tags) -> Job:
        """Begin a backup of what an ARN names; the same `token` begins it once only."""
        arn = self.arn(self._session.region)
        attempt = self._attempt(
            f"cannot back {resource} up into the vault {self.name}", "backup:StartBackupJob", arn
        )
        with explained(attempt):
            answer = self._client.start_backup_job(
                BackupVaultName=self.name,
                ResourceArn=resource,
                IamRoleArn=self._role,
                IdempotencyToken=token,
                RecoveryPointTags=dict(tags),
            )
        return Job(str(answer["BackupJobId"]), Standing("CREATED"), "")

    def look(self, job: Job) -> Job:
        """The backup job as it is now."""
        message = f"cannot look at the backup job {job.id}"
        with explained(self._attempt(message, "backup:DescribeBackupJob", "*")):
            told = self._client.describe_backup_job(BackupJobId=job.id)
        return Job(job.id, _standing(told), str(told.get("RecoveryPointArn", "")))

    def copy(self, recovery_point: str, region: str, token: str) -> Job:
        """Begin a copy into the vault of the same name in another region."""
        message = f"cannot copy {recovery_point} to {self.arn(region)}"
        with explained(self._attempt(message, "backup:StartCopyJob", recovery_point)):
            answer = self._client.start_copy_job(
                RecoveryPointArn=recovery_point,
                SourceBackupVaultName=self.name,
                DestinationBackupVaultArn=self.arn(region),
                IamRoleArn=self._role,
                IdempotencyToken=token,
            )
        return Job(str(answer["CopyJobId"]), Standing("CREATED"), "")

    def look_at_copy(self, job: Job) -> Job:
        """The copy job as it is now."""
        message = f"cannot look at the copy job {job.id}"
        with explained(self._attempt(message, "backup:DescribeCopyJob", "*")):
            told = self._client.describe_copy_job(CopyJobId=job.id)["CopyJob"]
        return Job(job.id, _standing(told), str(told.get("DestinationRecoveryPointArn", "")))

    def _attempt(self, message: str, action: str, resource: str) -> Attempt:
        return Attempt(
            message,
            self._session.region,
            (action,),
            resource,
            # Only looking again is without risk.
            unreachable=Unreachable if ":Describe" in action else DumpError,
            failure=DumpError,
            remedies=_REMEDIES,
        )


def _standing(told: Mapping[str, Any]) -> Standing:
    state = str(told["State"])
    trouble = _ENDED.get(state, "")
    if trouble and told.get("StatusMessage"):
        trouble = str(told["StatusMessage"])
    percent = str(told.get("PercentDone") or "").partition(".")[0]
    return Standing(
        status=state,
        percent=int(percent) if percent.isdecimal() else None,
        is_done=state == "COMPLETED",
        trouble=trouble,
    )


_REMEDIES: Mapping[str, Remedy] = {
    "ResourceNotFoundException": Remedy(
        InputError,
        "correct backup-vault: it must exist here and, with copy-to-region, under the same name"
        " there; this lists what is there:\naws backup list-backup-vaults",
    ),
    "InvalidParameterValueException": Remedy(
        InputError,
        "correct service-role: a role that backup.amazonaws.com may assume, with the policy"
        " AWSBackupServiceRolePolicyForBackup; docs/snapshots.md shows how to make it",
    ),
    "InvalidRequestException": Remedy(
        InputError,
        "AWS Backup must be turned on for RDS (and Aurora) in this region:\n"
        "aws backup describe-region-settings",
    ),
    "LimitExceededException": Remedy(
        DumpError, "AWS Backup runs as many jobs as it may: run it again in a while"
    ),
}
