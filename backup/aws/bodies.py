"""What is sent, in the form that the signer wants it, and the checksums that go with it."""

from __future__ import annotations

import base64
import hashlib
import os

from backup.archive.store import PartBody

_READ_BYTES = 1 << 20


class ExactReads:
    """A part whose `read` gives no more than it is asked for.

    Over plain http the signer hashes the body, and reads it into a buffer of its own size.
    """

    def __init__(self, body: PartBody) -> None:
        self._body = body
        self._left = b""

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            rest = [self._left]
            self._left = b""
            while block := self._body.read(size):
                rest.append(block)
            return b"".join(rest)
        block = self._left or self._body.read(size)
        self._left = block[size:]
        return block[:size]

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_CUR:
            offset -= len(self._left)
        self._left = b""
        return self._body.seek(offset, whence)

    def tell(self) -> int:
        return self._body.tell() - len(self._left)


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
