"""What a green backup leaves: in the bucket, in the step's outputs and summary, in the source."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from jsonschema import Draft202012Validator
from psycopg import sql

from tests.lab.aws import REPOSITORY, Ministack
from tests.lab.cloud import Cloud, new_cloud
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun
from tests.schemas import published, validator
from tests.steps import (
    back_up,
    database_named,
    drop_roles,
    fill_with_chance,
    forget,
    green,
)

EVERYTHING = Path(__file__).with_name("everything.sql")
VALIDATOR = validator("manifest")
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
def finished(postgres: PostgresServer, ministack: Ministack, issuer: Issuer) -> Iterator[Finished]:
    name = database_named(postgres, "everything | *there* is", EVERYTHING.read_text())
    fill_with_chance(postgres, name, "kinds.bulk", 10)
    with new_cloud(ministack, issuer) as cloud:
        run = green(back_up(cloud, postgres, name))
        ((key, manifest),) = cloud.manifests().items()
        yield Finished(run, cloud, postgres, name, key, manifest)
    forget(postgres, name)
    drop_roles(postgres)


def test_the_manifest_is_of_the_form_that_is_documented(finished: Finished) -> None:
    Draft202012Validator.check_schema(published("manifest"))
    assert [] == [error.message for error in VALIDATOR.iter_errors(finished.manifest)]
    for name in finished.manifest:
        without = {key: value for key, value in finished.manifest.items() if key != name}
        assert not VALIDATOR.is_valid(without), f"{name} is not required"
    assert not VALIDATOR.is_valid(finished.manifest | {"format": 2})
    newer = finished.manifest | {"surprise": 1}
    assert not VALIDATOR.is_valid(newer)
    assert Draft202012Validator(published("manifest")).is_valid(newer)


def test_the_example_in_the_documentation_is_of_that_form_too() -> None:
    text = (REPOSITORY / "docs/manifest.md").read_text()
    example = json.loads(text.split("```json\n", 1)[1].split("\n```", 1)[0])
    assert [] == [error.message for error in VALIDATOR.iter_errors(example)]


def test_each_member_is_fetched_with_one_ranged_get_and_has_its_digest(finished: Finished) -> None:
    members = finished.manifest["members"]
    assert len(members) > 30
    for member in members:
        key = finished.root + member["object"]
        if not member["size"]:
            continue  # an empty large object; there is no range of no bytes
        stored = finished.cloud.read(key, member["offset"], member["size"])
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
            rows, size = (
                connection.execute(sql.SQL(question).format(what)).fetchall()[0][0]
                for question, what in (
                    ("SELECT count(*) FROM ONLY {}", name),
                    ("SELECT pg_table_size({}::regclass)", sql.Literal(name.as_string())),
                )
            )
            assert (table["rows"], table["size_bytes"]) == (rows, size), table
    assert 3 == inventory["large_objects"]
    assert "UTF8" == inventory["encoding"]
    assert "-role 'with' \"quotes\", 100% a=b $HOME 🐘" in inventory["roles"]


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
