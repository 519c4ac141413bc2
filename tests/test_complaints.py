"""Each error of the real pg_restore is told with its object, how grave it is, and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backup.model import ObjectName, Severity
from backup.postgres.complaints import classify
from backup.postgres.connection import Source
from backup.postgres.loading import LoadPlan
from backup.postgres.messages import read_messages
from tests.conftest import MAJORS, skip_without
from tests.lab.loads import Archive, client, client_of, database, dump, load, role, target_of
from tests.lab.postgres import PostgresServer

Servers = Callable[[int], PostgresServer]

STRANGE = """
CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'begin end';
CREATE EVENT TRIGGER watching ON ddl_command_start EXECUTE FUNCTION watch();
CREATE FOREIGN DATA WRAPPER wrapper;
CREATE SERVER far FOREIGN DATA WRAPPER wrapper OPTIONS (host 'h', key 'hush: a key');
CREATE USER MAPPING FOR departed SERVER far OPTIONS (password 'hush: it''s one');
CREATE FOREIGN TABLE abroad (x int) SERVER far;
CREATE TABLE "line
break" (x int PRIMARY KEY);
ALTER TABLE "line
break" OWNER TO departed;
CREATE TABLE orders (id int PRIMARY KEY, x text);
COMMENT ON TABLE orders IS 'pg_restore: error: not one';
GRANT SELECT ON orders TO departed;
GRANT SELECT ON orders TO present;
CREATE POLICY mine ON orders TO departed USING (true);
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE SUBSCRIPTION news CONNECTION 'host=h password=hush' PUBLICATION p WITH (connect = false);
ALTER DEFAULT PRIVILEGES FOR ROLE departed GRANT SELECT ON TABLES TO present;
SELECT lo_create(5);
ALTER LARGE OBJECT 5 OWNER TO departed;
"""
UNOWNED = "its owner departed is not on the target, so it belongs to the user who restored it"
KEPT = (
    "only a member of postgres may give it to that role, so it belongs to the user who restored it"
)
UNGRANTED = "role departed is not on the target; a grant that fails takes with it all others on the same object, and what was revoked there"  # noqa: E501
NO_WAY = "the way to a foreign server is missing; the database's own rows do not depend on it"
TOLD = "it is missing itself, which another complaint tells"


@pytest.fixture(scope="module", params=MAJORS, ids="PostgreSQL-{}".format)
def strange(
    request: pytest.FixtureRequest, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PostgresServer, Archive]]:
    """An archive with what only a superuser, or a role that is gone, may have; and its server."""
    server = servers(request.param)
    with role(server, "present"):
        with role(server, "departed"), database(server, "strange", STRANGE):
            archive = dump(server, "strange", tmp_path_factory.mktemp("strange") / "archive")
            server.sql("ALTER SUBSCRIPTION news SET (slot_name = NONE)", "strange")
            server.sql("DROP SUBSCRIPTION news", "strange")
        yield server, archive


@pytest.fixture
def plain(strange: tuple[PostgresServer, Archive]) -> Iterator[Source]:
    """A new database whose owner is no superuser."""
    server, _ = strange
    with role(server, "plain", "LOGIN PASSWORD 'plain'"), database(server, "plain", owner="plain"):
        yield target_of(server, "plain", "plain")


@pytest.mark.parametrize("jobs", [1, 3])
def test_what_a_plain_owner_cannot_restore_is_told_with_its_object_and_why(
    strange: tuple[PostgresServer, Archive], plain: Source, jobs: int
) -> None:
    server, archive = strange
    large_object = "BLOB 5" if client_of(server).major < 17 else "BLOB METADATA 5"
    plan = LoadPlan(client_of(server), plain, archive.folder, archive.ids(), jobs=jobs)
    outcome = load(plan, archive)
    expected = [
        ("degraded", "ACL public.TABLE orders", UNGRANTED),
        ("degraded", large_object, UNOWNED),
        ("degraded", "DEFAULT ACL DEFAULT PRIVILEGES FOR TABLES", UNGRANTED),
        ("degraded", "EVENT TRIGGER watching", "only a superuser may create event triggers"),
        ("degraded", "FOREIGN DATA WRAPPER wrapper", NO_WAY),
        (
            "degraded",
            "FOREIGN TABLE public.abroad",
            "a foreign table is missing, for its server is; its rows lie elsewhere",
        ),
        ("degraded", "FUNCTION public.watch()", KEPT),
        (
            "degraded",
            "PUBLICATION everything",
            "a publication is missing or not whole; the rows do not depend on it",
        ),
        ("degraded", "SERVER far", NO_WAY),
        (
            "degraded",
            "SUBSCRIPTION news",
            "a subscription is missing; the rows do not depend on it",
        ),
        ("degraded", "TABLE public.line\nbreak", UNOWNED),
        ("degraded", "TABLE public.orders", KEPT),
        ("degraded", "USER MAPPING USER MAPPING departed SERVER far", NO_WAY),
        (
            "fatal",
            "POLICY public.orders mine",
            "a policy is missing: the table shows or hides other rows than it did",
        ),
        ("harmless", "EVENT TRIGGER watching", TOLD),
        ("harmless", "FOREIGN DATA WRAPPER wrapper", TOLD),
        ("harmless", "FOREIGN TABLE public.abroad", TOLD),
        ("harmless", "PUBLICATION everything", TOLD),
        ("harmless", "SERVER far", TOLD),
        ("harmless", "SUBSCRIPTION news", TOLD),
    ]
    assert expected == outcome.judged
    assert "hush" not in outcome.told
    assert [(1,)] == server.sql(
        "SELECT count(*) FROM pg_description WHERE description = 'pg_restore: error: not one'",
        "plain",
    )


def test_without_owners_and_privileges_none_is_missed(
    strange: tuple[PostgresServer, Archive], plain: Source
) -> None:
    server, archive = strange
    ids = archive.ids("TABLE public.orders", "ACL public.TABLE orders", "TABLE public.line\nbreak")
    plan = LoadPlan(
        client_of(server), plain, archive.folder, ids, no_owner=True, no_privileges=True
    )
    assert [] == load(plan, archive).judged
    assert [("line\nbreak",), ("orders",)] == server.sql(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        " ORDER BY 1",
        "plain",
    )


def test_rows_that_do_not_fit_are_fatal_and_their_values_stay_out_of_the_log(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    script = """
    CREATE TABLE parent (id int PRIMARY KEY, x text CHECK (x <> 'no'));
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent, x text UNIQUE);
    CREATE TABLE other (x text);
    INSERT INTO parent VALUES (77001, 'hush');
    INSERT INTO child VALUES (1, 77001, 'hush (1)'), (2, 77001, 'hush (2)');
    INSERT INTO other VALUES ('hush');
    """
    with database(postgres, "ours", script):
        archive = dump(postgres, "ours", tmp_path / "archive")
    taken = """
    CREATE TABLE other (x int);
    CREATE TABLE child (id int, parent int, x text);
    INSERT INTO child VALUES (1, 77001, 'hush (1)');
    """
    with database(postgres, "taken", taken):
        ids = archive.ids(without=("TABLE DATA public.parent",))
        plan = LoadPlan(client_of(postgres), target_of(postgres, "taken"), archive.folder, ids)
        outcome = load(plan, archive)
        as_needed = load(plan, archive, needed=archive.ids("TABLE public.other"))
    there = "another of that name was there before, and was left as it is"
    broken = "the constraint is missing: rows break it"
    assert [
        ("fatal", "CONSTRAINT public.child child_pkey", broken),
        ("fatal", "CONSTRAINT public.child child_x_key", broken),
        (
            "fatal",
            "FK CONSTRAINT public.child child_parent_fkey",
            "the foreign key is missing: rows refer to others that are not there",
        ),
        ("fatal", "TABLE DATA public.other", "the rows of this table are not there"),
        ("fatal", "TABLE public.child", there),
        ("fatal", "TABLE public.other", there),
    ] == outcome.judged
    assert (
        "harmless",
        "TABLE public.other",
        "others need it, and it is there already",
    ) in as_needed.judged
    assert "hush" not in outcome.told
    assert "77001" not in outcome.told


def test_an_extension_that_the_target_lacks_is_degraded_and_its_tables_are_fatal(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    name = extension_of(postgres)
    script = f"CREATE EXTENSION {name};\nCREATE TABLE shelf (x {name});\nCREATE TABLE t (x int)"
    with database(postgres, "ours", script):
        archive = dump(postgres, "ours", tmp_path / "archive")
    lacking = name[:-1] + "x"
    archive.edit_contents(name, lacking)
    with database(postgres, "lacking"):
        plan = LoadPlan(
            client_of(postgres), target_of(postgres, "lacking"), archive.folder, archive.ids()
        )
        outcome = load(plan, archive)
    assert [
        ("degraded", f"EXTENSION {name}", "the target does not have this extension"),
        ("fatal", "TABLE DATA public.shelf", "the rows of this table are not there"),
        (
            "fatal",
            "TABLE public.shelf",
            "it is missing, for it needs something that is not there",
        ),
        ("harmless", f"COMMENT EXTENSION {name}", "the extension brings its own comment"),
        ("harmless", "TABLE public.shelf", TOLD),
    ] == outcome.judged


def test_what_belongs_to_the_administrator_of_a_managed_server_is_harmless(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    name = extension_of(postgres)
    script = f"""
    CREATE EXTENSION {name};
    COMMENT ON SCHEMA public IS 'ours';
    CREATE SCHEMA app;
    CREATE TABLE app.t (x int)
    """
    with database(postgres, "ours", script):
        archive = dump(postgres, "ours", tmp_path / "archive")
    with (
        role(postgres, "owner", "LOGIN PASSWORD 'owner'"),
        database(postgres, "managed", f"CREATE EXTENSION {name}", "owner"),
    ):
        postgres.sql("ALTER SCHEMA public OWNER TO postgres", "managed")
        postgres.sql("CREATE SCHEMA app AUTHORIZATION owner", "managed")
        target = target_of(postgres, "managed", "owner")
        plan = LoadPlan(client_of(postgres), target, archive.folder, archive.ids(), no_owner=True)
        outcome = load(plan, archive)
    expected = [
        ("harmless", f"COMMENT EXTENSION {name}", "the extension brings its own comment"),
        ("harmless", "SCHEMA app", "it is there already, and holds nothing of its own"),
    ]
    if client_of(postgres).major > 14:  # whose pg_dump leaves that comment out
        reason = "the schema public belongs to the target's administrator"
        expected.insert(1, ("harmless", "COMMENT SCHEMA public", reason))
    assert expected == outcome.judged


def test_roles_of_rds_are_not_missed_unless_others_suffer_with_them(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    script = """
    CREATE TABLE a (x int);
    CREATE TABLE b (x int);
    ALTER TABLE a OWNER TO rdsadmin;
    GRANT SELECT ON a TO rds_superuser;
    GRANT SELECT ON b TO rds_superuser;
    ALTER DEFAULT PRIVILEGES FOR ROLE rdsadmin GRANT SELECT ON TABLES TO rds_superuser;
    CREATE TABLE mixed (x int);
    GRANT SELECT ON mixed TO rds_superuser;
    GRANT SELECT ON mixed TO pg_monitor;
    """
    with (
        role(postgres, "rdsadmin"),
        role(postgres, "rds_superuser"),
        database(postgres, "ours", script),
    ):
        archive = dump(postgres, "ours", tmp_path / "archive")
    with database(postgres, "elsewhere"):
        target = target_of(postgres, "elsewhere")
        outcome = load(
            LoadPlan(client_of(postgres), target, archive.folder, archive.ids()), archive
        )
    grants = "these grants are to a role of RDS itself"
    assert [
        (
            "degraded",
            "ACL public.TABLE mixed",
            UNGRANTED.replace("departed", "rds_superuser"),
        ),
        ("harmless", "ACL public.TABLE a", grants),
        ("harmless", "ACL public.TABLE b", grants),
        (
            "harmless",
            "DEFAULT ACL DEFAULT PRIVILEGES FOR TABLES",
            "these defaults are for objects of a role of RDS itself",
        ),
        ("harmless", "TABLE public.a", "its owner is a role of RDS itself"),
    ] == outcome.judged


def test_a_tablespace_that_is_not_there_is_degraded_and_the_table_is_there(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    folder = postgres.data.parent / "space"
    folder.mkdir()
    status = postgres.data.stat()
    os.chown(folder, status.st_uid, status.st_gid)
    postgres.sql(f"CREATE TABLESPACE fast LOCATION '{folder}'")
    try:
        with database(postgres, "ours", "CREATE TABLE quick (x int) TABLESPACE fast"):
            archive = dump(postgres, "ours", tmp_path / "archive")
    finally:
        postgres.sql("DROP TABLESPACE fast")
    with database(postgres, "slow"):
        target = target_of(postgres, "slow")
        outcome = load(
            LoadPlan(client_of(postgres), target, archive.folder, archive.ids()), archive
        )
        assert [(0,)] == postgres.sql("SELECT count(*) FROM quick", "slow")
    assert [
        (
            "degraded",
            "TABLE public.quick",
            "its tablespace is not on the target, so it lies in the default one",
        )
    ] == outcome.judged


@pytest.mark.parametrize("major", [14, 15, 16])
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_newer_client_on_an_older_server_complains_in_harmless_ways_only(
    servers: Servers, tmp_path: Path, major: int, jobs: int
) -> None:
    skip_without(18)
    server, newer = servers(major), client(18)
    script = "CREATE TABLE t AS SELECT 1 AS x;\nCREATE INDEX ON t (x);\nANALYZE"
    with database(server, "older", script):
        archive = dump(server, "older", tmp_path / "archive", newer)
    with database(server, "target"):
        target = target_of(server, "target")
        plan = LoadPlan(newer, target, archive.folder, archive.ids(), jobs=jobs)
        outcome = load(plan, archive)
        assert [(1,)] == server.sql("SELECT x FROM t", "target")
    reason = "pg_restore is newer than the server, which does without this setting"
    assert {("harmless", "None", reason)} == set(outcome.judged)


def test_errors_in_another_language_are_fatal_where_the_statement_does_not_tell() -> None:
    lines = """\
pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 7; 1259 1 TABLE t postgres
pg_restore: error: could not execute query: FEHLER:  Typ »public.vector« existiert nicht
ZEILE 2:     x public.vector
             ^
Command was: CREATE TABLE public.t (
    x public.vector
);


pg_restore: from TOC entry 8; 0 0 ACL TABLE t postgres
pg_restore: error: could not execute query: FEHLER:  Rolle »departed« existiert nicht
Command was: GRANT SELECT ON TABLE public.t TO departed;
"""
    table = ObjectName("TABLE", "public", "t")
    messages = read_messages((1, line) for line in lines.splitlines())
    complaints = classify([each for each in messages if each.is_error], {7: table}, ())
    assert [
        (
            table,
            Severity.FATAL,
            "the server's words are not English, so what they mean is not known",
        ),
        (None, Severity.DEGRADED, "nothing was granted or revoked on this object"),
    ] == [(each.about, each.severity, each.reason) for each in complaints]


def extension_of(server: PostgresServer) -> str:
    """An extension that this server has, with a type of its own name."""
    names = server.sql(
        "SELECT name FROM pg_available_extensions WHERE name IN ('hstore', 'citext', 'vector')"
    )
    if not names:
        pytest.skip(
            "the server has none of hstore, citext and vector: the 17 of `make test` has them"
        )
    return str(names[0][0])
