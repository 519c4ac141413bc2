"""`operation: restore` of whole databases: the same database comes back, or nothing is touched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests import by_hand
from tests.conftest import skip_without
from tests.lab.aws import Ministack
from tests.lab.extension import NAME, extension_on
from tests.lab.postgres import PostgresServer, installed
from tests.lab.stage import Stage, readable_stage
from tests.restores import (
    SHOP,
    assert_failed,
    assert_restored,
    assert_same,
    target,
    told,
    untouched,
)
from tests.steps import database_named, drop_roles, forget, green, identifier

EVERYTHING = Path(__file__).with_name("everything.sql")
HOSTILE = '-it\'s "100%" a=b.c $HOME/🐘\nline two; DROP'
# pg_dump prints no \connect to a name with a line end in it.
ONE_LINE = HOSTILE.replace("\n", " ")


@pytest.fixture(scope="module")
def shop(postgres: PostgresServer, strict: Ministack) -> Iterator[Stage]:
    """A small database under the name shop, and a backup of it."""
    database_named(postgres, "shop", SHOP)
    with readable_stage(postgres, strict, "shop") as ready:
        green(ready.run())
        yield ready
    forget(postgres, "shop")
    drop_roles(postgres)


# A whole database


def test_a_dropped_database_comes_back_with_all_that_was_in_it(
    postgres: PostgresServer, strict: Ministack
) -> None:
    """Its name, its settings, its owner and its grants are those that it had."""
    database_named(postgres, ONE_LINE, EVERYTHING.read_text())
    name = identifier(ONE_LINE)
    postgres.sql(f"COMMENT ON DATABASE {name} IS 'it''s'; ALTER DATABASE {name} OWNER TO \"a.b\"")
    postgres.sql(f"ALTER DATABASE {name} SET work_mem = '5MB'; REVOKE ALL ON DATABASE {name} FROM"
                 " PUBLIC")  # fmt: skip
    with readable_stage(postgres, strict, ONE_LINE) as stage:
        inputs = stage.cloud.inputs | {
            "host": "127.0.0.1", "port": str(postgres.port), "user": "postgres",
            "password": postgres.password, "database": ONE_LINE,
        }  # fmt: skip
        green(stage.run(inputs))
        before = by_hand.plain(postgres, ONE_LINE, "--create")
        assert b"SET work_mem" in before
        forget(postgres, ONE_LINE)

        run = stage.run(inputs | {"operation": "restore", "create-database": "true"})
        assert_restored(run, stage, "postgres")
        after = by_hand.plain(postgres, ONE_LINE, "--create")
        forget(postgres, ONE_LINE)
        drop_roles(postgres)
    assert "" == by_hand.first_difference(before, after)
    assert [] == run.warnings
    assert "0 fatal, 0 degraded, 0 harmless" in told(run)


@pytest.mark.parametrize("jobs", ["1", "4"])
def test_an_empty_database_is_filled(shop: Stage, jobs: str) -> None:
    with target(shop.server, HOSTILE):
        run = shop.run(shop.restore_inputs(HOSTILE, jobs=jobs))
        assert_restored(run, shop, "postgres")
        assert_same(shop.server, "shop", HOSTILE)


def test_outputs_and_summary_tell_what_came(shop: Stage) -> None:
    with target(shop.server, "told"):
        run = shop.run(shop.restore_inputs("told"))
    assert_restored(run, shop, "postgres")
    (listed,) = shop.catalogue()
    stored = sum(shop.cloud.objects().values())
    outputs = run.outputs
    assert listed["id"] == outputs["backup-id"]
    assert f"s3://{shop.cloud.bucket}/postgresql/shop/{listed['id']}/" == outputs["s3-uri"]
    assert "3" == outputs["tables"]
    assert shop.server.sql("SHOW server_version")[0][0].split()[0] in outputs["server-version"]
    assert 0 < int(outputs["fetched-bytes"]) < stored
    assert 0 < float(outputs["duration-seconds"]) < run.seconds
    taken = datetime.fromisoformat(outputs["snapshot-time"])
    assert taken.strftime("%Y%m%dT%H%M") == listed["id"][:13]
    for words in ("told on 127.0.0.1", listed["id"], "the rows of 3 tables", "Build indexes"):
        assert words in told(run)
    assert "What was left out" not in told(run)


# Another server, and other logins


@pytest.fixture(scope="module")
def elsewhere(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A server without the roles of the first."""
    with PostgresServer(postgres.binaries) as server:
        yield server


def onto(server: PostgresServer, stage: Stage, database: str, **others: str) -> dict[str, str]:
    return stage.restore_inputs("any", **others) | {"target-url": server.url(database)}


def owners(server: PostgresServer, database: str) -> set[str]:
    rows = server.sql(
        "SELECT DISTINCT relowner::regrole::text FROM pg_class"
        " WHERE relnamespace::regnamespace::text IN ('sales', 'public')",
        database,
    )
    return {name for (name,) in rows}


def test_roles_come_along_where_they_are_asked_for(shop: Stage, elsewhere: PostgresServer) -> None:
    inputs = onto(elsewhere, shop, "shop", create_database="true", with_globals="true")
    run = shop.run(inputs)
    assert_restored(run, shop, "postgres")
    assert_same(shop.server, "shop", "shop", other=elsewhere)
    roles = by_hand.roles(elsewhere)
    forget(elsewhere, "shop")
    drop_roles(elsewhere)
    assert b"CREATE ROLE shop_owner" in roles
    assert [] == run.warnings


def test_roles_that_are_missing_are_listed_before_and_after(
    shop: Stage, elsewhere: PostgresServer
) -> None:
    run = shop.run(onto(elsewhere, shop, "shop", create_database="true"))
    assert_restored(run, shop, "postgres")
    (warning,) = run.warnings
    assert "lacks shop_reader" in warning.title
    assert "with-globals" in warning.message
    assert "0 fatal, 2 degraded" in told(run)
    assert "its owner shop_reader is not on the target" in told(run)
    assert_same(shop.server, "shop", "shop", "--no-owner", "--no-privileges", other=elsewhere)
    forget(elsewhere, "shop")


def test_without_owners_and_grants_nothing_is_missing(
    shop: Stage, elsewhere: PostgresServer
) -> None:
    run = shop.run(
        onto(elsewhere, shop, "shop", create_database="true", no_owner="true", no_privileges="true")
    )
    assert_restored(run, shop, "postgres")
    assert [] == run.warnings
    assert "0 fatal, 0 degraded, 0 harmless" in told(run)
    assert {"postgres"} == owners(elsewhere, "shop")
    assert_same(shop.server, "shop", "shop", "--no-owner", "--no-privileges", other=elsewhere)
    forget(elsewhere, "shop")


@pytest.mark.parametrize("create", ["true", "false"])
def test_a_role_owns_what_was_restored_as_it(shop: Stage, create: str) -> None:
    grants = "GRANT CREATE ON DATABASE roles TO shop_owner; GRANT ALL ON SCHEMA public TO PUBLIC"
    with target(shop.server, "roles", grants):
        if create == "true":
            forget(shop.server, "roles")
        run = shop.run(
            shop.restore_inputs("roles", role="shop_owner", no_owner="true", create_database=create)
        )
        assert_restored(run, shop, "roles")
        assert {"shop_owner"} == owners(shop.server, "roles")


def test_a_schema_in_which_the_login_may_create_nothing_is_refused(shop: Stage) -> None:
    """As public is since 15 for all but the owner of the database."""
    statements = (
        "GRANT CREATE ON DATABASE roles TO shop_owner; REVOKE ALL ON SCHEMA public FROM PUBLIC"
    )
    with target(shop.server, "roles", statements), untouched(shop.server, "roles"):
        run = shop.run(shop.restore_inputs("roles", role="shop_owner", no_owner="true"))
    words = ["shop_owner may not create anything in the schema public", "GRANT CREATE ON SCHEMA"]
    assert_failed(run, shop, 3, words)


def test_an_owner_who_is_no_superuser_restores_into_a_new_database(shop: Stage) -> None:
    shop.server.sql("ALTER ROLE shop_owner CREATEDB; GRANT shop_reader TO shop_owner")
    url = shop.server.url("mine", "shop_owner", "owner")
    try:
        run = shop.run(
            shop.restore_inputs("any", create_database="true", no_owner="true")
            | {"target-url": url}
        )
        assert_restored(run, shop, "mine")
        assert {"shop_owner"} == owners(shop.server, "mine")
        assert "0 fatal, 0 degraded" in told(run)
        assert_same(shop.server, "shop", "mine", "--no-owner", "--no-privileges")
    finally:
        forget(shop.server, "mine")
        shop.server.sql("ALTER ROLE shop_owner NOCREATEDB; REVOKE shop_reader FROM shop_owner")


# Which backup


def test_a_backup_is_named_by_its_id_or_by_a_time(
    postgres: PostgresServer, strict: Ministack
) -> None:
    database_named(postgres, "days", "CREATE TABLE day AS SELECT 'monday' AS name")
    with readable_stage(postgres, strict, "days") as stage:
        first = green(stage.run()).outputs["backup-id"]
        # Ids are of whole seconds.
        time.sleep(1.1)
        between = datetime.now(UTC).isoformat()
        time.sleep(1.1)
        postgres.sql("UPDATE day SET name = 'tuesday'", "days")
        second = green(stage.run()).outputs["backup-id"]
        for wanted, backup_id, name in (
            ("latest", second, "tuesday"),
            (between, first, "monday"),
        ):
            with target(postgres, "a day"):
                run = stage.run(stage.restore_inputs("a day", backup_id=wanted))
                assert_restored(run, stage, "a day")
                assert backup_id == run.outputs["backup-id"]
                assert [(name,)] == postgres.sql("SELECT name FROM day", "a day")
        with target(postgres, "a day"), untouched(postgres, "a day"):
            run = stage.run(stage.restore_inputs("a day", backup_id="2020-01-01"))
        assert_failed(run, stage, 2, ["no backup for backup-id: 2020-01-01", first, second])
    forget(postgres, "days")


# Refusals: nothing is written


@pytest.fixture(scope="module")
def full(shop: Stage) -> Iterator[str]:
    """A target that holds a table, and that a login may not create anything in."""
    with target(shop.server, "full", "CREATE TABLE theirs AS SELECT 1 AS one") as name:
        shop.server.sql("CREATE ROLE visitor LOGIN PASSWORD 'secret'")
        yield name
    shop.server.sql("DROP ROLE visitor")


SURE = {"allow_existing": "true", "confirm_target": "full"}


@pytest.mark.parametrize(
    ("database", "inputs", "words"),
    [
        ("full", {}, ["full is not empty", "TABLE public.theirs", "confirm-target: \"full\""]),
        ("full", SURE | {"confirm_target": "Full"}, ["'Full' is not the target"]),
        ("full", {"create_database": "true"}, ["full exists already", "leave out create-database"]),
        ("shop", {}, ["the target is the source of this backup", "confirm-target: \"shop\""]),
        ("shop", {"clean": "true"}, ["clean: could destroy data", "confirm-target: shop"]),
        (
            "shop",
            {"allow_existing": "true", "confirm_target": "shop"},
            ["exist in shop already", "TABLE sales.orders", "clean: true"],
        ),
        ("full", SURE | {"tables": "sales.ordesr"}, ["nothing in the backup", "sales.orders"]),
        ("full", SURE | {"schemas": "sale"}, ["nothing in the backup matches", "sales"]),
        ("full", SURE | {"tables": "a.b.c"}, ["is no pattern for tables"]),
        ("full", SURE | {"backup_id": "20200101T000000Z-000000"}, ["there is no backup for"]),
        ("full", SURE | {"backup_id": "yesterday"}, ["'yesterday' names no backup"]),
        ("full", SURE | {"database": "shoop"}, ["there is no backup of database 'shoop'"]),
        ("gone", {}, ["gone"]),
    ],
)  # fmt: skip
def test_what_is_not_to_be_written_to_is_refused_before_the_first_write(
    shop: Stage, full: str, database: str, inputs: dict[str, str], words: list[str]
) -> None:
    with untouched(shop.server, full, "shop"):
        run = shop.run(shop.restore_inputs(database, **inputs))
    assert_failed(run, shop, 2, words)
    assert {} == run.outputs


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (
            {},
            [
                "visitor may not create anything in full",
                'GRANT CREATE ON DATABASE "full" TO "visitor";',
            ],
        ),
        (
            {"role": "shop_owner"},
            ["'visitor' cannot act as role 'shop_owner'", 'GRANT "shop_owner" TO "visitor"'],
        ),
    ],
    ids=["no privilege", "no member of the role"],
)
def test_a_login_that_may_not_is_told_the_grant_that_it_lacks(
    shop: Stage, full: str, inputs: dict[str, str], words: list[str]
) -> None:
    url = shop.server.url("full", "visitor", "secret")
    with untouched(shop.server, full):
        run = shop.run(shop.restore_inputs(full, **SURE, **inputs) | {"target-url": url})
    assert_failed(run, shop, 3, words)


def test_a_login_that_may_not_create_databases_is_told_so(shop: Stage, full: str) -> None:
    url = shop.server.url("new", "visitor", "secret")
    with untouched(shop.server, full):
        run = shop.run(shop.restore_inputs("any", create_database="true") | {"target-url": url})
    assert_failed(run, shop, 3, ["CREATEDB"])


def test_a_standby_is_refused(shop: Stage) -> None:
    with PostgresServer(shop.server.binaries) as standby:
        standby.sql("CREATE DATABASE replica")
        standby.stop()
        (standby.data / "standby.signal").touch()
        standby.start()
        run = shop.run(onto(standby, shop, "replica"))
    assert_failed(run, shop, 2, ["replica can only be read", "Name the primary"])


def test_an_older_server_is_refused(shop: Stage, servers: Callable[[int], PostgresServer]) -> None:
    older = max((major for major in installed() if major < 17), default=16)
    server = servers(older)
    with target(server, "older"), untouched(server, "older"):
        run = shop.run(onto(server, shop, "older"))
    assert_failed(run, shop, 2, [f"the target is PostgreSQL {older}", "older than the backup's 17"])


def test_a_newer_server_takes_the_backup_by_either_client(strict: Ministack) -> None:
    """Its own pg_restore, or the one of the major that made the archive."""
    majors = sorted(installed())
    if len(majors) < 2:
        skip_without(14 if 14 not in majors else 18)
    oldest, newest = installed()[majors[0]], installed()[majors[-1]]
    with PostgresServer(oldest) as old, PostgresServer(newest) as new:
        database_named(old, "shop", SHOP)
        with readable_stage(old, strict, "shop") as stage:
            green(stage.run())
            before = old.sql("SELECT * FROM sales.orders ORDER BY id", "shop")
            old.stop()
            for client in (newest, oldest):
                run = stage.run(
                    onto(new, stage, "shop", create_database="true", with_globals="true"),
                    # Packaged clients of other majors are looked for as well.
                    {"PG_BACKUP_CLIENTS": str(client), "PATH": "/usr/bin:/bin"},
                )
                green(run)
                assert before == new.sql("SELECT * FROM sales.orders ORDER BY id", "shop")
                assert "0 fatal, 0 degraded" in told(run)
                forget(new, "shop")


# An extension that the target lacks


def test_an_extension_that_the_target_lacks(postgres: PostgresServer, strict: Ministack) -> None:
    """Tables that need it are a reason not to begin; without them it is listed as left out."""
    statements = f"""
        CREATE EXTENSION {NAME};
        CREATE TABLE kept AS SELECT 1 AS one;
        CREATE FUNCTION origin() RETURNS {NAME} LANGUAGE sql AS 'SELECT 0, 0';
        CREATE TABLE place (id int, at {NAME});
    """
    with extension_on(postgres) as package, readable_stage(postgres, strict, "map") as stage:
        database_named(postgres, "map", statements)
        green(stage.run())
        postgres.sql("DROP TABLE place", "map")
        green(stage.run())
        first, second = [each["id"] for each in stage.catalogue()]
        for path in package:
            path.unlink()
        with target(postgres, "new map"):
            with untouched(postgres, "new map"):
                refused = stage.run(stage.restore_inputs("new map", backup_id=first))
            words = [f"lacks the extension {NAME}", "public.place", "install the extension"]
            assert_failed(refused, stage, 2, words)

            run = stage.run(stage.restore_inputs("new map", backup_id=second))
            assert_restored(run, stage, "new map")
            assert [(1,)] == postgres.sql("SELECT one FROM kept", "new map")
            assert "What was left out" in told(run)
            assert "origin()" in told(run)
            assert any(NAME in warning.title for warning in run.warnings)
    forget(postgres, "map")


# Beside what is there, and in place of it


def test_beside_other_tables_nothing_of_theirs_changes(shop: Stage) -> None:
    with target(shop.server, "both", "CREATE TABLE theirs AS SELECT 1 AS one"):
        run = shop.run(shop.restore_inputs("both", allow_existing="true", confirm_target="both"))
        assert_restored(run, shop, "both")
        assert [(1,)] == shop.server.sql("SELECT one FROM theirs", "both")
        assert_same(shop.server, "shop", "both", "--exclude-table=theirs")


def test_a_large_object_that_is_there_is_not_overwritten(shop: Stage) -> None:
    with (
        target(shop.server, "both", "SELECT lo_from_bytea(500, 'theirs')"),
        untouched(shop.server, "both"),
    ):
        run = shop.run(shop.restore_inputs("both", allow_existing="true", confirm_target="both"))
    assert_failed(run, shop, 2, ["exist in both already", "500"])


CHANGED = """
CREATE TABLE theirs AS SELECT 1 AS one;
CREATE TABLE settings (other int);
INSERT INTO settings VALUES (1), (2);
CREATE SCHEMA sales;
CREATE TABLE sales.lines (id int);
SELECT lo_from_bytea(500, 'changed');
"""


def test_clean_puts_the_backup_in_the_place_of_what_has_its_names(shop: Stage) -> None:
    with target(shop.server, "both", CHANGED):
        run = shop.run(shop.restore_inputs("both", clean="true", confirm_target="both"))
        assert_restored(run, shop, "both")
        assert [(1,)] == shop.server.sql("SELECT one FROM theirs", "both")
        assert_same(shop.server, "shop", "both", "--exclude-table=theirs")


def test_the_source_itself_is_restored_with_clean_once_its_name_is_typed(shop: Stage) -> None:
    before = by_hand.plain(shop.server, "shop")
    shop.server.sql("DELETE FROM sales.lines; UPDATE settings SET value = 'red'", "shop")
    run = shop.run(shop.restore_inputs("shop", clean="true", confirm_target="shop"))
    assert_restored(run, shop, "shop")
    assert "" == by_hand.first_difference(before, by_hand.plain(shop.server, "shop"))


def test_clean_drops_nothing_that_something_of_theirs_depends_on(shop: Stage) -> None:
    depends = f"{CHANGED} CREATE VIEW their_view AS SELECT other FROM settings"
    with target(shop.server, "both", depends), untouched(shop.server, "both"):
        run = shop.run(shop.restore_inputs("both", clean="true", confirm_target="both"))
    assert_failed(run, shop, 4, ["TABLE public.settings", "their_view"])
