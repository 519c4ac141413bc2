"""The catalogue: whether the backups that are listed are there, are enough, and are all there is.

Manifests are compared with what the bucket lists; of each database the newest are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from backup.archive.catalogue import DrillEntry
from backup.aws.s3 import Bucket
from backup.checks import Answer, Check, Unanswered, ask, failed
from backup.console import Console
from backup.operations.auditing import catalogue_objects, catalogue_series, fleet
from backup.operations.auditing.holdings import (
    Holdings,
    Read,
    list_holdings,
    proven_drills,
    read_manifests,
    readable,
)
from backup.operations.auditing.steps import backing_up
from backup.settings import Settings
from backup.wording import count

_LISTED = (
    catalogue_series.GAPS,
    catalogue_series.SIZES,
    catalogue_series.DRILLS,
    catalogue_objects.OBJECTS,
    catalogue_objects.ARCHIVED,
    catalogue_objects.ORPHANS,
)


def checks(bucket: Bucket, settings: Settings, console: Console, now: datetime) -> list[Check]:
    """Every check of the area, over all databases below the prefix."""
    uploads = _uploads(bucket, settings, now)
    listed = ask(lambda: list_holdings(bucket, settings))
    if isinstance(listed, Unanswered):
        also = (fleet.UNKNOWN,) if settings.audit.fleet else ()
        return [*(listed.check(*each) for each in (*_LISTED, *also)), uploads]
    series = fleet.series(listed.value.unknown, settings)
    return [*_of_listed(bucket, settings, console, listed.value, now), *series, uploads]


def _of_listed(
    bucket: Bucket, settings: Settings, console: Console, holdings: Holdings, now: datetime
) -> list[Check]:
    wanted = readable(holdings)
    console.info(f"Reading {count(len(wanted), 'manifest')}")
    answer = ask(lambda: read_manifests(bucket, wanted))
    manifests: Mapping[str, Read] = {} if isinstance(answer, Unanswered) else answer.value
    orphans = catalogue_objects.orphans(holdings, manifests, settings.bucket, bucket.region, now)
    if not holdings.series:
        where = bucket.uri(settings.bucket.prefix)
        return [
            failed(
                *catalogue_series.GAPS, f"there is no backup below {where}", backing_up(settings)
            ),
            orphans,
        ]
    return [
        catalogue_series.gaps(holdings, settings, now),
        catalogue_series.sizes(holdings, manifests, _proven(bucket, holdings), settings),
        catalogue_series.drills(holdings, settings),
        _objects(bucket, settings, holdings, answer, now),
        catalogue_objects.archived(holdings, settings),
        orphans,
    ]


def _proven(bucket: Bucket, holdings: Holdings) -> list[DrillEntry]:
    """None where the results may not be read: then a jump in size is told of all the same."""
    answer = ask(lambda: proven_drills(bucket, holdings))
    return [] if isinstance(answer, Unanswered) else answer.value


def _objects(
    bucket: Bucket,
    settings: Settings,
    holdings: Holdings,
    answer: Answer[dict[str, Read]],
    now: datetime,
) -> Check:
    if isinstance(answer, Unanswered):
        return answer.check(*catalogue_objects.OBJECTS)
    return catalogue_objects.objects(holdings, answer.value, settings.bucket, bucket.region, now)


def _uploads(bucket: Bucket, settings: Settings, now: datetime) -> Check:
    prefix = f"{settings.bucket.prefix}/" if settings.bucket.prefix else ""
    answer = ask(lambda: list(bucket.open_uploads(prefix)))
    if isinstance(answer, Unanswered):
        return answer.check(*catalogue_objects.UPLOADS)
    return catalogue_objects.uploads(answer.value, settings.bucket, bucket.region, now)
