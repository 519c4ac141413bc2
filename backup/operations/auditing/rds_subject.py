"""The instance or the cluster that is audited, and the commands that change it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backup.aws.instances import Cluster, Database, Instance


@dataclass(frozen=True, slots=True)
class Subject:
    """An instance alone, or a cluster with its members, the writer first. `now` is in UTC."""

    database: Database
    members: tuple[Instance, ...]
    region: str
    now: datetime

    @property
    def name(self) -> str:
        return self.database.identifier

    @property
    def is_cluster(self) -> bool:
        return isinstance(self.database, Cluster)

    @property
    def is_aurora(self) -> bool:
        return self.database.engine.startswith("aurora")

    @property
    def major(self) -> int:
        return int(self.database.engine_version.partition(".")[0])

    @property
    def stamped(self) -> str:
        """A new name made of the old one and the time."""
        return f"{self.name}-{self.now:%Y%m%d%H%M%S}"

    def rds(self, *words: str) -> str:
        """One command of the AWS CLI, for the region at hand."""
        return " ".join(("aws rds", *words, f"--region {self.region}"))

    def modify(self, *options: str) -> str:
        """The command that changes the instance, or the cluster as a whole."""
        if self.is_cluster:
            named = f"modify-db-cluster --db-cluster-identifier {self.name}"
        else:
            named = f"modify-db-instance --db-instance-identifier {self.name}"
        return self.rds(named, *options, "--apply-immediately")

    def modify_members(self, members: list[Instance], *options: str) -> str:
        """The commands that change members of a cluster, or the instance itself."""
        return "\n".join(
            self.rds(
                f"modify-db-instance --db-instance-identifier {each.identifier}",
                *options,
                "--apply-immediately",
            )
            for each in members
        )

    def take_snapshot(self, snapshot: str) -> str:
        if self.is_cluster:
            named = f"create-db-cluster-snapshot --db-cluster-identifier {self.name}"
            return self.rds(named, f"--db-cluster-snapshot-identifier {snapshot}")
        named = f"create-db-snapshot --db-instance-identifier {self.name}"
        return self.rds(named, f"--db-snapshot-identifier {snapshot}")

    def encrypt(self) -> str:
        """The commands that make an encrypted copy: nothing encrypts what is there.

        https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Overview.Encryption.html
        """
        plain, copy = f"{self.stamped}-plain", f"{self.name}-encrypted"
        kind = "cluster-snapshot" if self.is_cluster else "snapshot"
        wait = self.rds(f"wait db-{kind}-available --db-{kind}-identifier {{}}")
        begun = [self.take_snapshot(plain), wait.format(plain)]
        if not self.is_cluster:
            copied = f"{self.stamped}-encrypted"
            begun += [
                self.rds(
                    f"copy-db-snapshot --source-db-snapshot-identifier {plain}",
                    f"--target-db-snapshot-identifier {copied} --kms-key-id alias/aws/rds",
                ),
                wait.format(copied),
                self.rds(
                    "restore-db-instance-from-db-snapshot",
                    f"--db-instance-identifier {copy} --db-snapshot-identifier {copied}",
                    *self._kept(self.members[0], "--db-parameter-group-name"),
                ),
            ]
            return "\n".join(begun)
        database, writer = self.database, self.members[0]
        begun += [
            self.rds(
                f"restore-db-cluster-from-snapshot --db-cluster-identifier {copy}",
                f"--snapshot-identifier {plain} --kms-key-id alias/aws/rds",
                f"--engine {database.engine} --engine-version {database.engine_version}",
                *self._kept(database, "--db-cluster-parameter-group-name"),
            ),
            self.rds(
                f"create-db-instance --db-instance-identifier {copy}-1",
                f"--db-cluster-identifier {copy} --engine {database.engine}",
                f"--db-instance-class {writer.instance_class} --no-publicly-accessible",
            ),
        ]
        return "\n".join(begun)

    def _kept(self, database: Database, group_option: str) -> list[str]:
        """What a restore would not take over by itself."""
        network = database.network
        kept = ["--deletion-protection --copy-tags-to-snapshot"]
        if isinstance(database, Instance):
            kept += [f"--db-instance-class {database.instance_class} --no-publicly-accessible"]
            kept += ["--multi-az"] * database.is_multi_az
        kept += ["--enable-iam-database-authentication"] * database.has_iam_login
        if network.subnet_group:
            kept.append(f"--db-subnet-group-name {network.subnet_group}")
        if network.security_groups:
            kept.append(f"--vpc-security-group-ids {' '.join(network.security_groups)}")
        if database.parameter_group:
            kept.append(f"{group_option} {database.parameter_group}")
        return kept
