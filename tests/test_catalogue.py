"""Which backup is meant, and what lies next to it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from backup.archive.catalogue import DrillEntry, choose, drill_key, drills, entries
from backup.errors import InputError
from tests.manifests import Put

IDS = (
    "20261120T020000Z-aaaaaa",
    "20261121T020000Z-bbbbbb",
    "20261121T235959Z-cccccc",
    "20261122T020000Z-dddddd",
    "20261122T020000Z-eeeeee",
)
FOUND = entries("p", [Put(f"p/shop/{each}/manifest.json") for each in reversed(IDS)])


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ("latest", 4),
        (IDS[3], 3),
        (IDS[0], 0),
        ("2026-11-22T02:00:00Z", 4),
        ("20261122T020000Z", 4),
        ("2026-11-22T01:59:59Z", 2),
        ("2026-11-21T02:00", 1),
        ("2026-11-21 02:00:00", 1),
        ("2026-11-21T03:00+01:00", 1),
        ("2026-11-21T02:59:59+01:00", 0),
        ("2026-11-22T00:59:58+01:00", 1),
        ("2026-11-21", 2),
        ("2026-11-20", 0),
        ("2030-01-01", 4),
        ("9999-12-31", 4),
    ],
)
def test_a_backup_is_meant_by_its_id_or_by_a_time_at_which_it_was_there(
    wanted: str, index: int
) -> None:
    assert IDS[index] == choose(FOUND, wanted).id


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("2026-11-19", IDS[0]),
        ("2026-11-20T01:59:59", IDS[0]),
        ("0001-01-01T00:00-14:00", IDS[0]),
        ("20261122T020000Z-ffffff", IDS[4]),
    ],
)
def test_a_backup_that_is_not_there_is_answered_with_those_that_are_near(
    wanted: str, near: str
) -> None:
    with pytest.raises(InputError) as caught:
        choose(FOUND, wanted)

    assert near in caught.value.detail
    assert 3 == len(caught.value.lines())


@pytest.mark.parametrize("wanted", ["", "newest", "2026-02-30", "2026-11-22T25:00", IDS[0][:-1]])
def test_what_is_neither_an_id_nor_a_time_is_answered_with_examples(wanted: str) -> None:
    with pytest.raises(InputError) as caught:
        choose(FOUND, wanted)

    assert f"backup-id: {wanted!r} names no backup" == caught.value.message
    assert "2026-11-22T02:00+01:00" in caught.value.hint


def test_nothing_can_be_chosen_from_nothing() -> None:
    with pytest.raises(InputError, match="there is no backup for backup-id: latest"):
        choose([], "latest")


def test_drills_lie_next_to_their_backup_and_are_no_part_of_it() -> None:
    root = f"p/a%2Fb/{IDS[0]}/"
    key = drill_key(root, datetime(2026, 12, 1, 3, 0, 0, tzinfo=UTC))
    listed = [
        Put(f"{root}archive/pack-0001.tar", 100),
        Put(f"{root}drills/20261101T030000Z.json", 7),
        Put(key, 7),
        Put(f"{root}drills/20261301T030000Z.json", 7),
        Put(f"{root}drills/notes.txt", 7),
        Put(f"{root}manifest.json", 10),
        Put(f"p/a%2Fb/elsewhere/{key.rpartition('/')[2]}", 7),
    ]

    (entry,) = entries("p", listed)
    assert (100, 1) == (entry.stored_bytes, entry.objects)
    assert f"{root}drills/20261201T030000Z.json" == key
    assert [
        DrillEntry("a/b", IDS[0], datetime(2026, 11, 1, 3, tzinfo=UTC), listed[1].key),
        DrillEntry("a/b", IDS[0], datetime(2026, 12, 1, 3, tzinfo=UTC), key),
    ] == drills("p", listed)
