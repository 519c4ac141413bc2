"""What a finished backup tells: at a glance, as outputs, and how to restore it by hand."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from backup.archive.catalogue import Place
from backup.archive.follow import Archive
from backup.archive.manifest import NAME, Manifest
from backup.model import BackupEntry, Member, Phase, Relation
from backup.operations.replica_wait import Replication
from backup.report.measures import BackupMade
from backup.report.report import Commands, Facts, Report, Table, Timeline
from backup.wording import count, duration, size

_LARGEST_TABLES = 10


def backup_report(
    manifest: Manifest,
    archive: Archive,
    phases: Sequence[Phase],
    bucket: str,
    place: Place,
    previous: BackupEntry | None,
) -> Report:
    """The report of a backup whose manifest is written."""
    uri = f"s3://{bucket}/{place.root}"
    seconds = phases[-1].started + phases[-1].seconds
    tables = [member for member in manifest.members if member.table is not None]
    source_bytes = manifest.inventory.database_bytes
    outputs = {
        "backup-id": manifest.id,
        "s3-uri": uri,
        "manifest-uri": f"{uri}{NAME}",
        "size-bytes": str(source_bytes),
        "stored-bytes": str(manifest.stored_bytes),
        "tables": str(len(tables)),
        "duration-seconds": f"{seconds:.1f}",
        "snapshot-time": manifest.snapshot.time.isoformat(),
        "server-version": manifest.server.text,
        **({"retention-tier": manifest.retention_tier} if manifest.retention_tier else {}),
    }
    facts = [
        ("Backup", manifest.id),
        ("Database", f"{manifest.database} on {manifest.host}"),
        ("As of", f"{manifest.snapshot.time:%Y-%m-%d %H:%M:%S} UTC"),
        ("Size", f"{size(source_bytes)} in the database, {size(manifest.stored_bytes)} stored"
                 f" ({manifest.compression})"),
        ("Holds", f"{count(len(tables), 'table')}, {_rows(manifest.inventory.relations)},"
                  f" {count(manifest.inventory.large_objects, 'large object')}"),
        ("Previous backup", _compared(previous, manifest.stored_bytes)),
        ("Took", duration(seconds)),
        *((("Kept as", f"a {manifest.retention_tier} backup, by its tag retention-tier"),)
          if manifest.retention_tier else ()),
        ("Server", f"PostgreSQL {manifest.server.text}, pg_dump {manifest.client.version}"),
        ("Scratch disk", f"{size(archive.highest_scratch_bytes)} at most"
                         + _waited(archive.stopped_seconds)),
        ("Stored in", f"{uri} ({count(len(manifest.objects), 'object')})"),
    ]  # fmt: skip
    return Report(
        verdict=f"✅ {manifest.database} is backed up: {manifest.id}",
        sections=(
            Facts(tuple(facts)),
            _largest(manifest, tables),
            Timeline("Where the time went", tuple(phases)),
            Commands("Restore it by hand", restore_lines(manifest, uri)),
        ),
        outputs=outputs,
        data=outputs | {"database": manifest.database},
        # Some schemas or tables do not bring the database back: they must not quiet an alarm.
        measures=()
        if manifest.is_partial
        else (
            BackupMade(
                manifest.database,
                seconds,
                manifest.stored_bytes,
                _change(previous, manifest.stored_bytes),
            ),
        ),
    )


def with_replication(report: Report, replication: Replication, phases: Sequence[Phase]) -> Report:
    """The same once the replica was waited for; `phases` are all, with the wait."""
    facts, *others = report.sections
    assert isinstance(facts, Facts)  # noqa: S101 - a backup's report begins with them
    outputs = {
        "replicated": "false" if replication.failure else "true",
        "replication-seconds": f"{replication.seconds:.1f}",
    }
    after = ", and not seen in the replica" if replication.failure else ", and replicated"
    return replace(
        report,
        verdict=report.verdict + after,
        sections=(
            Facts((*facts.rows, ("Replica", replication.told))),
            *(
                replace(each, phases=tuple(phases)) if isinstance(each, Timeline) else each
                for each in others
            ),
        ),
        outputs={**report.outputs, **outputs},
        data={**report.data, **outputs},
        failure=replication.failure,
    )


def restore_lines(manifest: Manifest, uri: str) -> tuple[str, ...]:
    """Shell lines that need `aws`, `tar` and `pg_restore` and nothing else."""
    packs = [PurePath(each.key).name for each in manifest.objects if each.key.endswith(".tar")]
    return (
        f"aws s3 cp --recursive {shlex.quote(uri + 'archive/')} {manifest.id}",
        *(f"tar -C {manifest.id} -xf {manifest.id}/{pack}" for pack in packs),
        f"# roles, if they are missing: psql -f {manifest.id}/globals.sql",
        f"createdb --template=template0 --encoding={manifest.inventory.encoding} restored",
        f"pg_restore --jobs=4 --dbname=restored {manifest.id}"
        f"  # of PostgreSQL {manifest.client.major} or newer",
        "# under its own name, with its locale and the settings of the database itself, instead of"
        " the last two lines:",
        f"# pg_restore --create --jobs=4 --dbname=postgres {manifest.id}",
    )


def _largest(manifest: Manifest, members: Sequence[Member]) -> Table:
    relations = {(each.schema, each.name): each for each in manifest.inventory.relations}
    largest = sorted(members, key=lambda member: member.size, reverse=True)[:_LARGEST_TABLES]
    rows = []
    for member in largest:
        relation = relations.get((member.schema or "", member.table or ""))
        rows.append(
            (
                f"{member.schema}.{member.table}",
                f"{relation.rows:,}" if relation and relation.rows is not None else "?",
                size(relation.size_bytes) if relation else "?",
                size(member.size),
            )
        )
    return Table("Largest tables", ("Table", "Rows>", "In the database>", "Stored>"), tuple(rows))


def _rows(relations: Sequence[Relation]) -> str:
    counted = [relation.rows for relation in relations if relation.rows is not None]
    return count(sum(counted), "row") if counted else "rows not counted"


def _compared(previous: BackupEntry | None, stored_bytes: int) -> str:
    change = _change(previous, stored_bytes)
    if previous is None or change is None:
        return "none to compare with"
    return f"{previous.id}, {size(previous.stored_bytes)} ({change:+.0%} since)"


def _change(previous: BackupEntry | None, stored_bytes: int) -> float | None:
    if previous is None or not previous.stored_bytes:
        return None
    return stored_bytes / previous.stored_bytes - 1


def _waited(seconds: float) -> str:
    return f"; pg_dump waited {duration(seconds)} for S3" if seconds >= 1 else ""
