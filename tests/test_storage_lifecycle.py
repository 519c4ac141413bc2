"""storage.yaml and replication.yaml: what their buckets keep, for how long, and in which class."""

from __future__ import annotations

import re

import pytest

from tests.lab.templates import TemplateError
from tests.storage_templates import expires_after, lifecycle, made, parameters_of, store

BOTH = pytest.mark.parametrize("template", ["storage", "replication"])


@BOTH
@pytest.mark.parametrize(
    ("tier", "days"),
    [("daily", 35), ("weekly", 120), ("monthly", 365), ("yearly", 730), (None, 730)],
)
def test_each_tier_expires_in_its_time(template: str, tier: str | None, days: int) -> None:
    assert days == expires_after(lifecycle(template), tier)


@BOTH
@pytest.mark.parametrize(
    ("parameter", "tier"),
    [("DailyDays", "daily"), ("WeeklyDays", "weekly"), ("MonthlyDays", "monthly")],
)
def test_the_days_of_a_tier_are_a_parameter(template: str, parameter: str, tier: str) -> None:
    assert 99 == expires_after(lifecycle(template, **{parameter: "99"}), tier)
    assert 2555 == expires_after(lifecycle(template, ExpirationDays="2555"), "yearly")


@BOTH
def test_the_rules_are_these_and_no_other(template: str) -> None:
    archive = [{"StorageClass": "GLACIER_IR", "TransitionInDays": "30"}]
    tiers = {"daily": "35", "weekly": "120", "monthly": "365"}
    assert [
        {"Id": "all", "Status": "Enabled", "Transitions": archive, "ExpirationInDays": "730"},
        *(
            {
                "Id": tier,
                "Status": "Enabled",
                "TagFilters": [{"Key": "retention-tier", "Value": tier}],
                "ExpirationInDays": days,
            }
            for tier, days in tiers.items()
        ),
        {
            "Id": "leftovers",
            "Status": "Enabled",
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
            "NoncurrentVersionExpiration": {"NoncurrentDays": "30"},
            "ExpiredObjectDeleteMarker": True,
        },
    ] == lifecycle(template)


@BOTH
def test_manifests_stay_where_they_can_be_read_at_once(template: str) -> None:
    configuration = store(template)["LifecycleConfiguration"]
    assert "all_storage_classes_128K" == configuration["TransitionDefaultMinimumObjectSize"]


@BOTH
def test_a_daily_stays_long_enough_for_its_archive_to_be_cheaper(template: str) -> None:
    """GLACIER_IR bills 90 days: at 0.004 and 0.005 $ a GB and month as much as 15.7 and 18.4
    days of Standard at 0.023 and 0.0245 (us-east-1, eu-central-1)."""
    defaults = {name: each["Default"] for name, each in parameters_of(template).items()}
    kept = defaults["DailyDays"] + defaults["NoncurrentDays"] - defaults["ArchiveDays"]
    assert kept >= max(90 * 0.004 / 0.023, 90 * 0.005 / 0.0245)


@BOTH
@pytest.mark.parametrize(
    "storage_class", ["GLACIER_IR", "STANDARD_IA", "INTELLIGENT_TIERING", "GLACIER",
                      "DEEP_ARCHIVE", "NONE"],
)  # fmt: skip
def test_the_archive_is_a_choice(template: str, storage_class: str) -> None:
    rules = lifecycle(template, ArchiveClass=storage_class, ArchiveDays="60")
    moves = [each for rule in rules for each in rule.get("Transitions", [])]
    one = {"StorageClass": storage_class, "TransitionInDays": "60"}
    assert ([] if storage_class == "NONE" else [one]) == moves


@BOTH
def test_where_it_is_chosen_it_says_which_archives_are_too_slow(template: str) -> None:
    parameter = parameters_of(template)["ArchiveClass"]
    assert {"GLACIER_IR", "STANDARD_IA", "INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE",
            "NONE"} == set(parameter["AllowedValues"])  # fmt: skip
    assert "GLACIER_IR" == parameter["Default"]
    told = r"GLACIER takes 3 to 5 hours .* DEEP_ARCHIVE 12, so NEITHER CAN MEET AN RTO OF 4"
    assert re.search(told, parameter["Description"])
    with pytest.raises(TemplateError):
        made(template, ArchiveClass="ONEZONE_IA")
