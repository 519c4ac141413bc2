"""The backup that is meant, and whether it is still what its manifest says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from backup.archive.catalogue import choose, database_prefix, entries
from backup.archive.manifest import NAME as MANIFEST
from backup.archive.manifest import Manifest, decode
from backup.aws.s3_reading import ARCHIVED_CLASSES, ListedObject, ReadableBucket
from backup.console import Console
from backup.errors import InputError, NotReplicated, VerificationError
from backup.model import BackupEntry, Member
from backup.wording import count

_MOST_NAMED = 5
# What has not come by then never will: replication has failed, or the replica has lost it.
STILL_ARRIVING = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Located:
    """A backup as it lies in the bucket, its manifest unread.

    `root` is the prefix of all its keys, with its slash; `stored` is what lies there now, by key
    relative to `root`, the manifest and the drills too.
    """

    entry: BackupEntry
    root: str
    stored: Mapping[str, ListedObject]

    @property
    def manifest(self) -> ListedObject:
        return self.stored[MANIFEST]

    def holding(self, members: Iterable[Member]) -> list[ListedObject]:
        """The objects that must be read for these members."""
        keys = {member.object_key for member in members if member.size}
        return [self.stored[key] for key in sorted(keys)]


def choose_backup(
    bucket: ReadableBucket, prefix: str, database: str, wanted: str, console: Console
) -> Located:
    """The backup that `wanted` means (see `choose`), its manifest unread: it may be archived.

    Of a replica `latest`, or a time, means the newest that has arrived whole, for who asks for it
    has lost the first bucket; one that is named by its id stays the one that is meant.
    Raises InputError, AccessError or StorageError.
    """
    under = database_prefix(prefix, database)
    listed = list(bucket.list(under))
    found = entries(prefix, listed)
    if not found:
        raise InputError(
            f"there is no backup of database {database!r}",
            detail=f"no manifest lies under {bucket.uri(under)}",
            hint="correct database, bucket or prefix; operation: list without database shows"
            " the backups of all",
        )
    chosen = first = _located(choose(found, wanted), listed)
    if not bucket.replica_of or wanted == chosen.entry.id:
        return chosen
    while missing := _missing(bucket, chosen):
        found = [each for each in found if each.id < chosen.entry.id]
        try:
            before = _located(choose(found, wanted), listed)
        except InputError:
            return first  # there is none that is whole, and this one's lack is what is to be told
        console.warning(
            f"Backup {chosen.entry.id} is not whole in the replica",
            f"{count(len(missing), 'object')} of it {'is' if len(missing) == 1 else 'are'} not in"
            f" {bucket.uri(chosen.root)}, as {missing[0]}: {before.entry.id} is taken in its place."
            f" If s3://{bucket.replica_of} can be reached: read-from: bucket",
        )
        chosen = before
    return chosen


def _located(entry: BackupEntry, listed: Sequence[ListedObject]) -> Located:
    root = entry.manifest_key.removesuffix(MANIFEST)
    stored = {each.key.removeprefix(root): each for each in listed if each.key.startswith(root)}
    return Located(entry, root, MappingProxyType(stored))


def _missing(bucket: ReadableBucket, chosen: Located) -> list[str]:
    """What the manifest names and the listing does not. What else is wrong shows when it is used:
    a manifest that is damaged, or in an archive, hides nothing."""
    if chosen.manifest.storage_class in ARCHIVED_CLASSES:
        return []
    try:
        manifest = decode(bucket.read(chosen.entry.manifest_key))
    except VerificationError:
        return []
    return [each.key for each in manifest.objects if each.key not in chosen.stored]


def read_manifest(bucket: ReadableBucket, chosen: Located) -> Manifest:
    """Read the manifest, and compare it with its place and with the listing of its objects.

    Raises AccessError, StorageError, and VerificationError where the objects are not those that
    the manifest promises.
    """
    entry = chosen.entry
    uri = bucket.uri(entry.manifest_key)
    try:
        manifest = decode(bucket.read(entry.manifest_key))
    except VerificationError as error:
        raise VerificationError(
            f"backup {entry.id} cannot be used: {error.message}",
            detail=f"{error.detail} ({uri})",
            hint=error.hint,
        ) from error
    if (manifest.database, manifest.id) != (entry.database, entry.id):
        raise VerificationError(
            f"the manifest of backup {entry.id} is that of another",
            detail=f"{uri} describes backup {manifest.id} of database {manifest.database!r}:"
            " someone has copied it there",
            hint=_OTHER_BACKUP,
        )
    if bucket.replica_of:
        _check_arrival(manifest, chosen, bucket, bucket.replica_of)
    _check_objects(manifest, chosen)
    return manifest


def _check_arrival(manifest: Manifest, chosen: Located, bucket: ReadableBucket, first: str) -> None:
    """S3 replicates in no order: a young manifest may be there before its objects.

    Raises NotReplicated.
    """
    missing = [each.key for each in manifest.objects if each.key not in chosen.stored]
    if missing and datetime.now(UTC) - manifest.finished < STILL_ARRIVING:
        raise NotReplicated(
            f"backup {manifest.id} is not yet replicated whole: {len(missing):,} of"
            f" {count(len(manifest.objects), 'object')} are missing in the replica",
            detail=f"its manifest is in {bucket.uri(chosen.root)}, and not yet"
            f" {', '.join(missing[:_MOST_NAMED])}: S3 replicates in no order, mostly within 15"
            " minutes. Nothing says that it is damaged",
            hint="run it again in a while, or take the newest that is whole: backup-id: latest. If"
            f" s3://{first} can be reached: read-from: bucket",
        )


def _check_objects(manifest: Manifest, chosen: Located) -> None:
    """Every object is there with its size. Raises VerificationError."""
    wrong: list[str] = []
    for each in manifest.objects:
        there = chosen.stored.get(each.key)
        if there is None:
            wrong.append(f"{each.key} is missing: deleted by hand, or expired by a lifecycle rule")
        elif there.size != each.size:
            wrong.append(f"{each.key} has {there.size:,} bytes instead of {each.size:,}")
    if wrong:
        named = "; ".join(wrong[:_MOST_NAMED])
        more = len(wrong) - _MOST_NAMED
        raise VerificationError(
            f"backup {manifest.id} is not whole:"
            f" {count(len(wrong), 'object')} of {len(manifest.objects):,}"
            f" {'is' if len(wrong) == 1 else 'are'} not what the manifest says",
            detail=named + (f"; and {more:,} more" if more > 0 else ""),
            hint=_OTHER_BACKUP,
        )


_OTHER_BACKUP = (
    "restore another backup (operation: list shows them), or bring back the earlier versions of"
    " the objects where the bucket keeps versions"
)
