"""Rows in the text format of COPY, as a digest: where compressed bytes may differ, these do not.

What is hashed are the rows alone, each with its newline: neither the COPY statement before them
nor the `\\.` behind them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextDigest:
    """Rows of one table, or the content of one large object, which has no rows.

    `sha256` is of all bytes; `any_order` is the sum of the rows' own SHA-256, modulo 2^256.
    """

    rows: int
    bytes: int
    sha256: str
    any_order: str


class TextHash:
    """Takes the bytes in pieces, cut anywhere: a row may be larger than memory."""

    def __init__(self) -> None:
        self._all = hashlib.sha256()
        self._bytes = 0
        self._rows = 0
        self._sum = 0
        self._begun = hashlib.sha256()
        self._has_begun = False

    def add(self, piece: bytes) -> None:
        self._all.update(piece)
        self._bytes += len(piece)
        *rows, rest = piece.split(b"\n")
        if rows and self._has_begun:
            self._begun.update(rows[0])
            self._count(self._begun.digest())
            self._begun, self._has_begun = hashlib.sha256(), False
            del rows[0]
        for row in rows:
            self._count(hashlib.sha256(row).digest())
        if rest:
            self._begun.update(rest)
            self._has_begun = True

    def digest(self) -> TextDigest:
        total = self._sum + (int.from_bytes(self._begun.digest()) if self._has_begun else 0)
        any_order = (total % (1 << 256)).to_bytes(32).hex()
        return TextDigest(self._rows, self._bytes, self._all.hexdigest(), any_order)

    def _count(self, digest: bytes) -> None:
        self._rows += 1
        self._sum += int.from_bytes(digest)
