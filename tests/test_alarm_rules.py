"""The lab's alarms follow CloudWatch's documented rules (tests/lab/alarm_rules.py).

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

from __future__ import annotations

import pytest

from tests.lab.alarm_rules import ALARM, INSUFFICIENT_DATA, OK, evaluated, faults, state

# CloudWatch's own two tables, of which the first has 3 of 3 datapoints and
# the second 2 of 3; X breaches, 0 does not, - is missing. In the order missing, ignore, breaching,
# notBreaching; "before" is a state that is kept.
TABLE = [
    ("0-X-X", 3, (OK, OK, OK, OK)),
    ("0----", 3, (OK, OK, OK, OK)),
    ("-----", 3, (INSUFFICIENT_DATA, "before", ALARM, OK)),
    ("0XX-X", 3, (ALARM, ALARM, ALARM, ALARM)),
    ("--X--", 3, (ALARM, "before", ALARM, OK)),
    ("0-X-X", 2, (ALARM, ALARM, ALARM, ALARM)),
    ("00X-X", 2, (ALARM, ALARM, ALARM, ALARM)),
    ("0-X--", 2, (OK, "before", ALARM, OK)),
    ("--X-X", 2, (ALARM, ALARM, ALARM, ALARM)),
]  # fmt: skip


@pytest.mark.parametrize(("points", "datapoints", "expected"), TABLE)
def test_missing_data_is_treated_as_in_cloudwatchs_own_tables(
    points: str, datapoints: int, expected: tuple[str, ...]
) -> None:
    series = [{"0": 0.0, "X": 1.0, "-": None}[each] for each in points]
    for missing, state_of in zip(
        ("missing", "ignore", "breaching", "notBreaching"), expected, strict=True
    ):
        assert state_of == state(
            series, before="before", periods=3, datapoints=datapoints, missing=missing,
            comparison="GreaterThanThreshold", threshold=0,
        )  # fmt: skip


def test_expressions_keep_what_is_missing_but_where_it_is_filled_up() -> None:
    by_id = {"a": [None, 2.0, 4.0], "b": [None, None, 1.0]}
    assert [0.0, 2.0, 4.0] == evaluated("FILL(a, 0)", by_id)
    assert [None, 1.0, 2.5] == evaluated("SUM(METRICS()) / 2", by_id)
    assert [None, -2.0, -4.0] == evaluated("0 - a", by_id)
    assert [None, 1.0, 2.0] == evaluated("a / 2", by_id)
    with pytest.raises(ValueError, match="does not know"):
        evaluated("RATE(a)", by_id)


@pytest.mark.parametrize(
    ("period", "periods", "datapoints", "is_taken"),
    [(3600, 168, 168, True), (3600, 169, 169, False), (300, 288, 1, True), (300, 289, 1, False),
     (86400, 7, 7, True), (90, 1, 1, False), (60, 2, 3, False)],
)  # fmt: skip
def test_times_are_refused_as_cloudwatch_refuses_them(
    period: int, periods: int, datapoints: int, is_taken: bool
) -> None:
    assert is_taken == (not faults(period, periods, datapoints))
