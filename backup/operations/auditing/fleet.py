"""An audit of a fleet: no database of its file is missed, and none is there that nobody knows."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace

from backup.checks import Check, failed, passed, warned
from backup.console import Console
from backup.operations.fleet_file import as_the_file_says, members_meant, open_fleet
from backup.settings import AuditedFleet, BucketSettings, Promises, Settings
from backup.wording import count

UNKNOWN = ("catalogue.fleet", "Every series of backups is of a database of the fleet")
_MOST_NAMED = 10


def with_fleet(settings: Settings, console: Console, environment: Mapping[str, str]) -> Settings:
    """The settings with what the fleet's file promises. Raises InputError for a faulty file."""
    if not settings.fleet.file:
        return settings
    fleet = open_fleet(settings, environment, as_the_file_says(settings, environment))
    here = _place(settings.bucket)
    meant = members_meant(fleet, settings, console)
    audited = AuditedFleet(
        promises={
            each.database: Promises(
                each.settings.audit.max_age_seconds,
                each.settings.audit.max_drill_age_seconds,
                each.settings.audit.max_restore_seconds,
            )
            for each in meant
            if _place(each.settings.bucket) == here
        },
        known=frozenset(
            each.database for each in fleet.members if _place(each.settings.bucket) == here
        ),
        elsewhere=tuple(
            (each.name, _place(each.settings.bucket))
            for each in meant
            if _place(each.settings.bucket) != here
        ),
    )
    return replace(settings, audit=replace(settings.audit, fleet=audited))


def audited(settings: Settings, stored: Collection[str]) -> set[str]:
    """The databases that are audited: those of the fleet, the one that is named, or all stored."""
    if settings.audit.fleet:
        return set(settings.audit.fleet.promises)
    return {settings.database} if settings.database else set(stored)


def promised(settings: Settings, database: str) -> Promises:
    """What was promised of a database: by the fleet's file, or else by the audit's own inputs."""
    audit = settings.audit
    if audit.fleet and database in audit.fleet.promises:
        return audit.fleet.promises[database]
    return Promises(audit.max_age_seconds, audit.max_drill_age_seconds, audit.max_restore_seconds)


def unknown(settings: Settings, stored: Collection[str]) -> set[str]:
    """The databases that have backups, and that no entry of the fleet's file names."""
    return set(stored) - settings.audit.fleet.known if settings.audit.fleet else set()


def elsewhere(settings: Settings) -> list[Check]:
    """One failed check for each database of the file that this audit cannot look at."""
    fleet, file = settings.audit.fleet, settings.fleet.file
    if not fleet:
        return []
    return [
        failed(
            "objectives.age",
            f"Age of the newest backup of {name}",
            f"{file} has its backups in {place}, and this audit is of {_place(settings.bucket)}",
            f"# Give the databases of each bucket and prefix a group of their own in {file}, and\n"
            "# audit each group in a step of its own, with that bucket and prefix:\n"
            f"with:\n  operation: audit\n  fleet-file: {file}\n  fleet-group: {group}",
        )
        for name, place in fleet.elsewhere
        for group in [place.removeprefix("s3://").partition("/")[0]]
    ]


def series(found: Collection[str], settings: Settings) -> list[Check]:
    """One check of the catalogue; none without a fleet."""
    if not settings.audit.fleet:
        return []
    if not found:
        return [passed(*UNKNOWN, count(len(settings.audit.fleet.known), "database"))]
    file, names = settings.fleet.file, sorted(found)
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    told = ", ".join(names[:_MOST_NAMED]) + more
    entries = "".join(f"\n  - database: {json.dumps(each)}" for each in names[:_MOST_NAMED])
    fix = (
        f"# Where it should be backed up, name it in {file}, with its host:\ndatabases:{entries}\n"
        "# Where it was retired, its last backups expire by themselves."
    )
    return [warned(*UNKNOWN, f"{file} does not name {told}", fix)]


def _place(bucket: BucketSettings) -> str:
    return f"s3://{bucket.name}/{bucket.prefix}" if bucket.prefix else f"s3://{bucket.name}"
