"""What can be said of a backup without a server: its objects looked at, its files read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from backup.archive.completeness import contradictions
from backup.aws.s3_reading import ReadableBucket
from backup.console import Console
from backup.model import StoredObject
from backup.operations.obtaining import OpenedBackup
from backup.operations.reading import ArchiveReader
from backup.verdicts import Check, Finding, Proof, TableProof, Verdict, check
from backup.wording import count, size

_THREADS = 8


def agreement(backup: OpenedBackup) -> Check:
    """The manifest beside the archive's own table of contents."""
    manifest = backup.manifest
    found = contradictions(backup.contents, manifest.members, manifest.inventory)
    findings = [Finding(Verdict.FAILED, text) for text in found]
    return check("table of contents", findings, "it holds what the manifest says")


def look_at_objects(
    bucket: ReadableBucket, backup: OpenedBackup, *, unchecked: Verdict = Verdict.NOT_PROVEN
) -> Check:
    """Size and checksum of each, as S3 keeps them; `unchecked` is one that it has no checksum of.

    Here alone a byte counts that is of no file, as in the headers of a tar.
    """

    def look(each: StoredObject) -> list[Finding]:
        state = bucket.head(backup.place.root + each.key)
        if state.size != each.size:
            text = f"{each.key} has {state.size:,} bytes instead of {each.size:,}"
            return [Finding(Verdict.FAILED, text)]
        if state.crc64nvme is None:
            text = f"{each.key}: the store keeps no checksum of it"
            return [Finding(unchecked, text)]
        if state.crc64nvme != each.crc64nvme:
            return [Finding(Verdict.FAILED, f"{each.key} has another checksum")]
        return []

    objects = backup.manifest.objects
    with ThreadPoolExecutor(_THREADS) as threads:
        findings = [each for found in threads.map(look, objects) for each in found]
    fine = f"{count(len(objects), 'object')}, {size(backup.manifest.stored_bytes)}"
    return check("stored objects", findings, f"{fine}, with the right sizes and checksums")


def read_archive(backup: OpenedBackup, reader: ArchiveReader, jobs: int, console: Console) -> Proof:
    """Every byte is fetched, hashed, decompressed and parsed; rows are counted.

    Raises VerificationError for a file that is damaged.
    """
    manifest = backup.manifest
    found = reader.rows(jobs, console)
    backup.globals_script()  # all that pg_restore does not read
    counted = {(each.schema, each.name): each.rows for each in manifest.inventory.relations}
    tables = []
    for member in manifest.members:
        if member.table is None:
            continue
        rows = found.get(member.data_file)
        problem = _problem(rows, counted.get((member.schema or "", member.table)))
        tables.append(
            TableProof(
                schema=member.schema or "",
                table=member.table,
                rows=rows,
                bytes=member.size,
                sha256=member.sha256,
                verdict=Verdict.FAILED if problem else Verdict.PROVEN,
                how=problem or "digest is right",
            )
        )
    wrong = [
        Finding(each.verdict, f"{each.schema}.{each.table}: {each.how}")
        for each in tables
        if each.verdict is not Verdict.PROVEN
    ]
    fine = f"{count(len(manifest.members), 'file')} read, {size(backup.fetcher.bytes_fetched)}"
    return Proof((check("archive", wrong, f"{fine}, every digest right"),), tuple(tables))


def _problem(rows: int | None, promised: int | None) -> str:
    if rows is None:
        return "pg_restore prints nothing of it"
    if promised not in (None, rows):
        return f"{count(rows, 'row')}, and the manifest counts {promised:,}"
    return ""
