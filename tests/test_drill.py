"""`operation: verify`: what is proven is called so, what cannot be is not, and both are told."""

from __future__ import annotations

import json
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from jsonschema import Draft202012Validator

from tests.conftest import MAJORS, skip_without
from tests.drills import (
    VALIDATOR,
    assert_not_green,
    assert_proven,
    checks,
    drill,
    drill_inputs,
    kept,
    record_of,
    records,
    servers_of,
)
from tests.lab.aws import REPOSITORY, Ministack
from tests.lab.cloud import PREFIX, listing, reading, writing
from tests.lab.extension import NAME, extension_on
from tests.lab.faults import Stall
from tests.lab.login import VersionFront
from tests.lab.postgres import PostgresServer, installed
from tests.lab.runner import ActionRun
from tests.lab.stage import Stage, assert_clean_end, readable_stage, wait_until
from tests.restores import SHOP, assert_failed, databases, target, untouched
from tests.schemas import published
from tests.steps import database_named, drop_roles, forget, green

EVERYTHING = Path(__file__).with_name("everything.sql")

CHECKS = {
    "table of contents",
    "stored objects",
    "restore",
    "inventory",
    "objects",
    "sequences",
    "constraints",
    "indexes",
    "owners",
    "grants",
    "row counts",
    "rows",
    "large objects",
}


@pytest.fixture(scope="module")
def shop(postgres: PostgresServer, strict: Ministack) -> Iterator[Stage]:
    """A small database, and a backup of it."""
    database_named(postgres, "drilled", SHOP)
    with readable_stage(postgres, strict, "drilled") as ready:
        green(ready.run())
        yield ready
    forget(postgres, "drilled")
    drop_roles(postgres)


@pytest.fixture(scope="module")
def drilled(shop: Stage) -> ActionRun:
    """A drill with all that it measures, and room for it."""
    run = drill(shop, max_restore_minutes="10", max_age_hours="24")
    assert_proven(run, shop)
    return run


# What is proven


@pytest.mark.slow
@pytest.mark.parametrize("major", MAJORS)
def test_a_database_of_everything_is_proven_when_its_source_is_gone(
    major: int, strict: Ministack
) -> None:
    skip_without(major)
    with PostgresServer(installed()[major]) as server:
        database_named(server, "everything", EVERYTHING.read_text())
        with readable_stage(server, strict, "everything") as stage:
            green(stage.run())
            server.stop(immediate=True)
            before = stage.cloud.objects()

            run = drill(stage)

            record = assert_proven(run, stage)
            (manifest,) = stage.cloud.manifests().values()
            tables = sum("table" in member for member in manifest["members"])
            assert 25 < tables == len(record["tables"])
            # Columns of heirs come to lie in another order.
            ways = {each["how"] for each in record["tables"]}
            assert {"same bytes"} <= ways <= {"same bytes", "same rows in text"}
            assert CHECKS <= {each["name"] for each in record["checks"]} <= CHECKS | {"pg_amcheck"}
            assert f"PostgreSQL {major}" in run.output
            assert before.items() <= stage.cloud.objects().items()
            assert 1 == len(stage.cloud.objects()) - len(before)


def test_the_record_is_of_the_form_that_is_documented(shop: Stage, drilled: ActionRun) -> None:
    Draft202012Validator.check_schema(published("drill"))
    record = record_of(drilled, shop)
    assert [] == [error.message for error in VALIDATOR.iter_errors(record)]
    for name in record:
        without = {key: value for key, value in record.items() if key != name}
        assert not VALIDATOR.is_valid(without), f"{name} is not required"
    assert not VALIDATOR.is_valid(record | {"format": 2})
    assert drilled.outputs["backup-id"] == record["backup"]


def test_the_example_in_the_documentation_is_of_that_form_too() -> None:
    text = (REPOSITORY / "docs/drill.md").read_text()
    blocks = [block.split("\n```", 1)[0] for block in text.split("```json\n")[1:]]
    (example,) = (json.loads(block) for block in blocks if '"format"' in block)
    assert [] == [error.message for error in VALIDATOR.iter_errors(example)]


def test_the_record_lies_beside_the_backup_and_says_when_and_by_what(
    shop: Stage, drilled: ActionRun
) -> None:
    ((key, record),) = kept(drilled, shop)
    began, finished = (datetime.fromisoformat(record[name]) for name in ("began", "finished"))
    name = f"{finished:%Y%m%dT%H%M%SZ}.json"
    assert f"{PREFIX}/drilled/{record['backup']}/drills/{name}" == key
    assert f"s3://{shop.cloud.bucket}/{key}" in drilled.output
    assert 0 < (finished - began).total_seconds() < drilled.seconds
    assert 0 < record["restore_seconds"] < drilled.seconds
    (manifest,) = shop.cloud.manifests().values()
    assert manifest["action"]["run"]["url"] == record["action"]["run"]
    assert "restore" == record["depth"]


def test_the_record_holds_every_table_with_the_digest_of_the_manifest(
    shop: Stage, drilled: ActionRun
) -> None:
    (manifest,) = shop.cloud.manifests().values()
    expected = {
        (each["schema"], each["table"]): (each["size"], each["sha256"])
        for each in manifest["members"]
        if "table" in each
    }
    record = record_of(drilled, shop)
    actual = {
        (each["schema"], each["table"]): (each["bytes"], each["sha256"])
        for each in record["tables"]
    }
    assert 3 == len(actual)
    assert expected == actual
    rows = {each["table"]: each["rows"] for each in record["tables"]}
    assert {"orders": 4000, "lines": 300, "settings": 1} == rows
    assert "proven" == drilled.outputs["verdict"]


def test_the_backup_itself_is_as_it_was(shop: Stage, drilled: ActionRun) -> None:
    began = datetime.fromisoformat(record_of(drilled, shop)["began"])
    listed = shop.cloud.s3.list_objects_v2(Bucket=shop.cloud.bucket)["Contents"]
    of_backup = [each for each in listed if "/drills/" not in each["Key"]]
    assert 2 == len(of_backup)
    assert all(each["LastModified"] <= began for each in of_backup)
    written = [each for each in shop.cloud.proxy.records if each.method not in ("GET", "HEAD")]
    told = [each for each in written if "/drills/" in each.path]
    assert len(told) == len(records(shop))
    assert [] == [each for each in written if each.method == "DELETE"]
    assert "true" == drilled.outputs["verified"]


def test_the_summary_begins_with_the_verdict_and_shows_what_it_stands_on(
    drilled: ActionRun,
) -> None:
    summary = drilled.summary
    verdict, facts, compared, tables, timeline = (
        summary.index(words)
        for words in (
            f"## ✅ {drilled.outputs['backup-id']}: proven\n",
            "| Time to restore (RTO) | ░",
            "### What was compared",
            "### Tables",
            "### Where the time went",
        )
    )
    assert 0 == verdict < facts < compared < tables < timeline
    assert re.search(r"RTO\) \| ░{20} \S+ s of 10 min 0 s", summary), summary
    assert re.search(r"Age of the data \(RPO\) \| ░{20} \S+ s of 24 h 0 min", summary), summary
    for name in (*CHECKS, "time to restore (RTO)", "age of the data (RPO)"):
        assert f"| ✅ | {name} | proven |" in summary
    row = r"^\| sales\.orders \| 4,000 \| \d+ KiB \| [0-9a-f]{16} \| proven: same bytes \|$"
    assert re.search(row, summary, re.MULTILINE), summary
    assert "Dump the restored database again" in summary[timeline:]


def test_outputs_tell_how_long_it_took_and_how_old_the_data_is(
    shop: Stage, drilled: ActionRun
) -> None:
    outputs = drilled.outputs
    assert ["age-hours", "backup-id", "restore-seconds", "verdict", "verified"] == sorted(outputs)
    (listed,) = shop.catalogue()
    assert listed["id"] == outputs["backup-id"]
    assert 0 < float(outputs["restore-seconds"]) < drilled.seconds
    assert 0 <= float(outputs["age-hours"]) < 0.5


@pytest.mark.slow
def test_a_backup_of_a_part_is_proven_as_that_part(shop: Stage, strict: Ministack) -> None:
    with readable_stage(shop.server, strict, "drilled") as stage:
        green(stage.run(stage.inputs(schemas="sales", exclude_table_data="sales.lines")))
        record = assert_proven(drill(stage), stage)
    assert ["orders"] == [each["table"] for each in record["tables"]]


def test_a_part_is_proven_in_the_schemas_and_beside_the_extensions_that_it_lies_in(
    postgres: PostgresServer, strict: Ministack
) -> None:
    """pg_dump leaves them to the target where it dumps some tables alone."""
    statements = """
        CREATE SCHEMA app; CREATE EXTENSION hstore;
        CREATE TABLE app.t AS SELECT 1 AS n, 'a=>1'::hstore AS h;
    """
    with readable_stage(postgres, strict, database_named(postgres, "parted", statements)) as stage:
        green(stage.run(stage.inputs(tables="app.t")))
        forget(postgres, "parted")
        record = assert_proven(drill(stage), stage)
    assert ["t"] == [each["table"] for each in record["tables"]]


def test_what_the_roles_of_rds_own_and_were_granted_is_proven(
    postgres: PostgresServer, strict: Ministack
) -> None:
    statements = """
        CREATE ROLE rds_superuser; CREATE ROLE rdsadmin;
        CREATE TABLE t AS SELECT 1 AS n; GRANT SELECT ON t TO rds_superuser;
        CREATE SCHEMA s AUTHORIZATION rdsadmin;
    """
    with readable_stage(postgres, strict, database_named(postgres, "managed", statements)) as stage:
        green(stage.run())
        forget(postgres, "managed")
        postgres.sql("DROP ROLE rds_superuser, rdsadmin")
        record = assert_proven(drill(stage), stage)
    assert {"owners", "grants"} <= checks(record, "proven").keys()


@pytest.mark.slow
def test_a_database_of_another_encoding_is_proven(
    postgres: PostgresServer, strict: Ministack
) -> None:
    postgres.sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with psycopg.connect(postgres.url("latin"), client_encoding="utf8") as connection:
        rows = "SELECT n, 'é' || n AS é FROM generate_series(1, 500) n"
        connection.execute(f'CREATE TABLE "Größe" AS {rows}'.encode())
    with readable_stage(postgres, strict, "latin") as stage:
        green(stage.run())
        forget(postgres, "latin")
        record = assert_proven(drill(stage), stage)
    (table,) = record["tables"]
    assert ("Größe", 500, "same bytes") == (table["table"], table["rows"], table["how"])
    assert "LATIN1" in checks(record, "proven")["inventory"]


# How far a drill goes


@pytest.mark.parametrize("depth", ["objects", "archive"])
def test_a_drill_without_a_server_says_how_far_it_went(shop: Stage, depth: str) -> None:
    run = drill(shop, verify_depth=depth, max_age_hours="24")
    record = assert_proven(run, shop)
    assert depth == record["depth"]
    assert record["restore_seconds"] is None
    deeper = {"archive"} if depth == "archive" else set()
    expected = {"table of contents", "stored objects", "age of the data (RPO)", *deeper}
    assert expected == {each["name"] for each in record["checks"]}
    words = {"objects": "(its objects alone)", "archive": "(read, not restored)"}
    assert run.summary.splitlines()[0].endswith(words[depth])
    fetched = {each.path for each in shop.cloud.proxy.records if each.method == "GET"}
    rows = {each["table"]: each["rows"] for each in record["tables"]}
    assert ({} if depth == "objects" else {"orders": 4000, "lines": 300, "settings": 1}) == rows
    assert any(path.endswith("manifest.json") for path in fetched)


@pytest.fixture(scope="module")
def four(postgres: PostgresServer, strict: Ministack) -> Iterator[tuple[Stage, list[str]]]:
    """A tiny database backed up four times, in four different seconds; the ids."""
    database_named(postgres, "tiny", "CREATE TABLE one AS SELECT 1 AS x")
    with readable_stage(postgres, strict, "tiny") as stage:
        ids: list[str] = []
        for _ in range(4):
            while ids and datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ") <= ids[-1][:16]:
                time.sleep(0.05)
            ids.append(green(stage.run()).outputs["backup-id"])
        yield stage, ids
    forget(postgres, "tiny")


def test_a_sample_is_the_newest_and_others_of_those_before(four: tuple[Stage, list[str]]) -> None:
    stage, ids = four
    run = drill(stage, verify_depth="objects", sample="3", max_age_hours="24")
    assert 0 == run.exit_code, run.output
    drilled = [record for _, record in kept(run, stage)]
    assert 3 == len({each["backup"] for each in drilled})
    assert ids[-1] == drilled[0]["backup"] == run.outputs["backup-id"]
    assert "✅ 3 backups of tiny: proven" in run.summary
    for each in drilled:
        assert f"| Backup | {each['backup']} of tiny |" in run.summary
        assert "proven" == each["verdict"]
    # How old the data may be is asked of the newest alone: the others are meant to be old.
    assert [1, 0, 0] == [
        sum(check["name"] == "age of the data (RPO)" for check in each["checks"])
        for each in drilled
    ]


def test_one_bad_backup_in_a_sample_is_named_and_fails_it(four: tuple[Stage, list[str]]) -> None:
    stage, ids = four
    key = next(key for key in stage.cloud.objects() if ids[1] in key and "/archive/" in key)
    content = stage.cloud.read(key)
    stage.cloud.s3.delete_object(Bucket=stage.cloud.bucket, Key=key)
    run = drill(stage, verify_depth="objects", sample="9")
    stage.cloud.s3.put_object(Bucket=stage.cloud.bucket, Key=key, Body=content,
                              ChecksumAlgorithm="CRC64NVME")  # fmt: skip
    assert 6 == run.exit_code, run.output
    assert {"verified": "false", "verdict": "failed", "backup-id": ids[-1]} | run.outputs == (
        run.outputs
    )
    (error,) = run.errors
    assert ids[1] in error.message
    assert "is missing" in error.message
    verdicts = {each["backup"]: each["verdict"] for _, each in kept(run, stage)}
    assert dict.fromkeys(ids, "proven") | {ids[1]: "failed"} == verdicts
    assert "## ❌ 4 backups of tiny: failed" in run.summary


def test_a_backup_is_named_by_its_id_or_by_a_time(four: tuple[Stage, list[str]]) -> None:
    stage, ids = four
    moment = datetime.strptime(ids[2][:16], "%Y%m%dT%H%M%SZ").isoformat()
    for wanted, backup_id in ((ids[0], ids[0]), (moment, ids[2])):
        run = drill(stage, verify_depth="objects", backup_id=wanted)
        assert backup_id == assert_proven(run, stage)["backup"]
    run = drill(stage, verify_depth="objects", backup_id="2020-01-01")
    assert_failed(run, stage, 2, ["no backup for backup-id: 2020-01-01", ids[0]])
    assert {} == run.outputs


# Objectives


def test_an_objective_that_is_missed_is_red_and_named(shop: Stage, drilled: ActionRun) -> None:
    """The restore itself is fine, and the summary says so; it shows the drills before as well."""
    (manifest,) = shop.cloud.manifests().values()
    taken = datetime.fromisoformat(manifest["snapshot"]["time"])
    wait_until(lambda: (datetime.now(UTC) - taken).total_seconds() > 5)
    run = drill(shop, max_restore_minutes="0.001", max_age_hours="0.001")
    words = ["time to restore (RTO) failed", "of 0.1 s", "age of the data (RPO) failed", "of 3.6 s"]
    record = assert_not_green(run, shop, "failed", *words)
    failed = checks(record, "failed")
    assert {"time to restore (RTO)", "age of the data (RPO)"} == failed.keys()
    assert CHECKS <= checks(record, "proven").keys()
    assert {"proven"} == {each["verdict"] for each in record["tables"]}
    assert re.search(r"RTO\) \| █{20} ", run.summary), run.summary
    chart = run.summary.split("### Time to restore in past drills", 1)[1]
    assert re.search(r"x-axis \[\"\d{4}-\d\d-\d\d\"(, \"\d{4}-\d\d-\d\d\")+\]", chart), chart
    assert re.search(r"bar \[[\d.]+(, [\d.]+)+\]", chart), chart
    assert "line [0.0, 0.0" in chart
    assert "Time to restore in past drills" not in drilled.summary


def test_the_history_is_no_reason_for_a_drill_to_fail(shop: Stage, drilled: ActionRun) -> None:
    backup_id = drilled.outputs["backup-id"]
    root = f"{PREFIX}/drilled/{backup_id}/drills/"
    damaged = [f"{root}20200101T00000{n}Z.json" for n in range(3)]
    for key, body in zip(damaged, (b"\x00{", b"[1]", b'{"restore_seconds": "x"}'), strict=True):
        shop.cloud.s3.put_object(Bucket=shop.cloud.bucket, Key=key, Body=body)
    run = drill(shop, verify_depth="objects")
    for key in damaged:
        shop.cloud.s3.delete_object(Bucket=shop.cloud.bucket, Key=key)
    assert_proven(run, shop)
    assert [] == run.warnings


# check-sql


def test_queries_that_are_true_are_asked_of_the_restored_database(
    shop: Stage, tmp_path: Path
) -> None:
    """In the throwaway server: the source has lost its rows in the meantime."""
    queries = tmp_path / "checks.sql"
    queries.write_text("-- two;\nSELECT count(*) = 4000 FROM sales.orders;\nSELECT true")
    shop.server.sql("BEGIN; CREATE TABLE kept AS TABLE sales.lines; TRUNCATE sales.lines; COMMIT",
                    "drilled")  # fmt: skip
    try:
        with queries.open("a") as more:
            more.write("; SELECT count(*) = 300 FROM sales.lines;")
        run = drill(shop, check_sql=str(queries))
    finally:
        shop.server.sql("INSERT INTO sales.lines TABLE kept; DROP TABLE kept", "drilled")
    record = assert_proven(run, shop)
    assert "3 queries, each true" == checks(record, "proven")["check-sql"]


def test_queries_that_are_not_true_fail_the_drill_by_name(shop: Stage, tmp_path: Path) -> None:
    queries = tmp_path / "checks.sql"
    queries.write_text(
        "SELECT true; SELECT max(id) > 4000 FROM sales.orders; SELECT * FROM sales.gone;"
        " DELETE FROM sales.lines RETURNING true; SELECT id FROM sales.lines"
    )
    record = assert_not_green(drill(shop, check_sql=str(queries)), shop, "failed", "check-sql")
    (failed,) = checks(record, "failed").items()
    assert "check-sql" == failed[0]
    for words in (
        "SELECT max(id) > 4000 FROM sales.orders: it returned False",
        'relation "sales.gone" does not exist',
        "read-only transaction",
        "did not return one row",
    ):
        assert words in failed[1]
    assert "SELECT true" not in failed[1]


@pytest.mark.parametrize(
    ("text", "words"), [(None, "cannot be read"), ("-- nothing;", "holds no query")]
)
def test_a_file_without_queries_is_refused_before_the_restore(
    shop: Stage, tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "checks.sql"
    if text is not None:
        path.write_text(text)
    before = records(shop)
    run = drill(shop, check_sql=str(path))
    assert_failed(run, shop, 2, ["check-sql", words])
    assert "Make a place" not in run.output
    assert before == records(shop)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"check_sql": "checks.sql", "verify_depth": "archive"}, "check-sql: needs a restore"),
        ({"max_restore_minutes": "9", "verify_depth": "objects"}, "max-restore-minutes: needs a"),
        ({"tables": "sales.orders"}, "tables: is for restores"),
        ({"clean": "true", "confirm_target": "x"}, "clean: is for restores"),
        (
            {"sample": "2", "target_url": "postgresql://user:s3cr3t@host/d"},
            "sample: is more than one",
        ),
    ],
)
def test_inputs_that_a_drill_would_not_heed_are_refused(
    shop: Stage, inputs: dict[str, str], words: str
) -> None:
    assert_failed(shop.run(drill_inputs(shop, **inputs)), shop, 2, [words])


# What cannot be proven


def test_what_needs_an_extension_that_is_not_here_is_not_proven(
    postgres: PostgresServer, strict: Ministack
) -> None:
    statements = f"""
        CREATE EXTENSION {NAME};
        CREATE TABLE kept AS SELECT 1 AS one;
        CREATE TABLE place (id int, at {NAME});
        INSERT INTO place VALUES (1, ROW(1, 2));
    """
    # Packages are asked for where there is apt: a proxy that is not there says no at once.
    env = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9",
           "no_proxy": "127.0.0.1"}  # fmt: skip
    with extension_on(postgres) as files, readable_stage(postgres, strict, "map") as stage:
        database_named(postgres, "map", statements)
        first = green(stage.run()).outputs["backup-id"]
        postgres.sql("DROP TABLE place", "map")
        second = green(stage.run()).outputs["backup-id"]
        forget(postgres, "map")
        for path in files:
            path.unlink()

        run = drill(stage, env, backup_id=first)
        needs = f"needs the extension {NAME}"
        record = assert_not_green(
            run, stage, "not proven", "TABLE public.place", needs, "target-url"
        )
        verdicts = {each["table"]: each["verdict"] for each in record["tables"]}
        assert {"kept": "proven", "place": "not proven"} == verdicts
        assert {} == checks(record, "failed")
        assert any(f"{NAME} is an empty stand-in" in note for note in record["notes"])
        assert f"{NAME} is an empty stand-in" in run.summary

        # The extension alone, which nothing needs, is no reason to doubt.
        run = drill(stage, env, backup_id=second)
        record = assert_proven(run, stage)
        assert any(f"{NAME} is an empty stand-in" in note for note in record["notes"])


def edited(stage: Stage, edit: Callable[[dict[str, Any]], None]) -> tuple[str, bytes]:
    """Change the manifest in the bucket; its key, and how it was."""
    ((key, manifest),) = stage.cloud.manifests().items()
    before = stage.cloud.read(key)
    edit(manifest)
    stage.cloud.s3.put_object(Bucket=stage.cloud.bucket, Key=key, Body=json.dumps(manifest))
    return key, before


def test_a_backup_that_no_server_here_can_take_is_not_proven(shop: Stage) -> None:
    key, before = edited(shop, lambda manifest: manifest["client"].update(major=99))
    try:
        run = drill(shop, max_age_hours="24")
    finally:
        shop.cloud.s3.put_object(Bucket=shop.cloud.bucket, Key=key, Body=before)
    words = ["no PostgreSQL 99 server is installed", "target-url"]
    record = assert_not_green(run, shop, "not proven", *words, exit_code=4)
    assert {"restore"} == checks(record, "not proven").keys()
    assert [] == record["tables"]


def test_a_server_that_does_not_start_leaves_the_backup_unproven(shop: Stage) -> None:
    real = shop.server.binaries
    with tempfile.TemporaryDirectory() as folder:  # pytest's own let nobody else in
        Path(folder).chmod(0o755)
        for program in real.iterdir():
            if program.name != "initdb":
                Path(folder, program.name).symlink_to(program)
        initdb = Path(folder, "initdb")
        asked = f'case "$*" in *--show*) exec {real}/initdb "$@" ;; esac'
        initdb.write_text(f"#!/bin/sh\n{asked}\necho no luck today >&2\nexit 1\n")
        initdb.chmod(0o755)
        run = drill(shop, {"PG_BACKUP_CLIENTS": folder})
    words = ["the throwaway server", "did not start", "no luck today"]
    assert_not_green(run, shop, "not proven", *words, exit_code=4)


# Where it is not allowed to


def test_a_role_that_may_not_write_proves_and_warns(shop: Stage) -> None:
    cloud = shop.cloud
    before = records(shop)
    cloud.allow(listing(cloud.bucket), reading(cloud.bucket))
    try:
        run = drill(shop, verify_depth="objects")
    finally:
        cloud.allow(writing(cloud.bucket), listing(cloud.bucket), reading(cloud.bucket))
    assert 0 == run.exit_code, run.output
    assert ("true", "proven") == (run.outputs["verified"], run.outputs["verdict"])
    (warning,) = run.warnings
    assert "was not kept" in warning.title
    assert '"Action": "s3:PutObject"' in warning.message
    assert before == records(shop)
    assert_clean_end(run, shop)


def test_a_role_that_may_write_results_alone_keeps_them(shop: Stage) -> None:
    cloud = shop.cloud
    results = writing(cloud.bucket, f"{PREFIX}/*/drills")
    cloud.allow(listing(cloud.bucket), reading(cloud.bucket), results | {"Action": "s3:PutObject"})
    try:
        run = drill(shop, verify_depth="objects")
    finally:
        cloud.allow(writing(cloud.bucket), listing(cloud.bucket), reading(cloud.bucket))
    assert_proven(run, shop)
    assert [] == run.warnings


def test_a_result_has_no_tags_which_its_role_may_not_give(shop: Stage) -> None:
    """As with a row of a fleet, whose defaults tag the objects of backups."""
    cloud = shop.cloud
    results = writing(cloud.bucket, f"{PREFIX}/*/drills")
    cloud.allow(listing(cloud.bucket), reading(cloud.bucket), results | {"Action": "s3:PutObject"})
    try:
        run = drill(shop, verify_depth="objects", object_tags="team=shop")
    finally:
        cloud.allow(writing(cloud.bucket), listing(cloud.bucket), reading(cloud.bucket))
    assert_proven(run, shop)
    assert [] == run.warnings


def test_a_role_that_may_not_read_is_told_the_line_that_it_lacks(shop: Stage) -> None:
    cloud = shop.cloud
    cloud.allow(writing(cloud.bucket), listing(cloud.bucket))
    try:
        run = drill(shop, verify_depth="archive")
    finally:
        cloud.allow(writing(cloud.bucket), listing(cloud.bucket), reading(cloud.bucket))
    record = assert_not_green(run, shop, "not proven", '"s3:GetObject"', exit_code=3)
    assert [] == record["tables"]


# In another place than a throwaway server


@pytest.mark.parametrize("major", [17, 18])
def test_an_empty_database_of_another_server_serves_as_well(shop: Stage, major: int) -> None:
    """Of a newer major too, whose pg_dump may not know the compression of the archive."""
    skip_without(major)
    clients = f"{shop.server.binaries}:{installed()[major]}"
    with PostgresServer(installed()[major]) as other:
        other.sql("CREATE ROLE shop_owner; CREATE ROLE shop_reader")
        other.sql("CREATE DATABASE place")
        before = databases(other)
        run = drill(shop, {"PG_BACKUP_CLIENTS": clients}, target_url=other.url("place"))
        record = assert_proven(run, shop)
        assert [(4000,)] == other.sql("SELECT count(*) FROM sales.orders", "place")
        assert before == databases(other)
    # Not amcheck: it would leave an extension behind.
    assert CHECKS == {each["name"] for each in record["checks"]}
    assert {"same bytes", "same rows in text"} >= {each["how"] for each in record["tables"]}


def test_a_target_that_no_pg_dump_here_can_dump_again_is_left_alone(shop: Stage) -> None:
    with target(shop.server, "future"), untouched(shop.server, "future"):
        ((told,),) = shop.server.sql("SHOW server_version")
        number = told.split()[0]
        future = f"99{number[2:]}"
        with VersionFront(shop.server.port, told=number, instead=future) as front:
            run = drill(shop, target_url=shop.server.url("future", port=front.port))
    words = [f"the server is PostgreSQL {future}, newer than every pg_dump here"]
    assert_not_green(run, shop, "not proven", *words, exit_code=4)


def test_a_target_that_is_not_to_be_written_to_is_refused(shop: Stage) -> None:
    server, before = shop.server, records(shop)
    with target(server, "taken", "CREATE TABLE theirs AS SELECT 1 AS one"):
        with untouched(server, "taken", "drilled"):
            taken = drill(shop, target_url=server.url("taken"))
            itself = drill(shop, target_url=server.url("drilled"))
        assert_failed(taken, shop, 2, ["taken is not empty", "TABLE public.theirs"])
        assert_failed(itself, shop, 2, ["the target is the source of this backup"])
    assert before == records(shop)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["throwaway server", "target-url"])
def test_an_old_archive_is_proven_where_only_a_newer_server_is(
    servers: Callable[[int], PostgresServer], strict: Ministack, place: str
) -> None:
    older = min(installed())
    newer = 17 if 17 in installed() else max(installed())
    if older == newer:
        skip_without(14 if older != 14 else 17)
    if place == "throwaway server" and Path(f"/usr/lib/postgresql/{older}/bin/postgres").exists():
        pytest.skip(
            f"PostgreSQL {older} is found here wherever it is looked for: .ci/run, whose oldest"
            " lies elsewhere, runs it"
        )
    database_named(servers(older), "old", SHOP)
    with readable_stage(servers(older), strict, "old") as stage:
        green(stage.run())
        forget(servers(older), "old")
        drop_roles(servers(older))
        env = {"PG_BACKUP_CLIENTS": str(installed()[newer]), "PATH": "/usr/bin:/bin"}
        if place == "target-url":
            with PostgresServer(installed()[newer]) as other:
                other.sql("CREATE ROLE shop_owner; CREATE ROLE shop_reader")
                other.sql("CREATE DATABASE place")
                run = drill(stage, env, target_url=other.url("place"))
        else:
            run = drill(stage, env)
            (used,) = re.findall(r"^PostgreSQL (\d+)", run.output, re.MULTILINE)
            assert older < int(used) <= newer
        record = assert_proven(run, stage)
    assert {"same bytes", "same rows in text"} >= {each["how"] for each in record["tables"]}


# What it leaves behind


@pytest.mark.parametrize(
    ("number", "phase", "gets"),
    [
        (signal.SIGTERM, "Make a place for it", 1),
        (signal.SIGTERM, "Load the data", 2),
        (signal.SIGINT, "Load the data", 2),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else str(value),
)
def test_a_drill_that_is_cancelled_leaves_no_server_and_no_folder(
    shop: Stage, number: signal.Signals, phase: str, gets: int
) -> None:
    """Cancelled while S3 does not answer: to the roles of the backup, or to its rows."""
    before = records(shop)
    stall = shop.cloud.proxy.add(Stall(600), method="GET", pattern="/archive/", after=gets)
    try:
        with shop.start(drill_inputs(shop)) as running:
            wait_until(lambda: stall.hits, seconds=90)
            groups = re.compile("^::group::(.*)", re.MULTILINE)
            wait_until(lambda: phase in groups.findall(running.output)[-1])
            assert servers_of(running)
            sent = time.monotonic()
            running.send(number)
            run = running.finish()
            took = time.monotonic() - sent
            assert [] == servers_of(running)
    finally:
        shop.cloud.proxy.clear()
    assert 128 + number == run.exit_code, run.output
    assert [] == run.leftovers
    assert took < {signal.SIGINT: 7.0, signal.SIGTERM: 2.4}[number]
    assert {} == run.outputs
    assert before == records(shop)


def test_a_drill_after_a_backup_can_be_cancelled_and_the_backup_counts(
    postgres: PostgresServer, strict: Ministack
) -> None:
    with readable_stage(postgres, strict, database_named(postgres, "nightly")) as stage:
        stall = stage.cloud.proxy.add(Stall(600), method="GET", pattern="/archive/")
        try:
            with stage.start(stage.inputs(verify="true")) as running:
                wait_until(lambda: stall.hits, seconds=90)
                sent = time.monotonic()
                running.send(signal.SIGTERM)
                run = running.finish()
                took = time.monotonic() - sent
        finally:
            stage.cloud.proxy.clear()
        assert_clean_end(run, stage)
        (made,) = stage.catalogue()
        forget(postgres, "nightly")
    assert took < 2.4
    (error,) = run.errors
    assert f"backup {made['id']} is made and counts" in error.message
