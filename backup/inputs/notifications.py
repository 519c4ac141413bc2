"""Who is told how a run ended."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from backup.reading import Reader
from backup.settings import NotificationSettings, Secret

# Where somebody is told: without any of these nobody is.
TELLING = ("sns-topic-arn", "webhook-url", "cloudwatch-namespace")

_TOPIC = r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[\w-]{1,256}"
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
_NAMESPACE = r"(?!AWS/)[\w.#/:-]{1,255}"
_SLACK = "hooks.slack.com"


def notifications(reader: Reader) -> NotificationSettings:
    url = reader.text("webhook-url").strip()
    host = _host(reader, url) if url else ""
    form = (
        reader.choice("webhook-format", ("slack", "json"))
        if reader.given("webhook-format")
        else ("slack" if host == _SLACK else "json")
    )
    secret = reader.text("webhook-secret")
    if secret and (not url or form != "json"):
        reader.fault("webhook-secret", "signs what is posted as json, and nothing is",
                     "give webhook-url and webhook-format: json, or leave it out")  # fmt: skip
    return NotificationSettings(
        topic_arn=reader.matching(
            "sns-topic-arn", _TOPIC, "arn:aws:sns:eu-central-1:123456789012:pg-backup"
        ),
        webhook_url=Secret(url) if url else None,
        webhook_format=form,
        webhook_secret=Secret(secret) if secret else None,
        on=reader.choice("notify-on", ("failure", "always", "change")),
        namespace=reader.matching("cloudwatch-namespace", _NAMESPACE, "PgBackup"),
    )


def _host(reader: Reader, url: str) -> str:
    """The host of the URL; the URL itself is a secret, and never shown."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    is_here = host in ("127.0.0.1", "localhost", "::1")
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_here)
    # A line break or a blank in it could become a line of the request.
    if not host or not is_safe or not re.fullmatch(r"[!-~]+", url) or "@" in parts.netloc:
        reader.fault(
            "webhook-url", "is no URL of https", "write https://hooks.slack.com/services/…"
        )
    return host
