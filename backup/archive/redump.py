"""A dump that is followed for its digests alone: every byte is hashed, and none is kept."""

from __future__ import annotations

from collections.abc import Sequence

from backup.store import PartBody, StoredPart


class Nowhere:
    """An `ObjectStore` that confirms what it is given without reading it.

    So `Follower` and `Uploads` work as in a backup, and the disk is freed at once.
    """

    def begin(self, key: str) -> str:
        return key

    def put_part(
        self, key: str, upload_id: str, number: int, body: PartBody, size: int, crc64nvme: str  # noqa: ARG002
    ) -> StoredPart:  # fmt: skip
        return StoredPart(number, "", crc64nvme)

    def complete(
        self, key: str, upload_id: str, parts: Sequence[StoredPart], size: int, crc64nvme: str
    ) -> None:
        """Nothing becomes visible."""

    def abort(self, key: str, upload_id: str) -> None:
        """Nothing was begun."""
