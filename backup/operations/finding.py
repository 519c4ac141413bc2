"""The backup that is meant, and whether it is still what its manifest says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from backup.archive.catalogue import choose, database_prefix, entries
from backup.archive.manifest import NAME as MANIFEST
from backup.archive.manifest import Manifest, decode
from backup.aws.s3_reading import ListedObject, ReadableBucket
from backup.errors import InputError, VerificationError
from backup.model import BackupEntry, Member
from backup.wording import count

_MOST_NAMED = 5


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


def choose_backup(bucket: ReadableBucket, prefix: str, database: str, wanted: str) -> Located:
    """The backup that `wanted` means (see `choose`), its manifest unread: it may be archived.

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
    entry = choose(found, wanted)
    root = entry.manifest_key.removesuffix(MANIFEST)
    stored = {each.key.removeprefix(root): each for each in listed if each.key.startswith(root)}
    return Located(entry, root, MappingProxyType(stored))


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
    _check_objects(manifest, chosen)
    return manifest


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
