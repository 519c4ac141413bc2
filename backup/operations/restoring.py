"""A backup, or a part of it, loaded into one database: definitions, data, what stands on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backup.archive.emptying import emptying_first
from backup.archive.feeding import Feeder, write
from backup.archive.loads import divide
from backup.archive.manifest import TABLE_OF_CONTENTS
from backup.archive.selection import Chosen
from backup.archive.toc import Entry
from backup.console import Console
from backup.model import Client, Complaint, ObjectName, Severity
from backup.operations.load_progress import LoadProgress
from backup.operations.loading import DataLoader
from backup.operations.obtaining import OpenedBackup
from backup.operations.phases import Phases
from backup.postgres.connection import Source
from backup.postgres.loading import LoadPlan, RunningLoad

_LOOK_SECONDS = 0.2
# A batch of small files waits while others load. Together they take half of the limit at most:
# files take whole blocks of the disk.
_SMALLEST_BATCH, _LARGEST_BATCH = 2 << 20, 16 << 20


@dataclass(frozen=True)
class Way:
    """How to load: with which client, into what, and what of the archive to leave alone."""

    client: Client
    target: Source
    jobs: int
    scratch_limit_bytes: int
    no_owner: bool = False
    no_privileges: bool = False
    role: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


class Loading:
    """What was chosen of a backup, on its way into a database that exists.

    `needed` are dump ids of what may be there already; `folder` is a scratch folder.
    """

    def __init__(
        self,
        opened: OpenedBackup,
        chosen: Chosen,
        needed: Collection[int],
        way: Way,
        folder: Path,
        console: Console,
        environment: Mapping[str, str],
    ) -> None:
        self._opened = opened
        self._chosen = chosen
        self._needed = needed
        self._way = way
        self._folder = folder
        self._console = console
        self._environment = environment
        self._names = {
            entry.dump_id: ObjectName(entry.kind, entry.schema or "", entry.name)
            for entry in opened.contents.entries
        }

    def run(self, phases: Phases) -> tuple[Complaint, ...]:
        """Load it all; what pg_restore complained about.

        Raises RestoreError, VerificationError, StorageError or AccessError where it cannot go on.
        """
        chosen = self._chosen
        write(self._folder / TABLE_OF_CONTENTS, self._opened.toc)
        with phases.phase("Create tables, types and functions"):
            complaints = self._step(chosen.definitions)
        with phases.phase("Load the data"):
            complaints += self._load_data(_not_created(complaints))
        with phases.phase("Build indexes, keys and the rest"):
            complaints += self._step(chosen.finish, self._way.jobs)
            complaints += self._step(chosen.attachments)
        return complaints

    def _load_data(self, not_created: Collection[tuple[str, str]]) -> tuple[Complaint, ...]:
        way, fetcher = self._way, self._opened.fetcher
        share = (way.scratch_limit_bytes - len(self._opened.toc)) // (2 * (way.jobs + 1))
        batch_bytes = min(max(share, _SMALLEST_BATCH), _LARGEST_BATCH)
        data = [
            entry
            for entry in self._chosen.data
            if (entry.schema or "", entry.name) not in not_created
        ]
        contents = self._emptying_first(data)
        write(self._folder / TABLE_OF_CONTENTS, contents)
        loads = divide(data, self._opened.manifest.members, fetcher.read, batch_bytes)
        loader = DataLoader(
            Feeder(fetcher, self._folder, contents, self._opened.codec),
            lambda load: self._start(load.ids, 1, None if load.is_streamed else self._folder),
            self._complaints,
            way.jobs,
        )
        return loader.run(loads, LoadProgress(self._console, loads))

    def _emptying_first(self, data: Sequence[Entry]) -> bytes:
        """The table of contents by which tables that were just made are emptied before their COPY.

        Otherwise COPY looks for free space, and rows change their order; nor could a server of
        wal_level minimal do without its log.
        """
        made = {
            (entry.schema, entry.name)
            for entry in self._chosen.definitions
            if entry.kind == "TABLE"
        }
        fresh = [
            entry
            for entry in data
            if entry.kind == "TABLE DATA" and (entry.schema, entry.name) in made
        ]
        return emptying_first(self._opened.toc, fresh, self._opened.codec)

    def _step(self, entries: Sequence[Entry], jobs: int = 1) -> tuple[Complaint, ...]:
        if not entries:
            return ()
        ids = [entry.dump_id for entry in entries]
        with self._start(ids, jobs, self._folder) as process:
            while not process.finished():
                process.wait(_LOOK_SECONDS)
            return self._complaints(process)

    def _start(self, ids: Sequence[int], jobs: int, folder: Path | None) -> RunningLoad:
        way = self._way
        plan = LoadPlan(
            client=way.client,
            target=way.target,
            folder=folder,
            ids=ids,
            jobs=jobs,
            no_owner=way.no_owner,
            no_privileges=way.no_privileges,
            role=way.role,
            settings=way.settings,
        )
        return RunningLoad(plan, self._environment, self._console.debug)

    def _complaints(self, process: RunningLoad) -> tuple[Complaint, ...]:
        return process.complaints(self._names, self._needed)


def _not_created(complaints: Sequence[Complaint]) -> set[tuple[str, str]]:
    """Tables that could not be created. If one of that name is there, it is somebody else's, and
    its rows are not ours to add to."""
    return {
        (each.about.schema, each.about.name)
        for each in complaints
        if each.about and each.severity is Severity.FATAL
    }
