"""Fixes as lines of a shell, with every name filled in."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from backup.settings import BucketSettings


def aws(*words: str) -> str:
    """One call of the AWS CLI; each word becomes one argument, whatever is in it."""
    return shlex.join(("aws", *words))


def s3api(settings: BucketSettings, region: str, command: str, *words: str) -> str:
    """`aws s3api COMMAND` about the bucket."""
    owner = ("--expected-bucket-owner", settings.expected_owner) if settings.expected_owner else ()
    return aws("s3api", command, "--region", region, "--bucket", settings.name, *owner, *words)


def document(value: Mapping[str, Any]) -> str:
    """JSON for an argument; a date as AWS wants it."""
    return json.dumps(value, default=_date, ensure_ascii=False)


def _date(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} is nothing that S3 gives")
