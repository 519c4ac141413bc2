"""Debian's packages of extensions, fetched into a throwaway server's own folder.

Nothing is installed: apt works out what a package needs and downloads it, dpkg-deb unpacks it, and
the server's look-alike installation gets links. So neither root nor a writable system is needed,
no maintainer script runs, and all of it goes away with the server.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from backup.postgres.installation import make_open
from backup.postgres.throwaway import ThrowawayServer

_DEADLINE_SECONDS = 180.0
_STATUS = Path("/var/lib/dpkg/status")
# Said to be installed, so that apt brings none of them: the server is here, and no script will run.
_PRETENDED = ("postgresql-common", "perl", "ucf", "debconf")
_ANY = "999:1"  # a version above all that may be asked for
# What a server that runs already must not get a second one of.
_NEVER = re.compile(r"libc6|libc-bin|postgresql-\d+|postgresql-client-\d+")
_SAFE = re.compile(r"[a-z0-9][a-z0-9_-]*")
# Those whose packages are not called after them; {} is the major.
# https://apt.postgresql.org/pub/repos/apt/pool/main/p/
_PACKAGES = {
    "vector": "postgresql-{}-pgvector",
    **dict.fromkeys(
        (
            "postgis",
            "postgis_raster",
            "postgis_sfcgal",
            "postgis_tiger_geocoder",
            "postgis_topology",
            "address_standardizer",
            "address_standardizer_data_us",
        ),
        "postgresql-{}-postgis-3",
    ),
    "h3_postgis": "postgresql-{}-h3",
    "pg_partman": "postgresql-{}-partman",
    "pg_repack": "postgresql-{}-repack",
    "pg_similarity": "postgresql-{}-similarity",
    "pg_sphere": "postgresql-{}-pgsphere",
    "pgq": "postgresql-{}-pgq3",
    **dict.fromkeys(("plperl", "plperlu", "bool_plperl", "hstore_plperl"), "postgresql-plperl-{}"),
    **dict.fromkeys(
        ("plpython3u", "hstore_plpython3u", "jsonb_plpython3u", "ltree_plpython3u"),
        "postgresql-plpython3-{}",
    ),
    **dict.fromkeys(("pltcl", "pltclu"), "postgresql-pltcl-{}"),
}


def can_fetch(server: ThrowawayServer) -> bool:
    """Whether packages fit: a server from a package, on a system with apt, that takes additions."""
    return (
        server.installation.private
        and server.programs.folder.match("/usr/lib/postgresql/*/bin")
        and _STATUS.exists()
        and all(Path("/usr/bin", name).exists() for name in ("apt-get", "apt-cache", "dpkg-deb"))
    )


def fetch(server: ThrowawayServer, names: Sequence[str]) -> dict[str, str]:
    """Bring the packages of these extensions into the server; why not, for each that fails.

    It has come where the installation has its control file; takes 180 s at the most.
    """
    home = server.folder / "packages/apt"
    for folder in ("lists/partial", "archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_STATUS, home / "status")
    try:
        return _fetch(_Apt(home), server, names)
    finally:
        shutil.rmtree(home)  # its lists are larger than what it brings


def _fetch(apt: _Apt, server: ThrowawayServer, names: Sequence[str]) -> dict[str, str]:
    if said := apt.run("apt-get", "update"):
        return dict.fromkeys(names, f"packages cannot be reached: {said}")
    _pretend(apt, server.programs.major)
    offered = set(apt.answer("apt-cache", "pkgnames", "postgresql-").split())
    if not any(each.startswith(f"postgresql-{server.programs.major}-") for each in offered):
        return dict.fromkeys(names, "packages cannot be reached")
    failures: dict[str, str] = {}
    for name in names:
        package = _package(name, server.programs.major, offered)
        if package is None:
            failures[name] = "no package has it"
        elif not _has(server, name) and (said := _bring(apt, server, package)):
            failures[name] = said
        elif not _has(server, name):
            failures[name] = f"the package {package} does not have it"
    return failures


class _Apt:
    """apt with all that it keeps in one folder, until a deadline."""

    def __init__(self, home: Path) -> None:
        self.archives = home / "archives"
        self.status = home / "status"
        self._options = [
            f"--option={name}={value}"
            for name, value in {
                "Dir::State::status": self.status,
                "Dir::State::lists": home / "lists",
                "Dir::State::extended_states": home / "extended_states",
                "Dir::Cache": home,
                "Dir::Cache::archives": self.archives,
                "Dir::Log": home,
                # It would change to a user who may not write here.
                "APT::Sandbox::User": "root",
                "Acquire::http::Timeout": "10",
                "Acquire::https::Timeout": "10",
                "Acquire::Retries": "1",
                "Acquire::Languages": "none",
            }.items()
        ]
        self._deadline = time.monotonic() + _DEADLINE_SECONDS

    def run(self, *command: str) -> str:
        """What went wrong, in one line; empty where nothing did."""
        done = self._call(command)
        if not done.returncode:
            return ""
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "apt"))]
        return (lines or [done.stderr.strip() or f"{command[0]} failed"])[0]

    def answer(self, *command: str) -> str:
        return self._call(command).stdout

    def _call(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        # Proxies are set in the environment; nothing else of ours is apt's business.
        environment = {
            name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")
        }
        try:
            return subprocess.run(
                [f"/usr/bin/{command[0]}", *self._options, *command[1:]],
                env=environment | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=max(self._deadline - time.monotonic(), 1),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(command, 1, "", f"apt: {error}")


def _pretend(apt: _Apt, major: int) -> None:
    """Let apt take for installed: what the system has, the server, and what no one needs.

    The server gets the version that apt offers, for some packages want that one exactly; modules
    fit every minor version of their major.
    """
    server, client = f"postgresql-{major}", f"postgresql-client-{major}"
    offer = re.search(r"^Version: (.+)$", apt.answer("apt-cache", "show", server), re.MULTILINE)
    version = offer[1] if offer else _ANY
    known = {
        stanza.partition("\n")[0].removeprefix("Package: "): stanza
        for stanza in _STATUS.read_text(errors="replace").strip().split("\n\n")
    }
    pretended = {
        server: _stanza(server, version, f"{server}-jit-llvm (= 999), postgresql-contrib-{major}"),
        client: _stanza(client, version),
    }
    fillers = {name: _stanza(name, _ANY) for name in _PRETENDED}
    apt.status.write_text("\n\n".join((fillers | known | pretended).values()) + "\n")


def _stanza(name: str, version: str, provides: str = "") -> str:
    """https://www.debian.org/doc/debian-policy/ch-controlfields.html"""
    fields = {
        "Package": name,
        "Status": "hold ok installed",
        "Version": version,
        "Architecture": "all",
        "Multi-Arch": "foreign",
        "Provides": provides,
        "Maintainer": "none",
        "Description": "not needed here",
    }
    return "\n".join(f"{field}: {value}" for field, value in fields.items() if value)


def _package(name: str, major: int, offered: Iterable[str]) -> str | None:
    if not _SAFE.fullmatch(name):
        return None
    plain = name.replace("_", "-")
    candidates = (
        _PACKAGES.get(name, "").format(major),
        f"postgresql-{major}-{plain}",
        f"postgresql-{major}-{plain.removeprefix('pg-')}",
    )
    return next((each for each in candidates if each in offered), None)


def _bring(apt: _Apt, server: ThrowawayServer, package: str) -> str:
    """Download a package with all that it needs, and link it in; what went wrong, if anything."""
    fetched = apt.run(
        "apt-get", "install", "--yes", "--download-only", "--no-install-recommends", package
    )
    archives = sorted(apt.archives.glob("*.deb"))
    try:
        unfit = [each.name for each in archives if _NEVER.fullmatch(each.name.split("_")[0])]
        if fetched or unfit:
            return fetched or f"{package} is for another system: it needs {', '.join(unfit)}"
        for archive in archives:
            if said := _unpack(archive, server.folder / "packages/root"):
                return said
    finally:
        for archive in archives:
            archive.unlink()
    _link(server, server.folder / "packages/root")
    return ""


def _unpack(archive: Path, root: Path) -> str:
    done = subprocess.run(
        ["/usr/bin/dpkg-deb", "--extract", archive, root],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    return done.stderr.strip() if done.returncode else ""


def _link(server: ThrowawayServer, root: Path) -> None:
    """Show the server what was unpacked: extensions, their libraries, and those libraries' own."""
    major = server.programs.major
    share, libraries = (
        root / f"usr/share/postgresql/{major}",
        root / f"usr/lib/postgresql/{major}/lib",
    )
    packages = server.folder / "packages"
    places = (
        (share.glob("*"), server.installation.extensions.parent),
        (share.glob("extension/*"), server.installation.extensions),
        (libraries.glob("*.so"), server.installation.libraries),
        # Some, as BLAS, lie one folder deeper, where a script that was not run would link to them.
        (root.glob("usr/lib/lib*.so*"), packages / "lib"),
        (root.glob("usr/lib/*/lib*.so*"), packages / "lib"),
        (root.glob("usr/lib/*/*/lib*.so*"), packages / "lib"),
        (root.glob("usr/share/proj"), packages),
        (root.glob("usr/share/gdal"), packages),
        (root.glob("usr/share/perl/5.*.*/*"), packages / "perl"),
        (root.glob("usr/lib/*/perl/5.*.*/*"), packages / "perl-binary"),
    )
    for found, folder in places:
        make_open(folder)
        for path in found:
            link = folder / path.name
            if not os.path.lexists(link):
                link.symlink_to(path)


def _has(server: ThrowawayServer, name: str) -> bool:
    """Whether the control file has come, be it under the name that a script would link it from."""
    if server.installation.has_extension(name):
        return True
    versioned = sorted(server.installation.extensions.glob(f"{name}-[0-9]*.control"))
    if versioned:
        (server.installation.extensions / f"{name}.control").symlink_to(versioned[-1].resolve())
    return bool(versioned)
