"""How a backup behaves towards its source and its bucket while it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import by_hand
from tests.lab.aws import REGION, REPOSITORY
from tests.lab.cloud import Cloud, source_inputs, writing
from tests.lab.postgres import PostgresServer
from tests.lab.sts import ACCOUNT
from tests.lab.tcp import TcpProxy
from tests.steps import (
    back_up,
    database_named,
    fill_with_chance,
    forget,
    green,
    start_backup,
)

EVERYTHING = Path(__file__).with_name("everything.sql")
NOISE = "CREATE TABLE noise (block bytea); ALTER TABLE noise ALTER block SET STORAGE EXTERNAL;"


def test_key_tags_and_owner_go_with_every_request(postgres: PostgresServer, cloud: Cloud) -> None:
    name = database_named(postgres, "small", "CREATE TABLE t AS SELECT 1 AS x")
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    cloud.allow(
        writing(cloud.bucket),
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{cloud.bucket}"},
        {"Effect": "Allow", "Action": "s3:PutObjectTagging",
         "Resource": f"arn:aws:s3:::{cloud.bucket}/*"},
        {"Effect": "Allow", "Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": key},
    )  # fmt: skip
    inputs = {
        "kms-key-id": key,
        "object-tags": "team = data base\ncost-centre=a&b=c",
        "expected-bucket-owner": ACCOUNT,
    }

    green(back_up(cloud, postgres, name, inputs))
    forget(postgres, name)

    records = cloud.proxy.records
    assert {ACCOUNT} == {each.headers["x-amz-expected-bucket-owner"] for each in records}
    new = cloud.proxy.seen("POST", r"\?uploads") + cloud.proxy.seen("PUT", "manifest.json")
    assert 2 == len(new)
    for record in new:
        assert "aws:kms" == record.headers["x-amz-server-side-encryption"]
        assert key == record.headers["x-amz-server-side-encryption-aws-kms-key-id"]
        assert "true" == record.headers["x-amz-server-side-encryption-bucket-key-enabled"]
    for each in cloud.objects():
        tags = cloud.s3.get_object_tagging(Bucket=cloud.bucket, Key=each)["TagSet"]
        given = {tag["Key"]: tag["Value"] for tag in tags}
        assert {"team": "data base", "cost-centre": "a&b=c"} == given


@pytest.fixture
def noisy_database(postgres: PostgresServer) -> Iterator[str]:
    yield database_named(postgres, "noisy", NOISE)
    forget(postgres, "noisy")


def test_uploads_begin_while_the_dump_runs(
    postgres: PostgresServer, cloud: Cloud, noisy_database: str
) -> None:
    fill_with_chance(postgres, noisy_database, "noise", 20)
    with (
        TcpProxy(postgres.port, bandwidth=15e6) as slow,
        start_backup(cloud, postgres, noisy_database, {"port": str(slow.port)}) as running,
    ):
        deadline = time.monotonic() + 30
        while not cloud.proxy.seen("PUT", "partNumber=") and time.monotonic() < deadline:
            time.sleep(0.02)
        copying = postgres.sql(
            "SELECT query FROM pg_stat_activity WHERE state = 'active' AND query ~ '^COPY'"
        )
        visible = cloud.objects()
        run = green(running.finish())

    assert 1 == len(copying), run.output
    assert {} == visible
    assert len(cloud.proxy.seen("PUT", "partNumber=")) >= 3


def test_a_size_that_falls_by_half_is_a_warning(
    postgres: PostgresServer, cloud: Cloud, noisy_database: str
) -> None:
    fill_with_chance(postgres, noisy_database, "noise", 6)
    first = green(back_up(cloud, postgres, noisy_database))
    postgres.sql("DELETE FROM noise WHERE ctid > '(0,1)' AND random() < 2", noisy_database)
    second = green(back_up(cloud, postgres, noisy_database))
    third = green(back_up(cloud, postgres, noisy_database))

    assert [] == first.warnings
    (warning,) = second.warnings
    assert "This backup is less than half as large as the one before" == warning.title
    assert first.outputs["backup-id"] in warning.message
    assert [] == third.warnings
    assert second.outputs["backup-id"] in third.summary
    assert "+0% since" in third.summary


def test_the_backup_is_of_one_moment_while_others_write(
    postgres: PostgresServer, cloud: Cloud, tmp_path: Path, noisy_database: str
) -> None:
    fill_with_chance(postgres, noisy_database, "noise", 8)
    postgres.sql("CREATE TABLE aa (n int); CREATE TABLE zz (n int)", noisy_database)
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        with psycopg.connect(postgres.url(noisy_database)) as connection:
            while not stop.is_set():
                for table in (b"aa", b"zz"):
                    connection.execute(b"INSERT INTO %s VALUES (%d)" % (table, written))
                connection.commit()
                written += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with TcpProxy(postgres.port, bandwidth=12e6) as slow:
            time.sleep(0.3)
            run = back_up(cloud, postgres, noisy_database, {"port": str(slow.port), "jobs": "1"})
    finally:
        stop.set()
        writer.join()

    (manifest,) = cloud.manifests().values()
    counted = {
        each["name"]: each["rows"] for each in manifest["inventory"]["relations"] if each["rows"]
    }
    shell = by_hand.shell(tmp_path, postgres, cloud)
    for line in by_hand.restore_lines(green(run)):
        shell.run(line)
    aa, zz = (
        postgres.sql(f"SELECT count(*), max(n) FROM {table}", "restored")[0]
        for table in ("aa", "zz")
    )
    forget(postgres, "restored")
    assert aa == zz
    assert {"aa": aa[0], "zz": aa[0], "noise": 8} == counted
    assert 0 < aa[0] < written, "nobody wrote while the dump ran"


def test_the_source_is_only_read(postgres: PostgresServer, cloud: Cloud) -> None:
    """Only a transaction that writes is given a number, so no number may be missing after it."""
    quiet = {"autovacuum": "off", "log_temp_files": "0"}
    with PostgresServer(postgres.binaries, settings=quiet) as server:
        database_named(server, "shop", EVERYTHING.read_text())
        server.sql("CHECKPOINT")
        question = "SELECT txid_snapshot_xmax(txid_current_snapshot())"
        before = server.sql(question)
        green(back_up(cloud, server, "shop"))
        after = server.sql(question)
        log = server.log.read_text()
        temporary = server.sql("SELECT sum(temp_files) FROM pg_stat_database")

    assert before == after
    assert "temporary file" not in log
    assert [(0,)] == temporary


def test_a_reader_whose_transactions_are_read_only_can_back_up(
    postgres: PostgresServer, cloud: Cloud, noisy_database: str
) -> None:
    postgres.sql("CREATE ROLE reader LOGIN PASSWORD 'reader'")
    postgres.sql("ALTER ROLE reader SET default_transaction_read_only = on")
    postgres.sql("GRANT pg_read_all_data TO reader")
    run = back_up(cloud, postgres, noisy_database, {"user": "reader", "password": "reader"})
    postgres.sql("DROP ROLE reader")

    green(run)


def test_a_role_that_may_only_write_is_enough(
    postgres: PostgresServer, cloud: Cloud, noisy_database: str
) -> None:
    cloud.allow(writing(cloud.bucket))

    run = green(back_up(cloud, postgres, noisy_database))

    (warning,) = run.warnings
    assert "The size cannot be compared with the previous backup" == warning.title
    assert "s3:ListBucket" in warning.message
    assert 1 == len(cloud.manifests())
    answers = {(each.method, each.status) for each in cloud.proxy.records}
    assert {("GET", 403), ("POST", 200), ("PUT", 200)} == answers


def test_a_role_that_may_write_and_list_is_never_asked_for_more(
    postgres: PostgresServer, cloud: Cloud, noisy_database: str
) -> None:
    run = green(back_up(cloud, postgres, noisy_database))

    assert [] == run.warnings
    assert {200} == {each.status for each in cloud.proxy.records}
    assert {"GET", "POST", "PUT"} == {each.method for each in cloud.proxy.records}
    assert all("list-type=2" in each.query for each in cloud.proxy.seen("GET"))


def test_the_local_face_is_the_same_program(
    postgres: PostgresServer, cloud: Cloud, noisy_database: str, tmp_path: Path
) -> None:
    source = source_inputs(postgres, noisy_database)
    password = source.pop("password")
    given = source | {"aws-region": REGION, "bucket": cloud.bucket}
    tables = ["--exclude-tables=a*", "--exclude-tables=b*"]
    result = subprocess.run(
        [sys.executable, "-m", "backup", "backup", "--json", *tables,
         *(f"--{name}={value}" for name, value in given.items())],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path),
            "PGPASSWORD": password,
            "AWS_ENDPOINT_URL": cloud.double.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "PG_BACKUP_CLIENTS": str(postgres.binaries),
        },
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )  # fmt: skip

    assert 0 == result.returncode, result.stderr
    told = json.loads(result.stdout)
    (manifest,) = cloud.manifests().values()
    assert (manifest["id"], "1") == (told["backup-id"], told["tables"])
    assert manifest["action"]["run"] is None
    assert ["a*", "b*"] == manifest["selection"]["exclude_tables"]
    assert "▸ Dump and upload" in result.stderr
    assert password not in result.stdout + result.stderr
