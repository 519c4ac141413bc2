"""When an alarm of CloudWatch changes: its documented rules, of numbers alone.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence

# A period without data is None; the oldest first.
Series = Sequence[float | None]

# CloudWatch asks for more periods than it evaluates, "the exact number varies": its own examples
# have 5 for 3.
MORE_PERIODS = 2
OK, ALARM, INSUFFICIENT_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"
_COMPARISONS = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "GreaterThanUpperThreshold": operator.gt,
    "LessThanOrEqualToThreshold": operator.le,
    "LessThanThreshold": operator.lt,
}
_HOUR, _DAY = 3600, 86400


def state(
    series: Series,
    *,
    before: str,
    periods: int,
    datapoints: int,
    missing: str,
    comparison: str,
    threshold: float,
) -> str:
    """The state after an evaluation of `periods` + MORE_PERIODS values; `before` is the old one."""
    breaching = [
        None if value is None else bool(_COMPARISONS[comparison](value, threshold))
        for value in series
    ]
    real = [each for each in breaching if each is not None]
    if len(real) >= periods:
        return ALARM if sum(real[-periods:]) >= datapoints else OK
    filled = periods - len(real)
    worst, best = sum(real) + filled, sum(real)
    if best >= datapoints:
        return ALARM
    if worst < datapoints:
        return OK
    match missing:
        case "breaching":
            return ALARM
        case "notBreaching":
            return OK
        case "ignore":
            return before
    # "missing": an alarm must not wait because a breach is followed by nothing.
    if not real:
        return INSUFFICIENT_DATA
    return ALARM if all(real) else OK


def evaluated(expression: str, by_id: Mapping[str, Series]) -> Series:
    """A metric math expression of the forms that our templates use. Raises ValueError."""
    text = expression.strip()
    if found := re.fullmatch(r"FILL\((\w+), ?(-?[\d.]+)\)", text):
        return [float(found[2]) if value is None else value for value in by_id[found[1]]]
    if found := re.fullmatch(r"SUM\(METRICS\(\)\) / ([\d.]+)", text):
        columns = zip(*by_id.values(), strict=True)
        there = [[value for value in column if value is not None] for column in columns]
        return [sum(values) / float(found[1]) if values else None for values in there]
    if found := re.fullmatch(r"(\w+) / ([\d.]+)", text):
        return [None if v is None else v / float(found[2]) for v in by_id[found[1]]]
    if found := re.fullmatch(r"0 - (\w+)", text):
        return [None if value is None else -value for value in by_id[found[1]]]
    raise ValueError(f"the lab does not know the expression {expression}")


def faults(period: int, periods: int, datapoints: int) -> list[str]:
    """What CloudWatch refuses of an alarm's times.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
    """
    longest = _DAY if period < _HOUR else 7 * _DAY
    found = []
    if period not in (10, 20, 30) and period % 60:
        found.append(f"Period {period} is no multiple of 60")
    if period * periods > longest:
        found.append(f"{periods} periods of {period} s are more than {longest} s")
    if not 1 <= datapoints <= periods:
        found.append(f"{datapoints} datapoints of {periods} periods")
    return found
