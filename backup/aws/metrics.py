"""Metrics to a namespace of CloudWatch.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote

from backup.aws.grants_notifications import sending
from backup.aws.refusals import Attempt, Remedy, explained
from backup.aws.session import AwsSession, short_of_patience
from backup.errors import AccessError, DumpError

_MOST_IN_REQUEST = 500  # CloudWatch takes 1,000 metrics and 1 MB

Unit = Literal["Count", "Seconds", "Bytes", "Percent"]
Dimension = Literal["Database", "Instance", "Status"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One value of now, of the one thing that `dimension` and `of` name."""

    name: str
    unit: Unit
    value: float
    dimension: Dimension
    of: str


def send(session: AwsSession, namespace: str, metrics: Sequence[Metric]) -> None:
    """Give them to CloudWatch. Raises AccessError, InputError or DumpError."""
    statement = json.dumps(sending(namespace).statement())
    attempt = Attempt(
        message="the metrics were not sent",
        region=session.region,
        failure=DumpError,
        remedies={
            code: Remedy(AccessError, f"allow it in the role's policy:\n{statement}")
            for code in ("AccessDenied", "AccessDeniedException")
        },
    )
    now = datetime.now(UTC)
    data = [
        {
            "MetricName": each.name,
            "Dimensions": [{"Name": each.dimension, "Value": ascii_only(each.of)}],
            "Timestamp": now,
            "Value": each.value,
            "Unit": each.unit,
        }
        for each in metrics
    ]
    with explained(attempt):
        client = session.client("cloudwatch", short_of_patience())
        for start in range(0, len(data), _MOST_IN_REQUEST):
            client.put_metric_data(
                Namespace=namespace, MetricData=data[start : start + _MOST_IN_REQUEST]
            )


def ascii_only(name: str) -> str:
    """A dimension's value: ASCII without control characters; any other name as S3's keys have it.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html
    """
    return name if name.isascii() and name.isprintable() and name.strip() else quote(name, safe="")
