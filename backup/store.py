"""What the archive asks of an object store; `backup.aws.s3` is the one that answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class PartBody(Protocol):
    """The bytes of one part as a file that can be read again from its start for a retry."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part that the store has confirmed. `crc64nvme` is base64 of the 8 big-endian bytes."""

    number: int
    etag: str
    crc64nvme: str


class ObjectStore(Protocol):
    """Objects that become visible only when they are completed.

    Every method may be called from any thread, retries by itself what is worth retrying, and
    raises StorageError or AccessError.
    """

    def begin(self, key: str) -> str:
        """Open a multipart upload; the id that the other methods want."""

    def put_part(
        self, key: str, upload_id: str, number: int, body: PartBody, size: int, crc64nvme: str
    ) -> StoredPart: ...

    def complete(
        self, key: str, upload_id: str, parts: Sequence[StoredPart], size: int, crc64nvme: str
    ) -> None:
        """Make the object visible; `size` and `crc64nvme` are the whole object's."""

    def abort(self, key: str, upload_id: str) -> None: ...


class ObjectReader(Protocol):
    """Bytes of objects that are complete. `backup.aws.s3_reading.ReadableBucket` is one."""

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, all `size` of them (8 MiB at the most), or an error.

        May be called from any thread. Retries by itself what is worth retrying, an answer that
        breaks off or stalls in its middle too. Raises StorageError or AccessError.
        """
        ...
