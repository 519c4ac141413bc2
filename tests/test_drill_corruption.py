"""A drill that can fail: real backups damaged in every way that matters, each seen at each depth
that can see it, and red with the right words."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.drills import assert_not_green, assert_proven, checks, drill, drill_inputs
from tests.lab.aws import Ministack
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun
from tests.lab.stage import Stage, readable_stage
from tests.restores import is_marked, target
from tests.steps import database_named, fill_with_chance, forget, green

SHOP = """
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id serial PRIMARY KEY, note text);
INSERT INTO sales.orders (note) SELECT md5(n::text) FROM generate_series(1, 4000) n;
CREATE TABLE sales.lines (id int PRIMARY KEY, ordered int REFERENCES sales.orders);
INSERT INTO sales.lines SELECT n, n FROM generate_series(1, 300) n;
CREATE TABLE twin_a AS SELECT 'alpha' AS name;
CREATE TABLE twin_b AS SELECT 'gamma' AS name;
CREATE SEQUENCE counter;
SELECT setval('counter', 7);
SELECT lo_from_bytea(500, 'large');
CREATE TABLE noise (block bytea);
ALTER TABLE noise ALTER block SET STORAGE EXTERNAL;
CREATE INDEX orders_note ON sales.orders (note);
"""
PACK = "archive/pack-0001.tar"
MANIFEST = "manifest.json"

Content = dict[str, bytes]  # objects of a backup by their key, from its folder on


@dataclass(frozen=True)
class Made:
    """A backup as it was made: its folder in the bucket, and all that lay in it then."""

    root: str
    content: Content

    @property
    def manifest(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.content[MANIFEST])
        return parsed

    def member(self, name: str) -> dict[str, Any]:
        """By the name of its table, or of its file."""
        (found,) = (
            each for each in self.manifest["members"] if name in (each.get("table"), each["name"])
        )
        member: dict[str, Any] = found
        return member

    def with_bytes(self, name: str, content: bytes, at: int = 0) -> Content:
        """The object that holds this member, with other bytes in the member's place."""
        member = self.member(name)
        whole = bytearray(self.content[member["object"]])
        start = member["offset"] + at
        whole[start : start + len(content)] = content
        return {member["object"]: bytes(whole)}

    def bytes_of(self, name: str) -> bytes:
        member = self.member(name)
        return self.content[member["object"]][member["offset"] :][: member["size"]]

    def saying(self, edit: Callable[[dict[str, Any]], None]) -> Content:
        """The manifest after `edit`, whose sums are right again."""
        manifest = self.manifest
        edit(manifest)
        manifest["sizes"]["stored"] = sum(each["size"] for each in manifest["objects"])
        manifest["sizes"]["members"] = sum(each["size"] for each in manifest["members"])
        return {MANIFEST: json.dumps(manifest, ensure_ascii=False).encode()}


@dataclass(frozen=True)
class Victim:
    """A database backed up three times: without twin_b; then whole; then after a change.

    The third is what drills take. The change has made no file larger or smaller.
    """

    stage: Stage
    partial: Made
    older: Made
    made: Made

    @contextmanager
    def damaged(self, content: Mapping[str, bytes | None]) -> Iterator[None]:
        """Objects of the newest backup replaced, or deleted where None; as they were afterwards."""
        try:
            for key, body in content.items():
                self._put(key, body)
            yield
        finally:
            for key in content:
                self._put(key, self.made.content.get(key))

    def _put(self, key: str, body: bytes | None) -> None:
        place = {"Bucket": self.stage.cloud.bucket, "Key": self.made.root + key}
        if body is None:
            self.stage.cloud.s3.delete_object(**place)
        else:
            # S3 computes the checksum anew, as for whoever overwrites an object.
            self.stage.cloud.s3.put_object(**place, Body=body, ChecksumAlgorithm="CRC64NVME")

    def drill(self, depth: str) -> ActionRun:
        """Into a database of the source's own server where it is restored: that starts none."""
        if depth != "restore":
            return drill(self.stage, verify_depth=depth)
        server = self.stage.server
        with target(server, "drilled place"):
            run = drill(self.stage, target_url=server.url("drilled place"))
            begun = "Create tables, types and functions" in run.output
            restored = "Dump the restored database again" in run.output
            # What came half way is as little to be used as after a restore.
            assert is_marked(server, "drilled place") == (begun and not restored)
        return run


@pytest.fixture(scope="module")
def victim(postgres: PostgresServer, strict: Ministack) -> Iterator[Victim]:
    name = database_named(postgres, "victim", SHOP)
    fill_with_chance(postgres, name, "noise", 10)
    with readable_stage(postgres, strict, name) as stage:

        def backup(**inputs: str) -> Made:
            backup_id = green(stage.run(stage.inputs(**inputs))).outputs["backup-id"]
            keys = [key for key in stage.cloud.objects() if f"/{backup_id}/" in key]
            root = keys[0].partition(backup_id)[0] + f"{backup_id}/"
            return Made(root, {key.removeprefix(root): stage.cloud.read(key) for key in keys})

        partial = backup(exclude_tables="twin_b")
        older = backup()
        postgres.sql("UPDATE twin_a SET name = 'omega'", name)
        yield Victim(stage, partial, older, backup())
    forget(postgres, name)


def flipped(made: Made, name: str) -> Content:
    """One bit in the middle of a member."""
    content = made.bytes_of(name)
    middle = len(content) // 2
    return made.with_bytes(name, bytes([content[middle] ^ 1]), at=middle)


def swapped(made: Made) -> Content:
    """The bytes of the twins, which are of one size, each in the other's place."""
    one, other = made.bytes_of("twin_a"), made.bytes_of("twin_b")
    assert len(one) == len(other)
    assert one != other
    both = bytearray(made.with_bytes("twin_a", other)[PACK])
    start = made.member("twin_b")["offset"]
    both[start : start + len(one)] = one
    return {PACK: bytes(both)}


def in_a_header(made: Made) -> Content:
    """A byte of the tar around the members, which `tar -x` needs and no member holds."""
    start = made.member("orders")["offset"] - 512
    whole = bytearray(made.content[PACK])
    whole[start + 2] ^= 1
    return {PACK: bytes(whole)}


def of_table(manifest: dict[str, Any], table: str) -> dict[str, Any]:
    (member,) = (each for each in manifest["members"] if each.get("table") == table)
    found: dict[str, Any] = member
    return found


def lying_about_rows(made: Made) -> Content:
    def edit(manifest: dict[str, Any]) -> None:
        (table,) = (each for each in manifest["inventory"]["relations"] if each["name"] == "lines")
        table["rows"] = 299

    return made.saying(edit)


def lying_about_the_size_of_an_object(made: Made) -> Content:
    def edit(manifest: dict[str, Any]) -> None:
        for each in manifest["objects"]:
            each["size"] += 1

    return made.saying(edit)


def lying_about_the_size_of_a_member(made: Made) -> Content:
    def edit(manifest: dict[str, Any]) -> None:
        of_table(manifest, "orders")["size"] -= 1

    return made.saying(edit)


def lying_about_a_digest(made: Made) -> Content:
    def edit(manifest: dict[str, Any]) -> None:
        of_table(manifest, "orders")["sha256"] = of_table(manifest, "lines")["sha256"]

    return made.saying(edit)


def lying_about_a_name(made: Made) -> Content:
    """Who fetches one table by hand would get the other one's rows."""

    def edit(manifest: dict[str, Any]) -> None:
        one, other = of_table(manifest, "twin_a"), of_table(manifest, "twin_b")
        one["table"], other["table"] = other["table"], one["table"]

    return made.saying(edit)


def forgetting_a_member(made: Made) -> Content:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["members"].remove(of_table(manifest, "twin_b"))

    return made.saying(edit)


def garbage_with_its_digest(made: Made) -> Content:
    """Bytes that no pg_restore can decompress, under a manifest that says they are right."""
    garbage = os.urandom(made.member("orders")["size"])

    def edit(manifest: dict[str, Any]) -> None:
        of_table(manifest, "orders")["sha256"] = hashlib.sha256(garbage).hexdigest()

    return made.with_bytes("orders", garbage) | made.saying(edit)


def dropped_table(victim: Victim) -> dict[str, bytes | None]:
    """An archive without twin_b, in itself whole, under a manifest that promises the table."""
    promised = victim.made.manifest

    def edit(manifest: dict[str, Any]) -> None:
        manifest["id"] = promised["id"]
        manifest["inventory"] = promised["inventory"]
        manifest["sizes"]["database"] = promised["sizes"]["database"]

    gone = dict.fromkeys(victim.made.content.keys() - victim.partial.content.keys())
    return gone | victim.partial.content | victim.partial.saying(edit)


def older_manifest(victim: Victim) -> Content:
    """Put over newer objects by somebody who has changed the id in it as well."""
    return victim.older.saying(lambda manifest: manifest.update(id=victim.made.manifest["id"]))


def without(made: Made, size: int) -> dict[str, bytes | None]:
    return {PACK: made.content[PACK][:size] if size else None}


Damage = Callable[[Victim], Mapping[str, bytes | None]]

OBJECTS, ARCHIVE, RESTORE = "objects", "archive", "restore"
DAMAGES: list[tuple[str, Damage, str, list[str]]] = [
    ("a byte of a pack", lambda v: flipped(v.made, "orders"), OBJECTS,
     ["stored objects failed", f"{PACK} has another checksum"]),
    ("a byte of a pack", lambda v: flipped(v.made, "orders"), ARCHIVE,
     ["the data of sales.orders is damaged", PACK]),
    ("a byte of a pack", lambda v: flipped(v.made, "orders"), RESTORE,
     ["the data of sales.orders is damaged", PACK]),
    ("a byte between the files of a pack", lambda v: in_a_header(v.made), ARCHIVE,
     ["stored objects failed", f"{PACK} has another checksum"]),
    ("a byte of a large member", lambda v: flipped(v.made, "noise"), OBJECTS,
     ["has another checksum", ".dat.zst"]),
    ("a byte of a large member", lambda v: flipped(v.made, "noise"), ARCHIVE,
     ["the data of public.noise is damaged", ".dat.zst"]),
    ("a byte of a large member", lambda v: flipped(v.made, "noise"), RESTORE,
     ["the data of public.noise is damaged", ".dat.zst"]),
    ("a byte of a large object", lambda v: flipped(v.made, "blob_500.dat.zst"), ARCHIVE,
     ["blob_500.dat.zst is damaged"]),
    ("a byte of the roles", lambda v: flipped(v.made, "globals.sql"), ARCHIVE,
     ["globals.sql is damaged"]),
    ("a byte of the table of contents", lambda v: flipped(v.made, "toc.dat"), OBJECTS,
     ["toc.dat is damaged"]),
    ("a byte of the table of contents", lambda v: flipped(v.made, "toc.dat"), RESTORE,
     ["toc.dat is damaged"]),
    ("an object is missing", lambda v: without(v.made, 0), OBJECTS,
     ["1 object of 2 is not what the manifest says", f"{PACK} is missing"]),
    ("an object is missing", lambda v: without(v.made, 0), RESTORE,
     ["1 object of 2 is not what the manifest says", f"{PACK} is missing"]),
    ("an object is cut off", lambda v: without(v.made, 5000), OBJECTS,
     [f"{PACK} has 5,000 bytes instead of"]),
    ("tables swapped", lambda v: swapped(v.made), ARCHIVE,
     ["the data of public.twin_", "is damaged"]),
    ("a lie about rows", lambda v: lying_about_rows(v.made), ARCHIVE,
     ["archive failed", "sales.lines: 300 rows, and the manifest counts 299"]),
    ("a lie about rows", lambda v: lying_about_rows(v.made), RESTORE,
     ["row counts failed", "sales.lines has 300 rows, the source had 299"]),
    ("a lie about an object's size", lambda v: lying_about_the_size_of_an_object(v.made), OBJECTS,
     ["2 objects of 2 are not what the manifest says", "bytes instead of"]),
    ("a lie about a member's size", lambda v: lying_about_the_size_of_a_member(v.made), ARCHIVE,
     ["the data of sales.orders is damaged"]),
    ("a lie about a digest", lambda v: lying_about_a_digest(v.made), ARCHIVE,
     ["the data of sales.orders is damaged"]),
    ("a lie about a digest", lambda v: lying_about_a_digest(v.made), RESTORE,
     ["the data of sales.orders is damaged"]),
    ("a lie about a name", lambda v: lying_about_a_name(v.made), OBJECTS,
     ["table of contents failed", "is the rows of public.twin_b in the manifest alone"]),
    ("a member forgotten", lambda v: forgetting_a_member(v.made), OBJECTS,
     ["table of contents failed", "and not in the manifest"]),
    ("a manifest of another backup", lambda v: {MANIFEST: v.older.content[MANIFEST]}, ARCHIVE,
     ["is that of another"]),
    ("an older manifest over newer objects", older_manifest, OBJECTS, ["toc.dat is damaged"]),
    ("an older manifest over newer objects", older_manifest, RESTORE, ["toc.dat is damaged"]),
    ("a table dropped from the archive", dropped_table, OBJECTS,
     ["table of contents failed", "TABLE public.twin_b", "and not in the archive"]),
    ("a table dropped from the archive", dropped_table, ARCHIVE,
     ["table of contents failed", "TABLE public.twin_b", "and not in the archive"]),
    ("a table dropped from the archive", dropped_table, RESTORE,
     ["TABLE public.twin_b", "and not in the archive"]),
    ("garbage with its digest", lambda v: garbage_with_its_digest(v.made), ARCHIVE,
     ["pg_restore cannot read the archive"]),
    ("garbage with its digest", lambda v: garbage_with_its_digest(v.made), RESTORE,
     ["pg_restore cannot read the archive"]),
]  # fmt: skip


def test_undamaged_it_is_proven(victim: Victim) -> None:
    """What turns it red below is the damage."""
    run = victim.drill(RESTORE)
    record = assert_proven(run, victim.stage)
    assert 5 == len(record["tables"])
    assert PACK == victim.made.member("orders")["object"]
    assert PACK != victim.made.member("noise")["object"]
    assert victim.made.member("noise")["size"] > 8 << 20


@pytest.mark.parametrize(
    ("damage", "depth", "words"),
    [pytest.param(*rest, id=f"{name}, {rest[1]}") for name, *rest in DAMAGES],
)
def test_a_damaged_backup_fails_its_drill(
    victim: Victim, damage: Damage, depth: str, words: list[str]
) -> None:
    with victim.damaged(damage(victim)):
        run = victim.drill(depth)
    record = assert_not_green(run, victim.stage, "failed", *words)
    assert depth == record["depth"]
    failed = " ".join(checks(record, "failed").values())
    for word in words:
        assert word in failed or any(f"{name} failed" == word for name in checks(record, "failed"))


def test_a_damaged_backup_leaves_no_throwaway_server_behind(victim: Victim) -> None:
    with victim.damaged(flipped(victim.made, "noise")):
        run = drill(victim.stage)
    assert_not_green(run, victim.stage, "failed", "the data of public.noise is damaged")
    assert "PostgreSQL" in run.output


# Changed in the restored database, after the rows were loaded and before they are compared


def meddling(server: PostgresServer, folder: Path, statements: str) -> str:
    """A folder of clients whose pg_restore changes the target once the last index is built.

    The index on a note is made after all rows are loaded, and nothing is compared before that.
    """
    folder.mkdir()
    for program in server.binaries.iterdir():
        if program.name != "pg_restore":
            (folder / program.name).symlink_to(program)
    change = folder / "change.sql"
    change.write_text(
        f"DO $do$ BEGIN IF to_regclass('sales.orders_note') IS NOT NULL"
        f" AND to_regclass('public.changed') IS NULL THEN\n{statements};\nEND IF; END $do$;\n"
    )
    psql = f"{server.binaries}/psql '{server.url('drilled place')}' -qX -v ON_ERROR_STOP=1"
    script = f'#!/bin/bash\n{server.binaries}/pg_restore "$@" || exit\n'
    (folder / "pg_restore").write_text(f"{script}exec {psql} -f {change}\n")
    (folder / "pg_restore").chmod(0o755)
    return str(folder)


def drill_with(victim: Victim, folder: Path, statements: str) -> ActionRun:
    server = victim.stage.server
    with target(server, "drilled place"):
        inputs = drill_inputs(victim.stage, target_url=server.url("drilled place"))
        clients = meddling(server, folder / "clients", statements)
        return victim.stage.run(inputs, {"PG_BACKUP_CLIENTS": clients})


def test_a_row_that_changed_in_the_restored_database_is_seen(
    victim: Victim, tmp_path: Path
) -> None:
    """One letter, in one row, in its place."""
    change = "UPDATE sales.orders SET note = overlay(note PLACING 'x' FROM 5) WHERE id = 2000"
    run = drill_with(victim, tmp_path, change)
    record = assert_not_green(run, victim.stage, "failed", "rows failed", "sales.orders")
    assert {"rows"} == checks(record, "failed").keys()
    verdicts = {each["table"]: each["verdict"] for each in record["tables"]}
    others = dict.fromkeys(("lines", "twin_a", "twin_b", "noise"), "proven")
    assert others | {"orders": "failed"} == verdicts
    assert "| sales.orders | 4,000 |" in run.summary
    assert "failed: differs in content, not in size" in run.summary


def test_values_that_changed_places_are_seen(victim: Victim, tmp_path: Path) -> None:
    change = (
        "UPDATE sales.orders o SET note = other.note FROM sales.orders other"
        " WHERE o.id IN (1, 2) AND other.id = 3 - o.id"
    )
    run = drill_with(victim, tmp_path, change)
    record = assert_not_green(run, victim.stage, "failed", "rows failed", "sales.orders")
    assert {"rows"} == checks(record, "failed").keys()


def test_rows_in_another_order_are_the_same_rows(victim: Victim, tmp_path: Path) -> None:
    """An order is nothing that a table has; the drill says that it was another one."""
    run = drill_with(victim, tmp_path, "UPDATE sales.lines SET ordered = ordered WHERE id = 1")
    record = assert_proven(run, victim.stage)
    ways = {each["table"]: each["how"] for each in record["tables"]}
    assert "same rows in another order" == ways["lines"]
    assert {"same bytes"} == {how for table, how in ways.items() if table != "lines"}


def test_everything_else_that_changed_is_named(victim: Victim, tmp_path: Path) -> None:
    changes = """
        INSERT INTO twin_a VALUES ('another');
        DELETE FROM sales.lines WHERE id = 300;
        PERFORM setval('counter', 8);
        PERFORM lo_put(500, 0, 'LARGE');
        ALTER TABLE sales.lines DROP CONSTRAINT lines_ordered_fkey;
        ALTER TABLE sales.lines ADD CONSTRAINT lines_ordered_fkey
            FOREIGN KEY (ordered) REFERENCES sales.orders NOT VALID;
        DROP INDEX sales.orders_note;
        GRANT SELECT ON twin_b TO PUBLIC;
        DROP TABLE noise;
        CREATE TABLE changed ()"""
    run = drill_with(victim, tmp_path, changes)
    record = assert_not_green(run, victim.stage, "failed")
    failed = checks(record, "failed")
    for name, words in (
        ("row counts", ["public.twin_a has 2 rows, the source had 1", "public.noise is missing"]),
        ("row counts", ["sales.lines has 299 rows, the source had 300"]),
        ("rows", ["public.twin_a: holds 2 rows, and 1 in the backup", "public.noise: is missing"]),
        ("sequences", ["public.counter stands at", "8", "7"]),
        ("large objects", ["500: differs in content, not in size"]),
        ("constraints", ["lines_ordered_fkey is not valid, and it was"]),
        ("objects", ["INDEX sales.orders_note is missing", "TABLE public.changed is not in the"]),
        ("objects", ["ACL public.TABLE twin_b is not in the backup"]),
        ("inventory", ["TABLE public.noise is missing", "TABLE public.changed is not in the"]),
    ):  # fmt: skip
        for word in words:
            assert word in failed[name], failed
            assert word in run.errors[0].message
    assert {"sales.orders", "public.twin_b"} == {
        f"{each['schema']}.{each['table']}"
        for each in record["tables"]
        if each["verdict"] == "proven"
    }
