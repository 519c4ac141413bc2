"""Whether a backup has arrived in the second region, by the list of what lies there.

S3 tells the state of each object in the first bucket too, but only to who may read it, and the
role that writes backups may not: docs/decisions/0028-the-replica-is-listed.md
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from backup.aws.s3_reading import ReadableBucket
from backup.console import Console
from backup.errors import BackupError, InputError, VerificationError
from backup.settings import BucketSettings, ReplicaSettings
from backup.wording import count, duration

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _GROWTH = 1.0, 15.0, 1.5
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Replication:
    """What came of the wait; `seconds` is how long it took. `failure` is None where all is there.

    `told` is one line for a report.
    """

    seconds: float
    told: str
    failure: BackupError | None


def wait_for_replica(
    open_replica: Callable[[], ReadableBucket],
    objects: Mapping[str, int],
    root: str,
    bucket: BucketSettings,
    replica: ReplicaSettings,
    console: Console,
) -> Replication:
    """Wait until `objects`, sizes by key, lie in the replica below `root`, or the time is over.

    Never raises: the backup is made, whatever becomes of its copy.
    """
    began, pause, bound = time.monotonic(), _FIRST_PAUSE_SECONDS, replica.wait_seconds or 0.0
    where = f"s3://{replica.bucket} in {replica.region}"
    there: ReadableBucket | None = None
    missing, last = sorted(objects), -1
    silence: BackupError | None = None
    while True:
        try:
            there = there or open_replica()
            stored = {each.key: each.size for each in there.list(root)}
            missing, silence = [key for key in objects if stored.get(key) != objects[key]], None
        except BackupError as error:
            # A region that is out of reach may come back; a bucket that is not there will not.
            if isinstance(error, InputError) or not error.is_out_of_reach:
                return Replication(_since(began), f"{where}: not seen", _unknown(error))
            silence = error
        if not missing:
            seconds = _since(began)
            told = f"{where}: {count(len(objects), 'object')} after {duration(seconds)}"
            console.info(told)
            return Replication(seconds, told, None)
        if len(missing) != last:
            last = len(missing)
            console.info(f"{len(objects) - last} of {count(len(objects), 'object')} are in {where}")
        left = bound - _since(began)
        if left <= 0:
            told = f"{where}: {last} of {count(len(objects), 'object')} missing"
            late = _late(missing, objects, bucket, replica, silence)
            return Replication(_since(began), told, late)
        time.sleep(min(pause, left))
        pause = min(pause * _GROWTH, _LONGEST_PAUSE_SECONDS)


def _since(began: float) -> float:
    return time.monotonic() - began


def _unknown(error: BackupError) -> BackupError:
    error.detail += "\nThe backup is made and counts; whether it is replicated nobody could see"
    return error


def _late(
    missing: list[str],
    objects: Mapping[str, int],
    bucket: BucketSettings,
    replica: ReplicaSettings,
    silence: BackupError | None,
) -> BackupError:
    named = ", ".join(missing[:_MOST_NAMED])
    more = f", and {len(missing) - _MOST_NAMED:,} more" if len(missing) > _MOST_NAMED else ""
    detail = (
        f"the backup in s3://{bucket.name} is whole and counts. {len(missing):,} of"
        f" {count(len(objects), 'object')} are not in s3://{replica.bucket}: {named}{more}"
    )
    if silence:
        detail += f"\nand at the last look: {silence.message}: {silence.detail}"
    look = (
        f"aws s3api head-object --bucket {bucket.name} --key '{missing[0]}'"
        " --query ReplicationStatus --output text"
    )
    if len(missing) == len(objects):
        cause = (
            "nothing of it has arrived, so first look whether replication is on and takes in this"
            " prefix: operation: audit says so under bucket.replication, with what mends it."
        )
    else:
        cause = (
            "some of it has arrived, so replication works and is behind, or the key of an object is"
            " not allowed to its role."
        )
    return VerificationError(
        f"the backup is not replicated within {duration(replica.wait_seconds or 0.0)}",
        detail=detail,
        hint=f"{cause} The state of an object, to who may read it (PENDING: it will come; FAILED:"
        f" it never will by itself):\n{look}\n"
        "Most objects arrive within 15 minutes; Replication Time Control promises them:\n"
        "replica-wait: 30min",
    )
