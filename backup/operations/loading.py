"""The data of an archive, loaded by several pg_restore at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from backup.archive.feeding import Feeder
from backup.archive.loads import Load
from backup.model import Complaint
from backup.operations.load_progress import LoadProgress
from backup.postgres.loading import RunningLoad

_LOOK_SECONDS = 0.2
# What a signal leaves time for.
_END_SECONDS = 1.0


class DataLoader:
    """Runs loads, `jobs` at a time, while the files of the next one are fetched already.

    `start` begins the pg_restore of a load, `read_complaints` reads one that has ended. The first
    failure ends all of them.
    """

    def __init__(
        self,
        feeder: Feeder,
        start: Callable[[Load], RunningLoad],
        read_complaints: Callable[[RunningLoad], tuple[Complaint, ...]],
        jobs: int,
    ) -> None:
        self._feeder = feeder
        self._start = start
        self._read_complaints = read_complaints
        self._jobs = jobs
        self._slots = threading.Semaphore(jobs)
        self._stopped = threading.Event()
        self._running: set[RunningLoad] = set()
        self._complaints: list[Complaint] = []

    def run(self, loads: Sequence[Load], progress: LoadProgress) -> tuple[Complaint, ...]:
        """Load all of them, in their order; what pg_restore complained about.

        Raises RestoreError, VerificationError, StorageError or AccessError.
        """
        waiting = deque(loads)
        workers = ThreadPoolExecutor(self._jobs + 1, thread_name_prefix="load")
        futures = {
            workers.submit(self._work, waiting, progress)
            for _ in range(min(self._jobs + 1, len(loads)))
        }
        try:
            _await(futures, progress)
        finally:
            # Whatever still runs is of no use any more; a finished run has nothing left to end.
            self._stopped.set()
            for process in list(self._running):
                process.kill()
            # Not for long: a thread may hang on a network that does not answer.
            wait(futures, timeout=_END_SECONDS)
            workers.shutdown(wait=False)
        return tuple(self._complaints)

    def _work(self, waiting: deque[Load], progress: LoadProgress) -> None:
        while not self._stopped.is_set():
            try:
                load = waiting.popleft()
            except IndexError:
                return
            try:
                self._feeder.prepare(load)
                self._run(load)
            finally:
                self._feeder.clear(load)
            progress.finished(load)

    def _run(self, load: Load) -> None:
        while not self._slots.acquire(timeout=_LOOK_SECONDS):
            if self._stopped.is_set():
                return
        try:
            with self._start(load) as process:
                self._running.add(process)
                # Between the look at the slots and this, the run may have been ended.
                if self._stopped.is_set():
                    process.kill()
                self._feeder.feed(load, process)
                while not process.finished():
                    process.wait(_LOOK_SECONDS)
                self._running.discard(process)
                if not self._stopped.is_set():
                    self._complaints.extend(self._read_complaints(process))
        finally:
            self._slots.release()


def _await(futures: set[Future[None]], progress: LoadProgress) -> None:
    """Until all are done, in steps so that a signal is heard. Raises what the first one raised."""
    left = futures
    while left:
        done, left = wait(left, timeout=_LOOK_SECONDS, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        progress.report()
