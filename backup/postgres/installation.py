"""A server's installation as it sees it: its own files, and those that a drill adds.

An extension is found in the server's share and lib folders, which are the system's and not ours
to write. PostgreSQL looks for them next to the path that it was started by, so it is started by
the path of a look-alike in a private folder, which is links to the real ones and takes additions.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backup.errors import DumpError
from backup.postgres.servers import Account, ServerPrograms

# Has been loaded into every database since 9.0.
_SURE_LIBRARY = "plpgsql.so"


@dataclass(frozen=True, slots=True)
class Installation:
    """Where a server finds its files; `postgres` is the path to start it by (its argv[0]).

    `private` is whether files can be added: whether it is a look-alike.
    """

    postgres: Path
    extensions: Path
    libraries: Path
    private: bool

    def has_extension(self, name: str) -> bool:
        return (self.extensions / f"{name}.control").exists()


def look_alike(
    programs: ServerPrograms,
    folder: Path,
    environment: Mapping[str, str],
    account: Account | None,
) -> Installation:
    """Links in `folder` that stand for the installation of `programs`; itself where programs
    cannot run from there.

    The path of a program is taken from argv[0], links in it followed, and the installation's
    other folders from there: find_my_exec() in src/common/exec.c, make_relative_path() in
    src/port/path.c. So the name in argv[0] must be a file and no link; it is never run.
    """
    binaries = programs.folder.resolve()
    share = _share_folder(programs, folder, environment, account)
    libraries = _library_folder(binaries)
    root = Path(os.path.commonpath([binaries, share, libraries]))
    like = folder / "installation"

    own_share = like / share.relative_to(root)
    own_libraries = like / libraries.relative_to(root)
    extensions = own_share / "extension"
    postgres = like / binaries.relative_to(root) / "postgres"
    for made in (own_share, own_libraries, extensions, postgres.parent):
        make_open(made)
    postgres.touch()
    postgres.chmod(0o755)
    if not os.access(postgres, os.X_OK):  # mounted noexec, as Docker mounts a tmpfs
        return Installation(binaries / "postgres", share / "extension", libraries, private=False)
    _link_all(share, own_share)
    _link_all(share / "extension", extensions)
    _link_all(libraries, own_libraries)
    return Installation(postgres, extensions, own_libraries, private=True)


def make_open(folder: Path) -> None:
    """Make a folder that the server's account can enter, whatever our umask is."""
    if not folder.exists():
        make_open(folder.parent)
        folder.mkdir()
        folder.chmod(0o755)


def _link_all(from_folder: Path, to_folder: Path) -> None:
    for entry in os.scandir(from_folder):
        link = to_folder / entry.name
        if not link.exists():
            link.symlink_to(entry.path)


def _share_folder(
    programs: ServerPrograms,
    folder: Path,
    environment: Mapping[str, str],
    account: Account | None,
) -> Path:
    told = subprocess.run(
        [programs.folder / "initdb", "--show", f"--pgdata={folder / 'none'}"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=60,
        **(account.credentials() if account else {}),
    ).stdout
    if match := re.search(r"^share_path=(.+?),?$", told, re.MULTILINE):
        return Path(match[1]).resolve()
    raise DumpError(
        f"PostgreSQL {programs.version} does not say where its files are",
        detail=told.strip(),
        hint="use the action's image, or name an empty database of another server in target-url",
    )


def _library_folder(binaries: Path) -> Path:
    prefix = binaries.parent
    for folder in (prefix / "lib/postgresql", prefix / "lib"):
        if (folder / _SURE_LIBRARY).exists():
            return folder
    raise DumpError(
        f"the PostgreSQL in {binaries} has no libraries",
        detail=f"{_SURE_LIBRARY} is not in {prefix}/lib",
        hint="use the action's image, or install the server's package",
    )
