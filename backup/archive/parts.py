"""How large each part of an upload is, and the bytes of one part.

S3 takes 10,000 parts of 5 MiB to 5 GiB
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html). Small parts keep little on
the scratch disk; parts that double every 400 let one object reach 32 TiB, the most that one
table of PostgreSQL can hold (https://www.postgresql.org/docs/current/limits.html).
"""

from __future__ import annotations

import io
import os
import threading

FIRST_PART_BYTES = 8 << 20
LARGEST_PART_BYTES = 5 << 30
MOST_PARTS = 10_000
_PARTS_OF_ONE_SIZE = 400


def part_bytes(number: int) -> int:
    """Size of part `number`, counted from 1; the last part of an object may be smaller."""
    return min(FIRST_PART_BYTES << (number - 1) // _PARTS_OF_ONE_SIZE, LARGEST_PART_BYTES)


class UploadStopped(BaseException):
    """Raised inside an upload that is no longer wanted; never leaves the upload threads.

    Not an Exception: the HTTP client would take it for a fault of the network and try again.
    """


class FilePart:
    """A range of a file, read as the body of a request and read again for a retry."""

    def __init__(self, descriptor: int, offset: int, size: int, stopped: threading.Event) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._size = size
        self._stopped = stopped
        self._position = 0

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1, /) -> bytes:
        if self._stopped.is_set():
            raise UploadStopped
        left = self._size - self._position
        wanted = left if size < 0 else min(left, size)
        if not wanted:
            return b""
        read = os.pread(self._descriptor, wanted, self._offset + self._position)
        if not read:
            raise OSError(f"the file ends {left} bytes before its part")
        self._position += len(read)
        return read

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position
