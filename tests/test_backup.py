"""What a green backup leaves: in the bucket, in the step's outputs and summary, in the source."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from psycopg import sql

from tests import by_hand
from tests.lab.aws import REGION, REPOSITORY, Ministack
from tests.lab.cloud import Cloud, new_cloud, source_inputs, writing
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun
from tests.lab.sts import ACCOUNT
from tests.lab.tcp import TcpProxy
from tests.steps import (
    back_up,
    database_named,
    drop_roles,
    fill_with_chance,
    forget,
    green,
    start_backup,
)

EVERYTHING = Path(__file__).with_name("everything.sql")
SCHEMA = json.loads((REPOSITORY / "docs/manifest.schema.json").read_text())


def strict(schema: Any) -> Any:
    """The same, with no field beyond those that are described: readers may not be so strict."""
    if isinstance(schema, dict):
        closed = {name: strict(value) for name, value in schema.items()}
        is_object = "object" in schema.get("type", ()) and "properties" in schema
        return {"additionalProperties": False, **closed} if is_object else closed
    return [strict(value) for value in schema] if isinstance(schema, list) else schema


VALIDATOR = Draft202012Validator(strict(SCHEMA), format_checker=FormatChecker())
NOISE = "CREATE TABLE noise (block bytea); ALTER TABLE noise ALTER block SET STORAGE EXTERNAL;"


@dataclass(frozen=True)
class Finished:
    """A backup of everything.sql, and what may be asked of it."""

    run: ActionRun
    cloud: Cloud
    server: PostgresServer
    database: str
    key: str  # the manifest's
    manifest: dict[str, Any]

    @property
    def root(self) -> str:
        return self.key.removesuffix("manifest.json")


@pytest.fixture(scope="module")
def finished(
    postgres: PostgresServer, ministack: Ministack, issuer: Issuer
) -> Iterator[Finished]:
    name = database_named(postgres, "everything | *there* is", EVERYTHING.read_text())
    fill_with_chance(postgres, name, "kinds.bulk", 10)
    with new_cloud(ministack, issuer) as cloud:
        run = green(back_up(cloud, postgres, name))
        ((key, manifest),) = cloud.manifests().items()
        yield Finished(run, cloud, postgres, name, key, manifest)
    forget(postgres, name)
    drop_roles(postgres)


def test_the_manifest_is_of_the_form_that_is_documented(finished: Finished) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert [] == [error.message for error in VALIDATOR.iter_errors(finished.manifest)]
    for name in finished.manifest:
        without = {key: value for key, value in finished.manifest.items() if key != name}
        assert not VALIDATOR.is_valid(without), f"{name} is not required"
    assert not VALIDATOR.is_valid(finished.manifest | {"format": 2})
    newer = finished.manifest | {"surprise": 1}
    assert not VALIDATOR.is_valid(newer)
    assert Draft202012Validator(SCHEMA).is_valid(newer)


def test_the_example_in_the_documentation_is_of_that_form_too() -> None:
    text = (REPOSITORY / "docs/manifest.md").read_text()
    example = json.loads(text.split("```json\n", 1)[1].split("\n```", 1)[0])
    assert [] == [error.message for error in VALIDATOR.iter_errors(example)]


def test_each_member_is_fetched_with_one_ranged_get_and_has_its_digest(finished: Finished) -> None:
    members = finished.manifest["members"]
    assert len(members) > 30
    for member in members:
        key = finished.root + member["object"]
        # An empty large object has no bytes, and there is no range of none.
        stored = finished.cloud.read(key, member["offset"], member["size"]) if member["size"] else b""
        assert member["size"] == len(stored), member
        assert member["sha256"] == hashlib.sha256(stored).hexdigest(), member


def test_packs_are_plain_tars_of_the_small_members(finished: Finished) -> None:
    for entry in finished.manifest["objects"]:
        if entry["key"].endswith(".tar"):
            content = finished.cloud.read(finished.root + entry["key"])
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as pack:
                found = [(each.name, each.offset_data, each.size) for each in pack]
            expected = [
                (member["name"], member["offset"], member["size"])
                for member in finished.manifest["members"]
                if member["object"] == entry["key"]
            ]
            assert expected == found
            assert {"toc.dat", "globals.sql"} <= {name for name, _, _ in found}


def test_the_manifest_names_every_object_with_the_size_and_the_checksum_of_the_store(
    finished: Finished,
) -> None:
    listed = {finished.root + each["key"]: each for each in finished.manifest["objects"]}
    assert listed.keys() | {finished.key} == finished.cloud.objects().keys()
    for key, entry in listed.items():
        head = finished.cloud.s3.head_object(
            Bucket=finished.cloud.bucket, Key=key, ChecksumMode="ENABLED"
        )
        expected = (entry["size"], entry["crc64nvme"], "FULL_OBJECT")
        assert expected == (head["ContentLength"], head["ChecksumCRC64NVME"], head["ChecksumType"])
    sizes = finished.manifest["sizes"]
    assert sum(each["size"] for each in listed.values()) == sizes["stored"]
    assert sum(each["size"] for each in finished.manifest["members"]) == sizes["members"]


def test_row_counts_and_sizes_are_those_of_the_source(finished: Finished) -> None:
    inventory = finished.manifest["inventory"]
    tables = [each for each in inventory["relations"] if each["kind"] == "r"]
    assert len(tables) > 25
    with psycopg.connect(finished.server.url(), dbname=finished.database) as connection:
        for table in tables:
            name = sql.Identifier(table["schema"], table["name"])
            row = connection.execute(
                sql.SQL("SELECT (SELECT count(*) FROM ONLY {}), pg_table_size({}::regclass)").format(
                    name, name.as_string()
                )
            ).fetchone()
            assert (table["rows"], table["size_bytes"]) == row, table
    assert 3 == inventory["large_objects"]
    assert "UTF8" == inventory["encoding"]
    assert '-role \'with\' "quotes", 100% a=b $HOME 🐘' in inventory["roles"]


def test_each_tables_member_bears_the_name_of_the_table(finished: Finished) -> None:
    named = {
        (each["schema"], each["table"]) for each in finished.manifest["members"] if "table" in each
    }
    tables = {
        (each["schema"], each["name"])
        for each in finished.manifest["inventory"]["relations"]
        if each["kind"] == "r"
    }
    assert tables == named


def test_the_outputs_say_what_the_manifest_says(finished: Finished) -> None:
    manifest, outputs = finished.manifest, dict(finished.run.outputs)
    uri = f"s3://{finished.cloud.bucket}/{finished.root}"
    tables = sum("table" in member for member in manifest["members"])
    seconds = float(outputs.pop("duration-seconds"))
    taken = outputs.pop("snapshot-time")
    assert {
        "backup-id": manifest["id"],
        "s3-uri": uri,
        "manifest-uri": f"{uri}manifest.json",
        "size-bytes": str(manifest["sizes"]["database"]),
        "stored-bytes": str(manifest["sizes"]["stored"]),
        "tables": str(tables),
        "server-version": manifest["server"]["text"],
    } == outputs
    assert taken.replace("+00:00", "Z") == manifest["snapshot"]["time"]
    assert 0 < seconds < finished.run.seconds
    assert finished.root.endswith(f"/everything%20%7C%20%2Athere%2A%20is/{manifest['id']}/")
    assert manifest["snapshot"]["time"].translate({45: None, 58: None})[:15] == manifest["id"][:15]


def test_the_summary_is_read_at_a_glance(finished: Finished) -> None:
    summary = finished.run.summary
    headings = ["Largest tables", "Where the time went", "Restore it by hand"]
    assert headings == re.findall(r"^### (.*)$", summary, re.MULTILINE)
    chart = re.search(r"^```mermaid\ngantt\n(.*?)^```$", summary, re.DOTALL | re.MULTILINE)
    assert chart is not None
    bars = re.findall(r"^    ([A-Z][\w ]+) : (\d+), (\d+)$", chart[1], re.MULTILINE)
    phases = ["Log in to AWS", "Connect and take a snapshot", "Dump and upload", "Publish"]
    assert phases == [name for name, _, _ in bars] == finished.run.log.groups
    ends = [0, *(int(end) for _, _, end in bars)]
    assert all(int(start) >= end for (_, start, _), end in zip(bars, ends, strict=False))
    # A name with a bar in it must not make a row longer than its heading.
    rows = [line for line in summary.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in rows}
    assert {3, 5} == widths
    assert "everything \\| \\*there\\* is" in summary
    assert "kinds.bulk" in summary
    assert finished.manifest["id"] in summary
    assert "none to compare with" in summary


def test_nothing_in_the_database_gives_the_runner_a_command(finished: Finished) -> None:
    assert [] == finished.run.annotations
    expected = {"add-mask", "group", "endgroup"}
    lines = finished.run.output.splitlines()
    commands = {m[1] for line in lines if (m := re.match(r"\s*::([a-z-]+)", line))}
    assert expected == commands


def test_the_manifest_is_written_last_and_only_where_there_is_none(finished: Finished) -> None:
    requests = sorted(finished.cloud.proxy.records, key=lambda record: record.at)
    writes = [record for record in requests if record.method != "GET"]
    *before, last = writes
    assert ("PUT", "*") == (last.method, last.headers["if-none-match"])
    assert last.path.endswith("/manifest.json")
    assert {200} == {record.status for record in requests}
    completions = [each for each in before if each.method == "POST" and "uploadId=" in each.query]
    parts = [each for each in before if each.method == "PUT"]
    assert len(finished.manifest["objects"]) == len(completions)
    assert len(before) == 2 * len(completions) + len(parts)
    # Nothing becomes visible before everything is stored.
    assert max(each.at for each in parts) < min(each.at for each in completions)


def test_every_part_is_checked_by_the_store(finished: Finished) -> None:
    begun = finished.cloud.proxy.seen("POST", r"\?uploads")
    parts = finished.cloud.proxy.seen("PUT", "partNumber=")
    assert {"CRC64NVME"} == {each.headers["x-amz-checksum-algorithm"] for each in begun}
    assert len(parts) >= 3
    assert all(each.headers["x-amz-checksum-crc64nvme"] for each in parts)


def test_key_tags_and_owner_go_with_every_request(
    postgres: PostgresServer, cloud: Cloud
) -> None:
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
    with TcpProxy(postgres.port, bandwidth=15e6) as slow:
        with start_backup(
            cloud, postgres, noisy_database, {"port": str(slow.port)}
        ) as running:
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
