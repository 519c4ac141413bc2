"""The way to the store: objects that are written part by part and completed all at the end."""

from __future__ import annotations

import base64
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

from awscrt import checksums

from backup.archive.parts import MOST_PARTS, FilePart, UploadStopped, part_bytes
from backup.archive.scratch import punch
from backup.errors import BackupError, StorageError
from backup.model import StoredObject
from backup.store import ObjectStore, StoredPart

# Time for requests under way to end, or to notice that they are no longer wanted, in seconds.
_STOP_SECONDS = 3.0


def encode_crc(value: int) -> str:
    """A CRC64NVME as S3 writes it: base64 of its 8 bytes, the highest first."""
    return base64.b64encode(value.to_bytes(8, "big")).decode()


class ObjectUpload:
    """One object on its way: parts are added in order, and sent in any.

    `key` is relative to the backup's root.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.size = 0
        self.parts_added = 0
        self.upload_id = ""  # until the store was asked for one
        self.completed = False
        self.lock = threading.Lock()
        self._crc = 0
        self._stored: dict[int, StoredPart] = {}

    @property
    def next_part_bytes(self) -> int:
        return part_bytes(self.parts_added + 1)

    @property
    def everything_stored(self) -> bool:
        return len(self._stored) == self.parts_added

    def add(self, size: int, crc: int) -> int:
        """Count one more part in; its number."""
        if self.parts_added == MOST_PARTS:
            raise StorageError(
                f"{self.key} is larger than S3 takes",
                detail=f"{self.size} bytes went into {MOST_PARTS} parts and more are to come",
                hint="exclude this table's data and archive it on its own",
            )
        self.parts_added += 1
        self.size += size
        self._crc = checksums.combine_crc64nvme(self._crc, crc, size)
        return self.parts_added

    def confirm(self, part: StoredPart) -> None:
        self._stored[part.number] = part

    def stored_parts(self) -> list[StoredPart]:
        return [self._stored[number] for number in sorted(self._stored)]

    def as_stored(self) -> StoredObject:
        return StoredObject(self.key, self.size, encode_crc(self._crc))


@dataclass(frozen=True, slots=True)
class _Part:
    """A part in the queue: a range of `descriptor`'s file that nobody writes any more."""

    upload: ObjectUpload
    number: int
    descriptor: int
    offset: int
    size: int
    crc: int


class Uploads:
    """Threads that send parts, and the list of all objects that were begun.

    The queue may be long: what waits in it lies on the scratch disk, whose bound is kept by
    stopping pg_dump.
    """

    def __init__(self, store: ObjectStore, root: str, threads: int) -> None:
        self._store = store
        self._root = root
        self._queue: queue.SimpleQueue[_Part | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._moved = threading.Condition()
        self._failure: BaseException | None = None
        self._objects: list[ObjectUpload] = []
        self._bytes_queued = 0
        self.bytes_stored = 0
        self._threads = [
            threading.Thread(target=self._send_parts, name=f"upload-{index}", daemon=True)
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def outstanding_bytes(self) -> int:
        """Queued or under way, and not yet confirmed."""
        return self._bytes_queued - self.bytes_stored

    def open(self, key: str) -> ObjectUpload:
        """An object that will be there after `complete`; nothing is asked of the store yet."""
        upload = ObjectUpload(key)
        self._objects.append(upload)
        return upload

    def send(self, upload: ObjectUpload, descriptor: int, offset: int, size: int, crc: int) -> None:
        """Queue a range of a file as the next part; its disk is freed once it is stored."""
        self._bytes_queued += size
        self._queue.put(_Part(upload, upload.add(size, crc), descriptor, offset, size, crc))

    def check(self) -> None:
        """Raise what a thread met."""
        if self._failure is not None:
            raise self._failure

    def wait(self, seconds: float) -> None:
        """Sleep until a part is stored or the time is over."""
        with self._moved:
            self._moved.wait(seconds)

    def complete(self) -> list[StoredObject]:
        """Make every object visible. Call it only when pg_dump is known to have exited 0."""
        pool = ThreadPoolExecutor(len(self._threads))
        try:
            return list(pool.map(self._complete_one, self._objects))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self, patience: float) -> dict[str, str]:
        """Stop the threads and abort each upload that was not completed, within `patience` seconds.

        Returns the keys of those that the store did not abort, and why (empty where there was no
        time): they stay open until the bucket's lifecycle rule for incomplete uploads removes them.
        """
        self._stopped.set()
        for _ in self._threads:
            self._queue.put(None)
        # What arrives after the abort would stay, so the threads are given time to end.
        began = time.monotonic()
        ended_by = began + min(_STOP_SECONDS, patience / 2)
        for thread in self._threads:
            thread.join(max(0.0, ended_by - time.monotonic()))
        begun = [upload for upload in self._objects if upload.upload_id and not upload.completed]
        pool = ThreadPoolExecutor(max(1, min(16, len(begun))))
        aborts = {pool.submit(self._abort, upload): upload for upload in begun}
        done, _ = wait(aborts, timeout=max(0.0, began + patience - time.monotonic()))
        pool.shutdown(wait=False, cancel_futures=True)
        ended = {id(aborts[each]): each.result() for each in done}
        left = {upload.key: ended.get(id(upload), "") for upload in begun}
        return {key: why for key, why in left.items() if why is not None}

    def _complete_one(self, upload: ObjectUpload) -> StoredObject:
        stored = upload.as_stored()
        self._store.complete(
            self._root + upload.key,
            upload.upload_id,
            upload.stored_parts(),
            stored.size,
            stored.crc64nvme,
        )
        upload.completed = True
        return stored

    def _abort(self, upload: ObjectUpload) -> str | None:
        """Why the store did not; None where it did."""
        try:
            self._store.abort(self._root + upload.key, upload.upload_id)
        except Exception as error:  # the one that ends the run must not be replaced
            return "\n".join(error.lines() if isinstance(error, BackupError) else [str(error)])
        return None

    def _send_parts(self) -> None:
        while (part := self._queue.get()) is not None and not self._stopped.is_set():
            try:
                self._send_part(part)
            except UploadStopped:
                return
            except BaseException as error:
                if self._stopped.is_set():
                    return
                with self._moved:
                    self._failure = self._failure or error
                    self._stopped.set()
                    self._moved.notify_all()

    def _send_part(self, part: _Part) -> None:
        upload = part.upload
        with upload.lock:
            if not upload.upload_id:
                upload.upload_id = self._store.begin(self._root + upload.key)
        if self._stopped.is_set():
            # Begun too late for `close` to know of it.
            self._abort(upload)
            raise UploadStopped
        body = FilePart(part.descriptor, part.offset, part.size, self._stopped)
        stored = self._store.put_part(
            self._root + upload.key,
            upload.upload_id,
            part.number,
            body,
            part.size,
            encode_crc(part.crc),
        )
        punch(part.descriptor, part.offset, part.size)
        upload.confirm(stored)
        with self._moved:
            self.bytes_stored += part.size
            self._moved.notify_all()
