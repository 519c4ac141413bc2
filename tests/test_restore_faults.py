"""A restore that fails leaves a target that nobody takes for whole, and that the next one mends.

Each fault happens for real: to the database, to S3, to the bytes in it, to the scratch disk.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.aws import Ministack
from tests.lab.cloud import listing, reading, writing
from tests.lab.faults import EXPIRED_TOKEN, SLOW_DOWN, CutShort, Reset, Stall
from tests.lab.postgres import PostgresServer, installed
from tests.lab.runner import RunningAction
from tests.lab.stage import Stage, fill, readable_stage, wait_until
from tests.restores import (
    assert_failed,
    assert_restored,
    assert_same,
    assert_unusable,
    target,
    untouched,
)
from tests.steps import database_named, forget, green

MIB = 1 << 20
FOREVER = 600.0
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
SECONDS = {signal.SIGINT: 7.0, signal.SIGTERM: 2.4}

SMALL = """
CREATE TABLE small_1 AS SELECT n, md5(n::text) AS text FROM generate_series(1, 3000) n;
CREATE TABLE small_2 AS SELECT n, md5(n::text) AS text FROM generate_series(3001, 6000) n;
CREATE INDEX ON small_1 (text);
CREATE VIEW seen AS SELECT * FROM small_2;
SELECT lo_from_bytea(n, '\\xcafe') FROM generate_series(70001, 70003) n;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One to stop and to start again."""
    majors = installed()
    # 17 is the one in a wheel that has zstd.
    with PostgresServer(majors[17 if 17 in majors else max(majors)]) as running:
        yield running


@pytest.fixture(scope="module")
def backed_up(server: PostgresServer, strict: Ministack) -> Iterator[Stage]:
    """A database of one table that is fed through a pipe and some small ones, and its backup."""
    database_named(server, "shop", SMALL)
    fill(server, "shop", "noise", 12)
    with readable_stage(server, strict, "shop") as ready:
        green(ready.run())
        yield ready


@pytest.fixture
def shop(backed_up: Stage) -> Iterator[Stage]:
    yield backed_up
    backed_up.cloud.proxy.clear()
    backed_up.cloud.proxy.records.clear()


@pytest.fixture
def copy(shop: Stage) -> Iterator[str]:
    """An empty database to restore into."""
    with target(shop.server, "copy") as name:
        yield name


def members(stage: Stage) -> tuple[str, dict[str, dict[str, object]]]:
    """The key prefix of the only backup, and its members by table or name."""
    ((key, manifest),) = stage.cloud.manifests().items()
    found = {each.get("table") or each["name"]: each for each in manifest["members"]}
    return key.removesuffix("manifest.json"), found


def assert_mended(shop: Stage, copy: str, **inputs: str) -> None:
    """Run again, once nothing fails any more: whole, and without the mark."""
    shop.cloud.proxy.clear()
    assert_restored(shop.run(shop.restore_inputs(copy, **inputs)), shop, copy)
    assert_same(shop.server, "shop", copy)


def copying(shop: Stage, table: str) -> list[int]:
    """The sessions that load the table just now."""
    return [pid for pid, query in shop.sessions() if f"COPY public.{table}" in query]


# The database


def test_a_session_that_the_server_ends_leaves_a_marked_target(shop: Stage, copy: str) -> None:
    shop.cloud.proxy.add(Stall(2), method="GET", pattern="/archive/", after=3)
    with shop.start(shop.restore_inputs(copy)) as running:
        wait_until(lambda: copying(shop, "noise"))
        shop.server.sql(f"SELECT pg_terminate_backend({copying(shop, 'noise')[0]})")
        run = running.finish()
    assert_unusable(run, shop, copy, 4, "see the server's log")
    assert [(0,)] == shop.server.sql("SELECT count(*) FROM noise", copy)
    assert_mended(shop, copy)


def test_a_server_that_crashes_leaves_a_marked_target(shop: Stage, copy: str) -> None:
    shop.cloud.proxy.add(Stall(1), method="GET", pattern="/archive/", after=3)
    with shop.start(shop.restore_inputs(copy)) as running:
        wait_until(lambda: copying(shop, "noise"))
        shop.server.stop(immediate=True)
        try:
            run = running.finish()
        finally:
            shop.server.start()
    assert_unusable(run, shop, copy, 4)
    assert_mended(shop, copy)


def test_a_session_that_is_cut_while_others_load_does_no_harm(shop: Stage, copy: str) -> None:
    """Firewalls cut what idles for hours: ours does while pg_restore loads."""
    shop.cloud.proxy.add(Stall(2), method="GET", pattern="/archive/", after=3, times=1)
    with shop.start(shop.restore_inputs(copy)) as running:
        wait_until(lambda: copying(shop, "noise"))
        ((idle,),) = shop.server.sql(
            f"SELECT pid FROM pg_stat_activity WHERE datname = '{copy}' AND state = 'idle'"
            " AND application_name = 'pg-backup-action' ORDER BY backend_start LIMIT 1"
        )
        shop.server.sql(f"SELECT pg_terminate_backend({idle})")
        run = running.finish()
    assert_restored(run, shop, copy)
    assert_same(shop.server, "shop", copy)


def test_a_second_restore_into_the_same_target_is_refused(shop: Stage, copy: str) -> None:
    shop.cloud.proxy.add(Stall(4), method="GET", pattern="/archive/", after=3, times=1)
    with shop.start(shop.restore_inputs(copy)) as running:
        wait_until(lambda: copying(shop, "noise"))
        second = shop.start(shop.restore_inputs(copy))
        with second:
            refused = second.finish()
        run = running.finish()
    assert 2 == refused.exit_code, refused.output
    assert "another restore into 'copy' is running" in refused.errors[0].title
    assert_restored(run, shop, copy)
    assert_same(shop.server, "shop", copy)


# S3


def test_an_s3_that_fails_for_a_while_is_mended_on_the_way(shop: Stage, copy: str) -> None:
    proxy = shop.cloud.proxy
    faults = [
        proxy.add(SLOW_DOWN, method="GET", pattern="/archive/", after=1, times=2),
        proxy.add(Reset(), method="GET", pattern="/archive/", after=2, times=1),
        proxy.add(CutShort(1000, "reset"), method="GET", pattern="/archive/", after=3, times=1),
        proxy.add(CutShort(1000, "close"), method="GET", pattern="/archive/", after=3, times=1),
        proxy.add(Stall(2), method="GET", pattern="/archive/", after=3, times=1),
    ]
    run = shop.run(shop.restore_inputs(copy), {"AWS_MAX_ATTEMPTS": "6"})
    assert_restored(run, shop, copy)
    assert [2, 1, 1, 1, 1] == [fault.hits for fault in faults]
    assert_same(shop.server, "shop", copy)


def test_an_s3_that_is_gone_for_good_leaves_a_marked_target(shop: Stage, copy: str) -> None:
    shop.cloud.proxy.add(SLOW_DOWN, method="GET", pattern="/archive/", after=4)
    run = shop.run(shop.restore_inputs(copy))
    assert_unusable(run, shop, copy, 5, "SlowDown")
    assert [(0,)] == shop.server.sql("SELECT count(*) FROM noise", copy)
    assert_mended(shop, copy)


def test_an_s3_that_is_gone_before_the_first_write_leaves_the_target_alone(
    shop: Stage, copy: str
) -> None:
    shop.cloud.proxy.add(SLOW_DOWN, method="GET", pattern="/archive/")
    with untouched(shop.server, copy):
        run = shop.run(shop.restore_inputs(copy))
    assert_failed(run, shop, 5, ["SlowDown"])


def test_a_session_is_renewed_for_as_long_as_the_restore_runs(shop: Stage, copy: str) -> None:
    exchanges = len(shop.cloud.sts.exchanges)
    shop.cloud.sts.lifetime = 3
    shop.cloud.proxy.add(Stall(1.5), method="GET", pattern="/archive/")
    try:
        run = shop.run(shop.restore_inputs(copy))
    finally:
        shop.cloud.sts.lifetime = None
    assert_restored(run, shop, copy)
    assert len(shop.cloud.sts.exchanges) > exchanges + 1
    assert_same(shop.server, "shop", copy)


def test_credentials_that_are_refused_in_the_middle_leave_a_marked_target(
    shop: Stage, copy: str
) -> None:
    shop.cloud.proxy.add(EXPIRED_TOKEN, method="GET", pattern="/archive/", after=3)
    run = shop.run(shop.restore_inputs(copy))
    assert_unusable(run, shop, copy, 3, "ExpiredToken")
    assert_mended(shop, copy)


def test_a_role_that_may_not_read_is_told_the_line_of_its_policy(shop: Stage, copy: str) -> None:
    bucket = shop.cloud.bucket
    shop.cloud.allow(writing(bucket), listing(bucket))
    try:
        with untouched(shop.server, copy):
            run = shop.run(shop.restore_inputs(copy))
    finally:
        shop.cloud.allow(writing(bucket), listing(bucket), reading(bucket))
    assert_failed(run, shop, 3, ['"Action": "s3:GetObject"', bucket])


# The bytes in S3


@contextmanager
def stored_instead(shop: Stage, key: str, content: bytes | None) -> Iterator[None]:
    """Other bytes, or nothing, lie under the key for a while."""
    before = shop.cloud.read(key)
    if content is None:
        shop.cloud.s3.delete_object(Bucket=shop.cloud.bucket, Key=key)
    else:
        shop.cloud.s3.put_object(Bucket=shop.cloud.bucket, Key=key, Body=content)
    try:
        yield
    finally:
        shop.cloud.s3.put_object(Bucket=shop.cloud.bucket, Key=key, Body=before)


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("table", "part"),
    [("small_1", "middle"), ("noise", "middle"), ("noise", "last"), ("blob_70002.dat", "middle")],
)
def test_a_flipped_byte_is_never_committed(shop: Stage, copy: str, table: str, part: str) -> None:
    root, by_name = members(shop)
    name = next(each for each in by_name if each.startswith(table))
    member = by_name[name]
    key, offset, size = (
        root + str(member["object"]),
        int(str(member["offset"])),
        int(str(member["size"])),
    )
    place = offset + (size // 2 if part == "middle" else size - 1)
    with stored_instead(shop, key, flipped(shop.cloud.read(key), place)):
        run = shop.run(shop.restore_inputs(copy))
    what = f"public.{table}" if "blob" not in table else name
    assert_unusable(run, shop, copy, 6, what, "is damaged in this backup", "SHA-256")
    if "blob" in table:
        whole = "SELECT count(*) FROM pg_largeobject WHERE loid = 70002"
        assert [(0,)] == shop.server.sql(whole, copy)
    else:
        assert [(0,)] == shop.server.sql(f"SELECT count(*) FROM {table}", copy)
    assert_mended(shop, copy)


def test_two_members_that_were_swapped_are_never_committed(shop: Stage, copy: str) -> None:
    """Bytes of the right length, and another table's."""
    root, by_name = members(shop)
    ones = [by_name[f"small_{number}"] for number in (1, 2)]
    (key,) = {root + str(each["object"]) for each in ones}
    content = bytearray(shop.cloud.read(key))
    (start, other), size = (
        [int(str(each["offset"])) for each in ones],
        min(int(str(each["size"])) for each in ones),
    )
    content[start : start + size], content[other : other + size] = (
        content[other : other + size],
        content[start : start + size],
    )
    with stored_instead(shop, key, bytes(content)):
        run = shop.run(shop.restore_inputs(copy))
    assert_unusable(run, shop, copy, 6, "public.small_", "is damaged in this backup")
    counts = "SELECT (SELECT count(*) FROM small_1), (SELECT count(*) FROM small_2)"
    assert [(0, 0)] == shop.server.sql(counts, copy)
    assert_mended(shop, copy)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("flipped contents", ["toc.dat is damaged in this backup"]),
        ("truncated", ["is not whole", "bytes instead of"]),
        ("missing", ["is not whole", "is missing"]),
        ("no manifest's JSON", ["cannot be used"]),
    ],
)
def test_what_is_seen_before_the_first_write_leaves_the_target_alone(
    shop: Stage, copy: str, fault: str, words: list[str]
) -> None:
    root, by_name = members(shop)
    contents = by_name["toc.dat"]
    key = root + str(contents["object"])
    whole = shop.cloud.read(key)
    place = int(str(contents["offset"])) + 300
    stored = {
        "flipped contents": (key, flipped(whole, place)),
        "truncated": (key, whole[:-1000]),
        "missing": (key, None),
        "no manifest's JSON": (f"{root}manifest.json", b'{"format": 1, "id": '),
    }
    with stored_instead(shop, *stored[fault]), untouched(shop.server, copy):
        run = shop.run(shop.restore_inputs(copy))
        assert_failed(run, shop, 6, words)


def test_an_older_manifest_over_newer_objects_is_never_committed(
    server: PostgresServer, strict: Ministack
) -> None:
    """As after a careless copy between buckets: sizes fit, and the bytes are another day's."""
    statements = "CREATE TABLE day AS SELECT 'monday' AS name"
    database_named(server, "days", statements)
    with readable_stage(server, strict, "days") as stage:
        ids = [green(stage.run(stage.inputs(compression="none"))).outputs["backup-id"]]
        server.sql("UPDATE day SET name = 'sunday'", "days")
        ids += [green(stage.run(stage.inputs(compression="none"))).outputs["backup-id"]]
        older, newer = [f"postgresql/days/{each}/" for each in ids]
        (pack,) = [key.removeprefix(newer) for key in stage.cloud.objects(f"{newer}archive/")]
        content = stage.cloud.read(newer + pack)
        assert len(content) == len(stage.cloud.read(older + pack))
        stage.cloud.s3.put_object(Bucket=stage.cloud.bucket, Key=older + pack, Body=content)
        with target(server, "copy"):
            wanted = stage.restore_inputs("copy", backup_id=ids[0])
            with untouched(server, "copy"):
                run = stage.run(wanted)
                error = assert_failed(run, stage, 6, ["is damaged in this backup"])
            assert "toc.dat" in error
    forget(server, "days")


# A run that is cancelled


@BOTH
def test_a_cancelled_restore_leaves_a_marked_target_in_time(
    shop: Stage, number: signal.Signals
) -> None:
    shop.cloud.proxy.add(Stall(FOREVER), method="GET", pattern="/archive/", after=3)
    try:
        with shop.start(shop.restore_inputs("new", create_database="true")) as running:
            wait_until(lambda: shop.cloud.proxy.faults[0].hits and copying(shop, "noise"))
            sent = time.monotonic()
            running.send(number)
            run = running.finish()
            took = time.monotonic() - sent
        assert took < SECONDS[number], run.output
        assert_unusable(run, shop, "new", 128 + number, number.name)
        assert_mended(shop, "new", create_database="true")
    finally:
        forget(shop.server, "new")


def test_a_restore_that_is_cancelled_before_the_first_write_leaves_nothing(shop: Stage) -> None:
    number = signal.SIGTERM
    shop.cloud.proxy.add(Stall(FOREVER), method="GET", pattern="/archive/")
    with (
        untouched(shop.server),
        shop.start(shop.restore_inputs("new", create_database="true")) as running,
    ):
        wait_until(lambda: shop.cloud.proxy.faults[0].hits)
        sent = time.monotonic()
        running.send(number)
        run = running.finish()
        took = time.monotonic() - sent
    assert took < SECONDS[number], run.output
    error = assert_failed(run, shop, 128 + number, [number.name])
    assert "not to be used" not in error


def test_a_restore_that_builds_an_index_ends_in_time(
    server: PostgresServer, strict: Ministack
) -> None:
    number = signal.SIGTERM
    statements = """
        CREATE FUNCTION slow(int) RETURNS int LANGUAGE plpgsql IMMUTABLE
            AS $$ BEGIN IF current_setting('lab.sleep', true) = 'yes' THEN PERFORM pg_sleep(600);
                  END IF; RETURN $1; END $$;
        CREATE TABLE t AS SELECT 1 AS n;
        CREATE INDEX ON t (slow(n));
    """
    database_named(server, "slow", statements)
    with readable_stage(server, strict, "slow") as stage, target(server, "copy"):
        green(stage.run())
        server.sql("ALTER DATABASE copy SET lab.sleep = 'yes'")
        with stage.start(stage.restore_inputs("copy")) as running:
            wait_until(lambda: any("CREATE INDEX" in query for _, query in stage.sessions()))
            sent = time.monotonic()
            running.send(number)
            run = running.finish()
            took = time.monotonic() - sent
        assert took < SECONDS[number], run.output
        # The server notices only now and then that its client is gone.
        for pid, _ in stage.sessions():
            server.sql(f"SELECT pg_terminate_backend({pid})")
        assert_unusable(run, stage, "copy", 128 + number, number.name)
    forget(server, "slow")


# The scratch disk, and the memory


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a file system of its own: .ci/run as root runs it")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "lab", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine mounts no tmpfs: any with a usual Linux kernel, as root, runs it")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("size", ["4k", "64k"])
def test_a_full_disk_leaves_a_marked_target(
    shop: Stage, copy: str, tmp_path: Path, size: str
) -> None:
    """Full with the table of contents, or with the files of a batch."""
    disk = tmp_path / "disk"
    with small_disk(disk, size):
        run = shop.run(shop.restore_inputs(copy), {"TMPDIR": str(disk)})
        assert [] == list(disk.iterdir())
    assert_unusable(run, shop, copy, 5, "the scratch disk is full", "TMPDIR")
    assert_mended(shop, copy)


@pytest.mark.parametrize(("compression", "jobs"), [("none", "4"), ("gzip:1", "1"), ("lz4", "4")])
def test_each_compression_comes_back_with_any_number_of_jobs(
    shop: Stage, strict: Ministack, copy: str, compression: str, jobs: str
) -> None:
    with readable_stage(shop.server, strict, "shop") as stage:
        green(stage.run(stage.inputs(compression=compression)))
        run = stage.run(stage.restore_inputs(copy, jobs=jobs))
        assert_restored(run, stage, copy)
    assert_same(shop.server, "shop", copy)


@contextmanager
def measured(running: RunningAction) -> Iterator[dict[str, int]]:
    """The most that the action's process took of memory, and its files of the disk, in bytes."""
    most = {"memory": 0, "disk": 0, "samples": 0}
    ended = threading.Event()
    status = Path(f"/proc/{running.process.pid}/status")

    def sample() -> None:
        while not ended.wait(0.01):
            taken = 0
            for path in running.temp.rglob("*"):
                try:
                    taken += path.lstat().st_blocks * 512  # see stat(2)
                except FileNotFoundError:
                    continue  # loaded meanwhile, and removed
            most["disk"] = max(most["disk"], taken)
            most["samples"] += 1
            try:
                # The kernel keeps the peak.
                if peak := re.search(r"VmHWM:\s+(\d+) kB", status.read_text()):
                    most["memory"] = max(most["memory"], int(peak[1]) << 10)
            except OSError:
                continue

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


LARGE_OBJECTS = 5000


@pytest.mark.slow
def test_an_archive_beyond_the_limits_needs_little_disk_and_memory(
    server: PostgresServer, large: Stage
) -> None:
    """Hundreds of megabytes, a row of 200 MB, and 5,000 large objects of which some are large."""
    with target(server, "copy"):
        inputs = large.restore_inputs("copy", scratch_limit="32MiB")
        with large.start(inputs) as running, measured(running) as most:
            run = running.finish()
        assert_restored(run, large, "copy")
        assert most["samples"] > 50
        assert most["disk"] < 32 * MIB
        assert most["memory"] < 150 * MIB
        # Most large objects are fetched with their neighbours.
        assert len(large.cloud.proxy.seen("GET", "/archive/")) < LARGE_OBJECTS / 2
        for query in (
            "SELECT count(*), sum(hashtext(noise::text)::bigint) FROM noise",
            "SELECT count(*), sum(n) FROM numbers",
            "SELECT length(line), md5(line) FROM long",
            "SELECT count(*) FROM pg_largeobject_metadata",
            "SELECT count(*), sum(length(data)),"
            " md5(string_agg(md5(data), '' ORDER BY loid, pageno)) FROM pg_largeobject",
        ):
            assert server.sql(query, "large") == server.sql(query, "copy")


@pytest.fixture(scope="module")
def large(server: PostgresServer, strict: Ministack) -> Iterator[Stage]:
    database_named(server, "large")
    fill(server, "large", "noise", 120)
    server.sql(
        "CREATE TABLE numbers AS SELECT n FROM generate_series(1, 1000000) n;"
        "CREATE TABLE long AS SELECT repeat('0123456789', 20000000) AS line;"
        f"SELECT lo_from_bytea(n, decode(md5(n::text), 'hex'))"
        f" FROM generate_series(100001, {100000 + LARGE_OBJECTS}) n;"
        # Three of 9 MiB that no method makes smaller.
        "SELECT lo_from_bytea(90000 + n, (SELECT string_agg(sha512((n || ' ' || m)::bytea), '')"
        f" FROM generate_series(1, {9 * MIB // 64}) m)) FROM generate_series(1, 3) n",
        "large",
    )
    with readable_stage(server, strict, "large") as stage:
        green(stage.run())
        assert sum(stage.cloud.objects().values()) > 150 * MIB
        yield stage
    forget(server, "large")
