"""A backup from the catalogue, its table of contents read: thawed before, where it is archived."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from backup.archive import toc
from backup.archive.encodings import codec_of
from backup.archive.fetching import Fetcher
from backup.archive.manifest import TABLE_OF_CONTENTS, Manifest
from backup.archive.toc import Entry, TableOfContents
from backup.aws.s3_reading import ReadableBucket
from backup.console import Console
from backup.errors import DumpError, VerificationError
from backup.model import Extension
from backup.operations.finding import Located, choose_backup, read_manifest
from backup.operations.thawing import MAYBE_ARCHIVED, Thawed, thaw
from backup.settings import Settings, ThawSettings
from backup.wording import count, duration, size

GLOBALS = "globals.sql"


@dataclass(frozen=True)
class OpenedBackup:
    """A backup whose manifest and table of contents are read, and found to fit.

    `toc` are the bytes of `toc.dat`, and `codec` is that of the names in it. `thawed` is what had
    to come out of an archive for it.
    """

    manifest: Manifest
    place: Located
    codec: str
    toc: bytes
    contents: TableOfContents
    fetcher: Fetcher
    thawed: Thawed | None

    def globals_script(self) -> str | None:
        """Roles and memberships as SQL; None where the source did not give them."""
        member = next((each for each in self.manifest.members if each.name == GLOBALS), None)
        return self.fetcher.read(member).decode("utf-8", "surrogateescape") if member else None

    def taken_for_granted(self) -> tuple[list[str], tuple[Extension, ...]]:
        """Schemas and extensions that pg_dump leaves to the target where it dumps a part."""
        if not self.manifest.is_partial:
            return [], ()
        extensions, entries = self.manifest.inventory.extensions, self.contents.entries
        brought = {entry.name for entry in entries if entry.kind == "SCHEMA"}
        needed = {entry.schema for entry in entries if entry.schema}
        needed |= {each.schema for each in extensions if not each.schema.startswith("pg_")}
        return sorted(needed - brought), extensions


def connections(jobs: int) -> int:
    """Sockets to S3 that a restore with so many jobs uses at the most."""
    return Fetcher.threads(jobs + 1) + 1


def find(bucket: ReadableBucket, settings: Settings, wanted: str, console: Console) -> Located:
    """The backup that `wanted` means, unread. Raises InputError, AccessError or StorageError."""
    assert settings.database is not None  # noqa: S101 - inputs without one were refused
    return choose_backup(bucket, settings.bucket.prefix, settings.database, wanted, console)


@contextmanager
def opened(
    bucket: ReadableBucket, place: Located, settings: Settings, console: Console
) -> Iterator[OpenedBackup]:
    """Read what is to be known of a backup before anything is done with its data.

    Raises AccessError, StorageError (ThawPending, where it lies in an archive), and
    VerificationError where it is not what it was.
    """
    thawed = None
    if place.manifest.storage_class in MAYBE_ARCHIVED:
        # Until it is read nobody knows what else is needed, and one wait of hours is enough.
        thawed = thaw(bucket, place.entry.id, place.stored.values(), settings.thaw, console)
    manifest = read_manifest(bucket, place)
    (member,) = (each for each in manifest.members if each.name == TABLE_OF_CONTENTS)
    if place.stored[member.object_key].storage_class in MAYBE_ARCHIVED:
        # Which tables lie where is told by the archive itself: again, all of it at once.
        objects = [place.stored[each.key] for each in manifest.objects]
        thawed = thaw(bucket, manifest.id, objects, settings.thaw, console) or thawed
    fetcher = Fetcher(bucket, place.root, settings.restore.jobs + 1)
    try:
        codec = codec_of(manifest.inventory.encoding)
        content = fetcher.read(member)
        contents = _parsed(content, codec)
        console.info(
            f"{manifest.id}: {manifest.database} as of {manifest.snapshot.time:%Y-%m-%d %H:%M:%S}"
            f" UTC, {size(manifest.stored_bytes)} in {count(len(manifest.objects), 'object')}"
        )
        yield OpenedBackup(manifest, place, codec, content, contents, fetcher, thawed)
    finally:
        fetcher.close()


def thaw_data(
    bucket: ReadableBucket,
    opened: OpenedBackup,
    entries: Iterable[Entry],
    settings: ThawSettings,
    console: Console,
) -> Thawed | None:
    """Make the data of these entries readable, where it lies in an archive."""
    files = {entry.file for entry in entries if entry.file}
    with_large_objects = any(entry.kind == "BLOBS" for entry in entries)
    objects = opened.place.holding(
        member
        for member in opened.manifest.members
        if member.data_file in files or (with_large_objects and member.table is None)
    )
    thawed = thaw(bucket, opened.manifest.id, objects, settings, console)
    if thawed:
        console.info(f"Waited {duration(thawed.seconds)} for the archive")
    return thawed or opened.thawed


def _parsed(content: bytes, codec: str) -> TableOfContents:
    """Its digest is right, so bytes that cannot be read were dumped so."""
    try:
        return toc.parse(content, codec)
    except DumpError as error:
        raise VerificationError(error.message, detail=error.detail, hint=error.hint) from error
