"""A recovery point by AWS Backup, and its copy; AWS Backup deletes its old ones itself."""

from __future__ import annotations

import secrets
from dataclasses import replace

from backup.aws.backup_vaults import Job, Vault
from backup.aws.instance_record import RecordedSnapshot, SnapshotCopy
from backup.aws.session import AwsSession
from backup.aws.work import Standing
from backup.operations.aws_waiting import Watch
from backup.operations.snapshotting.making import Made, Order
from backup.operations.snapshotting.source import find_source, hint, readiness, refuse_unready


class BackupTaker:
    """A `Taker`; `watch` None waits for nothing."""

    def __init__(self, session: AwsSession, order: Order, watch: Watch | None, made: Made) -> None:
        self._session = session
        self._order = order
        self._watch = watch
        self._made = made
        account = made.source.database.arn.split(":")[4]
        options = order.options
        self._vault = Vault(session, options.vault or "", account, options.service_role or "")
        # The same for each time that a request may have to be sent.
        self._token = secrets.token_hex(16)

    def take(self) -> None:
        made, watch = self._made, self._watch
        refuse_unready(made.source, waits=watch is not None)
        if watch:
            made.source = watch.until_done(
                made.source.identifier, lambda: find_source(self._session, self._order.rds),
                readiness, hint(made.source),
            )  # fmt: skip
        job = self._vault.back_up(made.source.database.arn, self._token, self._order.tags)
        made.under_way = f"a recovery point (backup job {job.id})"
        self._record(job)
        if watch:
            watch.until_done(
                f"backup job {job.id}", lambda: self._record(self._vault.look(job)), _standing,
                f"look at it: aws backup describe-backup-job --backup-job-id {job.id}"
                f" --region {self._session.region}",
            )  # fmt: skip
            made.under_way, made.ready = "", True

    def copy(self, region: str) -> None:
        made, taken, watch = self._made, self._made.snapshot, self._watch
        if not taken or not watch:
            return
        begun = self._vault.copy(taken.arn, region, self._token)
        made.under_way = f"its copy in {region} (copy job {begun.id})"
        job = watch.until_done(
            f"copy job {begun.id}", lambda: self._vault.look_at_copy(begun), _standing,
            f"look at it: aws backup describe-copy-job --copy-job-id {begun.id}"
            f" --region {self._session.region}",
        )  # fmt: skip
        arn = job.recovery_point
        made.snapshot = replace(taken, copy=SnapshotCopy(_name(arn), arn, region))
        made.under_way = ""

    def _record(self, job: Job) -> Job:
        """AWS Backup tells the ARN of the recovery point once it is at work."""
        arn, vault = job.recovery_point, self._vault.name
        self._made.snapshot = RecordedSnapshot(_name(arn), arn, "aws-backup", vault, None)
        return job


def _name(arn: str) -> str:
    """What RDS calls the snapshot behind a recovery point, as in awsbackup:job-1f9c3a."""
    return arn.split(":", 6)[-1]


def _standing(job: Job) -> Standing:
    return job.standing
