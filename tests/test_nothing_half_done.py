"""Whatever fails, nothing is half done: each fault happens for real, to the real entrypoint."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.lab.aws import Ministack
from tests.lab.faults import (
    ACCESS_DENIED,
    ERROR_IN_200,
    EXPIRED_TOKEN,
    SLOW_DOWN,
    Answer,
    Corrupt,
    Reset,
    Stall,
)
from tests.lab.postgres import PostgresServer
from tests.lab.runner import RunningAction
from tests.lab.stage import (
    Stage,
    assert_backed_up,
    assert_no_backup,
    assert_nothing_half_done,
    make_client,
    stage,
    wait_until,
)
from tests.lab.tcp import TcpProxy

SLOW = 25_000_000  # bytes per second: the dump takes some seconds

BEGIN = (r"POST", r"\?uploads")
PART = (r"PUT", r"partNumber=")
COMPLETE = (r"POST", r"uploadId=")
MANIFEST = (r"PUT", r"manifest\.json")
SMALL = {"tables": "small_*"}  # one object of one part, quickly there


@pytest.fixture
def shop(noisy: PostgresServer, strict: Ministack) -> Iterator[Stage]:
    with stage(noisy, strict, "shop") as ready:
        yield ready


@pytest.fixture
def slow_shop(shop: Stage) -> Iterator[tuple[Stage, TcpProxy]]:
    """The database behind a proxy that makes the dump take some seconds."""
    with TcpProxy(shop.server.port, bandwidth=SLOW) as proxy:
        shop.port = proxy.port
        yield shop, proxy


def dumpers(running: RunningAction) -> list[int]:
    """pg_dump and its workers, the leader first."""
    return sorted(pid for pid, line in running.processes().items() if "--format=directory" in line)


def worker_in(shop: Stage, table: str) -> int:
    """The backend that copies a table out just now."""
    return next(pid for pid, query in shop.sessions() if f"COPY public.{table}" in query)


def as_reader(shop: Stage) -> dict[str, str]:
    url = shop.server.url(shop.database, "reader", "reader: 100%")
    # Without the large objects, which belong to somebody else.
    return shop.inputs(tables="small_*") | {"database-url": url}


# The database and pg_dump


def test_a_table_that_the_user_may_not_read_fails_the_backup(shop: Stage) -> None:
    shop.server.sql("REVOKE SELECT ON small_3 FROM reader", shop.database)
    try:
        run = shop.run(as_reader(shop))
    finally:
        shop.server.sql("GRANT SELECT ON small_3 TO reader", shop.database)
    error = assert_nothing_half_done(run, shop, 4)
    assert "small_3" in error
    assert "GRANT pg_read_all_data TO" in error


def test_row_level_security_fails_the_backup_rather_than_leave_rows_out(shop: Stage) -> None:
    shop.server.sql("ALTER TABLE small_4 ENABLE ROW LEVEL SECURITY", shop.database)
    try:
        run = shop.run(as_reader(shop))
    finally:
        shop.server.sql("ALTER TABLE small_4 DISABLE ROW LEVEL SECURITY", shop.database)
    assert "BYPASSRLS" in assert_nothing_half_done(run, shop, 4)


def test_a_lock_that_stays_fails_the_backup_after_the_lock_timeout(shop: Stage) -> None:
    with psycopg.connect(shop.server.url(shop.database)) as migration:
        migration.execute("LOCK TABLE small_5 IN ACCESS EXCLUSIVE MODE")
        run = shop.run(shop.inputs(lock_timeout="500ms"))
    assert "lock-timeout" in assert_nothing_half_done(run, shop, 4)
    assert run.seconds < 15


@pytest.mark.parametrize("victim", ["leader", "worker"])
def test_a_killed_pg_dump_is_no_backup(slow_shop: tuple[Stage, TcpProxy], victim: str) -> None:
    shop, _ = slow_shop
    with shop.start() as running:
        wait_until(shop.parts_seen)
        leader, *workers = dumpers(running)
        assert 2 == len(workers)
        os.kill(leader if victim == "leader" else workers[-1], signal.SIGKILL)
        run = running.finish()
    error = assert_nothing_half_done(run, shop, 4)
    assert ("SIGKILL" if victim == "leader" else "worker") in error


def test_a_session_that_the_server_ends_is_no_backup(slow_shop: tuple[Stage, TcpProxy]) -> None:
    shop, _ = slow_shop
    with shop.start() as running:
        wait_until(shop.parts_seen)
        shop.server.sql(f"SELECT pg_terminate_backend({worker_in(shop, 'noise')})")
        run = running.finish()
    assert "PQgetCopyData() failed" in assert_nothing_half_done(run, shop, 4)


def test_a_server_that_crashes_is_no_backup(slow_shop: tuple[Stage, TcpProxy]) -> None:
    shop, _ = slow_shop
    with shop.start() as running:
        wait_until(shop.parts_seen)
        shop.server.stop(immediate=True)
        try:
            run = running.finish()
        finally:
            shop.server.start()
    assert_nothing_half_done(run, shop, 4)


def test_connections_that_are_reset_are_no_backup(slow_shop: tuple[Stage, TcpProxy]) -> None:
    shop, proxy = slow_shop
    with shop.start() as running:
        wait_until(shop.parts_seen)
        proxy.reset()
        run = running.finish()
    assert_nothing_half_done(run, shop, 4)


def test_a_snapshot_that_is_gone_before_pg_dump_uses_it_is_no_backup(
    shop: Stage, tmp_path: Path
) -> None:
    """As with a pooler that hands the connection to somebody else."""
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL"
    psql = f"{shop.server.binaries}/psql '{shop.server.url(shop.database)}'"
    script = f'{psql} -qAtc "{cut} AND pid <> pg_backend_pid()" >/dev/null\nexec "$real" "$@"'
    clients = make_client(tmp_path / "bin", shop.server.binaries, script)
    run = shop.run(env={"PG_BACKUP_CLIENTS": str(clients)})
    error = assert_nothing_half_done(run, shop, 4)
    assert "snapshot" in error or "the server ended the connection" in error


def test_a_snapshot_connection_cut_after_its_last_use_does_no_harm(
    slow_shop: tuple[Stage, TcpProxy],
) -> None:
    """Firewalls cut connections that idle for hours; pg_dump's workers hold the snapshot too."""
    shop, _ = slow_shop
    with shop.start(shop.inputs(row_counts="false")) as running:
        wait_until(shop.parts_seen)
        holders = shop.server.sql(
            "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction'"
            " AND application_name = 'pg-backup-action' ORDER BY backend_start LIMIT 1"
        )
        shop.server.sql(f"SELECT pg_terminate_backend({holders[0][0]})")
        run = running.finish()
    assert_backed_up(run, shop)


# What pg_dump hands over is compared with what the source holds


def test_a_table_that_pg_dump_left_out_fails_the_backup(shop: Stage, tmp_path: Path) -> None:
    script = 'exec "$real" "$@" --exclude-table=public.small_2'
    clients = make_client(tmp_path / "bin", shop.server.binaries, script)
    run = shop.run(env={"PG_BACKUP_CLIENTS": str(clients)})
    assert "TABLE public.small_2" in assert_nothing_half_done(run, shop, 6)


def test_rows_that_pg_dump_left_out_fail_the_backup(shop: Stage, tmp_path: Path) -> None:
    script = 'exec "$real" "$@" --exclude-table-data=public.small_2'
    clients = make_client(tmp_path / "bin", shop.server.binaries, script)
    run = shop.run(env={"PG_BACKUP_CLIENTS": str(clients)})
    assert "TABLE DATA public.small_2" in assert_nothing_half_done(run, shop, 6)


# Runs pg_dump into a folder beside its own, and moves the files over but for $lost.
_LOSING = """
for word in "$@"; do case $word in --file=*) folder=${{word#--file=}} ;; esac; done
"$real" "${{@/--file=*/--file=$folder.whole}}" || exit
rm -f "$folder.whole"/{lost}
mv "$folder.whole" "$folder"
"""


@pytest.mark.parametrize(
    ("lost", "exit_code", "words"),
    [
        ("$(cd $folder.whole; ls | grep -m1 '^[0-9]')", 6, "files of the dump are missing"),
        ("blob_70002.dat*", 6, "large objects"),
        ("toc.dat", 4, "no table of contents"),
    ],
    ids=["a table's data", "a large object", "the table of contents"],
)
def test_a_file_that_pg_dump_lost_fails_the_backup(
    shop: Stage, tmp_path: Path, lost: str, exit_code: int, words: str
) -> None:
    clients = make_client(tmp_path / "bin", shop.server.binaries, _LOSING.format(lost=lost))
    run = shop.run(env={"PG_BACKUP_CLIENTS": str(clients)})
    assert words in assert_nothing_half_done(run, shop, exit_code)


def test_a_client_behind_a_wrapper_is_followed_as_well(
    slow_shop: tuple[Stage, TcpProxy], tmp_path: Path
) -> None:
    """pg_dump's workers are then grandchildren: what they write is not finished any sooner."""
    shop, _ = slow_shop
    clients = make_client(tmp_path / "bin", shop.server.binaries, '"$real" "$@"\nexit $?')
    run = shop.run(env={"PG_BACKUP_CLIENTS": str(clients)})
    manifest = assert_backed_up(run, shop)
    (noise,) = [each for each in manifest["members"] if each.get("table") == "noise"]
    assert noise["size"] > 30_000_000


# S3


@pytest.mark.parametrize("operation", [BEGIN, PART], ids=["begin", "part"])
def test_an_s3_that_stays_busy_is_no_backup(shop: Stage, operation: tuple[str, str]) -> None:
    method, pattern = operation
    shop.cloud.proxy.add(SLOW_DOWN, method=method, pattern=pattern)
    error = assert_nothing_half_done(shop.run(), shop, 5)
    assert "SlowDown" in error
    assert "AWS_MAX_ATTEMPTS" in error


@pytest.mark.parametrize(
    ("operation", "after"),
    [(COMPLETE, 0), (COMPLETE, 1), (MANIFEST, 0)],
    ids=["first complete", "second complete", "manifest"],
)
def test_an_s3_that_stays_busy_at_the_commit_is_no_backup(
    shop: Stage, operation: tuple[str, str], after: int
) -> None:
    method, pattern = operation
    shop.cloud.proxy.add(SLOW_DOWN, method=method, pattern=pattern, after=after)
    assert "SlowDown" in assert_no_backup(shop.run(), shop, 5)
    shop.cloud.proxy.clear()
    assert [] == shop.catalogue()


@pytest.mark.parametrize(
    "operation", [BEGIN, PART, COMPLETE, MANIFEST], ids=["begin", "part", "complete", "manifest"]
)
def test_an_s3_that_is_busy_for_a_while_is_waited_for(
    shop: Stage, operation: tuple[str, str]
) -> None:
    method, pattern = operation
    fault = shop.cloud.proxy.add(SLOW_DOWN, method=method, pattern=pattern, times=3)
    run = shop.run(shop.inputs(**SMALL), {"AWS_MAX_ATTEMPTS": "6"})
    assert_backed_up(run, shop)
    assert 3 == fault.hits


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        (PART, Reset()),
        (PART, Reset(after_forwarding=True)),
        (PART, Stall(3)),
        (COMPLETE, Reset(after_forwarding=True)),
        (COMPLETE, ERROR_IN_200),
        (MANIFEST, Reset(after_forwarding=True)),
        (MANIFEST, Answer(503, "SlowDown", "Reduce your rate", instead=False)),
    ],
    ids=[
        "part reset on its way",
        "answer to a part lost",
        "part stalled",
        "answer to complete lost",
        "error in a 200 to complete",
        "answer to the manifest lost",
        "manifest taken and refused",
    ],
)
def test_a_request_that_went_wrong_once_is_mended(
    shop: Stage, operation: tuple[str, str], fault: Answer | Reset | Stall
) -> None:
    method, pattern = operation
    injected = shop.cloud.proxy.add(fault, method=method, pattern=pattern, times=1)
    inputs = shop.inputs() if operation == PART else shop.inputs(**SMALL)
    assert_backed_up(shop.run(inputs, {"AWS_MAX_ATTEMPTS": "4"}), shop)
    assert 1 == injected.hits


def test_an_error_in_every_200_is_never_taken_for_success(shop: Stage) -> None:
    shop.cloud.proxy.add(ERROR_IN_200, method="POST", pattern="uploadId=")
    assert "InternalError" in assert_nothing_half_done(shop.run(), shop, 5)


def test_access_lost_in_the_middle_names_the_policy_line(shop: Stage) -> None:
    shop.cloud.proxy.add(ACCESS_DENIED, method="PUT", pattern="partNumber=", after=1)
    error = assert_nothing_half_done(shop.run(), shop, 3)
    resource = f'"Resource": "arn:aws:s3:::{shop.cloud.bucket}/postgresql/*"'
    assert '"Action": "s3:PutObject"' in error
    assert resource in error


def test_credentials_that_expire_in_the_middle_say_so(shop: Stage) -> None:
    shop.cloud.proxy.add(EXPIRED_TOKEN, method="PUT", pattern="partNumber=", after=1)
    error = assert_nothing_half_done(shop.run(), shop, 3)
    assert "ExpiredToken" in error
    assert "role-to-assume" in error


def test_bytes_that_change_on_the_way_are_never_stored(shop: Stage) -> None:
    fault = shop.cloud.proxy.add(Corrupt(), method="PUT", pattern="partNumber=", times=1)
    error = assert_nothing_half_done(shop.run(), shop, 5)
    assert "not those that were sent" in error
    assert 1 == fault.hits


# The scratch disk


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A folder to mount on; unmounted afterwards."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a file system of its own: .ci/run as root runs it")
    folder = tmp_path / "disk"
    folder.mkdir()
    yield folder
    subprocess.run(["umount", folder], check=True)


def mount(folder: Path, kind: str, options: str) -> None:
    command = ["mount", "-t", kind, "-o", options, "lab", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip(
            f"this machine mounts no {kind}: any with a usual Linux kernel, as root, runs it"
        )


@pytest.mark.parametrize("table", ["noise", "small_*"])
def test_a_full_disk_is_no_backup(shop: Stage, mounted: Path, table: str) -> None:
    mount(mounted, "tmpfs", "size=6m" if table == "noise" else "size=24k")
    run = shop.run(shop.inputs(tables=table), {"TMPDIR": str(mounted)})
    error = assert_nothing_half_done(run, shop, 5)
    assert "full" in error
    assert "TMPDIR" in error
    assert [] == list(mounted.iterdir())


def test_a_disk_without_holes_is_refused_before_the_dump(shop: Stage, mounted: Path) -> None:
    mount(mounted, "ramfs", "mode=755")
    run = shop.run(env={"TMPDIR": str(mounted)})
    assert "tmpfs" in assert_nothing_half_done(run, shop, 5)
    assert [] == list(mounted.iterdir())


def test_a_scratch_folder_that_cannot_be_written_is_refused(shop: Stage, mounted: Path) -> None:
    mount(mounted, "tmpfs", "size=1m,ro")
    error = assert_nothing_half_done(shop.run(env={"TMPDIR": str(mounted)}), shop, 5)
    assert str(mounted) in error
    assert "TMPDIR" in error
