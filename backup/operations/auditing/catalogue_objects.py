"""Manifests against objects: what is gone, what lies in an archive, what belongs to no backup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from backup.archive.catalogue import root_of
from backup.archive.manifest import NAME as MANIFEST
from backup.archive.manifest import Manifest
from backup.archive.retention import marked
from backup.aws.glacier import retrieval
from backup.aws.s3_reading import ARCHIVED_CLASSES, ListedObject, OpenUpload
from backup.checks import Check, failed, passed, warned
from backup.model import BackupEntry
from backup.operations.auditing.holdings import MOST_READ, Holdings, Read, named, root
from backup.operations.auditing.shell import aws, s3api
from backup.operations.auditing.steps import backing_up
from backup.operations.finding import STILL_ARRIVING
from backup.settings import BucketSettings, Settings
from backup.wording import count, size

OBJECTS = ("catalogue.objects", "Every backup has all objects that its manifest names")
ARCHIVED = ("catalogue.archived", "The newest backup of every database can be read at once")
ORPHANS = ("catalogue.orphans", "Every object belongs to a backup")
UPLOADS = ("catalogue.uploads", "No incomplete upload was left over")

# A backup that takes longer is cut short by GitHub: a job lasts 5 days at the most, and 6 hours
# on its own runners.
_UNDER_WAY = timedelta(days=2)
_MOST_IN_FIX = 20
# Records and exports of instances, trial writes of the doctor, how runs ended: no backups.
_OTHER_FOLDERS = ("rds", "setup", "outcomes")


@dataclass(frozen=True, slots=True)
class _Loss:
    """What is wrong below a backup's `root`; `key` is that of an object which is another one.

    `arriving` is the key of one that a replica lacks, and may still get.
    """

    root: str
    text: str
    key: str = ""
    arriving: str = ""


def objects(
    holdings: Holdings,
    manifests: Mapping[str, Read],
    bucket: BucketSettings,
    region: str,
    now: datetime,
) -> Check:
    found = list(_losses(holdings, manifests, bucket, now))
    losses = [each for each in found if not each.arriving]
    looked_at = (
        f"{count(len(manifests), 'manifest')} read, the newest {MOST_READ} of each database at most"
    )
    if losses:
        fix = dict.fromkeys(_bringing_back(each, bucket, region) for each in losses)
        told = f"{named([each.text for each in losses])} ({looked_at})"
        return failed(*OBJECTS, told, "\n".join(list(fix)[:_MOST_IN_FIX]))
    if found and bucket.replica_of:
        look = ("s3api", "head-object", "--bucket", bucket.replica_of)
        state = ("--query", "ReplicationStatus", "--output", "text")
        states = [aws(*look, "--key", each.arriving, *state) for each in found[:_MOST_IN_FIX]]
        told = f"{named([each.text for each in found])} ({looked_at})"
        return warned(*OBJECTS, told, "\n".join(states))
    return passed(*OBJECTS, looked_at)


def _losses(
    holdings: Holdings, manifests: Mapping[str, Read], bucket: BucketSettings, now: datetime
) -> Iterator[_Loss]:
    for place, read in manifests.items():
        stored = holdings.stored[place]
        if not read.manifest:
            key = f"{place}{MANIFEST}"
            yield _Loss(place, f"{key}: {read.fault}", key)
            continue
        for each in read.manifest.objects:
            there, key = stored.get(each.key), f"{place}{each.key}"
            if there is None and _may_arrive(read.manifest, bucket, now):
                yield _Loss(place, f"{key} is not replicated yet", arriving=key)
            elif there is None:
                yield _Loss(place, f"{key} is gone")
            elif there.size != each.size:
                text = f"{key} has {there.size:,} bytes instead of {each.size:,}"
                yield _Loss(place, text, key)
    for series in holdings.series:
        for entry in series.backups:
            if not entry.objects and root(entry) not in manifests:
                yield _Loss(root(entry), f"{root(entry)} holds nothing but its manifest")


def _may_arrive(manifest: Manifest, bucket: BucketSettings, now: datetime) -> bool:
    return bucket.replica_of is not None and now - manifest.finished < STILL_ARRIVING


def _bringing_back(loss: _Loss, bucket: BucketSettings, region: str) -> str:
    """Deletes newest versions: the marks of deletion, or the object that is another one.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/RestoringPreviousVersions.html
    """
    wanted = f"Versions[?IsLatest && Key=='{loss.key}']" if loss.key else "DeleteMarkers[?IsLatest]"
    query = s3api(
        bucket, region, "list-object-versions", "--prefix", loss.key or loss.root,
        "--query", f"{wanted}.[Key,VersionId]", "--output", "text",
    )  # fmt: skip
    delete = s3api(bucket, region, "delete-object")
    each = f'{delete} --key "$key" --version-id "$version" </dev/null'
    return f"{query} |\n  while read -r key version; do {each}; done"


def archived(holdings: Holdings, settings: Settings) -> Check:
    cold = [each for each in holdings.series if _is_cold(holdings, each.newest)]
    if cold:
        told = [f"{each.database}: {_told(holdings, each.newest, settings)}" for each in cold]
        return warned(*ARCHIVED, named(told), backing_up(settings))
    older = [
        entry
        for series in holdings.series
        for entry in series.backups[:-1]
        if _is_cold(holdings, entry)
    ]
    if not older:
        return passed(*ARCHIVED, "no backup lies in Glacier Flexible Retrieval or Deep Archive")
    return passed(*ARCHIVED, f"{count(len(older), 'older backup')} must be thawed first")


def _is_cold(holdings: Holdings, entry: BackupEntry) -> bool:
    return any(each.storage_class in ARCHIVED_CLASSES for each in holdings.of(entry).values())


def _told(holdings: Holdings, entry: BackupEntry, settings: Settings) -> str:
    classes = {each.storage_class for each in holdings.of(entry).values()}
    coldest = [each for each in ARCHIVED_CLASSES if each in classes][-1]
    way = retrieval(coldest, settings.thaw.tier) or retrieval(coldest, "standard")
    return f"{entry.id} lies in {coldest}" + (f", {way.usually} to thaw" if way else "")


def orphans(
    holdings: Holdings,
    manifests: Mapping[str, Read],
    bucket: BucketSettings,
    region: str,
    now: datetime,
) -> Check:
    """Folders without a manifest, objects that their manifest does not name, and others."""
    folders = sorted(
        place
        for place, stored in holdings.stored.items()
        if MANIFEST not in stored and _is_left(list(stored.values()), now)
    )
    single = [
        each
        for each in holdings.objects
        if _belongs_to_nothing(each, holdings, manifests, bucket.prefix) and _is_left([each], now)
    ]
    if not folders and not single:
        return passed(*ORPHANS, f"{count(len(holdings.objects), 'object')} looked at")
    lost = [each for place in folders for each in holdings.stored[place].values()] + single
    told = [f"{each} has no manifest, so it is no backup" for each in folders]
    told += [f"{each.key} is named by none" for each in single]
    where = ("--region", region)
    fix = [_removing(each, bucket, region) for each in folders]
    fix += [aws("s3", "rm", *where, f"s3://{bucket.name}/{each.key}") for each in single]
    amount = f"{count(len(lost), 'object')}, {size(sum(each.size for each in lost))}"
    return warned(*ORPHANS, f"{amount}: {named(told)}", "\n".join(fix[:_MOST_IN_FIX]))


def _removing(place: str, bucket: BucketSettings, region: str) -> str:
    """Removes a folder, unless a manifest was there once: who deletes that hides a whole backup."""
    key = f"{place}{MANIFEST}"
    earlier = s3api(
        bucket, region, "list-object-versions", "--prefix", key,
        "--query", "length([Versions || `[]`, DeleteMarkers || `[]`][])", "--output", "text",
    )  # fmt: skip
    remove = aws("s3", "rm", "--region", region, "--recursive", f"s3://{bucket.name}/{place}")
    back = _bringing_back(_Loss(key, ""), bucket, region)
    return (
        f"# brings back a manifest that was deleted, or else removes the folder\n"
        f'earlier=$({earlier})\nif [ "$earlier" = 0 ]; then {remove}\nelse {back}\nfi'
    )


def _is_left(found: Sequence[ListedObject], now: datetime) -> bool:
    """Whether no run can still be writing there; results of drills come and go by themselves."""
    return any("/drills/" not in each.key for each in found) and all(
        now - each.modified > _UNDER_WAY for each in found
    )


def _belongs_to_nothing(
    each: ListedObject, holdings: Holdings, manifests: Mapping[str, Read], prefix: str
) -> bool:
    place = root_of(prefix, each.key)
    if not place:
        inside = each.key.removeprefix(f"{prefix}/" if prefix else "")
        return inside.partition("/")[0] not in _OTHER_FOLDERS
    name, read = each.key.removeprefix(place), manifests.get(place)
    if MANIFEST not in holdings.stored[place] or not read or not read.manifest:
        return False  # the folder as a whole is looked at, or nobody has read what it names
    known = {stored.key for stored in read.manifest.objects}
    if marked(name):
        return False
    return name != MANIFEST and name not in known and not name.startswith("drills/")


def uploads(
    found: Sequence[OpenUpload], bucket: BucketSettings, region: str, now: datetime
) -> Check:
    left = [each for each in found if now - each.begun > _UNDER_WAY]
    if not left:
        young = f"; {count(len(found), 'upload')} under way" if found else ""
        return passed(*UPLOADS, f"none is older than {_UNDER_WAY.days} days{young}")
    told = [f"{each.key}, begun {each.begun:%Y-%m-%d %H:%M} UTC" for each in left]
    fix = "\n".join(
        s3api(bucket, region, "abort-multipart-upload", "--key", each.key, "--upload-id", each.id)
        for each in left[:_MOST_IN_FIX]
    )
    reason = f"{count(len(left), 'upload')}, unseen and paid for: {named(told)}"
    return warned(*UPLOADS, reason, fix)
