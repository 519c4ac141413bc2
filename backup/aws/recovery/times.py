"""Which points in time there are to restore to, and who holds them.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_PIT.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

from backup.aws.instances import Cluster, Database, rds_arn
from backup.aws.recovery.points import TimePoint
from backup.aws.refusals import Attempt, explained
from backup.aws.session import AwsSession
from backup.errors import AccessError, InputError


def find_time(
    session: AwsSession,
    wanted: datetime | Literal["latest"],
    identifier: str,
    live: Database | None,
    *,
    is_cluster: bool,
) -> TimePoint:
    """A point in time that can be restored; `live` is None for what is gone from this region.

    Raises InputError where nothing is held of that time; it names the window. AccessError.
    """
    found = list(_held(session, wanted, identifier, live, is_cluster=is_cluster))
    for point in found:
        fits_start = point.earliest is None or point.taken >= point.earliest
        if fits_start and point.taken <= point.latest:
            return point
    message = f"{identifier} cannot be restored to a point in time"
    if not found:
        raise InputError(
            message,
            detail=f"RDS holds no automated backups of it in {session.region}",
            hint="restore from a snapshot: snapshot-id: latest, in place of restore-time",
        )
    windows = " and ".join(
        f"from {_shown(point.earliest) if point.earliest else 'its first backup'}"
        f" to {_shown(point.latest)}"
        for point in found
    )
    asked = _shown(wanted) if isinstance(wanted, datetime) else wanted
    raise InputError(
        f"{identifier} cannot be restored to {asked}",
        detail=f"it can be restored to any second {windows}",
        hint="restore-time: latest, or a time in between; for an older state take a snapshot:"
        " snapshot-id",
    )


def _held(
    session: AwsSession,
    wanted: datetime | Literal["latest"],
    identifier: str,
    live: Database | None,
    *,
    is_cluster: bool,
) -> Iterator[TimePoint]:
    """The windows that are held here, the newest first."""
    time = wanted if isinstance(wanted, datetime) else None
    if isinstance(live, Cluster):
        if live.upkeep.latest_restorable:
            yield TimePoint(
                time, live.upkeep.earliest_restorable, live.upkeep.latest_restorable,
                live.engine_version, live.identifier, None, None, None, is_cluster=True,
            )  # fmt: skip
        return
    backups = _automated_backups(session, identifier, is_cluster=is_cluster)
    windows = [each for each in backups if each.get("RestoreWindow", {}).get("LatestTime")]
    for told in sorted(windows, key=lambda each: each["RestoreWindow"]["LatestTime"], reverse=True):
        window, is_here = told["RestoreWindow"], told.get("Region") in (None, session.region)
        resource = str(told.get("DbClusterResourceId") or told.get("DbiResourceId"))
        is_live = live is not None and live.resource_id == resource
        yield TimePoint(
            time=time,
            earliest=window.get("EarliestTime"),
            latest=window["LatestTime"],
            engine_version=str(told["EngineVersion"]),
            identifier=identifier if is_live else None,
            resource_id=resource if is_here and not is_live else None,
            backups_arn=None if is_here else str(told["DBInstanceAutomatedBackupsArn"]),
            allocated_gib=told.get("AllocatedStorage"),
            is_cluster=is_cluster,
        )


def _automated_backups(
    session: AwsSession, identifier: str, *, is_cluster: bool
) -> list[Mapping[str, Any]]:
    """Those of the living, of what was deleted and kept its backups, and those from elsewhere."""
    of = "DBCluster" if is_cluster else "DBInstance"
    kind = "cluster-auto-backup" if is_cluster else "auto-backup"
    operation = f"describe_db_{'cluster' if is_cluster else 'instance'}_automated_backups"
    attempt = Attempt(
        f"cannot look for automated backups of {identifier}",
        session.region,
        (f"rds:Describe{of}AutomatedBackups",),
        rds_arn(session, kind, "*"),
        failure=AccessError,
    )
    with explained(attempt):
        paginator = session.client("rds").get_paginator(operation)
        pages = paginator.paginate(**{f"{of}Identifier": identifier})
        return [each for page in pages for each in page[f"{of}AutomatedBackups"]]


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
