"""An extension that a server has, and that a test can take away: files in its installation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.postgres import PostgresServer

# Test processes that run side by side share the installation.
NAME = f"labspan{os.getpid()}"
_FILES = {
    f"{NAME}.control": "default_version = '1'\nrelocatable = true\n",
    f"{NAME}--1.sql": f"CREATE TYPE {NAME} AS (a int, b int);",
}


@contextmanager
def extension_on(server: PostgresServer) -> Iterator[list[Path]]:
    """The extension's files, to be unlinked by the test; it brings one type of its own name."""
    ((share,),) = server.sql("SELECT setting FROM pg_config WHERE name = 'SHAREDIR'")
    files = [Path(share, "extension", name) for name in _FILES]
    try:
        for path, text in zip(files, _FILES.values(), strict=True):
            path.write_text(text)
    except PermissionError:
        pytest.skip(f"{share}/extension cannot be written here: .ci/run as root runs it")
    yield files
    for path in files:
        path.unlink(missing_ok=True)
