"""database-access.sql: who is made by it reads everything and writes nothing, in every major."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.conftest import MAJORS, skip_without
from tests.doctor import Diagnosis, clients_of, examine
from tests.lab.cloud import Cloud, listing, reading, source_inputs, writing
from tests.lab.postgres import PostgresServer, installed
from tests.lab.runner import run_action
from tests.lab.templates import INFRASTRUCTURE
from tests.steps import back_up, database_named, forget, green, identifier

SCRIPT = INFRASTRUCTURE / "database-access.sql"
EVERYTHING = Path(__file__).with_name("everything.sql")
USER, PASSWORD = "backup", "kept: it's 100% \\secret"
LATER = """
CREATE SCHEMA "tomorrow's" AUTHORIZATION everything_owner;
CREATE TABLE "tomorrow's"."orders, all" (id bigserial PRIMARY KEY, what text);
INSERT INTO "tomorrow's"."orders, all" (what) SELECT 'a' || n FROM generate_series(1, 100) n;
ALTER TABLE "tomorrow's"."orders, all" OWNER TO everything_owner;
ALTER TABLE "tomorrow's"."orders, all" ENABLE ROW LEVEL SECURITY;
ALTER TABLE "tomorrow's"."orders, all" FORCE ROW LEVEL SECURITY;
CREATE SEQUENCE "tomorrow's".counter OWNED BY NONE;
CREATE VIEW "tomorrow's".seen AS SELECT * FROM "tomorrow's"."orders, all";
"""
LARGE_OBJECT = 87_001


@dataclass(frozen=True)
class Place:
    """A database of everything in a server of its own; nobody may connect but who is told."""

    server: PostgresServer
    major: int
    name: str

    def run_script(
        self,
        variables: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        given = {"login": "password"} if variables is None else variables
        words = [word for name, value in given.items() for word in ("-v", f"{name}={value}")]
        return subprocess.run(
            [f"{self.server.binaries}/psql", "-X", *words, "-f", str(SCRIPT)],
            env={**os.environ, **self.server.psql_env, "PGDATABASE": self.name}
            | ({"BACKUP_PASSWORD": PASSWORD} if environment is None else dict(environment)),
            capture_output=True,
            text=True,
            check=False,
        )

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        return self.server.sql(statement, self.name)

    def source(self, **more: str) -> dict[str, str]:
        login = {"user": USER, "password": PASSWORD}
        return source_inputs(self.server, self.name) | login | more

    def examine(self, cloud: Cloud) -> Diagnosis:
        return examine(cloud, self.source(), None, clients_of(self.server))

    def attempt(self, statement: str, *, writing: bool) -> str:
        """The SQLSTATE that the user is given; `writing`: in a transaction that may write."""
        with psycopg.connect(
            self.server.url(), dbname=self.name, user=USER, password=PASSWORD, autocommit=True
        ) as connection:
            if writing:
                connection.execute("SET default_transaction_read_only = off")
            try:
                connection.execute(statement.encode())
            except psycopg.Error as error:
                return error.sqlstate or str(error)
        return "00000"


def succeeded(ran: subprocess.CompletedProcess[str]) -> str:
    assert 0 == ran.returncode, ran.stderr
    assert PASSWORD not in ran.stdout + ran.stderr
    return ran.stderr


@pytest.fixture(scope="module")
def of_major() -> Iterator[Callable[[int], Place]]:
    with ExitStack() as undo:
        places: dict[int, Place] = {}

        def place(major: int) -> Place:
            skip_without(major)
            if major not in places:
                server = undo.enter_context(PostgresServer(installed()[major]))
                name = database_named(server, "the shop's", EVERYTHING.read_text())
                server.sql(f"REVOKE ALL ON DATABASE {identifier(name)} FROM PUBLIC")
                places[major] = Place(server, major, name)
            return places[major]

        yield place


@pytest.fixture(params=MAJORS)
def place(request: pytest.FixtureRequest, of_major: Callable[[int], Place]) -> Iterator[Place]:
    yield (made := of_major(request.param))
    for user in ("administrator", "restorer", USER, "rds_iam"):
        if made.server.sql(f"SELECT 1 FROM pg_roles WHERE rolname = '{user}'"):
            made.sql(f"DROP OWNED BY {user}")
            made.server.sql(f"DROP OWNED BY {user}")
            made.server.sql(f"DROP ROLE {user}")


@pytest.fixture
def newest(of_major: Callable[[int], Place]) -> Iterator[Place]:
    yield (made := of_major(max(major for major in MAJORS if major in installed())))
    if made.server.sql(f"SELECT 1 FROM pg_roles WHERE rolname = '{USER}'"):
        made.sql(f"DROP OWNED BY {USER}; DROP ROLE {USER}")


def test_its_user_backs_up_everything_and_what_is_made_later(cloud: Cloud, place: Place) -> None:
    warned = succeeded(place.run_script())
    knows_default = place.major >= 18
    assert knows_default == ("made from now on" not in warned), warned
    ready = place.examine(cloud)
    assert [] == ready.having("fail"), ready.run.output
    green(back_up(cloud, place.server, place.name, place.source()))

    place.sql(LATER)
    place.sql(f"SET ROLE everything_owner; SELECT lo_from_bytea({LARGE_OBJECT}, 'tomorrow''s')")
    later = place.examine(cloud)
    if not knows_default:
        # What no default can grant is told, and mended by running the file again.
        assert ["large-objects"] == later.having("fail")
        succeeded(place.run_script())
        later = place.examine(cloud)
    assert [] == later.having("fail"), later.run.output
    green(back_up(cloud, place.server, place.name, place.source()))
    inventory = list(cloud.manifests().values())[-1]["inventory"]
    tables = {(each["schema"], each["name"]) for each in inventory["relations"]}
    place.sql(f'SELECT lo_unlink({LARGE_OBJECT}); DROP SCHEMA "tomorrow\'s" CASCADE')
    assert ("tomorrow's", "orders, all") in tables


WRITES = {
    "insert": "INSERT INTO kinds.child (note) VALUES ('x')",
    "update": "UPDATE kinds.child SET note = 'x'",
    "delete": "DELETE FROM kinds.child",
    "truncate": "TRUNCATE kinds.child",
    "alter": "ALTER TABLE kinds.child ADD x int",
    "drop": "DROP TABLE kinds.child",
    "make a table": "CREATE TABLE kinds.mine (x int)",
    "make a schema": "CREATE SCHEMA mine",
    "advance a sequence": "SELECT nextval('kinds.countdown')",
    "set a sequence": "SELECT setval('kinds.countdown', 1)",
    "write a large object": "SELECT lo_put(oid, 0, 'x') FROM pg_largeobject_metadata",
    "drop a large object": "SELECT lo_unlink(oid) FROM pg_largeobject_metadata",
    "lock out readers": "BEGIN; LOCK TABLE kinds.child IN ACCESS EXCLUSIVE MODE",
    "refresh": "REFRESH MATERIALIZED VIEW kinds.kept",
    "make a role": "CREATE ROLE mine",
    "make a database": "CREATE DATABASE mine",
    "become the owner": "SET ROLE everything_owner",
    "read the server's files": "SELECT pg_read_file('postgresql.conf')",
    "run a program": "COPY (SELECT 1) TO PROGRAM 'true'",
    "end others": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename='postgres'",
}


def test_its_user_can_write_nothing_even_in_a_transaction_that_may(place: Place) -> None:
    succeeded(place.run_script())
    place.sql("CREATE MATERIALIZED VIEW kinds.kept AS SELECT 1 AS one")
    place.sql("SELECT lo_from_bytea(87002, 'x')")
    place.sql(f"GRANT SELECT ON LARGE OBJECT 87002 TO {USER}")
    with psycopg.connect(place.server.url()):  # somebody to end
        by_default = {what: place.attempt(how, writing=False) for what, how in WRITES.items()}
        insisting = {what: place.attempt(how, writing=True) for what, how in WRITES.items()}
    place.sql("DROP MATERIALIZED VIEW kinds.kept; SELECT lo_unlink(87002)")

    assert {} == {what: state for what, state in by_default.items() if state == "00000"}
    # 42501: insufficient_privilege. It is the privileges that keep it out, not the default.
    assert {} == {what: state for what, state in insisting.items() if state != "42501"}


def test_what_public_may_make_its_user_makes_only_on_purpose(place: Place) -> None:
    succeeded(place.run_script())
    place.server.sql("CREATE ROLE rds_iam")
    succeeded(place.run_script({"login": "iam"}, {}))
    of_its_own = "CREATE TABLE public.mine (x int)"
    assert "25006" == place.attempt(of_its_own, writing=False)  # read_only_sql_transaction
    # Since 15 nobody may make tables in public; before, whoever turns the default off.
    assert ("42501" if place.major >= 15 else "00000") == place.attempt(of_its_own, writing=True)


def test_its_user_can_give_itself_another_password_as_a_rotation_does(place: Place) -> None:
    succeeded(place.run_script())
    assert "00000" == place.attempt(f"ALTER USER {USER} WITH PASSWORD 'another'", writing=False)
    with psycopg.connect(place.server.url(), dbname=place.name, user=USER, password="another"):
        pass


def test_a_second_run_changes_nothing(place: Place) -> None:
    succeeded(place.run_script())
    before = _told_of(place)
    warned = succeeded(place.run_script())
    assert before == _told_of(place)
    assert "ERROR" not in warned


def _told_of(place: Place) -> list[list[tuple[object, ...]]]:
    return [
        place.sql(statement)
        for statement in (
            f"SELECT * FROM pg_roles WHERE rolname = '{USER}'",
            "SELECT roleid, member, admin_option FROM pg_auth_members ORDER BY 1, 2",
            "SELECT setrole, setconfig FROM pg_db_role_setting ORDER BY 1",
            "SELECT oid, lomacl::text FROM pg_largeobject_metadata ORDER BY 1",
            "SELECT defaclrole, defaclobjtype, defaclacl::text FROM pg_default_acl ORDER BY 1",
            "SELECT datname, datacl::text FROM pg_database ORDER BY 1",
        )
    ]


def test_with_iam_its_user_is_a_member_of_rds_iam_and_has_no_password(place: Place) -> None:
    refused = place.run_script({"login": "iam"}, {})
    assert 3 == refused.returncode
    assert "it is not RDS" in refused.stderr
    assert [] == place.server.sql(f"SELECT 1 FROM pg_roles WHERE rolname = '{USER}'")

    place.server.sql("CREATE ROLE rds_iam")
    succeeded(place.run_script({"login": "iam"}, {}))
    [row] = place.server.sql(
        "SELECT rolcanlogin, rolpassword, pg_has_role(rolname, 'rds_iam', 'MEMBER')"
        f" FROM pg_authid WHERE rolname = '{USER}'"
    )
    assert (True, None, True) == row


def test_an_administrator_who_is_no_superuser_is_told_what_stays_out_of_reach(
    cloud: Cloud, place: Place
) -> None:
    """As on RDS: nobody may give BYPASSRLS, and large objects are granted by their owners alone."""
    place.server.sql("CREATE ROLE administrator LOGIN CREATEROLE CREATEDB PASSWORD 'a'")
    place.server.sql("GRANT pg_read_all_data TO administrator WITH ADMIN OPTION")
    place.server.sql(
        f"GRANT CONNECT ON DATABASE {identifier(place.name)} TO administrator WITH GRANT OPTION"
    )
    login = {"PGUSER": "administrator", "PGPASSWORD": "a", "BACKUP_PASSWORD": PASSWORD}
    warned = succeeded(place.run_script(None, login))

    assert f"{USER} sees only some rows of kinds.parent" in warned
    assert "large objects belong to others" in warned
    found = place.examine(cloud)
    assert {"large-objects", "row-security"} == set(found.having("fail"))
    # And what it names as a way out is one.
    inputs = {"exclude-tables": "kinds.parent"}
    place.sql(
        "DO $$ BEGIN EXECUTE (SELECT string_agg(format("
        f"'GRANT SELECT ON LARGE OBJECT %s TO {USER}', oid), ';') FROM pg_largeobject_metadata);"
        " END $$"
    )
    green(back_up(cloud, place.server, place.name, place.source() | inputs))


def test_its_second_user_restores_into_a_new_database_and_may_nothing_elsewhere(
    cloud: Cloud, place: Place
) -> None:
    cloud.allow(writing(cloud.bucket), listing(cloud.bucket), reading(cloud.bucket))
    environment = {"BACKUP_PASSWORD": PASSWORD, "RESTORE_PASSWORD": "another"}
    succeeded(place.run_script({"login": "password", "restore_user": "restorer"}, environment))
    plain = database_named(place.server, "plain", "CREATE TABLE t AS SELECT 1 AS n")
    green(back_up(cloud, place.server, plain, {"user": USER, "password": PASSWORD}))
    target = f"restored_{secrets.token_hex(4)}"

    run = run_action(
        cloud.inputs | source_inputs(place.server, plain) | {
            "operation": "restore", "target-database": target, "create-database": "true",
            "no-owner": "true", "no-privileges": "true", "user": "restorer",
            "password": "another",
        },
        cloud.env | clients_of(place.server),
    )  # fmt: skip

    green(run)
    assert [(1,)] == place.server.sql("SELECT n FROM t", target)
    assert not place.server.sql("SELECT has_table_privilege('restorer', 't', 'SELECT')", plain)[0][
        0
    ]
    forget(place.server, target)
    forget(place.server, plain)


@pytest.mark.parametrize(
    ("variables", "environment", "words"),
    [
        ({}, {"BACKUP_PASSWORD": PASSWORD}, "say how the user logs in"),
        ({"login": "passwort"}, {"BACKUP_PASSWORD": PASSWORD}, "say how the user logs in"),
        ({"login": "password"}, {"BACKUP_PASSWORD": ""}, "has no BACKUP_PASSWORD"),
        ({"login": "password", "restore_user": "r"}, None, "has no RESTORE_PASSWORD"),
    ],
)
def test_what_is_missing_is_said_and_nobody_is_made(
    newest: Place, variables: dict[str, str], environment: dict[str, str] | None, words: str
) -> None:
    ran = newest.run_script(variables, environment)

    assert 3 == ran.returncode
    assert words in ran.stderr
    assert [] == newest.server.sql("SELECT 1 FROM pg_roles WHERE rolname = 'r'")
    made = newest.server.sql(f"SELECT 1 FROM pg_roles WHERE rolname = '{USER}'")
    assert ("RESTORE" in words) == bool(made)


def test_a_user_who_was_there_and_may_more_is_warned_of(newest: Place) -> None:
    newest.server.sql(f"CREATE ROLE {USER} CREATEDB")
    assert f"{USER} was there before, and may more than read" in succeeded(newest.run_script())
