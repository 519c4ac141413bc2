"""Scripted AWS Backup, over the scripted RDS."""

from __future__ import annotations

from collections.abc import Sequence

from tests.lab.scripted.backup_jobs import BackupJobs
from tests.lab.scripted.rds import Rds
from tests.lab.scripted.vaults import Vaults


class Backup:
    """An account's AWS Backup in all regions: `vaults.add_vault()` first, then jobs.

    How a job goes is how its snapshot or instance goes in RDS; `jobs.failure` is a reason why
    the next ones fail.
    """

    def __init__(self, rds: Rds) -> None:
        self.vaults = Vaults(rds.estate)
        self.jobs = BackupJobs(
            rds.estate, self.vaults, rds.snapshots, rds.cluster_snapshots, rds.restores
        )
        self.scripts: Sequence[object] = (self.vaults, self.jobs)
