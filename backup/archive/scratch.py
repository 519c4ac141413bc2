"""The scratch folder: what it takes of the disk, and how a file gives up what was uploaded."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backup.errors import StorageError, disk_full
from backup.processes import FileIdentity, prove_sight

# linux/falloc.h; see fallocate(2).
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

# st_blocks counts these whatever the file system's own block is; see stat(2).
_STAT_BLOCK = 512

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class ScratchFile:
    """A file as one look at the folder saw it: bytes written, and bytes of disk it takes."""

    name: str
    identity: FileIdentity
    size: int
    allocated: int


def look(folder: Path) -> list[ScratchFile]:
    """Every file of the folder; one that goes away meanwhile is left out."""
    seen: list[ScratchFile] = []
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:  # pg_dump makes its folder itself
        return seen
    with entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            identity = (status.st_dev, status.st_ino)
            allocated = status.st_blocks * _STAT_BLOCK
            seen.append(ScratchFile(entry.name, identity, status.st_size, allocated))
    return seen


def punch(descriptor: int, offset: int, size: int) -> None:
    """Give a range of an open file back to the disk; the file keeps its length.

    Raises OSError; the range's edges are kept where they are not whole blocks.
    """
    if _libc.fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, size):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A private folder that can punch holes, gone afterwards with all that is in it."""
    # Without `dir` Python would look for another place where TMPDIR cannot be used.
    chosen = os.environ.get("TMPDIR") or None
    try:
        folder = Path(tempfile.mkdtemp(prefix="pg-backup-", dir=chosen)).resolve()
    except OSError as error:
        raise StorageError(
            "no scratch folder can be made",
            detail=str(error),
            hint="set TMPDIR to a folder that this user may write",
        ) from error
    try:
        _prove(folder)
        yield folder
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(str(error)) from error
        raise
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Take the folder away with all that is in it; what cannot be removed is left without a word.

    A thread that waited for the network may come to write a file after the run has failed. Under
    another name the folder is out of its reach, and the run fails of what it failed of.
    """
    gone = folder.with_name(f"{folder.name}-gone")
    with suppress(OSError):
        folder = folder.rename(gone)
    for _ in range(2):  # the second for a file that was being made when the name changed
        shutil.rmtree(folder, ignore_errors=True)


def _prove(folder: Path) -> None:
    """Refuse at once a place where files cannot be followed.

    Without holes the whole archive would pile up on the disk; without sight of what is open a
    half file would pass for a whole one.
    """
    probe = folder / "probe"
    descriptor = os.open(probe, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, bytes(64 << 10))
        punch(descriptor, 0, 64 << 10)
        prove_sight(probe)
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(str(error)) from error
        raise StorageError(
            f"the disk under {folder.parent} cannot be used as scratch space",
            detail=f"a hole cannot be punched into a file there: {error.strerror}",
            hint="set TMPDIR to a folder on ext4, xfs, btrfs, overlayfs or tmpfs",
        ) from error
    finally:
        os.close(descriptor)
        probe.unlink()
