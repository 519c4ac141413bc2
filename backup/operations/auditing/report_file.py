"""The audit as a file below the workspace, which no link may lead out of."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from backup.console import Console
from backup.errors import InputError, StorageError
from backup.report.report import Report


class ReportFile:
    """A place below the workspace, found before the audit begins and written at its end.

    The folder is held open, so that what is written lands where it was looked at.
    """

    def __init__(self, file: str, environment: Mapping[str, str]) -> None:
        """Make the folders on the way. Raises InputError where the place cannot be used."""
        *folders, self._name = PurePosixPath(file).parts
        self._file = file
        try:
            self._folder = os.open(
                environment.get("GITHUB_WORKSPACE") or ".", os.O_RDONLY | os.O_DIRECTORY
            )
            for folder in folders:
                self._folder = _below(self._folder, folder)
            _check(self._folder, self._name)
        except OSError as error:
            raise InputError(
                f"cannot write report-file {file}",
                detail=f"{error.strerror or error}; links are not followed",
                hint="name a file in a folder of the workspace: report-file: audit.json",
            ) from error

    def keep(self, report: Report, console: Console) -> Report:
        """Write the report's data; where that fails, the same report with this as its failure."""
        text = json.dumps(report.data, ensure_ascii=False, indent=2) + "\n"
        try:
            self._write(text.encode("utf-8", "backslashreplace"))
        except StorageError as error:
            console.warning(error.message, "\n".join(error.lines()[1:]))
            return replace(report, failure=report.failure or error)
        return report

    def _write(self, content: bytes) -> None:
        """Put the content in place at once. Raises StorageError."""
        draft = f".{self._name[:80]}.{secrets.token_hex(4)}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(draft, flags, 0o644, dir_fd=self._folder), "wb") as file:
                file.write(content)
            os.rename(draft, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=self._folder)
            raise StorageError(
                f"cannot write report-file {self._file}",
                detail=str(error.strerror or error),
                hint="free some disk, or let the user of the runner write there",
            ) from error
        finally:
            os.close(self._folder)


def _below(folder: int, name: str) -> int:
    """The open folder of that name in an open folder, which is closed."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


def _check(folder: int, name: str) -> None:
    try:
        found = os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{name} is there and is no file")
