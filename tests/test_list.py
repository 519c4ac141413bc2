"""`operation: list`: what counts as a backup, and what is told of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.lab.aws import REGION, REPOSITORY
from tests.lab.cloud import Cloud, writing
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun, run_action
from tests.steps import back_up, database_named, forget, green

TABLE = "CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n"
HOSTILE = 'a/b "c"|%2F ..é🐘\nd'


def listed(cloud: Cloud, **inputs: str) -> ActionRun:
    return run_action(cloud.inputs | {"operation": "list"} | inputs, cloud.env)


def backups(run: ActionRun) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(green(run).outputs["backups"])
    return found


def put(cloud: Cloud, key: str, body: bytes = b"x") -> None:
    cloud.s3.put_object(Bucket=cloud.bucket, Key=key, Body=body)


def test_an_empty_bucket_has_no_backups(cloud: Cloud) -> None:
    run = listed(cloud)

    assert [] == backups(run)
    assert "0 backups in" in run.summary


def test_backups_of_several_databases_are_listed_oldest_first(
    postgres: PostgresServer, cloud: Cloud
) -> None:
    names = [database_named(postgres, name, TABLE) for name in ("listed", HOSTILE, "...")]
    runs = [green(back_up(cloud, postgres, name)) for name in (*names, names[0])]
    for name in names:
        forget(postgres, name)

    everything, of_one = backups(listed(cloud)), backups(listed(cloud, database=HOSTILE))

    ids = [run.outputs["backup-id"] for run in runs]
    assert sorted(ids) == [entry["id"] for entry in everything]
    by_id = {entry["id"]: entry for entry in everything}
    for run, name in zip(runs, (*names, names[0]), strict=True):
        entry = by_id[run.outputs["backup-id"]]
        assert name == entry["database"]
        assert run.outputs["manifest-uri"] == entry["manifest-uri"]
        assert int(run.outputs["stored-bytes"]) == entry["stored-bytes"]
        assert 1 == entry["objects"]
    assert [by_id[ids[1]]] == of_one


def test_only_a_folder_with_a_manifest_is_a_backup(cloud: Cloud) -> None:
    root = "postgresql/shop/20260102T030405Z-"
    put(cloud, f"{root}aaaaaa/archive/pack-0001.tar", b"12345")
    put(cloud, f"{root}aaaaaa/manifest.json", b"{}")
    put(cloud, f"{root}bbbbbb/archive/pack-0001.tar")  # broken off before its manifest
    put(cloud, f"{root}cccccc/archive/manifest.json")
    put(cloud, "postgresql/shop/manifest.json")
    put(cloud, "postgresql/shop/latest/manifest.json")
    put(cloud, "postgresql/20260102T030405Z-dddddd/manifest.json")
    put(cloud, "postgresql2/shop/20260102T030405Z-eeeeee/manifest.json")
    put(cloud, "elsewhere.txt")

    (entry,) = backups(listed(cloud))

    assert {
        "id": "20260102T030405Z-aaaaaa",
        "database": "shop",
        "time": "2026-01-02T03:04:05+00:00",
        "stored-bytes": 5,
        "objects": 1,
        "manifest-uri": f"s3://{cloud.bucket}/{root}aaaaaa/manifest.json",
    } == entry


def test_more_objects_than_fit_on_one_page_are_listed(cloud: Cloud) -> None:
    for number in range(1100):
        put(cloud, f"postgresql/shop/20260102T{number:06}Z-aaaaaa/archive/{number}.dat")
    put(cloud, "postgresql/shop/20260102T000001Z-aaaaaa/manifest.json")
    put(cloud, "postgresql/shop/20260102T001099Z-aaaaaa/manifest.json")
    put(cloud, "postgresql/zoo/20260102T000001Z-aaaaaa/manifest.json")

    # 001099 is no time of day: nothing of ours wrote it.
    names = [(entry["database"], entry["id"]) for entry in backups(listed(cloud))]

    assert [("shop", "20260102T000001Z-aaaaaa"), ("zoo", "20260102T000001Z-aaaaaa")] == names


def test_a_role_that_may_not_list_is_told_what_to_add(cloud: Cloud) -> None:
    cloud.allow(writing(cloud.bucket))

    run = listed(cloud)

    assert 3 == run.exit_code
    (error,) = run.errors
    assert "s3:ListBucket" in error.message
    assert f"arn:aws:s3:::{cloud.bucket}" in error.message


def test_the_local_face_prints_a_table_and_json(cloud: Cloud, tmp_path: Path) -> None:
    put(cloud, "postgresql/shop/20260102T030405Z-aaaaaa/archive/pack-0001.tar", bytes(2048))
    put(cloud, "postgresql/shop/20260102T030405Z-aaaaaa/manifest.json")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": cloud.double.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
    }
    command = [sys.executable, "-m", "backup", "list", f"--bucket={cloud.bucket}"]
    shown, told = (
        subprocess.run(
            [*command, *more], env=env, cwd=REPOSITORY, capture_output=True, text=True, check=True
        ).stdout
        for more in ([], ["--json"])
    )

    assert "shop      20260102T030405Z-aaaaaa  2026-01-02 03:04 UTC  2.0 KiB" in shown
    (entry,) = json.loads(told)["backups"]
    assert ("shop", 2048) == (entry["database"], entry["stored-bytes"])
