"""Members fetched from the store: by ranged GETs some way ahead, and never believed unchecked."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from backup.errors import VerificationError
from backup.model import Member
from backup.store import ObjectReader

# What all streams together hold in memory, and how far one reads ahead of who uses it.
_MEMORY_BYTES, _AHEAD = 40 << 20, 3
_MOST_THREADS = 32
_SMALLEST_RANGE, _LARGEST_RANGE = 256 << 10, 4 << 20
# Members of a pack that lie apart by less than this are fetched with one request: a tar puts a
# header and padding between them.
_GAP_BYTES = 4 << 10
# Large objects lie in a pack as pg_dump's folder was read: nearly in their order, and among those
# of another job.
_SLACK_BYTES = 64 << 10


class Fetcher:
    """Reads members of one backup, for `streams` readers at the same time.

    `root` is the key prefix of the backup. Its methods may be called from any thread, and raise
    StorageError or AccessError where the store fails, VerificationError where a digest does.
    """

    def __init__(self, store: ObjectReader, root: str, streams: int) -> None:
        self._store = store
        self._root = root
        share = _MEMORY_BYTES // (streams * (_AHEAD + 1))
        self._range_bytes = min(max(share, _SMALLEST_RANGE), _LARGEST_RANGE)
        self._threads = ThreadPoolExecutor(self.threads(streams), thread_name_prefix="fetch")
        self._counting = threading.Lock()
        self.bytes_fetched = 0
        self.requests = 0

    @staticmethod
    def threads(streams: int) -> int:
        """Requests under way at the same time, at the most."""
        return min(streams * _AHEAD, _MOST_THREADS)

    def close(self) -> None:
        """Forget what was asked for and not used yet."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def stream(self, member: Member) -> Iterator[bytes]:
        """The bytes of a member in order, under way from now on.

        The last of them come only once its digest is right.
        """
        return _checked(member, self._ranges(member.object_key, member.offset, member.size))

    def read(self, member: Member) -> bytes:
        """A member whole; for small ones."""
        return b"".join(self.stream(member))

    def read_many(self, members: Iterable[Member]) -> Iterator[tuple[Member, bytes]]:
        """Small members, neighbours in a pack with one request."""
        as_they_lie = sorted(members, key=lambda each: (each.object_key, each.offset))
        for span in _spans(as_they_lie, self._range_bytes):
            content = b"".join(self._ranges(span.object_key, span.offset, span.size))
            yield from _pieces(span, content)

    def stream_many(self, members: Iterable[Member]) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Members in the order given, each as `stream` gives it.

        Small neighbours in a pack come with one request, which is under way while those before
        are used: large objects may be many, and a request takes longer than most of them.
        """
        spans = _spans(members, self._range_bytes)
        under_way = deque(map(self._begin, itertools.islice(spans, 1)))
        try:
            while under_way:
                span, future = under_way.popleft()
                under_way.extend(map(self._begin, itertools.islice(spans, 1)))
                if future is None:
                    yield from ((member, self.stream(member)) for member in span.members)
                else:
                    for member, content in _pieces(span, future.result()):
                        yield member, iter((content,))
        finally:
            for _, future in under_way:
                if future:
                    future.cancel()

    def _begin(self, span: _Span) -> tuple[_Span, Future[bytes] | None]:
        """Ask for a span where one request brings it."""
        if not 0 < span.size <= self._range_bytes:
            return span, None
        return span, self._threads.submit(self._get, span.object_key, span.offset, span.size)

    def _ranges(self, key: str, offset: int, size: int) -> Iterator[bytes]:
        """The bytes in order; the first requests are sent before anybody waits for them."""
        later = (
            self._threads.submit(
                self._get, key, start, min(self._range_bytes, offset + size - start)
            )
            for start in range(offset, offset + size, self._range_bytes)
        )
        return _in_order(deque(itertools.islice(later, _AHEAD)), later)

    def _get(self, key: str, offset: int, size: int) -> bytes:
        content = self._store.read_range(self._root + key, offset, size)
        with self._counting:
            self.bytes_fetched += len(content)
            self.requests += 1
        return content


def _in_order(under_way: deque[Future[bytes]], later: Iterator[Future[bytes]]) -> Iterator[bytes]:
    try:
        while under_way:
            content = under_way.popleft().result()
            under_way.extend(itertools.islice(later, 1))
            yield content
    finally:
        for future in under_way:
            future.cancel()


def _checked(member: Member, pieces: Iterable[bytes]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    held = b""
    for piece in pieces:
        if held:
            yield held
        digest.update(piece)
        held = piece
    if digest.hexdigest() != member.sha256:
        raise damaged(member)
    yield held


def damaged(member: Member) -> VerificationError:
    """The bytes in the store are not those that were dumped."""
    what = f"the data of {member.schema}.{member.table}" if member.table else member.name
    return VerificationError(
        f"{what} is damaged in this backup",
        detail=f"the SHA-256 of {member.name} in {member.object_key} is not the manifest's",
        hint="take another backup (backup-id), or an older version of the object if the bucket"
        " keeps versions: aws s3api list-object-versions",
    )


@dataclass
class _Span:
    """Members that lie close together in one object, in the order in which they are wanted."""

    members: list[Member]
    offset: int
    end: int

    @property
    def object_key(self) -> str:
        return self.members[0].object_key

    @property
    def size(self) -> int:
        return self.end - self.offset


def _spans(members: Iterable[Member], most_bytes: int) -> Iterator[_Span]:
    """The members in the order given, in spans that hold little else."""
    span: _Span | None = None
    used = 0
    for member in members:
        end = member.offset + member.size
        if span and member.object_key == span.object_key:
            start, last = min(span.offset, member.offset), max(span.end, end)
            gap = last - start - span.size - member.size
            used += member.size + _GAP_BYTES
            near = _GAP_BYTES if member.table else _SLACK_BYTES
            if gap <= near and last - start <= min(most_bytes, used + near):
                span.members.append(member)
                span.offset, span.end = start, last
                continue
        if span:
            yield span
        span, used = _Span([member], member.offset, end), member.size
    if span:
        yield span


def _pieces(span: _Span, content: bytes) -> Iterator[tuple[Member, bytes]]:
    """Each member of a span with its bytes, once its digest is right."""
    for member in span.members:
        start = member.offset - span.offset
        piece = content[start : start + member.size]
        if hashlib.sha256(piece).hexdigest() != member.sha256:
            raise damaged(member)
        yield member, piece
