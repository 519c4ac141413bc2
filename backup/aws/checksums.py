"""The checksums that S3 compares with what arrives."""

from __future__ import annotations

import base64
import hashlib

from backup.store import PartBody

_READ_BYTES = 1 << 20


def md5_of_part(body: PartBody) -> str:
    """Content-MD5 of a part, which is left at its start."""
    digest = hashlib.md5(usedforsecurity=False)
    while block := body.read(_READ_BYTES):
        digest.update(block)
    body.seek(0)
    return base64.b64encode(digest.digest()).decode()


def md5_of(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def crc64nvme_of(body: bytes) -> str:
    """As S3 writes it: base64 of the 8 bytes, the highest first."""
    from awscrt.checksums import crc64nvme

    return base64.b64encode(crc64nvme(body).to_bytes(8, "big")).decode()
