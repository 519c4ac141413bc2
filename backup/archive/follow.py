"""Follow: read the files of a running pg_dump while they grow, and send them off.

pg_dump writes each file of its directory format strictly forwards. A file that passes the size
of one part becomes an object of its own, uploaded and punched out of the disk while pg_dump
still writes its end; one that is closed before that goes into the current pack. The truth about
which files are closed is what pg_dump's processes hold open, looked up after the folder was
listed: a file that was listed and is held by none of them is finished.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from backup.archive import toc
from backup.archive.growing import GrowingFile, Pack
from backup.archive.parts import FIRST_PART_BYTES
from backup.archive.pressure import Pausable, Pressure
from backup.archive.scratch import ScratchFile, look
from backup.archive.toc import TableOfContents
from backup.archive.uploads import Uploads
from backup.errors import DumpError
from backup.model import Member
from backup.processes import FileIdentity

# A folder of many files takes long to list: then look rarely enough that it stays a tenth.
_LONGEST_LOOK_SHARE = 0.1
_DRAIN_SECONDS = 0.1

_TOC = "toc.dat"
_ARCHIVE = "archive/"


class DumpProcess(Pausable, Protocol):
    """The running pg_dump."""

    def finished(self) -> bool:
        """Whether it has exited with status 0; raises DumpError for any other exit."""

    def wait(self, seconds: float) -> None:
        """Sleep that long, or until it ends."""

    def open_files(self) -> frozenset[FileIdentity]:
        """The files that any of its processes holds open."""


@dataclass(frozen=True, slots=True)
class Sent:
    """How far the archive is: finished members, and bytes stored so far."""

    members: list[Member]
    stored_bytes: int
    is_stopped: bool


@dataclass(frozen=True, slots=True)
class Archive:
    """The members of a finished dump, each on its way to the store or there already."""

    contents: TableOfContents
    members: tuple[Member, ...]
    highest_scratch_bytes: int
    stopped_seconds: float


class Follower:
    """Follows one dump into one backup.

    `folder` is pg_dump's, `packs` one beside it; `modified` is the time that packed members
    bear, in seconds; `codec` is Python's name of the dump's encoding; `on_contents` is called as
    soon as pg_dump has written its table of contents, and may refuse it by raising.
    """

    def __init__(
        self,
        folder: Path,
        packs: Path,
        uploads: Uploads,
        process: DumpProcess,
        *,
        scratch_limit: int,
        modified: float,
        codec: str,
        on_contents: Callable[[TableOfContents], None],
    ) -> None:
        self._folder = folder
        self._packs = packs
        self._uploads = uploads
        self._process = process
        self._modified = modified
        self._codec = codec
        self._on_contents = on_contents
        self._pressure = Pressure(process, scratch_limit)
        self._growing: dict[str, GrowingFile] = {}
        self._draining: dict[str, GrowingFile] = {}
        self._members: list[Member] = []
        self._pack: Pack | None = None
        self._packs_begun = 0
        self._contents: TableOfContents | None = None

    def follow(self, report: Callable[[Sent], None]) -> Archive:
        """Until pg_dump has exited 0 and every byte is stored.

        Raises DumpError, StorageError or AccessError, whichever comes first.
        """
        self._follow_dump(report)
        self._finish_pack()
        while self._draining:
            self._uploads.check()
            self._remove_stored()
            report(self._sent())
            self._uploads.wait(_DRAIN_SECONDS)
        if self._contents is None:
            raise DumpError(
                "pg_dump left no table of contents",
                detail="it exited 0, and its folder holds no toc.dat",
                hint="run the backup again; report it if it happens twice",
            )
        return Archive(
            self._contents,
            tuple(self._members),
            self._pressure.highest_bytes,
            self._pressure.stopped_seconds,
        )

    def _follow_dump(self, report: Callable[[Sent], None]) -> None:
        while True:
            began = time.monotonic()
            finished = self._process.finished()
            self._uploads.check()
            files = look(self._folder)
            held = frozenset[FileIdentity]() if finished else self._process.open_files()
            took = time.monotonic() - began
            if not finished:
                self._weigh(files)
            for file in files:
                # A file is seen a moment before its descriptor is: an empty one tells nothing.
                closed = finished or (file.size > 0 and file.identity not in held)
                self._take(file, closed=closed)
            self._send_pack()
            self._remove_stored()
            report(self._sent())
            if finished:
                return
            pause = max(self._pressure.look_within_seconds, took / _LONGEST_LOOK_SHARE - took)
            if self._pressure.is_stopped:
                self._uploads.wait(pause)
            else:
                self._process.wait(pause)

    def add(self, name: str, content: bytes) -> None:
        """Pack a member that pg_dump did not write."""
        if self._pack is None:
            self._packs_begun += 1
            name_of_pack = f"pack-{self._packs_begun:04}.tar"
            upload = self._uploads.open(_ARCHIVE + name_of_pack)
            self._pack = Pack(self._packs / name_of_pack, upload, self._modified)
        self._members.append(self._pack.add(name, content))
        if self._pack.is_full:
            self._finish_pack()

    def _take(self, file: ScratchFile, *, closed: bool) -> None:
        if file.name in self._draining:
            return
        path = self._folder / file.name
        if file.name == _TOC:
            # What is sent is punched out, and the table of contents must be read first.
            if not closed:
                return
            self._contents = self._contents or self._read_contents(path)
        growing = self._growing.get(file.name)
        if growing is None and file.size < FIRST_PART_BYTES:
            if not closed:
                return
            content = _read(path, file.size + 1)
            # One that has grown since it was listed is taken at the next look.
            if len(content) == file.size:
                self.add(file.name, content)
                path.unlink()
            return
        # A closed file may have grown since it was listed.
        size = path.stat().st_size if closed else file.size
        if growing is None:
            upload = self._uploads.open(_ARCHIVE + file.name)
            growing = self._growing[file.name] = GrowingFile(path, upload)
        while growing.send_part(size, finished=closed, uploads=self._uploads):
            if not closed:
                # Hashing a part takes a while, in which pg_dump writes on.
                self._weigh(look(self._folder))
        if closed:
            self._members.append(growing.as_member())
            self._draining[file.name] = self._growing.pop(file.name)

    def _read_contents(self, path: Path) -> TableOfContents:
        contents = toc.read(path, self._codec)
        self._on_contents(contents)
        return contents

    def _send_pack(self) -> None:
        if self._pack is not None:
            self._pack.send(self._uploads)

    def _finish_pack(self) -> None:
        if self._pack is not None:
            self._pack.finish(self._uploads)
            self._draining[self._pack.growing.name] = self._pack.growing
            self._pack = None

    def _remove_stored(self) -> None:
        for name, growing in list(self._draining.items()):
            if growing.upload.everything_stored:
                growing.remove()
                del self._draining[name]

    def _weigh(self, files: list[ScratchFile]) -> None:
        if self._contents is None:
            return  # the table of contents cannot leave before it is whole
        allocated = sum(file.allocated for file in (*files, *look(self._packs)))
        growing = self._growing.values()
        needed = 2 * sum(each.upload.next_part_bytes for each in growing)
        draining = self._uploads.outstanding_bytes > 0 or any(map(self._has_part, files))
        self._pressure.weigh(allocated, needed, draining=draining)

    def _has_part(self, file: ScratchFile) -> bool:
        """Whether a part of the file can be sent that was not sent yet."""
        growing = self._growing.get(file.name)
        if growing is None:
            return file.name not in self._draining and file.size >= FIRST_PART_BYTES
        return file.size - growing.upload.size >= growing.upload.next_part_bytes

    def _sent(self) -> Sent:
        return Sent(self._members, self._uploads.bytes_stored, self._pressure.is_stopped)


def _read(path: Path, most: int) -> bytes:
    """The beginning of a file. There may be tens of thousands, and pathlib takes twice as long."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, most)
    finally:
        os.close(descriptor)
