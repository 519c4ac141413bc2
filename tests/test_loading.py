"""A running pg_restore: what it loads, how it ends, and what its ends mean."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from backup.errors import AccessError, RestoreError, VerificationError
from backup.postgres.connection import connect
from backup.postgres.loading import LoadPlan, RunningLoad, RunningScript, session_settings
from backup.settings import Secret
from tests.lab.loads import Archive, client_of, database, dump, load, role, target_of
from tests.lab.postgres import PostgresServer
from tests.lab.stage import fill, wait_until

MEGABYTES = 2
TABLES = """
CREATE TABLE small AS SELECT n FROM generate_series(1, 100) n;
CREATE TABLE empty (x int);
CREATE TABLE "line
break" AS SELECT 'a row' AS x;
CREATE INDEX ON small (n);
"""


@pytest.fixture(scope="module")
def archive(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Three small tables, and `noise` whose data file is a few megabytes."""
    with database(postgres, "loaded", TABLES):
        fill(postgres, "loaded", "noise", MEGABYTES)
        return dump(postgres, "loaded", tmp_path_factory.mktemp("loading") / "archive")


@pytest.fixture
def own(archive: Archive, tmp_path: Path) -> Archive:
    """A copy of the archive, to spoil."""
    copy = tmp_path / "archive"
    copy.mkdir()
    for file in archive.folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return Archive(copy, archive.entries)


@pytest.fixture
def plan(postgres: PostgresServer, archive: Archive) -> Iterator[LoadPlan]:
    """Everything, into a new database."""
    with database(postgres, "target"):
        target = target_of(postgres, "target")
        yield LoadPlan(client_of(postgres), target, archive.folder, archive.ids())


@pytest.fixture
def definitions(plan: LoadPlan, archive: Archive) -> LoadPlan:
    """A plan for the data of `noise`, once the table is there."""
    table = archive.ids("TABLE public.noise")
    assert [] == load(replace(plan, ids=table), archive).judged
    return replace(plan, ids=archive.ids("TABLE DATA public.noise"))


def rows(server: PostgresServer, table: str) -> int:
    [(count,)] = server.sql(f"SELECT count(*) FROM {table}", "target")
    return int(count)


def sessions(server: PostgresServer) -> list[tuple[int, str]]:
    """Those of pg_restore: their backends and what they do."""
    found = server.sql(
        "SELECT pid, query FROM pg_stat_activity"
        " WHERE datname = 'target' AND application_name = 'pg-backup-action'"
    )
    return [(pid, query) for pid, query in found]


def make_pipe(archive: Archive, table: str) -> bytes:
    """Put a named pipe in the place of a data file; what the file held."""
    path = archive.data_file(table)
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    return content


def feed_half(server: PostgresServer, archive: Archive, content: bytes) -> IO[bytes]:
    """The open pipe, when half of the data is in it and the server is at its COPY."""
    pipe = archive.data_file("noise").open("wb", buffering=0)
    pipe.write(content[: len(content) // 2])
    wait_until(lambda: any(query.startswith("COPY") for _, query in sessions(server)))
    return pipe


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_whole_archive_is_loaded_without_complaint(
    postgres: PostgresServer, plan: LoadPlan, archive: Archive, jobs: int
) -> None:
    outcome = load(replace(plan, jobs=jobs), archive)
    assert ([], []) == (outcome.judged, outcome.relayed)
    loaded = [rows(postgres, each) for each in ("small", "empty", '"line\nbreak"', "noise")]
    assert [100, 0, 1, MEGABYTES * 10] == loaded


def test_only_the_named_entries_are_loaded(
    postgres: PostgresServer, plan: LoadPlan, archive: Archive
) -> None:
    ids = archive.ids("TABLE public.small", "TABLE public.line\nbreak", "TABLE DATA public.small")
    assert [] == load(replace(plan, ids=ids), archive).judged
    assert [("line\nbreak",), ("small",)] == postgres.sql(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
        "target",
    )
    assert (100, 0) == (rows(postgres, "small"), rows(postgres, '"line\nbreak"'))


def test_a_pipe_loads_like_a_file(
    postgres: PostgresServer, definitions: LoadPlan, own: Archive
) -> None:
    content = make_pipe(own, "noise")
    with RunningLoad(replace(definitions, folder=own.folder), os.environ, print) as running:
        pipe = feed_half(postgres, own, content)
        assert not running.finished()
        pipe.write(content[len(content) // 2 :])
        pipe.close()
        while not running.finished():
            running.wait(1.0)
        assert () == running.complaints()
    assert MEGABYTES * 10 == rows(postgres, "noise")


def test_a_load_killed_before_its_data_ended_leaves_no_row(
    postgres: PostgresServer, definitions: LoadPlan, own: Archive
) -> None:
    content = make_pipe(own, "noise")
    with RunningLoad(replace(definitions, folder=own.folder), os.environ, print) as running:
        with feed_half(postgres, own, content):
            running.kill()
            wait_until(running.finished)
        with pytest.raises(RestoreError, match="pg_restore was ended by SIGKILL"):
            running.complaints()
    wait_until(lambda: [] == sessions(postgres))
    assert 0 == rows(postgres, "noise")


@pytest.mark.parametrize("jobs", [1, 2])
def test_leaving_ends_pg_restore_its_workers_and_their_sessions(
    postgres: PostgresServer, plan: LoadPlan, own: Archive, jobs: int
) -> None:
    content = make_pipe(own, "noise")
    with (
        pytest.raises(KeyboardInterrupt),
        RunningLoad(replace(plan, folder=own.folder, jobs=jobs), os.environ, print),
        feed_half(postgres, own, content),
    ):
        raise KeyboardInterrupt
    wait_until(lambda: [] == sessions(postgres), 5.0)
    assert [] == processes_in(own.folder)


def processes_in(folder: Path) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if str(folder) in line]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_session_that_the_server_ends_is_an_error_and_leaves_no_row(
    postgres: PostgresServer, plan: LoadPlan, own: Archive, jobs: int
) -> None:
    content = make_pipe(own, "noise")
    with RunningLoad(replace(plan, folder=own.folder, jobs=jobs), os.environ, print) as running:
        with feed_half(postgres, own, content) as pipe:
            postgres.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = 'target' AND query LIKE 'COPY%'"
            )
            with suppress(BrokenPipeError):
                pipe.write(content[len(content) // 2 :])
        wait_until(running.finished)
        with pytest.raises(RestoreError) as failure:
            running.complaints()
    assert failure.value.message in (
        "the target ended the session of pg_restore",
        "the connection to the target broke",
    )
    assert "run the restore again" in failure.value.hint
    assert 0 == rows(postgres, "noise")


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_data_file_that_cannot_be_read_is_an_error_and_leaves_no_row(
    postgres: PostgresServer, definitions: LoadPlan, own: Archive, damage: str
) -> None:
    path = own.data_file("noise")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    match damage:
        case "flipped":
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[:1000])
        case "missing":
            path.unlink()
    with pytest.raises(VerificationError, match="pg_restore cannot read the archive") as failure:
        load(replace(definitions, folder=own.folder), own)
    assert failure.value.detail
    assert 0 == rows(postgres, "noise")


def test_a_table_of_contents_that_cannot_be_read_is_an_error(plan: LoadPlan, own: Archive) -> None:
    contents = own.folder / "toc.dat"
    contents.write_bytes(contents.read_bytes()[:500])
    with pytest.raises(VerificationError, match="pg_restore cannot read the archive"):
        load(replace(plan, folder=own.folder), own)


@pytest.mark.parametrize("number", [1, 999999])
def test_an_entry_that_is_not_there_is_an_error(
    plan: LoadPlan, archive: Archive, number: int
) -> None:
    with pytest.raises(RestoreError, match="pg_restore cannot read the archive") as failure:
        load(replace(plan, ids=[*plan.ids, number]), archive)
    assert str(number) in failure.value.detail


def test_an_entry_named_twice_is_loaded_once(
    postgres: PostgresServer, plan: LoadPlan, archive: Archive
) -> None:
    outcome = load(replace(plan, ids=[*plan.ids, *plan.ids]), archive)
    assert ([], []) == (outcome.judged, outcome.relayed)
    assert 100 == rows(postgres, "small")


def test_refusals_of_the_target_have_their_remedy(
    postgres: PostgresServer, plan: LoadPlan, archive: Archive
) -> None:
    wrong_password = replace(plan.target, password=lambda: Secret("wrong: one"))
    with pytest.raises(AccessError, match="refused the login") as failure:
        load(replace(plan, target=wrong_password), archive)
    assert "wrong: one" not in "".join(failure.value.lines())
    with pytest.raises(AccessError, match="cannot take the role"):
        load(replace(plan, role="nobody"), archive)
    with pytest.raises(RestoreError, match="database is not there"):
        load(replace(plan, target=replace(plan.target, database="absent")), archive)
    with role(postgres, "visitor", "LOGIN PASSWORD 'visitor'"):
        postgres.sql("REVOKE CONNECT ON DATABASE target FROM PUBLIC")
        visitor = target_of(postgres, "target", "visitor")
        with pytest.raises(AccessError, match="may not connect"):
            load(replace(plan, target=visitor), archive)
        with pytest.raises(AccessError, match="cannot take the role"):
            postgres.sql("GRANT CONNECT ON DATABASE target TO visitor")
            load(replace(plan, target=visitor, role="postgres"), archive)
        postgres.sql("REVOKE CONNECT ON DATABASE target FROM visitor")


def test_a_target_that_takes_no_writes_is_one_error_and_not_one_for_each_object(
    postgres: PostgresServer, plan: LoadPlan, archive: Archive
) -> None:
    postgres.sql("ALTER DATABASE target SET default_transaction_read_only = on")
    with pytest.raises(RestoreError, match="takes no writes"):
        load(plan, archive)


def test_an_error_about_another_connection_does_not_end_the_load(
    postgres: PostgresServer, plan: LoadPlan, tmp_path: Path
) -> None:
    script = """
    CREATE FUNCTION far() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
    IF current_database() = 'ours' THEN RETURN 1; END IF; RAISE
    'could not connect: server closed the connection unexpectedly'; END $$;
    CREATE MATERIALIZED VIEW abroad AS SELECT public.far();
    CREATE MATERIALIZED VIEW last AS SELECT 1 AS x
    """
    with database(postgres, "ours", script):
        archive = dump(postgres, "ours", tmp_path / "archive")
    outcome = load(replace(plan, folder=archive.folder, ids=archive.ids()), archive)
    assert [("fatal", "MATERIALIZED VIEW DATA public.abroad", "it is missing")] == outcome.judged
    assert 1 == rows(postgres, "last")


def test_a_full_disk_of_the_target_is_one_error(postgres: PostgresServer, archive: Archive) -> None:
    disk = postgres.data.parent / "disk"
    disk.mkdir()
    owner = postgres.data.stat()
    [(empty,)] = postgres.sql("SELECT pg_database_size('template1')")
    options = f"size={empty + 1_000_000},uid={owner.st_uid}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root, to mount a small disk: .ci/run as root runs it")
    try:
        postgres.sql(f"CREATE TABLESPACE tiny LOCATION '{disk}'")
        with database(postgres, "target"):
            postgres.sql("ALTER DATABASE target SET TABLESPACE tiny")
            target = target_of(postgres, "target")
            plan = LoadPlan(client_of(postgres), target, archive.folder, archive.ids())
            with pytest.raises(RestoreError, match="disk of the target is full") as failure:
                load(plan, archive)
        assert "could not extend file" in failure.value.detail
        postgres.sql("DROP TABLESPACE tiny")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# A materialized view holds the settings of the session that restored it.
SHOWN = """
CREATE MATERIALIZED VIEW shown AS
SELECT current_setting('statement_timeout') AS a, current_setting('lock_timeout') AS b,
       current_setting('idle_session_timeout') AS c;
"""


def test_limits_of_time_do_not_hold_for_a_load(postgres: PostgresServer, tmp_path: Path) -> None:
    with database(postgres, "ours", SHOWN):
        archive = dump(postgres, "ours", tmp_path / "archive")
    with (
        role(postgres, "hasty", "LOGIN SUPERUSER PASSWORD 'hasty'"),
        database(postgres, "target", owner="hasty"),
    ):
        target = target_of(postgres, "target", "hasty")
        with connect(target) as connection:
            assert {"synchronous_commit": "off"} == session_settings(connection, target)
        postgres.sql("ALTER ROLE hasty SET statement_timeout = '5min'")
        postgres.sql("ALTER ROLE hasty SET idle_session_timeout = '1min'")
        parameters = (("options", "-c search_path=elsewhere -c lock_timeout=1min"),)
        target = replace(target, parameters=parameters)
        with connect(target) as connection:
            settings = session_settings(connection, target)
        limits = ("statement_timeout", "idle_session_timeout", "lock_timeout")
        assert dict.fromkeys(limits, "0") | {"synchronous_commit": "off"} == settings
        plan = LoadPlan(
            client_of(postgres), target, archive.folder, archive.ids(), settings=settings
        )
        assert [] == load(plan, archive).judged
        assert [("0", "0", "0")] == postgres.sql("SELECT * FROM shown", "target")


def test_values_of_settings_reach_the_server_as_they_are(
    postgres: PostgresServer, plan: LoadPlan, tmp_path: Path
) -> None:
    script = "CREATE MATERIALIZED VIEW shown AS SELECT current_setting('some.thing', true) AS x"
    with database(postgres, "ours", script):
        archive = dump(postgres, "ours", tmp_path / "archive")
    settings = {"some.thing": "a b\\c 'd' -c x=y"}
    loaded = replace(plan, folder=archive.folder, ids=archive.ids(), settings=settings)
    assert [] == load(loaded, archive).judged
    assert [(settings["some.thing"],)] == postgres.sql("SELECT x FROM shown", "target")


def test_a_script_holds_the_rows_of_a_table_and_needs_no_server(
    postgres: PostgresServer, archive: Archive
) -> None:
    ids = archive.ids("TABLE DATA public.small")
    with RunningScript(client_of(postgres), archive.folder, ids) as running:
        written = running.stdout.read()
        wait_until(running.finished)
    copied = written.partition(b"COPY public.small (n) FROM stdin;\n")[2].partition(b"\\.\n")[0]
    expected = "".join(f"{number}\n" for number in range(1, 101)).encode()
    assert hashlib.sha256(expected).hexdigest() == hashlib.sha256(copied).hexdigest()
    assert b"noise" not in written


def test_a_script_of_damaged_data_is_an_error(postgres: PostgresServer, own: Archive) -> None:
    path = own.data_file("noise")
    path.write_bytes(path.read_bytes()[:1000])
    ids = own.ids("TABLE DATA public.noise")
    with RunningScript(client_of(postgres), own.folder, ids) as running:
        running.stdout.read()
        with pytest.raises(VerificationError, match="pg_restore cannot read the archive"):
            wait_until(running.finished)


def test_a_script_that_nobody_reads_to_its_end_is_ended(
    postgres: PostgresServer, archive: Archive
) -> None:
    ids = archive.ids("TABLE DATA public.noise")
    with RunningScript(client_of(postgres), archive.folder, ids) as running:
        assert running.stdout.read(10)
        assert not running.finished()
    assert [] == processes_in(archive.folder)
