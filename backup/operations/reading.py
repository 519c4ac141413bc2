"""The rows of an archive as text, read back without any server: pg_restore prints them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from backup.archive import script
from backup.archive.feeding import Feeder
from backup.archive.loads import Load, divide
from backup.archive.manifest import TABLE_OF_CONTENTS
from backup.archive.toc import Entry
from backup.console import Console
from backup.errors import BackupError, Interrupted, VerificationError
from backup.model import Client, Member
from backup.operations.load_progress import LoadProgress
from backup.operations.obtaining import OpenedBackup
from backup.postgres.loading import RunningScript

_BATCH_BYTES = 8 << 20
_LOOK_SECONDS = 0.2
# What a signal leaves time for.
_END_SECONDS = 1.0


class ArchiveReader:
    """Reads members of an opened backup through pg_restore, in a folder of its own.

    Raises VerificationError where a member is damaged, or is not what pg_restore can read.
    """

    def __init__(self, opened: OpenedBackup, client: Client, folder: Path) -> None:
        self._opened = opened
        self._client = client
        self._folder = folder
        self._feeder = Feeder(opened.fetcher, folder, opened.toc, opened.codec)
        self._running: set[RunningScript] = set()
        folder.mkdir()
        (folder / TABLE_OF_CONTENTS).write_bytes(opened.toc)

    @contextmanager
    def script(self, members: Sequence[Member]) -> Iterator[BinaryIO]:
        """What pg_restore prints of the data of these members, one after the other.

        A large object brings along all that its entry lists.
        """
        names = {member.data_file for member in members}
        has_large_objects = any(member.table is None for member in members)
        entries = [
            entry
            for entry in self._opened.contents.entries
            if entry.file in names or (has_large_objects and entry.kind == "BLOBS")
        ]
        loads = self._divided(entries, batch_bytes=0)
        blocks = tuple(block for load in loads for block in load.blocks)
        together = Load(blocks, is_streamed=True)
        with self._stream(together) as stream:
            yield stream

    def rows(self, jobs: int, console: Console) -> dict[str, int]:
        """Read every data file of the archive; how many rows each has, by the file's name."""
        loads = self._divided(self._opened.contents.entries, _BATCH_BYTES)
        progress = LoadProgress(console, loads, "read")
        statements = {
            entry.copy.encode(self._opened.codec, "surrogateescape"): entry.file
            for entry in self._opened.contents.entries
            if entry.kind == "TABLE DATA" and entry.file
        }

        def read(load: Load) -> dict[str, int]:
            with self._stream(load) as stream:
                return {
                    # Within a row COPY writes a newline as \\n.
                    file: sum(piece.count(b"\n") for piece in pieces)
                    for file, pieces in script.contents(stream, statements)
                }

        found: dict[str, int] = {}
        workers = ThreadPoolExecutor(jobs, thread_name_prefix="read")
        futures = [workers.submit(read, load) for load in loads]
        try:
            for load, future in zip(loads, futures, strict=True):
                found |= future.result()
                progress.finished(load)
                progress.report()
        finally:
            # Whatever still runs is of no use any more; of a whole reading nothing does.
            workers.shutdown(wait=False, cancel_futures=True)
            for process in list(self._running):
                process.kill()
            # Not for long: a thread may hang on a network that does not answer.
            wait(futures, timeout=_END_SECONDS)
        return found

    def _divided(self, entries: Iterable[Entry], batch_bytes: int) -> list[Load]:
        with_files = [entry for entry in entries if entry.file]
        return divide(
            with_files, self._opened.manifest.members, self._opened.fetcher.read, batch_bytes
        )

    @contextmanager
    def _stream(self, load: Load) -> Iterator[BinaryIO]:
        failures: list[Exception] = []
        try:
            self._feeder.prepare(load)
            folder = None if load.is_streamed else self._folder
            with RunningScript(self._client, folder, load.ids) as process:
                self._running.add(process)
                feeding = threading.Thread(target=self._feed, args=(load, process, failures))
                feeding.start()
                patience = None
                try:
                    yield cast(BinaryIO, process.stdout)
                except VerificationError:
                    # A script that ends too early does so since pg_restore has failed.
                    if not process.stdout.read(1):
                        _see_it_end(process)
                    raise
                except Interrupted:
                    process.kill()
                    patience = _END_SECONDS
                    raise
                finally:
                    # A pg_restore whose reader is gone ends, and with it the feeding.
                    process.stdout.close()
                    feeding.join(patience)
                    self._running.discard(process)
                _see_it_end(process)
        except BackupError as error:
            # Of a damaged member pg_restore gets no end, and stumbles as well.
            raise (failures[0] if failures else error) from error
        finally:
            self._feeder.clear(load)
        if failures:
            raise failures[0]

    def _feed(self, load: Load, process: RunningScript, failures: list[Exception]) -> None:
        try:
            self._feeder.feed(load, process)
        except Exception as error:
            failures.append(error)


def _see_it_end(process: RunningScript) -> None:
    """Wait, for its output ends a moment before its exit. Raises what it failed with."""
    while not process.finished():
        process.wait(_LOOK_SECONDS)
