"""An instance or a cluster of the scripted RDS, its audit, and the fixes that it prints."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.checks import Check, Status
from backup.operations.auditing.instance import TITLES, checks
from tests.audits import KEYS, apply, logged_in, settings_of
from tests.lab.aws import Moto, client
from tests.lab.scripted.server import ScriptedAws

NOW = datetime.now(UTC)


GIB = 1024**3


@dataclass
class Audited:
    """The scripted account, and the audit of one instance or cluster in it."""

    aws: ScriptedAws
    moto: Moto
    monkeypatch: pytest.MonkeyPatch
    clients: Path
    inputs: dict[str, str] = field(default_factory=lambda: {"db_instance": "shop"})
    more: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return KEYS | {
            "AWS_ENDPOINT_URL": self.moto.url,
            "AWS_ENDPOINT_URL_RDS": self.aws.url,
            "AWS_ENDPOINT_URL_EC2": self.aws.url,
            **self.more,
        }

    def checks(self, release: datetime | None = None) -> dict[str, Check]:
        settings = settings_of(**self.inputs)
        session = logged_in(self.monkeypatch, settings, self.env)
        folders = ":".join(str(folder) for folder in self.clients.iterdir())
        environment = {"PG_BACKUP_CLIENTS": folders}
        found = checks(session, settings, environment, datetime.now(UTC), release)
        assert [check.id for check in found] == [id for id in TITLES if id in ids(found)]
        return {check.id: check for check in found}

    def free(self, instance: str, gib: float) -> None:
        """What CloudWatch knows of the room on an instance's disk."""
        dimensions = [{"Name": "DBInstanceIdentifier", "Value": instance}]
        self.moto.client("cloudwatch").put_metric_data(
            Namespace="AWS/RDS",
            MetricData=[
                {
                    "MetricName": "FreeStorageSpace",
                    "Dimensions": dimensions,
                    "Timestamp": datetime.now(UTC) - timedelta(minutes=3),
                    "Value": gib * GIB,
                }
            ],
        )

    def mended(self, id: str, status: Status, *words: str, **kept: Any) -> Check:
        """A check with this status, and `words` in its reason; green once its fix is run."""
        before = self.checks(**kept)[id]
        assert status == before.status, before
        for word in words:
            assert word in before.reason, before.reason
        apply(before.fix, self.env)
        self.settle()
        after = self.checks(**kept)[id]
        assert Status.PASS == after.status, after
        return before

    def install(self, *versions: str) -> None:
        """Programs that say of themselves to be pg_dump of these versions."""
        for version in versions:
            program = self.clients / version / "pg_dump"
            program.parent.mkdir()
            program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")
            program.chmod(0o755)

    def settle(self) -> None:
        """Everything that is on its way arrives."""
        for call in ("describe_db_instances", "describe_db_clusters"):
            client = self.rds()
            for _ in range(8):
                getattr(client, call)()

    def rds(self) -> Any:
        return client("rds", self.aws.url)


def ids(found: list[Check]) -> set[str]:
    return {check.id for check in found}


def audited_instance(
    scripted: ScriptedAws, moto: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Audited:
    """An account with a private network and clients of two majors; the instance is the test's."""
    network = scripted.network
    network.add_route_table("rtb-main", main=True)
    network.add_route_table("rtb-nat", "subnet-private-a", way_out={"NatGatewayId": "nat-1"})
    scripted.rds.operating.support_ends = {
        ("postgres", "17"): NOW + timedelta(days=1000),
        ("aurora-postgresql", "16"): NOW + timedelta(days=1000),
    }
    audited = Audited(scripted, moto, monkeypatch, tmp_path)
    audited.install("17.6", "16.10")
    return audited
