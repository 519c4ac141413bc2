"""How far this machine's clock is from AWS's: a signature is good for 15 minutes around it.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (RequestTimeTooSkewed)
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from backup.aws.refusals import Attempt, explained
from backup.aws.session import anonymous_session
from backup.errors import StorageError

_SECONDS, _ATTEMPTS = 10, 2


def seconds_ahead(region: str, bucket: str) -> float:
    """By how much the clock here is ahead of S3's, good to a second; negative where it is behind.

    Asked without credentials, for a wrong clock is what keeps one from getting them: S3 refuses
    the request, and its answer has the time. Raises StorageError.
    """
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import ClientError

    config = Config(
        signature_version=UNSIGNED,
        connect_timeout=_SECONDS,
        read_timeout=_SECONDS,
        retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
        s3={"addressing_style": "path"},
    )
    before = datetime.now(UTC)
    with explained(Attempt("cannot ask S3 for the time", region, unreachable=StorageError)):
        client = anonymous_session(region).client("s3", config)
        try:
            answer: Any = client.head_bucket(Bucket=bucket)
        except ClientError as error:
            answer = error.response
    here = before + (datetime.now(UTC) - before) / 2
    told = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        return (here - parsedate_to_datetime(told)).total_seconds()
    except (ValueError, TypeError) as error:
        raise StorageError(
            "S3 does not tell the time",
            detail=f"its answer has the date {told!r}",
            hint="compare by hand: date --utc; curl --head https://s3.amazonaws.com",
        ) from error
