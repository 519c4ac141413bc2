"""What it takes to read an archived object again: time, and money."""

from __future__ import annotations

from dataclasses import dataclass

from backup.aws.s3_reading import ARCHIVED_CLASSES

PRICE_PAGE = "https://aws.amazon.com/s3/pricing/"
PRICES = "prices of us-east-1, June 2026"

# What is thawed out of GLACIER and DEEP_ARCHIVE is a copy in S3 Standard, paid for by the day.
_COPY_DOLLARS_PER_GB_MONTH = 0.023
_GB = 1 << 30  # that AWS bills
_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Retrieval:
    """One way out of an archive. `usually` is AWS's promise, `seconds` its longer end."""

    usually: str
    seconds: int
    dollars_per_gb: float = 0.0
    dollars_per_thousand: float = 0.0


# By archive (a storage class, or a tier of INTELLIGENT_TIERING) and retrieval tier. Times:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html
_EXPEDITED = Retrieval("1 to 5 minutes", 300, 0.03, 10.0)
_RETRIEVALS: dict[tuple[str, str], Retrieval] = {
    ("GLACIER", "expedited"): _EXPEDITED,
    ("GLACIER", "standard"): Retrieval("3 to 5 hours", 5 * _HOUR, 0.01, 0.05),
    ("GLACIER", "bulk"): Retrieval("5 to 12 hours", 12 * _HOUR),
    ("DEEP_ARCHIVE", "standard"): Retrieval("up to 12 hours", 12 * _HOUR, 0.02, 0.10),
    ("DEEP_ARCHIVE", "bulk"): Retrieval("up to 48 hours", 48 * _HOUR, 0.0025, 0.025),
    ("ARCHIVE_ACCESS", "expedited"): _EXPEDITED,
    ("ARCHIVE_ACCESS", "standard"): Retrieval("3 to 5 hours", 5 * _HOUR),
    ("ARCHIVE_ACCESS", "bulk"): Retrieval("5 to 12 hours", 12 * _HOUR),
    ("DEEP_ARCHIVE_ACCESS", "standard"): Retrieval("up to 12 hours", 12 * _HOUR),
    ("DEEP_ARCHIVE_ACCESS", "bulk"): Retrieval("up to 48 hours", 48 * _HOUR),
}


def retrieval(archive: str, tier: str) -> Retrieval | None:
    """How objects of an archive come back; None where it does not know the tier."""
    return _RETRIEVALS.get((archive, tier))


def estimated_dollars(archive: str, tier: str, sizes: list[int], days: int) -> float:
    """What thawing objects of these sizes for some days costs, about."""
    way = _RETRIEVALS[archive, tier]
    gb = sum(sizes) / _GB
    copies = gb * _COPY_DOLLARS_PER_GB_MONTH * days / 30 if archive in ARCHIVED_CLASSES else 0.0
    return gb * way.dollars_per_gb + len(sizes) / 1000 * way.dollars_per_thousand + copies
