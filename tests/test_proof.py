"""The proof: green for a true restore, red for anything that a restore could have done wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest

from backup.archive.script import contents
from backup.errors import InputError, VerificationError
from backup.model import ObjectName
from backup.operations.proving import ProofPlan
from backup.postgres.questions import ask, queries
from backup.rows import digest, sum_of_rows
from backup.settings import Selection
from backup.verdicts import Proof, Verdict
from tests.conftest import MAJORS, skip_without
from tests.lab.postgres import PostgresServer, installed
from tests.lab.restored import LocalBackup, client_of, local_backup, source_of
from tests.steps import database_named, forget, identifier

EVERYTHING = Path(__file__).with_name("everything.sql").read_text()
EXTRA = """
CREATE TABLE kinds.elder (a int);
CREATE TABLE kinds.younger (own text) INHERITS (kinds.elder);
ALTER TABLE kinds.elder ADD COLUMN late int;
INSERT INTO kinds.younger (a, own, late) VALUES (1, 'own', 2), (3, 'more', 4);
CREATE TABLE kinds.moment AS
SELECT n, timestamptz '2026-01-01 00:00+00' + n * interval '1 day' AS at
FROM generate_series(1, 400) AS n;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    majors = installed()
    with PostgresServer(majors[17 if 17 in majors else max(majors)]) as running:
        yield running


@pytest.fixture(scope="module")
def backup(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> LocalBackup:
    database_named(server, "shop", EVERYTHING + EXTRA)
    made = local_backup(server, "shop", tmp_path_factory.mktemp("backup") / "archive")
    made.restore(server, "pristine")
    return made


@pytest.fixture
def restored(server: PostgresServer, backup: LocalBackup) -> Iterator[str]:  # noqa: ARG001
    server.sql("CREATE DATABASE restored TEMPLATE pristine")
    yield "restored"
    forget(server, "restored")


def plan_of(backup: LocalBackup, **others: object) -> ProofPlan:
    plan = ProofPlan(backup.client, jobs=2, scratch_limit_bytes=64 << 20)
    return replace(plan, **others)  # type: ignore[arg-type]


def bad(proof: Proof) -> dict[str, str]:
    """The checks that are not green, with what they say."""
    return {each.name: each.detail for each in proof.checks if each.verdict != Verdict.PROVEN}


def ways(proof: Proof) -> set[str]:
    return {table.how for table in proof.tables}


# What is proven.


@pytest.mark.parametrize("major", MAJORS)
def test_a_restore_into_its_own_major_is_proven_byte_for_byte(major: int, tmp_path: Path) -> None:
    skip_without(major)
    with PostgresServer(installed()[major]) as server:
        database_named(server, "shop", EVERYTHING)
        made = local_backup(server, "shop", tmp_path / "archive")
        made.restore(server, "restored")

        proof = made.prove(server, "restored", plan_of(made, amcheck=True))
    assert {} == bad(proof)
    assert Verdict.PROVEN == proof.verdict
    assert {"same bytes"} == ways(proof)
    assert 28 == len(proof.tables)
    assert all(table.rows is not None for table in proof.tables)


@pytest.mark.parametrize(
    ("older", "newer"),
    # Each once on either side; that all pairs restore is for test_restore_majors.
    [*pairwise(MAJORS), (MAJORS[0], MAJORS[-1])],
)
def test_a_restore_into_a_newer_major_is_proven(older: int, newer: int, tmp_path: Path) -> None:
    skip_without(older)
    skip_without(newer)
    with PostgresServer(installed()[older]) as old, PostgresServer(installed()[newer]) as new:
        database_named(old, "shop", EVERYTHING)
        made = local_backup(old, "shop", tmp_path / "archive")
        _copy_roles(old, new)
        newer_client = replace(made, client=client_of(new))
        newer_client.restore(new, "restored")

        proof = newer_client.prove(new, "restored")
    assert {} == bad(proof)
    assert Verdict.PROVEN == proof.verdict


def test_where_builds_compress_differently_the_rows_are_compared_as_text(
    server: PostgresServer, backup: LocalBackup, restored: str
) -> None:
    other = replace(backup, manifest=replace(backup.manifest, compression="gzip:9"))

    proof = other.prove(server, restored)

    assert {} == bad(proof)
    filled = {table.how for table in proof.tables if table.rows and table.rows > 100}
    assert {"same rows in text"} == filled
    (large,) = [each.detail for each in proof.checks if each.name == "large objects"]
    assert "same rows in text" in large


def test_an_heir_whose_columns_have_changed_their_order_is_proven_as_text(
    server: PostgresServer, backup: LocalBackup, restored: str
) -> None:
    proof = backup.prove(server, restored)

    assert {} == bad(proof)
    other = {table.table: table.how for table in proof.tables if table.how != "same bytes"}
    assert {"younger": "same rows in text"} == other


def test_rows_in_another_order_are_the_same_rows_and_the_proof_says_so(
    server: PostgresServer, backup: LocalBackup, restored: str
) -> None:
    server.sql("CREATE TABLE copy AS TABLE kinds.event_2024; TRUNCATE kinds.event_2024", restored)
    server.sql("INSERT INTO kinds.event_2024 SELECT * FROM copy ORDER BY id DESC", restored)
    server.sql("DROP TABLE copy", restored)

    proof = backup.prove(server, restored)

    assert {} == bad(proof)
    (table,) = [each for each in proof.tables if each.table == "event_2024"]
    assert "same rows in another order" == table.how


def test_the_time_zone_of_the_restored_server_does_not_matter(
    server: PostgresServer, backup: LocalBackup, restored: str
) -> None:
    server.sql("ALTER DATABASE restored SET timezone = 'America/St_Johns'")

    proof = backup.prove(server, restored)

    assert {} == bad(proof)


@pytest.mark.parametrize(
    ("selection", "options", "prepared"),
    [
        (Selection(schemas=("kinds",)), ["--schema=kinds"],
         'CREATE FOREIGN DATA WRAPPER "no where";'
         ' CREATE SERVER far FOREIGN DATA WRAPPER "no where"'),
        (Selection(tables=("kinds.log", "kinds.booking")),
         ["--table=kinds.log", "--table=kinds.booking"], "CREATE SCHEMA kinds"),
        (Selection(exclude_table_data=("kinds.e*",)), ["--exclude-table-data=kinds.e*"], ""),
    ],
    ids=["schemas", "tables", "exclude-table-data"],
)  # fmt: skip
def test_a_backup_of_a_part_is_proven_as_that_part(
    server: PostgresServer, backup: LocalBackup, tmp_path: Path,  # noqa: ARG001
    selection: Selection, options: list[str], prepared: str,
) -> None:  # fmt: skip
    part = local_backup(server, "shop", tmp_path / "archive", *options, selection=selection)
    database_named(server, "part", prepared)
    part.load(server, "part")

    proof = part.prove(server, "part")
    if selection.exclude_table_data:
        server.sql("INSERT INTO kinds.empty VALUES (1)", "part")
        filled = part.prove(server, "part")
        assert "kinds.empty holds 1 rows, and none are in the backup" in bad(filled)["rows"]
    forget(server, "part")

    assert {} == bad(proof)
    assert {"same bytes"} <= ways(proof) <= {"same bytes", "same rows in text"}


@pytest.mark.parametrize(
    ("encoding", "letter"), [("LATIN1", "\\xe9"), ("SQL_ASCII", "\\xc3a9"), ("EUC_JP", "\\xb4c1")]
)
def test_a_database_of_another_encoding_is_proven(
    backup: LocalBackup, tmp_path: Path, encoding: str, letter: str
) -> None:
    # Of its own, for the names of roles are read in the encoding of the database.
    with PostgresServer(installed()[backup.client.major]) as server:
        for name in ("source", "restored"):
            server.sql(
                f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'"
                " LC_COLLATE 'C' LC_CTYPE 'C'"
            )
        server.sql(
            f"CREATE TABLE t AS SELECT n, convert_from('{letter}', '{encoding}') AS x"
            " FROM generate_series(1, 900) n",
            "source",
        )
        made = local_backup(server, "source", tmp_path / "archive")
        made.load(server, "restored")
        proof = made.prove(server, "restored")
        other = replace(made, manifest=replace(made.manifest, compression="gzip:9"))
        as_text = other.prove(server, "restored")

    assert ({}, {"same bytes"}) == (bad(proof), ways(proof))
    assert ({}, {"same rows in text"}) == (bad(as_text), ways(as_text))


# What has failed.

SCHEMA = '"-schema ""x"", \'y\' 100% a=b.c $HOME 🐘"'


@pytest.mark.parametrize(
    ("harm", "check", "words"),
    [
        ("UPDATE kinds.child SET note = 'other' WHERE id = 77", "rows",
         "TABLE DATA kinds.child: differs"),
        ("DELETE FROM kinds.child WHERE id = 2501", "rows", "holds 2500 rows, and 2501 in the"),
        ("DELETE FROM kinds.child WHERE id = 2501", "row counts",
         "kinds.child has 2500 rows, the source had 2501"),
        ("INSERT INTO kinds.booking VALUES (9, '[2020-01-01,2020-01-05)')", "rows",
         "kinds.booking: holds 3 rows, and 2"),
        ("INSERT INTO kinds.empty VALUES (1)", "rows", "kinds.empty: holds 1 rows, and 0"),
        ("TRUNCATE kinds.scratch", "rows", "kinds.scratch: holds 0 rows, and 500"),
        ('DROP INDEX kinds."an index, with a comma"', "objects",
         "INDEX kinds.an index, with a comma is missing"),
        ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'kinds.parent_tree'::regclass",
         "indexes", "index kinds.parent_tree is invalid"),
        ("SELECT setval('kinds.countdown', 5)", "sequences", "kinds.countdown stands at"),
        ("SELECT nextval('kinds.never_used')", "sequences", "kinds.never_used stands at"),
        ("DROP VIEW kinds.cheapest", "inventory", "VIEW kinds.cheapest is missing"),
        ("DROP VIEW kinds.cheapest", "objects", "VIEW kinds.cheapest is missing"),
        ("DROP TABLE kinds.booking", "rows", "TABLE DATA kinds.booking: is missing"),
        ("ALTER TABLE kinds.log SET SCHEMA public", "inventory", "TABLE kinds.log is missing"),
        ("CREATE TABLE public.more (x int)", "inventory", "TABLE public.more is not in the"),
        ("CREATE FUNCTION public.more() RETURNS int LANGUAGE sql AS 'SELECT 1'", "objects",
         "FUNCTION public.more() is not in the backup"),
        ("SELECT lo_unlink(7002)", "inventory", "2 large objects, where the source had 3"),
        ("SELECT lo_unlink(7002)", "large objects", "LARGE OBJECT 7002: is missing"),
        ("SELECT lo_put(7003, 300000, 'X')", "large objects",
         "LARGE OBJECT 7003: differs in content"),
        ("SELECT lo_put(7001, 3, 'XX')", "large objects", "LARGE OBJECT 7001: differs"),
        ("UPDATE kinds.child SET note = 'it is' WHERE id = 77", "rows",
         "TABLE DATA kinds.child: differs: "),
        ("UPDATE kinds.child SET note = 'it#s' WHERE id = 77", "rows",
         "TABLE DATA kinds.child: differs in content"),
        ("ALTER TABLE kinds.child DROP CONSTRAINT child_parent_fkey", "objects",
         "FK CONSTRAINT kinds.child child_parent_fkey is missing"),
        ('UPDATE kinds.child SET self = 18 WHERE self = 17; ALTER TABLE kinds.child VALIDATE'
         ' CONSTRAINT "not valid"', "objects", "CHECK CONSTRAINT kinds.child not valid is missing"),
        ("ALTER TABLE kinds.child DROP CONSTRAINT child_parent_fkey; ALTER TABLE kinds.child ADD"
         " CONSTRAINT child_parent_fkey FOREIGN KEY (parent) REFERENCES kinds.parent NOT VALID",
         "constraints", "child child_parent_fkey is not valid, and it was"),
        ("ALTER TABLE kinds.child OWNER TO postgres", "owners",
         "TABLE kinds.child belongs to postgres, in the backup to everything_owner"),
        ('REVOKE UPDATE (name) ON kinds.parent FROM "a.b"', "grants", "lacks GRANT"),
        ("DROP TRIGGER on_all_partitions ON kinds.event", "objects", "TRIGGER kinds.event on_all"),
        ('DROP POLICY "only ""cheap"" ones" ON kinds.parent', "objects",
         'POLICY kinds.parent only "cheap" ones is missing'),
        ("COMMENT ON SCHEMA kinds IS NULL", "objects", "COMMENT SCHEMA kinds is missing"),
        ('DROP EVENT TRIGGER "watch it"', "objects", "EVENT TRIGGER watch it is missing"),
        ("ALTER TABLE kinds.event DETACH PARTITION kinds.event_2024", "objects",
         "TABLE ATTACH kinds.event_2024 is missing"),
        ("REFRESH MATERIALIZED VIEW kinds.by_mood WITH NO DATA", "objects",
         "MATERIALIZED VIEW DATA kinds.by_mood is missing"),
        (f"UPDATE {SCHEMA}.\"-rf\" SET \" space \" = '  ' WHERE \"--help\" = 50", "rows",
         "a=b.c $HOME 🐘.-rf: differs"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)  # fmt: skip
def test_what_is_not_as_in_the_backup_fails_by_name(
    server: PostgresServer, backup: LocalBackup, restored: str, harm: str, check: str, words: str
) -> None:
    server.sql(harm, restored)

    proof = backup.prove(server, restored)

    assert Verdict.FAILED == proof.verdict
    (found,) = [each for each in proof.checks if each.name == check]
    assert Verdict.FAILED == found.verdict
    assert words in found.detail


def test_a_manifest_that_lies_about_rows_fails(
    server: PostgresServer, backup: LocalBackup, restored: str
) -> None:
    inventory = backup.manifest.inventory
    (child,) = [each for each in inventory.relations if each.name == "child"]
    lying = inventory.with_counted([replace(child, rows=2500)])

    proof = replace(backup, manifest=replace(backup.manifest, inventory=lying)).prove(
        server, restored
    )

    assert {"row counts": "kinds.child has 2501 rows, the source had 2500"} == bad(proof)


def test_a_damaged_page_is_found_by_pg_amcheck(tmp_path: Path) -> None:
    majors = installed()
    with PostgresServer(majors[17 if 17 in majors else max(majors)]) as server:
        if not (server.binaries / "pg_amcheck").exists():
            pytest.skip("this PostgreSQL has no pg_amcheck: the 17 of `make test` has it")
        database_named(server, "shop", "CREATE TABLE t AS SELECT n FROM generate_series(1, 5000) n")
        server.sql("CREATE INDEX t_n ON t (n)", "shop")
        made = local_backup(server, "shop", tmp_path / "archive")
        made.restore(server, "restored")
        ((relative,),) = server.sql("SELECT pg_relation_filepath('t_n')", "restored")
        server.stop()
        with (server.data / relative).open("r+b") as index:
            index.seek(8192 + 8192 - 200)  # keys on the first page of leaves
            index.write(bytes(range(200)))
        server.start()

        proof = made.prove(server, "restored", plan_of(made, amcheck=True))
    assert Verdict.FAILED == proof.verdict
    assert ["pg_amcheck"] == list(bad(proof))
    assert "t_n" in bad(proof)["pg_amcheck"]


# What is not proven.


def test_what_was_left_out_is_not_proven_and_does_not_fail(
    server: PostgresServer, backup: LocalBackup, restored: str
) -> None:
    server.sql("DROP TABLE kinds.booking", restored)
    excluded = {
        ObjectName(kind, "kinds", name): "the extension geography is missing"
        for kind, name in (
            ("TABLE", "booking"),
            ("TABLE DATA", "booking"),
            ("CONSTRAINT", "booking booking_room_during_excl"),
            ("CONSTRAINT", "booking booking_during_excl"),
        )
    }

    proof = backup.prove(server, restored, plan_of(backup, excluded=excluded))

    assert Verdict.NOT_PROVEN == proof.verdict
    (table,) = [each for each in proof.tables if each.verdict != Verdict.PROVEN]
    assert "booking" == table.table
    assert "was left out: the extension geography is missing" == table.how
    assert {"inventory", "objects", "rows", "row counts"} == bad(proof).keys()


def test_an_owner_whom_the_server_does_not_know_is_not_proven(
    backup: LocalBackup, server: PostgresServer  # noqa: ARG001
) -> None:  # fmt: skip
    with PostgresServer(installed()[backup.client.major]) as bare:
        for role in ('"a.b"', "everything_owner"):
            bare.sql(f"CREATE ROLE {role}")
        database_named(bare, "restored")
        backup.load(bare, "restored")

        proof = backup.prove(bare, "restored")
    (owners,) = [each for each in proof.checks if each.name == "owners"]
    assert Verdict.NOT_PROVEN == owners.verdict
    assert "belongs to postgres, in the backup to UPPER" in owners.detail


# check-sql.


def test_queries_are_cut_where_psql_would_cut_them() -> None:
    text = """
        SELECT ';' = ';'; -- a comment; with a semicolon
        SELECT $$ ; ' $$ <> $a$ ; $$ $a$; /* one /* nested; */ ; */
        SELECT E'\\'; ' IS NOT NULL AND "a;b" FROM (SELECT true AS "a;b") AS x;
        SELECT 1 = 1
    """
    cut = [query for query in queries(text) if "SELECT" in query]
    assert 4 == len(cut)
    assert "SELECT ';' = ';'" == cut[0]
    assert "SELECT 1 = 1" == cut[3]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT count(*) = 0 FROM kinds.child", "it returned False, which is not true"),
        ("SELECT NULL::boolean", "it returned None"),
        ("SELECT 1", "it returned 1"),
        ("SELECT true FROM generate_series(1, 2)", "did not return one row"),
        ("SELECT true WHERE false", "did not return one row"),
        ("SELECT true, true", "did not return one row"),
        ("SELECT nonsense", 'column "nonsense" does not exist'),
        ("DELETE FROM kinds.child RETURNING true", "read-only transaction"),
        ("SELECT true FROM pg_sleep(60)", "statement timeout"),
    ],
)
def test_a_query_that_does_not_return_one_true_is_named(
    server: PostgresServer, restored: str, query: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.postgres.questions._TIMEOUT_MS", 500)

    answer = ask(source_of(server, restored), f"SELECT true;\n{query};\nSELECT true; -- end")

    assert Verdict.FAILED == answer.verdict
    assert answer.detail.startswith(f"{query}: ")
    assert words in answer.detail


def test_queries_that_are_all_true_are_counted(server: PostgresServer, restored: str) -> None:
    answer = ask(source_of(server, restored), "SELECT count(*) > 0 FROM kinds.child; SELECT true;")

    assert (Verdict.PROVEN, "2 queries, each true") == (answer.verdict, answer.detail)


def test_a_file_without_queries_is_refused(server: PostgresServer, restored: str) -> None:
    with pytest.raises(InputError, match="holds no query"):
        ask(source_of(server, restored), "-- nothing;\n/* here; */ ;\n")


# The pieces.


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64 << 10])
def test_the_digests_of_rows_do_not_depend_on_how_they_are_cut(size: int) -> None:
    rows = b"one\n\ntwo\tthree\nlast\n"
    pieces = [rows[start : start + size] for start in range(0, len(rows), size)]

    assert digest([rows]) == digest(pieces)
    assert 4 == digest(pieces).rows
    assert sum_of_rows([rows]) == sum_of_rows(pieces)
    assert sum_of_rows([b"last\none\n", b"two\tthree\n\n"]) == sum_of_rows(pieces)
    assert sum_of_rows([b"last\none\n", b"two\tthree\n"]) != sum_of_rows(pieces)


class _Dribble(BytesIO):
    """A stream that gives one byte at a time."""

    def read(self, _size: int | None = -1, /) -> bytes:
        return super().read(1)


@pytest.mark.parametrize("stream", [BytesIO, _Dribble])
def test_rows_are_found_in_a_script_whatever_they_hold(stream: Callable[[bytes], BytesIO]) -> None:
    statements = {
        b'COPY "a\nb FROM stdin;\n" (x) FROM stdin;\n': "1.dat",
        b"COPY empty (x) FROM stdin;\n": "2.dat",
    }
    rows = b"\\\\.\nCOPY x FROM stdin;\n\\.x\n\n"
    text = b"SET x;\n" + b"".join(
        statement + content + b"\\.\n\n\n--\n"
        for statement, content in zip(statements, (rows, b""), strict=True)
    )
    found = {file: b"".join(pieces) for file, pieces in contents(stream(text), statements)}
    assert {"1.dat": rows, "2.dat": b""} == found


@pytest.mark.parametrize(
    "text",
    [b"COPY other (x) FROM stdin;\n1\n\\.\n", b"COPY t (x) FROM stdin;\n1\n", b"COPY t (x)"],
)
def test_a_script_that_is_not_as_expected_is_refused(text: bytes) -> None:
    with pytest.raises(VerificationError):
        for _, pieces in contents(BytesIO(text), {b"COPY t (x) FROM stdin;\n": "1.dat"}):
            list(pieces)


def _copy_roles(old: PostgresServer, new: PostgresServer) -> None:
    for (name,) in old.sql("SELECT rolname FROM pg_roles WHERE rolname !~ '^(pg_|postgres)'"):
        new.sql(f"CREATE ROLE {identifier(name)}")
