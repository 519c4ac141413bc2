"""The throwaway server of a drill: private, harmless, like its source, and gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from backup.errors import DumpError, Interrupted, StorageError
from backup.model import Extension
from backup.postgres.connection import Connection, child_environment, connect, conninfo
from backup.postgres.extensions import ConfigSequence, ConfigTable, missing, stub, supply
from backup.postgres.locales import add_collations, create_like
from backup.postgres.servers import ServerPrograms, choose_server, installed_servers
from backup.postgres.throwaway import ThrowawayServer, prove_room, throwaway_server
from tests.conftest import MAJORS, skip_without
from tests.lab.aws import REPOSITORY
from tests.lab.postgres import installed

IS_ROOT = os.geteuid() == 0
CREATE = "CREATE DATABASE x WITH TEMPLATE = template0 ENCODING = "


def programs_of(major: int) -> ServerPrograms:
    skip_without(major)
    binaries = installed()[major]
    found = installed_servers({"PG_BACKUP_CLIENTS": str(binaries)})
    return next(each for each in found if each.folder == binaries)


@pytest.fixture(scope="session")
def newest() -> ServerPrograms:
    return programs_of(17 if 17 in installed() else max(installed()))


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that all may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="lab-place-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shared(newest: ServerPrograms) -> Iterator[ThrowawayServer]:
    """One server for the tests that only make databases in it."""
    with throwaway_server(newest, Path(tempfile.gettempdir())) as server:
        yield server


def one(connection: Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def processes_in(folder: Path) -> list[int]:
    """Living processes that were started with a file of `folder`, or work in it."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            at = [str((process / "cwd").readlink()), (process / "cmdline").read_bytes().decode()]
        except (OSError, UnicodeDecodeError):
            continue
        if any(str(folder) in each for each in at):
            found.append(int(process.name))
    return found


def wait_until_alone(folder: Path) -> list[int]:
    deadline = time.monotonic() + 10
    while (left := processes_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


# ---- starting and ending


@pytest.mark.parametrize("major", MAJORS)
def test_a_server_of_every_major_starts_and_leaves_nothing(major: int, place: Path) -> None:
    programs = programs_of(major)
    with throwaway_server(programs, place, jobs=4) as server:
        owners = {(Path("/proc") / str(each)).stat().st_uid for each in processes_in(place)}
        with connect(server.source) as connection:
            version = one(connection, "SHOW server_version_num")
            superuser = one(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = user")
            addresses = one(connection, "SHOW listen_addresses")
            crashed = one(connection, "SHOW fsync")
    assert (str(major), True, "", "off") == (str(version)[:2], superuser, addresses, crashed)
    assert 0 not in owners
    assert [] == processes_in(place)
    assert [] == list(place.iterdir())


def test_a_strict_umask_does_not_shut_the_server_out(newest: ServerPrograms, place: Path) -> None:
    before = os.umask(0o077)
    try:
        with throwaway_server(newest, place) as server, connect(server.source) as connection:
            assert 1 == one(connection, "SELECT 1")
    finally:
        os.umask(before)


# It gives root up late, for an interpreter may lie where only root can read it.
AS_A_PROGRAM = """
import os, sys, time
from pathlib import Path
from backup.postgres.connection import connect
from backup.postgres.servers import installed_servers
from backup.postgres.throwaway import throwaway_server

binaries, place, user, seconds = sys.argv[1:]
(programs,) = [
    each for each in installed_servers({"PG_BACKUP_CLIENTS": binaries})
    if str(each.folder) == binaries
]
if user:
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
with throwaway_server(programs, Path(place)) as server, connect(server.source) as connection:
    connection.execute("CREATE TABLE t (x int)")
    print("ready", flush=True)
    time.sleep(int(seconds))
"""


def start_program(
    programs: ServerPrograms, place: Path, *, user: str = "", seconds: int = 0
) -> subprocess.Popen[str]:
    words = [str(programs.folder), str(place), user, str(seconds)]
    return subprocess.Popen(
        [sys.executable, "-c", AS_A_PROGRAM, *words],
        env={"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.skipif(
    not IS_ROOT, reason="every other test here runs without root already; .ci/run as root runs it"
)
def test_a_server_starts_without_root(newest: ServerPrograms, place: Path) -> None:
    own = place / "own"
    own.mkdir(mode=0o700)
    os.chown(own, 65534, 65534)
    with start_program(newest, own, user="65534") as program:
        told, _ = program.communicate(timeout=60)
    assert "ready\n" == told
    assert [] == list(own.iterdir())


def test_a_server_does_not_outlive_a_parent_that_is_killed(
    newest: ServerPrograms, place: Path
) -> None:
    with start_program(newest, place, seconds=60) as program:
        assert program.stdout is not None
        assert "ready\n" == program.stdout.readline()
        assert len(processes_in(place)) > 3
        program.send_signal(signal.SIGKILL)
    assert [] == wait_until_alone(place)


def test_an_interrupted_drill_leaves_nothing(newest: ServerPrograms, place: Path) -> None:
    with pytest.raises(Interrupted), throwaway_server(newest, place):
        raise Interrupted(signal.SIGTERM)
    assert [] == processes_in(place)
    assert [] == list(place.iterdir())


def test_a_socket_is_reached_below_a_long_path(newest: ServerPrograms, place: Path) -> None:
    deep = place / ("deep, and " + "deeper " * 12) / ("x" * 60)
    deep.mkdir(parents=True)
    with throwaway_server(newest, deep) as server, connect(server.source) as connection:
        assert 1 == one(connection, "SELECT 1")
        sockets = Path(server.source.host)
    assert not sockets.exists()


# ---- refusals


@pytest.mark.parametrize("megabytes", [1, 20])
def test_a_full_disk_is_named(newest: ServerPrograms, place: Path, megabytes: int) -> None:
    disk = place / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(disk)]
    if not IS_ROOT or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root, to mount a small disk: .ci/run as root runs it")
    try:
        with (
            pytest.raises(StorageError, match="disk is full") as failure,
            throwaway_server(newest, disk),
        ):
            pytest.fail("it started")
        assert "TMPDIR" in failure.value.hint
        assert [] == list(disk.iterdir())
        assert [] == processes_in(place)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_without_room_is_refused_before_anything_is_fetched(place: Path) -> None:
    prove_room(place, 0)
    free = shutil.disk_usage(place).free
    with pytest.raises(StorageError, match="no room") as failure:
        prove_room(place, free)
    assert "target-url" in failure.value.hint


def test_a_server_older_than_the_backup_is_no_place_for_it(newest: ServerPrograms) -> None:
    older, same = replace(newest, major=15, version="15.1"), replace(newest, major=17)
    assert same == choose_server(16, [older, same])
    with pytest.raises(DumpError, match="no PostgreSQL 18 server") as failure:
        choose_server(18, [older, same])
    assert "15.1" in failure.value.detail
    assert "postgresql-18" in failure.value.hint


@pytest.mark.skipif(
    not IS_ROOT, reason="only root's server is run by somebody else: .ci/run as root runs it"
)
def test_a_folder_that_the_servers_account_cannot_enter_is_named(
    newest: ServerPrograms, place: Path
) -> None:
    place.chmod(0o700)
    with (
        pytest.raises(StorageError, match=f"cannot enter {place}") as failure,
        throwaway_server(newest, place),
    ):
        pytest.fail("it started")
    assert "TMPDIR" in failure.value.hint


def test_what_a_server_said_before_it_ended_is_told(newest: ServerPrograms, place: Path) -> None:
    broken = place / "bin"
    broken.mkdir()
    for name in ("initdb", "postgres"):
        script = broken / name
        script.write_text("#!/bin/sh\necho 'FATAL:  out of order' >&2\nexit 1\n")
        script.chmod(0o755)
    with (
        pytest.raises(DumpError, match="did not start") as failure,
        throwaway_server(replace(newest, folder=broken), place),
    ):
        pytest.fail("it started")
    assert "FATAL:  out of order" == failure.value.detail


# ---- what an archive's SQL can see


def test_the_sql_of_an_archive_sees_none_of_our_secrets(
    newest: ServerPrograms, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    with throwaway_server(newest, place) as server, connect(server.source) as connection:
        connection.execute("CREATE TABLE seen (line text)")
        connection.execute("COPY seen FROM PROGRAM 'env'")
        lines = connection.execute("SELECT line FROM seen").fetchall()
        if server.account:
            with pytest.raises(psycopg.Error, match=r"program .* failed"):
                connection.execute(f"COPY seen FROM PROGRAM 'cat /proc/{os.getpid()}/environ'")
    assert lines
    assert "wJalrXUtnFEMI" not in str(lines)


# ---- databases like their source


def test_a_database_of_any_name_is_made(newest: ServerPrograms, place: Path) -> None:
    hostile = ("a \"b' WITH ENCODING = 'LATIN1'", "-d x", "naïve; DROP", "%s {}", "line\nfeed")
    with throwaway_server(newest, place) as server:
        for name in ("postgres", "template1", *hostile):
            quoted = '"' + name.replace('"', '""') + '"'
            definition = (
                f"CREATE DATABASE {quoted} WITH ENCODING = 'UTF8' LOCALE = 'C' TABLESPACE = t;"
            )
            made = create_like(server, name, "UTF8", definition)
            with connect(made.source) as connection:
                assert name == one(connection, "SELECT current_database()")
                assert "UTF8" == one(connection, "SHOW server_encoding")
            assert () == made.notes


def has_sources_of_locales() -> bool:
    return Path("/usr/share/i18n/locales/de_DE").exists() and bool(shutil.which("localedef"))


needs_locales = pytest.mark.skipif(
    not has_sources_of_locales(),
    reason="needs Debian's package locales: .ci/run installs it, and the image has it",
)


@needs_locales
def test_a_locale_that_the_machine_lacks_is_made(shared: ThrowawayServer) -> None:
    made = create_like(shared, "german", "UTF8", f"{CREATE}'UTF8' LOCALE = 'de_DE.UTF-8';")
    with connect(made.source) as connection:
        ordered = one(
            connection, "SELECT string_agg(x, '' ORDER BY x) FROM unnest('{z,ä,a}'::text[]) x"
        )
    assert "aäz" == ordered
    assert () == made.notes


@needs_locales
def test_a_locale_has_the_encoding_of_its_database(shared: ThrowawayServer) -> None:
    definition = f"{CREATE}'LATIN1' LC_COLLATE = 'fr_FR' LC_CTYPE = 'fr_FR.iso88591';"
    made = create_like(shared, "french", "LATIN1", definition)
    with connect(made.source) as connection:
        assert "LATIN1" == one(connection, "SHOW server_encoding")
        assert "É" == one(connection, "SELECT upper('é')")
    assert () == made.notes


def test_a_locale_that_nobody_knows_is_noted(shared: ThrowawayServer) -> None:
    definition = f"{CREATE}'UTF8' LOCALE = 'German_Germany.1252';"
    made = create_like(shared, "windows", "UTF8", definition)
    with connect(made.source) as connection:
        assert 1 == one(connection, "SELECT 1")
    (note,) = made.notes
    assert note.startswith("collation German_Germany.1252 is not here")
    assert note.endswith("the sort order of indexes is not proven")


@needs_locales
def test_collations_of_the_sources_machine_are_made(shared: ThrowawayServer) -> None:
    made = create_like(shared, "collated", "UTF8", "")
    column = 'CREATE TABLE t (x text COLLATE pg_catalog."{}")'
    definitions = [column.format(name) for name in ("sv_SE", "sv_SE.utf8", "C", "xx_XX")]
    notes = add_collations(shared, made, "UTF8", definitions)
    with connect(made.source) as connection:
        for name in ("sv_SE", "sv_SE.utf8"):
            order = f"string_agg(x, '' ORDER BY x COLLATE \"{name}\")"
            assert "zåä" == one(connection, f"SELECT {order} FROM unnest('{{ä,z,å}}'::text[]) x")
    (note,) = notes
    assert note.startswith("collation xx_XX cannot be made here")


# ---- extensions

CRON = (
    ConfigTable("cron", "job", ("jobid", "schedule", 'the "command"')),
    ConfigSequence("cron", "jobid_seq"),
)


@pytest.mark.parametrize("major", MAJORS)
def test_the_rows_of_an_extension_that_is_not_here_load_and_come_back(
    major: int, place: Path
) -> None:
    programs = programs_of(major)
    row = "1\t0 3 * * *\t\\\\N\\tVACUUM\n"
    with throwaway_server(programs, place) as server:
        assert stub(server, "pg_cron", "1.6", CRON)
        with connect(server.source) as connection:
            connection.execute("CREATE EXTENSION pg_cron WITH SCHEMA pg_catalog")
            version = one(
                connection, "SELECT extversion FROM pg_extension WHERE extname = 'pg_cron'"
            )
            connection.execute("SELECT setval('cron.jobid_seq', 7)")
            with connection.cursor().copy("COPY cron.job FROM stdin") as copy:
                copy.write(row)
        dumped = subprocess.run(
            [programs.folder / "pg_dump", "--data-only", "--dbname", conninfo(server.source)],
            env=child_environment(server.source, {}),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert "1.6" == version
    assert f'COPY cron.job (jobid, schedule, "the ""command""") FROM stdin;\n{row}' in dumped
    assert "setval('cron.jobid_seq', 7, true)" in dumped


def test_extensions_that_are_missing_are_stood_in_for_and_named(
    newest: ServerPrograms, place: Path
) -> None:
    wanted = [
        Extension(name, "1.0", "public")
        for name in ("plpgsql", "vector", "pg_cron", "a 'b", "../../escape", "x--y")
    ]
    with throwaway_server(newest, place) as server:
        with connect(server.source) as connection:
            lacking = [each.name for each in missing(connection, wanted)]
        supplied = supply(server, wanted, packages=False)
        with connect(server.source) as connection:
            connection.execute("CREATE EXTENSION vector")
    assert ["../../escape", "a 'b", "pg_cron", "vector", "x--y"] == lacking
    assert () == supplied.fetched
    assert ["pg_cron", "vector"] == [name for name, _ in supplied.stubbed]
    assert ["../../escape", "a 'b", "x--y"] == [name for name, _ in supplied.absent]
    assert "jobs of the source" in dict(supplied.stubbed)["pg_cron"]


def test_a_stand_in_leaves_the_systems_own_extensions_alone(shared: ThrowawayServer) -> None:
    own = sorted(each.name for each in shared.installation.extensions.iterdir())
    real = shared.installation.extensions / "plpgsql.control"
    before = real.resolve()
    text = before.read_text()
    assert stub(shared, "plpgsql", "9.9")
    assert not real.is_symlink()
    assert text == before.read_text()
    assert set(own) - {"plpgsql--1.0.sql"} <= {
        each.name for each in shared.installation.extensions.iterdir()
    }
