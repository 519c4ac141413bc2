"""Rows in the text format of COPY, as digests: where compressed bytes may differ, these do not.

What is hashed are the rows alone, each with its newline: neither the COPY statement before them
nor the `\\.` behind them. They come in pieces cut anywhere, for a row may be larger than memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextDigest:
    """Rows of one table in their order, or the content of one large object."""

    rows: int
    bytes: int
    sha256: str


def digest(pieces: Iterable[bytes]) -> TextDigest:
    hashed = hashlib.sha256()
    rows = size = 0
    for piece in pieces:
        hashed.update(piece)
        rows += piece.count(b"\n")
        size += len(piece)
    return TextDigest(rows, size, hashed.hexdigest())


def sum_of_rows(pieces: Iterable[bytes]) -> int:
    """The sum of the rows' own SHA-256, which their order does not change. A microsecond a row."""
    total = 0
    begun = hashlib.sha256()
    for piece in pieces:
        *ends, rest = piece.split(b"\n")
        if ends:
            begun.update(ends[0])
            total += int.from_bytes(begun.digest())
            for row in ends[1:]:
                total += int.from_bytes(hashlib.sha256(row).digest())
            begun = hashlib.sha256()
        begun.update(rest)
    return total
