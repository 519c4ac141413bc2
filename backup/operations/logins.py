"""The environment in which pg_dump logs in, for as long as it may still want to connect."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from backup.errors import BackupError
from backup.postgres.connection import Source, child_environment, write_passfile

# A login token opens connections for 15 minutes
# (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html), and
# pg_dump's workers connect only after it has read the whole catalogue and locked every table.
_TOKEN_EVERY_SECONDS = 300.0


@contextmanager
def log_in(
    source: Source, inherited: Mapping[str, str], folder: Path, *, renew: bool
) -> Iterator[dict[str, str]]:
    """The environment for pg_dump and its kin.

    With `renew` the password is a token, and lies in a file of `folder` that is written anew
    before it ends. A password that stays is passed in the environment, where it may hold any
    character.
    """
    if not renew:
        yield child_environment(source, inherited)
        return
    passfile = folder / "pgpass"
    write_passfile(source, passfile)
    ended = threading.Event()
    thread = threading.Thread(
        target=_renew, args=(source, passfile, ended), name="login token", daemon=True
    )
    thread.start()
    try:
        yield child_environment(source, inherited, passfile=passfile)
    finally:
        ended.set()
        thread.join()


def _renew(source: Source, passfile: Path, ended: threading.Event) -> None:
    while not ended.wait(_TOKEN_EVERY_SECONDS):
        try:
            write_passfile(source, passfile)
        except BackupError:
            # The file keeps its old token; pg_dump says so if it still needs to log in.
            continue
