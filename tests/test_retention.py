"""`retention-tier`: which backup stands for a year, a month or a week, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest

from backup.archive.catalogue import entries
from backup.archive.retention import TIERS, mark_of, tier_for
from backup.checks import Status
from backup.model import BackupEntry
from backup.operations.auditing.catalogue_series import gaps
from backup.operations.auditing.holdings import Holdings, Series
from tests.audits import settings_of
from tests.lab.aws import Ministack
from tests.lab.cloud import PREFIX, writing
from tests.lab.postgres import PostgresServer
from tests.lab.stage import Stage, stage
from tests.manifests import Put
from tests.replicas import ORDERS, second_region
from tests.steps import database_named

DATABASE = "tiered"
DAY = timedelta(days=1)
# What examples/infrastructure/storage.yaml expires them after.
KEPT = MappingProxyType({"daily": 35, "weekly": 120, "monthly": 365, "yearly": 730})


def taken(moment: datetime, tier: str | None = None) -> BackupEntry:
    name = f"{moment:%Y%m%dT%H%M%SZ}-0a1b2c"
    return BackupEntry(name, "shop", f"{PREFIX}/shop/{name}/manifest.json", moment, 1, 1, tier)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("earlier", "moment", "tier"),
    [
        ([], "2026-11-22T02:00", "yearly"),
        ([("2026-01-01T02:00", "yearly")], "2026-01-02T02:00", "daily"),
        ([("2026-01-01T02:00", "yearly")], "2026-01-05T02:00", "weekly"),
        ([("2026-01-01T02:00", "yearly")], "2026-02-01T02:00", "monthly"),
        ([("2026-01-01T02:00", "yearly")], "2027-01-01T00:00", "yearly"),
        ([("2026-01-01T02:00", "yearly")], "2026-12-31T23:59", "monthly"),
        # A week of ISO 8601 begins on Monday, and may lie in two years.
        ([("2026-01-01T02:00", "yearly"), ("2026-01-05T02:00", "weekly")], "2026-01-11T02:00",
         "daily"),
        ([("2026-01-01T02:00", "yearly"), ("2026-01-05T02:00", "weekly")], "2026-01-12T02:00",
         "weekly"),
        ([("2025-12-29T02:00", "weekly"), ("2025-01-01T02:00", "yearly")], "2025-12-31T02:00",
         "monthly"),
        ([("2026-12-28T02:00", "weekly"), ("2027-01-01T02:00", "yearly")], "2027-01-03T02:00",
         "daily"),
        ([("2027-01-01T02:00", "yearly")], "2027-01-04T02:00", "weekly"),
        # In UTC, wherever the runner stands: it is January still, and another week.
        ([("2026-01-01T02:00", "yearly")], "2026-02-01T00:30+02:00", "weekly"),
        # Those of no tier, and of a shorter one, stand for nothing.
        ([("2026-01-01T02:00", None)], "2026-01-02T02:00", "yearly"),
        ([("2026-01-01T02:00", "yearly"), ("2026-03-01T02:00", "daily")], "2026-03-01T03:00",
         "monthly"),
        ([("2026-01-01T02:00", "yearly"), ("2026-03-01T02:00", "monthly")], "2026-03-01T03:00",
         "daily"),
        # One that was asked for by hand counts for what it is.
        ([("2026-01-01T02:00", "yearly"), ("2026-03-10T02:00", "monthly")], "2026-03-20T02:00",
         "weekly"),
    ],
)  # fmt: skip
def test_a_backup_has_its_place_in_the_calendar(
    earlier: list[tuple[str, str | None]], moment: str, tier: str
) -> None:
    when = datetime.fromisoformat(moment)
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    assert tier == tier_for(when, [taken(at(text), other) for text, other in earlier])


def nights(first: datetime, count: int, missed: Iterable[int] = ()) -> list[BackupEntry]:
    """What a bucket still holds after so many nights of `auto`, all but the missed ones."""
    held: list[BackupEntry] = []
    for number in range(count):
        now = first + number * DAY
        held = [each for each in held if now - each.time <= KEPT[each.tier or ""] * DAY]
        if number not in missed:
            held.append(taken(now, tier_for(now, held)))
    return held


FIRST = at("2024-11-22T02:00")
TWO_YEARS = 730


def test_after_two_years_there_is_one_of_each_day_week_month_and_year() -> None:
    held = nights(FIRST, TWO_YEARS)
    now = FIRST + (TWO_YEARS - 1) * DAY
    ages = {(now - each.time).days for each in held}
    assert set(range(35)) <= ages
    for weeks in range(1, 16):
        week = (now - weeks * 7 * DAY).strftime("%G-W%V")
        assert week in {each.time.strftime("%G-W%V") for each in held}
    months = {each.time.strftime("%Y-%m") for each in held}
    assert {f"2026-{month:02}" for month in range(1, 12)} <= months
    assert {"2024", "2025", "2026"} == {each.time.strftime("%Y") for each in held}
    # 730 backups have become these.
    assert len(held) < 70


def judged(held: list[BackupEntry], now: datetime) -> tuple[Status, str]:
    holdings = Holdings((), {}, (Series("shop", tuple(held), ()),))
    check = gaps(holdings, settings_of(), now)
    return check.status, check.reason


def test_a_series_that_the_bucket_has_thinned_has_no_gap() -> None:
    now = FIRST + (TWO_YEARS - 1) * DAY
    assert Status.PASS is judged(nights(FIRST, TWO_YEARS), now + DAY / 24)[0]


@pytest.mark.parametrize("days", [1, 2, 10, 28])
def test_one_night_that_is_missing_in_a_thinned_series_is_seen(days: int) -> None:
    now = FIRST + (TWO_YEARS - 1) * DAY
    held = nights(FIRST, TWO_YEARS, missed=[TWO_YEARS - 1 - days])
    status, reason = judged(held, now + DAY / 24)
    assert Status.WARN is status, reason
    assert f"after {now - (days + 1) * DAY:%Y-%m-%d}" in reason
    assert "usual: 24 h" in reason


@pytest.mark.parametrize("days", [2, 20, 50, 200])
def test_a_thinned_series_that_has_ended_is_seen(days: int) -> None:
    """Until nothing of it is left but what stands for months and years."""
    held = nights(FIRST, TWO_YEARS, missed=range(TWO_YEARS - days, TWO_YEARS))
    status, _ = judged(held, FIRST + (TWO_YEARS - 1) * DAY + DAY / 24)
    assert Status.FAIL is status


def test_the_listing_alone_tells_the_tier() -> None:
    root = f"{PREFIX}/shop/20261122T020000Z-1f9c3a/"
    listed = [Put(f"{root}{name}") for name in ("manifest.json", "archive/pack-0001.tar")]
    assert [None] == [each.tier for each in entries(PREFIX, listed)]
    for tier in TIERS:
        (entry,) = entries(PREFIX, [*listed, Put(root + mark_of(tier))])
        assert (tier, 1, 1) == (entry.tier, entry.objects, entry.stored_bytes)
    (entry,) = entries(PREFIX, [*listed, Put(f"{root}retention-tier/for-ever")])
    assert entry.tier is None
    # What was not finished stands for nothing.
    assert [] == entries(PREFIX, [Put(f"{root}archive/x"), Put(root + mark_of("yearly"))])


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> str:
    return database_named(postgres, DATABASE, ORDERS)


@pytest.fixture
def shop(postgres: PostgresServer, strict: Ministack, database: str) -> Iterator[Stage]:
    """The role has what is documented for a backup with tags, and no more."""
    with stage(postgres, strict, database) as ready, second_region(ready.cloud) as replica:
        replica.may("backup", tags_objects=True)
        yield ready


def tiers_of(shop: Stage) -> list[str | None]:
    """The tier of each backup, the oldest first, which all its objects agree on."""
    found = []
    for key, manifest in shop.cloud.manifests().items():
        root = key.removesuffix("manifest.json")
        tags = {_tier(shop, each) for each in shop.cloud.objects(root)}
        (tier,) = tags
        assert tier == manifest.get("retention_tier")
        found.append((manifest["finished"], tier))
    return [tier for _, tier in sorted(found, key=lambda each: each[0])]


def _tier(shop: Stage, key: str) -> str | None:
    answer = shop.cloud.s3.get_object_tagging(Bucket=shop.cloud.bucket, Key=key)
    tags = {each["Key"]: each["Value"] for each in answer["TagSet"]}
    assert "data" == tags.get("team", "data")
    return tags.get("retention-tier")


def marks(shop: Stage) -> list[str]:
    return [key.rpartition("/")[2] for key in shop.cloud.objects() if "/retention-tier/" in key]


def test_every_object_of_a_backup_bears_its_tier(shop: Stage) -> None:
    given = shop.inputs(retention_tier="auto", object_tags="team=data")
    for tier in ("yearly", "daily", "daily"):
        run = shop.run(given)
        assert 0 == run.exit_code, run.output
        assert tier == run.outputs["retention-tier"]
        assert f"a {tier} backup" in run.summary
    assert ["yearly", "daily", "daily"] == tiers_of(shop)
    assert ["daily", "daily", "yearly"] == sorted(marks(shop))
    assert 3 == len(shop.catalogue())


def test_a_backup_of_some_tables_is_daily_and_stands_for_nothing(shop: Stage) -> None:
    part = shop.run(shop.inputs(retention_tier="auto", tables="orders"))
    assert "daily" == part.outputs["retention-tier"]
    assert [] == marks(shop)
    whole = shop.run(shop.inputs(retention_tier="auto"))
    assert "yearly" == whole.outputs["retention-tier"]
    assert ["daily", "yearly"] == tiers_of(shop)


def test_a_tier_that_is_named_is_taken(shop: Stage) -> None:
    run = shop.run(shop.inputs(retention_tier="monthly"))
    assert "monthly" == run.outputs["retention-tier"]
    assert ["monthly"] == tiers_of(shop)


def test_a_role_that_may_not_list_keeps_too_long_rather_than_too_short(shop: Stage) -> None:
    tagging = writing(shop.cloud.bucket)
    tagging["Action"] = [*tagging["Action"], "s3:PutObjectTagging"]
    shop.cloud.allow(tagging)
    for _ in range(2):
        run = shop.run(shop.inputs(retention_tier="auto"))
        assert 0 == run.exit_code, run.output
        (warning,) = [each for each in run.warnings if "is kept as" in each.title]
        assert "This backup is kept as a yearly one" == warning.title
        assert "s3:ListBucket" in warning.message
    assert ["yearly", "yearly"] == tiers_of(shop)


def test_without_the_option_nothing_is_tagged_and_nothing_more_is_asked(shop: Stage) -> None:
    shop.cloud.allow(writing(shop.cloud.bucket))
    run = shop.run()
    assert 0 == run.exit_code, run.output
    assert "retention-tier" not in run.outputs
    assert [None] == tiers_of(shop)
    assert [] == marks(shop)
    (manifest,) = shop.cloud.manifests().values()
    assert "retention_tier" not in json.dumps(manifest)


def test_a_role_that_may_not_tag_is_told_so_before_the_dump_is_stored(shop: Stage) -> None:
    shop.cloud.allow(writing(shop.cloud.bucket))
    run = shop.run(shop.inputs(retention_tier="daily"))
    assert 3 == run.exit_code
    assert "s3:PutObjectTagging" in run.errors[0].message
    assert {} == shop.cloud.objects()
