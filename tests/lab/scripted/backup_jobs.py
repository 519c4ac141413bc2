"""AWS Backup: jobs that back up, copy and restore; the scripts of their operations."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.cluster_snapshots import ClusterSnapshots
from tests.lab.scripted.estate import Estate, Thing
from tests.lab.scripted.restores import Restores
from tests.lab.scripted.scalars import WireFault
from tests.lab.scripted.snapshots import Snapshots
from tests.lab.scripted.vaults import RecoveryPoint, Vaults, restore_metadata
from tests.lab.scripted.wire import checked, service_model
from tests.lab.sts import ACCOUNT

Answer = dict[str, Any]


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@dataclass
class Job:
    """Runs until what it makes in RDS is there; without that, it has failed from the start."""

    identifier: str
    description: dict[str, Any]
    makes: Thing | None
    failure: str = ""
    stopped: bool = False
    looks: int = 0
    created: datetime.datetime = field(default_factory=_now)

    def look(self, waiting: str) -> str:
        """The state that a describe call is answered; it makes time pass in RDS too."""
        self.looks += 1
        if self.stopped:
            return "ABORTED"
        if self.looks == 1:
            return waiting
        if self.makes is None:
            return "FAILED"
        self.makes.course.describe()
        if not self.makes.course.over:
            return "RUNNING"
        if self.makes.course.state != "available":
            self.failure = f"The RDS resource is in the {self.makes.course.state} state."
            return "FAILED"
        return "COMPLETED"


class BackupJobs:
    def __init__(
        self,
        estate: Estate,
        vaults: Vaults,
        snapshots: Snapshots,
        cluster_snapshots: ClusterSnapshots,
        restores: Restores,
    ) -> None:
        self.unusable_roles: set[str] = set()  # that AWS Backup may not assume
        self.failure = ""  # a reason why the next jobs fail
        self._estate = estate
        self._vaults = vaults
        self._snapshots = snapshots
        self._cluster_snapshots = cluster_snapshots
        self._restores = restores
        self._jobs: dict[tuple[str, str, str], Job] = {}  # by kind, region and identifier

    def start_backup_job(self, call: Call) -> Answer:
        given = call.input
        vault = self._vaults.vault(given["BackupVaultName"], call.region)
        self._role(given["IamRoleArn"])
        resource = self._estate.at(given["ResourceArn"])
        kind = given["ResourceArn"].split(":", 6)[5]
        if resource is None or kind not in ("db", "cluster"):
            raise Refused(
                "InvalidParameterValueException",
                f"Invalid ARN {given['ResourceArn']}: the resource was not found.",
                400,
            )
        identifier = str(uuid.uuid4()).upper()
        job = Job(
            identifier,
            {
                "BackupVaultName": given["BackupVaultName"],
                "BackupVaultArn": vault["BackupVaultArn"],
                "ResourceArn": given["ResourceArn"],
                "ResourceType": "RDS" if kind == "db" else "Aurora",
                "ResourceName": given["ResourceArn"].rpartition(":")[2],
                "IamRoleArn": given["IamRoleArn"],
            },
            None,
            self.failure,
        )
        if resource.course.state != "available":
            job.failure = f"Instance is in the {resource.course.state} state, not available."
        if not job.failure:
            point = self._point(call, resource, kind, identifier)
            job.makes = point.snapshot
            job.description["RecoveryPointArn"] = point.arn
        self._jobs["backup", call.region, identifier] = job
        # Its RecoveryPointArn "is only returned for Amazon EFS and Advanced DynamoDB resources".
        return {"BackupJobId": identifier, "CreationDate": job.created, "IsParent": False}

    def _point(self, call: Call, resource: Thing, kind: str, identifier: str) -> RecoveryPoint:
        name = f"awsbackup:job-{identifier.lower()}"
        makers: Mapping[str, Callable[..., Thing]] = {
            "db": self._snapshots.add,
            "cluster": self._cluster_snapshots.add,
        }
        states = self._snapshots.states if kind == "db" else self._cluster_snapshots.states
        snapshot = makers[kind](call.region, name, resource, "awsbackup", *states)
        tags = call.input.get("RecoveryPointTags", {})
        snapshot.description["TagList"] += [{"Key": k, "Value": v} for k, v in tags.items()]
        told = resource.description
        metadata = restore_metadata(told) if kind == "db" else {}
        role, vault = call.input["IamRoleArn"], call.input["BackupVaultName"]
        point = RecoveryPoint(
            vault, call.input["ResourceArn"], snapshot, metadata, role, _now(), dict(tags)
        )
        self._vaults.points[point.arn] = point
        return point

    def describe_backup_job(self, call: Call) -> Answer:
        job = self._job("backup", call, call.input["BackupJobId"])
        state = job.look("CREATED")
        answer = {"AccountId": ACCOUNT, "BackupJobId": job.identifier, **self._told(job, state)}
        return {**answer, "State": state, "PercentDone": _percent(job)}

    def stop_backup_job(self, call: Call) -> Answer:
        job = self._job("backup", call, call.input["BackupJobId"])
        if job.makes is None or job.makes.course.over:
            raise Refused("InvalidRequestException", "The job cannot be stopped any more.", 400)
        job.stopped = True
        arn = job.description["RecoveryPointArn"]
        kind, name = arn.split(":", 6)[5:]
        del self._estate.all(kind, call.region)[name]
        del self._vaults.points[arn]
        return {}

    def start_copy_job(self, call: Call) -> Answer:
        given = call.input
        source = self._vaults.point(given["RecoveryPointArn"], given["SourceBackupVaultName"])
        self._role(given["IamRoleArn"])
        target_arn = given["DestinationBackupVaultArn"]
        region, name = target_arn.split(":")[3], target_arn.rpartition(":")[2]
        target = self._vaults.vault(name, region)
        identifier = str(uuid.uuid4()).upper()
        job = Job(
            identifier,
            {
                "SourceBackupVaultArn": self._vaults.vault(source.vault, call.region)[
                    "BackupVaultArn"
                ],
                "SourceRecoveryPointArn": source.arn,
                "DestinationBackupVaultArn": target_arn,
                "ResourceArn": source.resource,
                "ResourceType": source.kind,
                "IamRoleArn": given["IamRoleArn"],
            },
            None,
            self.failure,
        )
        if not job.failure:
            copy = self._copied(source, region, identifier, target["EncryptionKeyArn"])
            point = RecoveryPoint(
                name, source.resource, copy, source.metadata, given["IamRoleArn"], _now()
            )
            self._vaults.points[point.arn] = point
            job.makes = copy
            job.description["DestinationRecoveryPointArn"] = point.arn
        self._jobs["copy", call.region, identifier] = job
        return {"CopyJobId": identifier, "CreationDate": job.created, "IsParent": False}

    def _copied(self, source: RecoveryPoint, region: str, identifier: str, key: str) -> Thing:
        kind = source.arn.split(":", 6)[5]
        word = "DBSnapshot" if kind == "snapshot" else "DBClusterSnapshot"
        name = f"awsbackup:copyjob-{identifier.lower()}"
        description = {
            **source.snapshot.description,
            f"{word}Identifier": name,
            f"{word}Arn": f"arn:aws:rds:{region}:{ACCOUNT}:{kind}:{name}",
            "SnapshotCreateTime": _now(),
        }
        if "KmsKeyId" in description:
            description["KmsKeyId"] = key
        return self._estate.add(kind, region, name, description, *self._snapshots.copy_states)

    def describe_copy_job(self, call: Call) -> Answer:
        job = self._job("copy", call, call.input["CopyJobId"])
        state = job.look("CREATED")
        told = {"AccountId": ACCOUNT, "CopyJobId": job.identifier, **self._told(job, state)}
        return {"CopyJob": {**told, "State": state}}

    def start_restore_job(self, call: Call) -> Answer:
        given = call.input
        point = self._vaults.point(given["RecoveryPointArn"])
        self._role(given.get("IamRoleArn", ""))
        identifier = str(uuid.uuid4()).upper()
        job = Job(
            identifier,
            {
                "RecoveryPointArn": point.arn,
                "SourceResourceArn": point.resource,
                "ResourceType": point.kind,
                "IamRoleArn": given.get("IamRoleArn", ""),
                "RecoveryPointCreationDate": point.created,
            },
            None,
            self.failure,
        )
        if not job.failure:
            self._make(call, job, point)
        self._jobs["restore", call.region, identifier] = job
        return {"RestoreJobId": identifier}

    def _make(self, call: Call, job: Job, point: RecoveryPoint) -> None:
        """The instance, by RDS's own restore: what RDS refuses is the job's failure."""
        asked = _restore_input(call.input["Metadata"], point)
        if call.input.get("CopySourceTagsToRestoredResource"):
            asked["Tags"] = point.snapshot.description["TagList"]
        inner = Call("rds", "RestoreDBInstanceFromDBSnapshot", call.region, asked)
        try:
            self._restores.restore_db_instance_from_db_snapshot(inner)
        except Refused as refused:
            job.failure = refused.message
            return
        job.makes = self._estate.find("db", call.region, asked["DBInstanceIdentifier"])
        job.description["CreatedResourceArn"] = inner.arn(f"db:{asked['DBInstanceIdentifier']}")

    def describe_restore_job(self, call: Call) -> Answer:
        job = self._job("restore", call, call.input["RestoreJobId"])
        state = job.look("PENDING")
        told = self._told(job, state)
        if state == "PENDING":
            told.pop("CreatedResourceArn", None)
        answer = {"AccountId": ACCOUNT, "RestoreJobId": job.identifier, **told}
        return {**answer, "Status": state, "PercentDone": _percent(job)}

    def _job(self, kind: str, call: Call, identifier: str) -> Job:
        job = self._jobs.get((kind, call.region, identifier))
        if job is None:
            raise Refused("ResourceNotFoundException", f"Job {identifier} not found.", 400)
        return job

    def _told(self, job: Job, state: str) -> Answer:
        told = {**job.description, "CreationDate": job.created}
        if state == "FAILED":
            told["StatusMessage"] = job.failure
        if state in ("COMPLETED", "FAILED", "ABORTED"):
            told["CompletionDate"] = _now()
        if state == "COMPLETED":
            told["BackupSizeInBytes"] = 1 << 30
        return told

    def _role(self, arn: str) -> None:
        if arn in self.unusable_roles:
            raise Refused(
                "InvalidParameterValueException",
                f"IAM Role {arn} cannot be assumed by AWS Backup",
                400,
            )


def _percent(job: Job) -> str:
    return f"{job.makes.course.percent if job.makes else 0}.0"


def _restore_input(metadata: Mapping[str, str], point: RecoveryPoint) -> dict[str, Any]:
    """Restore metadata, which is all text, as the input of RDS's restore."""
    shape = service_model("rds").operation_model("RestoreDBInstanceFromDBSnapshot").input_shape
    asked: dict[str, Any] = {"DBSnapshotIdentifier": point.arn.split(":", 6)[6]}
    for name, text in metadata.items():
        plain = name not in shape.members or shape.members[name].type_name == "string"
        asked[name] = text if plain else json.loads(text)
    try:
        checked(asked, shape, "restore metadata")
    except WireFault as fault:
        raise Refused(
            "InvalidParameterValueException", f"Invalid restore metadata. {fault}", 400
        ) from fault
    return asked
