"""The audit of a bucket's lifecycle rules, and what becomes of those that are there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from backup.archive.retention import TAG
from backup.checks import Status
from backup.operations.auditing import bucket_lifecycle
from backup.operations.auditing.bucket import checks
from tests.audited_bucket import Audited, by_id
from tests.audits import KEYS, apply, logged_in, settings_of
from tests.lab.aws import Moto
from tests.lab.cloud import PREFIX, Cloud

LIFECYCLE = {id for id, _ in bucket_lifecycle.IDS}
MULTIPARTS, NONCURRENT = "AbortIncompleteMultipartUpload", "NoncurrentVersionExpiration"
KEPT = "NewerNoncurrentVersions"
NOW = datetime.now(UTC)


@pytest.fixture
def audited(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Audited:
    return Audited(cloud, monkeypatch)


def rule(prefix: str = f"{PREFIX}/", **more: Any) -> dict[str, Any]:
    return {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": prefix}} | more


def moved(**days: int) -> dict[str, Any]:
    """Transitions to storage classes after so many days."""
    return {"Transitions": [{"Days": days[each], "StorageClass": each} for each in days]}


def whole(**more: Any) -> dict[str, Any]:
    """A rule that leaves nothing to wish for."""
    return (
        rule(
            Transitions=[{"Days": 30, "StorageClass": "GLACIER_IR"}],
            Expiration={"Days": 730},
            AbortIncompleteMultipartUpload={"DaysAfterInitiation": 2},
            NoncurrentVersionExpiration={"NoncurrentDays": 30},
        )
        | more
    )


def test_a_whole_rule_is_green(audited: Audited) -> None:
    audited.put_lifecycle(whole())
    found = audited.checks()
    assert dict.fromkeys(LIFECYCLE, Status.PASS) == {id: found[id].status for id in LIFECYCLE}


@pytest.mark.parametrize(
    "change",
    [
        {"Status": "Disabled"},
        {"Filter": {"Prefix": "other/"}},
        {"Filter": {"Prefix": f"{PREFIX}/shop/"}, "Expiration": {"Days": 800}},
        {"Filter": {"Tag": {"Key": "tier", "Value": "gold"}}},
        {"Filter": {"And": {"Prefix": f"{PREFIX}/", "ObjectSizeGreaterThan": 131072}}},
    ],
    ids=json.dumps,
)
def test_a_rule_that_does_not_take_in_all_backups_counts_for_nothing(
    audited: Audited, change: dict[str, Any]
) -> None:
    theirs = whole() | change
    if "AbortIncompleteMultipartUpload" in theirs and "Prefix" not in theirs["Filter"]:
        del theirs["AbortIncompleteMultipartUpload"]  # S3 takes it with a prefix alone
    audited.put_lifecycle(theirs)
    ids = LIFECYCLE - {"bucket.archive-class"}

    found = audited.checks()
    assert dict.fromkeys(ids, Status.WARN) == {id: found[id].status for id in ids}

    apply(found["bucket.archive"].fix, audited.env)
    after = audited.checks()
    assert dict.fromkeys(LIFECYCLE, Status.PASS) == {id: after[id].status for id in LIFECYCLE}
    kept, added = audited.lifecycle()
    assert theirs == kept
    assert f"{PREFIX}/" == added["Filter"]["Prefix"]


def test_a_rule_for_tags_counts_where_every_object_bears_them(audited: Audited) -> None:
    tags = {"And": {"Prefix": "", "Tags": [{"Key": "team", "Value": "data"}]}}
    audited.put_lifecycle(whole(Filter=tags))

    found = audited.checks(object_tags="team=data\ncost=7")

    assert Status.PASS is found["bucket.archive"].status


@pytest.mark.parametrize(
    ("id", "status", "change", "words"),
    [
        ("archive", Status.WARN, moved(GLACIER_IR=90), "after 90 days"),
        ("archive", Status.WARN, moved(STANDARD_IA=30), "archive class"),
        ("archive-class", Status.WARN, moved(GLACIER=30), "3 to 5 hours"),
        ("archive-class", Status.WARN, moved(GLACIER_IR=30, DEEP_ARCHIVE=180), "12 hours"),
        ("expiry", Status.FAIL, {"Expiration": {"Days": 365}}, "all of them after 365 days"),
        ("expiry", Status.FAIL, {"Expiration": {"Date": "2027-01-01"}}, "on 2027-01-01"),
        ("expiry", Status.WARN, {"Expiration": {"Days": 2555}}, "2,555 days"),
        ("multiparts", Status.WARN, {MULTIPARTS: {"DaysAfterInitiation": 30}}, "30 days"),
        ("noncurrent", Status.WARN, {NONCURRENT: {"NoncurrentDays": 9, KEPT: 2}}, "earlier"),
        ("noncurrent", Status.WARN, {NONCURRENT: {"NoncurrentDays": 1}}, "after 1 day"),
    ],
)
def test_what_is_wrong_in_a_rule_is_mended(
    audited: Audited, id: str, status: Status, change: dict[str, Any], words: str
) -> None:
    audited.put_lifecycle(whole(**change), rule("other/", ID="other", Expiration={"Days": 1}))

    audited.mended(f"bucket.{id}", status, words)

    after = audited.checks()
    assert dict.fromkeys(LIFECYCLE, Status.PASS) == {id: after[id].status for id in LIFECYCLE}
    assert {"Days": 1} == audited.lifecycle()[1]["Expiration"]


@pytest.mark.parametrize(
    "filter",
    [
        {"Prefix": f"{PREFIX}/shop/"},
        {"And": {"Prefix": PREFIX, "ObjectSizeLessThan": 1000}},
    ],
)
def test_a_rule_that_deletes_some_backups_early_is_a_failure(
    audited: Audited, filter: dict[str, Any]
) -> None:
    early = rule(ID="early", Filter=filter, Expiration={"Days": 14})
    audited.put_lifecycle(whole(), early)

    audited.mended("bucket.expiry", Status.FAIL, "'early'", "some of them after 14 days")


def test_a_slow_class_passes_where_a_restore_may_take_long(audited: Audited) -> None:
    audited.put_lifecycle(whole(Transitions=[{"Days": 30, "StorageClass": "GLACIER"}]))

    assert Status.PASS is audited.checks(max_restore_minutes="600")["bucket.archive-class"].status


def test_rules_of_the_old_form_become_rules_of_the_new_one(
    moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, env = "old-rules", KEYS | {"AWS_ENDPOINT_URL": moto.url}
    moto.make_bucket(name)
    s3 = moto.client("s3")
    old = {"ID": "old", "Status": "Enabled", "Prefix": "logs/", "Expiration": {"Days": 9}}
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [old]})
    settings = settings_of(bucket=name)
    session = logged_in(monkeypatch, settings, env)

    apply(by_id(checks(session, settings, NOW))["bucket.expiry"].fix, env)

    kept, _ = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert ({"Prefix": "logs/"}, {"Days": 9}) == (kept["Filter"], kept["Expiration"])
    assert Status.PASS is by_id(checks(session, settings, NOW))["bucket.expiry"].status


def tiered(**days: int) -> list[dict[str, Any]]:
    """Rules by tag that expire tiers after so many days."""
    return [
        rule(
            ID=tier,
            Filter={"And": {"Prefix": f"{PREFIX}/", "Tags": [{"Key": TAG, "Value": tier}]}},
            Expiration={"Days": days[tier]},
        )
        for tier in days
    ]


USUAL = {"daily": 35, "weekly": 120, "monthly": 365}


@pytest.mark.parametrize("tier", ["auto", "daily", "monthly", ""])
def test_tiers_that_expire_one_after_the_other_are_green(audited: Audited, tier: str) -> None:
    audited.put_lifecycle(whole(), *tiered(**USUAL))
    found = audited.checks(retention_tier=tier)
    assert dict.fromkeys(LIFECYCLE, Status.PASS) == {id: found[id].status for id in LIFECYCLE}
    if tier == "auto":
        assert "daily backups after 35" in found["bucket.expiry"].reason


@pytest.mark.parametrize(
    ("days", "words"),
    [
        ({"daily": 3}, "rule 'daily' deletes daily backups after 3 days"),
        ({"weekly": 30}, "rule 'weekly' deletes weekly backups after 30 days"),
        ({"monthly": 364}, "rule 'monthly' deletes monthly backups after 364 days"),
        ({"yearly": 400}, "rule 'yearly' deletes yearly backups after 400 days"),
    ],
)
def test_a_tier_that_is_gone_before_the_next_one_is_there_is_red_and_mended(
    audited: Audited, days: dict[str, int], words: str
) -> None:
    audited.put_lifecycle(whole(), *tiered(**(USUAL | days)))
    audited.mended("bucket.expiry", Status.FAIL, words, retention_tier="auto")
    kept = {each["ID"]: each["Expiration"]["Days"] for each in audited.lifecycle()}
    assert (USUAL | {"yearly": 730})[next(iter(days))] == kept[next(iter(days))]
    assert dict.fromkeys(LIFECYCLE, Status.PASS) == {
        id: check.status
        for id, check in audited.checks(retention_tier="auto").items()
        if id in LIFECYCLE
    }


def test_a_rule_by_prefix_that_expires_monthlies_early_is_red(audited: Audited) -> None:
    audited.put_lifecycle(whole(Expiration={"Days": 120}), *tiered(daily=35))
    audited.mended("bucket.expiry", Status.FAIL, "all of them after 120", retention_tier="auto")


def test_tiers_may_be_archived_each_by_its_own_rule(audited: Audited) -> None:
    first, *others = tiered(**USUAL, yearly=730)
    archive = moved(GLACIER_IR=30)
    expiry = whole()
    del expiry["Transitions"]
    audited.put_lifecycle(expiry, first, *(each | archive for each in others))
    assert Status.PASS is audited.checks(retention_tier="auto")["bucket.archive"].status
    # Who does not know of the tiers is told why nothing of theirs is archived.
    audited_without = audited.checks()["bucket.archive"]
    assert Status.WARN is audited_without.status
    assert "retention-tier: auto" in audited_without.reason


def test_a_tier_that_is_kept_for_long_and_never_archived_is_told(audited: Audited) -> None:
    expiry = whole()
    del expiry["Transitions"]
    audited.put_lifecycle(expiry, *tiered(**USUAL))
    audited.mended(
        "bucket.archive", Status.WARN, "no rule for all yearly backups", retention_tier="auto"
    )
    assert ["monthly", "weekly", "yearly"] == sorted(
        each["Filter"]["And"]["Tags"][0]["Value"]
        for each in audited.lifecycle()
        if each.get("Transitions")
    )


def test_dailies_that_are_gone_before_the_archive_has_paid_are_told(audited: Audited) -> None:
    """90 days of Glacier Instant Retrieval are what 16 to 19 of Standard cost."""
    short = whole(NoncurrentVersionExpiration={"NoncurrentDays": 7})
    audited.put_lifecycle(short, *tiered(**USUAL))
    audited.mended(
        "bucket.archive",
        Status.WARN,
        "daily backups are moved to an archive after 30 days",
        retention_tier="auto",
    )
