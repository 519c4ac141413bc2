"""Files that leave for the store while they are written: a member of the archive, or a pack."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path

from awscrt import checksums

from backup.archive.parts import FIRST_PART_BYTES
from backup.archive.uploads import ObjectUpload, Uploads
from backup.model import Member

_HASH_BYTES = 1 << 20

# A pack stays small enough to be fetched and unpacked by hand.
_FULL_PACK_BYTES = 2 << 30


class GrowingFile:
    """A file written at its end while its beginning is hashed, sent and punched out."""

    def __init__(self, path: Path, upload: ObjectUpload) -> None:
        self.name = path.name
        self.upload = upload
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._sha256 = hashlib.sha256()
        self._sent = 0
        self._buffer = memoryview(bytearray(_HASH_BYTES))

    def send(self, written: int, *, finished: bool, uploads: Uploads) -> None:
        """Queue each whole part among the `written` bytes; of a finished file the rest, too."""
        while self.send_part(written, finished=finished, uploads=uploads):
            continue

    def send_part(self, written: int, *, finished: bool, uploads: Uploads) -> bool:
        """Queue one part, if there is one; whether there was."""
        size = min(self.upload.next_part_bytes, written - self._sent)
        if size <= 0 or (size < self.upload.next_part_bytes and not finished):
            return False
        crc = self._hash(self._sent, size)
        uploads.send(self.upload, self._descriptor, self._sent, size, crc)
        self._sent += size
        return True

    def as_member(self) -> Member:
        """The finished file as a member that is an object of its own."""
        return Member(self.name, self.upload.key, 0, self._sent, self._sha256.hexdigest())

    def remove(self) -> None:
        """Give back what is left of the disk; only once everything is stored."""
        os.close(self._descriptor)
        self._path.unlink()

    def _hash(self, offset: int, size: int) -> int:
        crc = 0
        end = offset + size
        while offset < end:
            count = os.preadv(self._descriptor, [self._buffer[: end - offset]], offset)
            if not count:
                raise OSError(f"{self.name} ended at byte {offset}, before byte {end}")
            chunk = self._buffer[:count]
            self._sha256.update(chunk)
            crc = checksums.crc64nvme(chunk, crc)
            offset += count
        return crc


class Pack:
    """A tar that carries the small members, sent while it grows."""

    def __init__(self, path: Path, upload: ObjectUpload, modified: float) -> None:
        self._modified = int(modified)
        self._end = 0
        self._file = path.open("xb", buffering=FIRST_PART_BYTES)
        self.growing = GrowingFile(path, upload)

    @property
    def is_full(self) -> bool:
        return self._end >= _FULL_PACK_BYTES

    def add(self, name: str, content: bytes) -> Member:
        """Append one member; where its bytes lie in the tar."""
        header = tarfile.TarInfo(name)
        header.size, header.mtime, header.mode = len(content), self._modified, 0o600
        self._file.write(header.tobuf(tarfile.USTAR_FORMAT))
        offset = self._end + tarfile.BLOCKSIZE
        self._file.write(content)
        self._file.write(bytes(-len(content) % tarfile.BLOCKSIZE))
        self._end = offset + len(content) + -len(content) % tarfile.BLOCKSIZE
        digest = hashlib.sha256(content).hexdigest()
        return Member(name, self.growing.upload.key, offset, len(content), digest)

    def send(self, uploads: Uploads) -> None:
        """Queue the parts that are whole."""
        if self._end - self._sent_bytes >= self.growing.upload.next_part_bytes:
            self._file.flush()
            self.growing.send(self._end, finished=False, uploads=uploads)

    def finish(self, uploads: Uploads) -> None:
        """Write the end of the tar, two empty blocks, and queue the rest."""
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))
        self._file.close()
        self.growing.send(self._end + 2 * tarfile.BLOCKSIZE, finished=True, uploads=uploads)

    @property
    def _sent_bytes(self) -> int:
        return self.growing.upload.size
