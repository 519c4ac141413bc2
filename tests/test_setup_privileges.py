"""The doctor in the database: what the login may read, who is in the way, how much room is left.

Each fix is run as it is printed, and the check is seen to pass; then a real backup does.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from backup.model import Relation
from backup.postgres.connection import Source, connect
from backup.postgres.inventory import read_inventory
from backup.postgres.privileges import read_privileges
from backup.postgres.snapshot import export_snapshot
from backup.settings import Secret, Selection
from tests.doctor import READER, READERS_PASSWORD, Diagnosis, clients_of, examine
from tests.lab.cloud import Cloud, source_inputs
from tests.lab.postgres import PostgresServer
from tests.lab.stage import wait_until
from tests.steps import back_up, database_named, forget, green, identifier

# A name that ends a line, a comment, a quote and a statement, should anyone let it.
HOSTILE = 'o\'dd "x"\\ %s $$ ; --\nDROP TABLE victim; SELECT 1 \u2028 /*'


class Shop:
    """A database of its own, and a user who may do nothing but log in."""

    def __init__(self, server: PostgresServer, name: str, user: str) -> None:
        self.server, self.name, self.user = server, name, user

    def sql(self, text: str) -> list[tuple[object, ...]]:
        return self.server.sql(text, self.name)

    def source(self, **more: str) -> dict[str, str]:
        login = {"user": self.user, "password": READERS_PASSWORD}
        return source_inputs(self.server, self.name) | login | more

    def examine(self, cloud: Cloud, inputs: dict[str, str] | None = None) -> Diagnosis:
        return examine(cloud, self.source(), inputs, clients_of(self.server))

    def may_all(self) -> None:
        self.sql(f"GRANT pg_read_all_data TO {identifier(self.user)}")

    def back_up(self, cloud: Cloud, inputs: dict[str, str] | None = None) -> int:
        login = {"user": self.user, "password": READERS_PASSWORD}
        return back_up(cloud, self.server, self.name, login | (inputs or {})).exit_code


def made(server: PostgresServer, user: str) -> Iterator[Shop]:
    name = database_named(server, f"shop_{secrets.token_hex(4)}")
    with psycopg.connect(server.url(), autocommit=True) as connection:
        statement = psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        connection.execute(statement.format(psycopg.sql.Identifier(user), READERS_PASSWORD))
    yield Shop(server, name, user)
    forget(server, name)
    server.sql(f"DROP ROLE {identifier(user)}")


@pytest.fixture
def shop(postgres: PostgresServer) -> Iterator[Shop]:
    yield from made(postgres, f"{READER}_{secrets.token_hex(4)}")


@pytest.fixture
def hostile(postgres: PostgresServer) -> Iterator[Shop]:
    yield from made(postgres, f"{HOSTILE[:40]}{secrets.token_hex(2)}")


def uncommented(fix: str) -> str:
    """The alternative that a fix has in its comments, without the words that introduce it."""
    lines = [line.removeprefix("-- ") for line in fix.splitlines() if line.startswith("-- ")]
    return "\n".join(line for line in lines if line.endswith(";"))


# Privileges


def test_one_table_of_five_hundred_is_found_and_granted(cloud: Cloud, shop: Shop) -> None:
    shop.sql(
        "DO $$ BEGIN FOR n IN 1..500 LOOP EXECUTE format('CREATE TABLE t%s (x int)', n);"
        " END LOOP; END $$"
    )
    shop.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {identifier(shop.user)}")
    shop.sql(f"REVOKE SELECT ON t321 FROM {identifier(shop.user)}")
    found = shop.examine(cloud)

    assert ["tables"] == found.having("fail")
    assert "missing on 1 of 500 tables: public.t321" in found.reason("tables")
    assert 4 == shop.back_up(cloud)
    shop.sql(uncommented(found.fix("tables")))
    exact = shop.examine(cloud)
    assert [] == exact.having("fail")
    assert "SELECT on 500 tables" in exact.reason("tables")
    shop.sql(f"REVOKE SELECT ON t321 FROM {identifier(shop.user)}")
    shop.sql(found.fix("tables"))
    assert [] == shop.examine(cloud).having("fail")
    assert 0 == shop.back_up(cloud)


def test_schemas_tables_and_sequences_are_each_counted_and_one_statement_mends_all(
    cloud: Cloud, shop: Shop
) -> None:
    shop.sql(
        "CREATE SCHEMA sales; CREATE TABLE sales.orders (id serial PRIMARY KEY);"
        "CREATE TABLE sales.parts (x int) PARTITION BY RANGE (x);"
        "CREATE TABLE sales.part PARTITION OF sales.parts DEFAULT;"
        "CREATE SEQUENCE counter; CREATE TABLE public.free (x int);"
        "CREATE VIEW sales.seen AS SELECT * FROM sales.orders;"
        "CREATE MATERIALIZED VIEW sales.kept AS SELECT * FROM sales.orders;"
        f"GRANT SELECT ON public.free TO {identifier(shop.user)}"
    )
    found = shop.examine(cloud)

    assert ["schemas", "tables", "sequences"] == found.having("fail")
    assert "USAGE is missing on 1 of 2 schemas: sales" in found.reason("schemas")
    assert "SELECT is missing on 3 of 4 tables" in found.reason("tables")
    assert "SELECT is missing on 2 of 2 sequences" in found.reason("sequences")
    assert "1 materialized view" in found.reason("inventory")
    grant = f"GRANT pg_read_all_data TO {identifier(shop.user)};"
    assert grant == found.fix("tables").splitlines()[0]
    shop.sql(uncommented(found.fix("schemas")))
    assert [] == shop.examine(cloud).having("fail")
    assert 0 == shop.back_up(cloud)


def test_what_the_selection_leaves_out_needs_no_privilege(cloud: Cloud, shop: Shop) -> None:
    shop.sql(f"CREATE TABLE mine (x int); GRANT SELECT ON mine TO {identifier(shop.user)}")
    shop.sql("CREATE TABLE secret (x int)")

    assert ["tables"] == shop.examine(cloud).having("fail")
    assert [] == shop.examine(cloud, {"exclude-tables": "secret"}).having("fail")
    assert [] == shop.examine(cloud, {"tables": "mine"}).having("fail")


def test_a_pattern_that_matches_nothing_leaves_the_privileges_unknown(
    cloud: Cloud, shop: Shop
) -> None:
    found = shop.examine(cloud, {"tables": "no_such_table"})

    assert ["inventory"] == found.having("fail")
    assert "no_such_table" in found.reason("inventory")
    assert "unknown" == found.status("tables")
    assert "“What is dumped”" in found.reason("locks")


def test_hostile_names_are_granted_and_nothing_else_happens(cloud: Cloud, hostile: Shop) -> None:
    name = identifier(HOSTILE)
    hostile.sql(
        f"CREATE TABLE victim (x int); CREATE SCHEMA {name};"
        f"CREATE TABLE {name}.{name} (x int); CREATE SEQUENCE {name}.{identifier(HOSTILE + 's')};"
        f"SELECT lo_from_bytea(n, 'x') FROM generate_series(70001, 70020) n"
    )
    found = hostile.examine(cloud)

    assert ["schemas", "tables", "sequences", "large-objects"] == found.having("fail")
    for id in ("schemas", "large-objects"):
        lines = found.fix(id).splitlines()
        assert all(line.startswith(("GRANT ", "DO ", "-- ")) for line in lines), lines
    hostile.sql(found.fix("large-objects"))
    hostile.sql(uncommented(found.fix("schemas")))
    after = hostile.examine(cloud)
    assert [] == after.having("fail")
    assert 0 == hostile.back_up(cloud)
    assert [(1,)] == hostile.sql("SELECT count(*) FROM pg_class WHERE relname = 'victim'")
    hostile.sql(found.fix("schemas"))
    hostile.sql(f"DROP OWNED BY {identifier(hostile.user)}")


def test_rows_of_an_extension_that_the_dump_holds_count_too(cloud: Cloud, shop: Shop) -> None:
    """As PostGIS does with spatial_ref_sys."""
    shop.sql("CREATE TABLE settings (x int)")
    extension = "plpgsql"
    shop.sql(
        f"UPDATE pg_extension SET extconfig = ARRAY['settings'::regclass::oid],"
        f" extcondition = ARRAY[''] WHERE extname = '{extension}';"
        f"ALTER EXTENSION {extension} ADD TABLE settings"
    )
    found = shop.examine(cloud)

    assert ["tables"] == found.having("fail")
    assert "public.settings" in found.reason("tables")
    shop.sql(found.fix("tables"))
    assert [] == shop.examine(cloud).having("fail")


def test_rows_of_an_extension_that_the_selection_leaves_out_do_not_count(
    cloud: Cloud, shop: Shop
) -> None:
    """As those of pg_cron, whose policies show each user its own jobs."""
    extension = "plpgsql"
    shop.may_all()
    shop.sql(
        "CREATE SCHEMA cron; CREATE TABLE cron.job (x int); CREATE TABLE t (x int);"
        "ALTER TABLE cron.job ENABLE ROW LEVEL SECURITY;"
        f"UPDATE pg_extension SET extconfig = ARRAY['cron.job'::regclass::oid],"
        f" extcondition = ARRAY[''] WHERE extname = '{extension}';"
        f"ALTER EXTENSION {extension} ADD TABLE cron.job"
    )
    # As the doctor says, so the backup fares.
    for inputs, failing in (
        ({}, ["row-security"]),
        ({"schemas": "cron"}, ["row-security"]),
        ({"exclude-table-data": "cron.job"}, []),
        ({"exclude-tables": "cron.job"}, []),
        ({"exclude-schemas": "cron"}, []),
        ({"schemas": "public"}, []),
        ({"tables": "t"}, []),
    ):
        assert failing == shop.examine(cloud, inputs).having("fail"), inputs
        assert (4 if failing else 0) == shop.back_up(cloud, inputs), inputs


# Rows that policies hide


@pytest.mark.parametrize("owner", ["another", "the user, and forced"])
def test_row_level_security_that_hides_rows_is_found_and_bypassed(
    cloud: Cloud, shop: Shop, owner: str
) -> None:
    shop.may_all()
    shop.sql(
        "CREATE TABLE orders (tenant text); ALTER TABLE orders ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY own ON orders USING (tenant = current_user)"
    )
    if owner != "another":
        shop.sql(f"ALTER TABLE orders OWNER TO {identifier(shop.user)}")
        assert [] == shop.examine(cloud).having("fail")
        shop.sql("ALTER TABLE orders FORCE ROW LEVEL SECURITY")
    found = shop.examine(cloud)

    assert ["row-security"] == found.having("fail")
    assert "public.orders" in found.reason("row-security")
    assert 4 == shop.back_up(cloud)
    assert [] == shop.examine(cloud, {"exclude-table-data": "orders"}).having("fail")
    shop.sql(found.fix("row-security"))
    assert [] == shop.examine(cloud).having("fail")
    assert 0 == shop.back_up(cloud)


def test_a_member_of_the_role_that_owns_the_tables_sees_all_their_rows(
    cloud: Cloud, shop: Shop
) -> None:
    """The other way that the fix names, where nobody may give BYPASSRLS."""
    shop.may_all()
    owner, user = identifier(f"owner_{secrets.token_hex(4)}"), identifier(shop.user)
    shop.sql(
        "CREATE TABLE orders (tenant text); ALTER TABLE orders ENABLE ROW LEVEL SECURITY;"
        f"CREATE ROLE {owner}; ALTER TABLE orders OWNER TO {owner}"
    )
    found = shop.examine(cloud)
    shop.sql(f"GRANT {owner} TO {user}")
    after, backup = shop.examine(cloud), shop.back_up(cloud)
    shop.sql(f"DROP OWNED BY {owner}; DROP ROLE {owner}")

    assert ["row-security"] == found.having("fail")
    assert f"GRANT the role that owns the tables TO {user}" in found.fix("row-security")
    assert [] == after.having("fail")
    assert 0 == backup


# Large objects


@pytest.mark.parametrize("number", [3, 30])
def test_large_objects_that_may_not_be_read_are_granted(
    cloud: Cloud, shop: Shop, number: int
) -> None:
    user = identifier(shop.user)
    shop.may_all()
    shop.sql(f"SELECT lo_from_bytea(n, 'x') FROM generate_series(80001, {80000 + number}) n")
    shop.sql("SELECT lo_from_bytea(81000, 'x'); GRANT SELECT ON LARGE OBJECT 81000 TO PUBLIC")
    shop.sql(f"SELECT lo_from_bytea(81001, 'x'); ALTER LARGE OBJECT 81001 OWNER TO {user}")
    found = shop.examine(cloud)

    assert ["large-objects"] == found.having("fail")
    assert f"{number} of {number + 2} large objects" in found.reason("large-objects")
    assert 4 == shop.back_up(cloud)
    if number > 8:
        shop.sql(uncommented(found.fix("large-objects")))
        assert [] == shop.examine(cloud).having("fail")
        shop.sql(f"ALTER DATABASE {identifier(shop.name)} RESET lo_compat_privileges")
    shop.sql(found.fix("large-objects"))
    assert [] == shop.examine(cloud).having("fail")
    assert 0 == shop.back_up(cloud)


def test_foreign_tables_are_noted_for_their_rows_are_in_no_backup(cloud: Cloud, shop: Shop) -> None:
    shop.sql(
        "CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere;"
        "CREATE FOREIGN TABLE remote (x int) SERVER far"
    )
    found = shop.examine(cloud)

    assert "1 foreign table, whose rows lie on another server" in found.reason("inventory")
    assert [] == found.having("fail")


# Locks


@contextlib.contextmanager
def locked(shop: Shop, table: str) -> Iterator[int]:
    """A session of a migration that holds the table; its pid."""
    url = shop.server.url(shop.name, application_name="migration")
    connection = psycopg.connect(url)
    try:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield connection.info.backend_pid
    finally:
        connection.close()


def test_a_lock_that_would_block_is_named_with_its_holder_and_ended_by_the_fix(
    cloud: Cloud, shop: Shop
) -> None:
    shop.may_all()
    shop.sql("CREATE TABLE busy (x int)")
    with locked(shop, "busy") as pid:
        found = shop.examine(cloud)
        assert "warn" == found.status("locks")
        assert f"process {pid} (application migration, user postgres)" in found.reason("locks")
        assert "holds public.busy" in found.reason("locks")
        assert 0 == found.run.exit_code
        assert "pass" == shop.examine(cloud, {"exclude-tables": "busy"}).status("locks")
        shop.sql(found.fix("locks"))
        assert "pass" == shop.examine(cloud).status("locks")


def test_a_lock_that_outlasts_the_lock_timeout_fails_where_its_age_may_be_seen(
    cloud: Cloud, shop: Shop
) -> None:
    shop.sql(f"GRANT pg_read_all_data, pg_read_all_stats TO {identifier(shop.user)}")
    shop.sql("CREATE TABLE busy (x int)")
    with locked(shop, "busy"):
        patient = shop.examine(cloud)
        hasty = shop.examine(cloud, {"lock-timeout": "10ms"})

    assert "warn" == patient.status("locks")
    assert " for " in patient.reason("locks")
    assert ["locks"] == hasty.having("fail")
    assert "lock-timeout" in hasty.reason("locks")


def test_whoever_queues_for_such_a_lock_is_named_too(cloud: Cloud, shop: Shop) -> None:
    shop.may_all()
    shop.sql("CREATE TABLE busy (x int)")
    with psycopg.connect(shop.server.url(shop.name)) as reader:
        reader.execute("SELECT * FROM busy")
        waiting = threading.Thread(target=_alter, args=(shop,), daemon=True)
        waiting.start()
        wait_until(lambda: shop.sql("SELECT 1 FROM pg_locks WHERE NOT granted"))
        found = shop.examine(cloud)
        reader.rollback()
        waiting.join(30)

    assert "warn" == found.status("locks")
    assert "waits for public.busy" in found.reason("locks")


def _alter(shop: Shop) -> None:
    shop.sql("ALTER TABLE busy ADD y int")


def test_a_lock_table_that_is_too_small_for_the_dump_is_told(
    cloud: Cloud, postgres: PostgresServer
) -> None:
    settings = {"max_locks_per_transaction": "10", "max_connections": "20"}
    with PostgresServer(postgres.binaries, settings=settings) as server:
        server.sql("CREATE TABLE t (x serial)")
        source = source_inputs(server, "postgres")
        roomy = examine(cloud, source, env=clients_of(server))
        server.sql(
            "DO $$ BEGIN FOR n IN 1..150 LOOP EXECUTE format('CREATE TABLE t%s (x serial)', n);"
            " END LOOP; END $$"
        )
        found = examine(cloud, source, env=clients_of(server))
        server.sql(found.fix("lock-table"))
        server.stop()
        server.start()
        after = examine(cloud, source, env=clients_of(server))

    assert "pass" == roomy.status("lock-table")
    assert "warn" == found.status("lock-table")
    assert "302 locks, and the server has room for 200" in found.reason("lock-table")
    assert "pass" == after.status("lock-table")


# Connections


@pytest.mark.parametrize("of", ["role", "database"])
def test_a_limit_of_connections_is_found_and_lifted(cloud: Cloud, shop: Shop, of: str) -> None:
    shop.may_all()
    name = shop.user if of == "role" else shop.name
    shop.sql(f"ALTER {of} {identifier(name)} CONNECTION LIMIT 3")
    found = shop.examine(cloud)

    assert ["connections"] == found.having("fail")
    assert "4 are needed" in found.reason("connections")
    assert "has 3 left" in found.reason("connections")
    assert [] == shop.examine(cloud, {"jobs": "1"}).having("fail")
    shop.sql(found.fix("connections"))
    assert [] == shop.examine(cloud).having("fail")


def test_a_server_with_few_connections_left_is_told(cloud: Cloud, postgres: PostgresServer) -> None:
    settings = {"max_connections": "8", "superuser_reserved_connections": "3",
                "max_wal_senders": "0"}  # fmt: skip
    with (
        PostgresServer(postgres.binaries, settings=settings) as server,
        contextlib.ExitStack() as stack,
    ):
        stack.enter_context(contextlib.contextmanager(made)(server, READER))
        source = source_inputs(server, "postgres") | {"user": READER, "password": READERS_PASSWORD}
        roomy = examine(cloud, source, env=clients_of(server))
        for _ in range(2):
            stack.enter_context(psycopg.connect(server.url()))
        found = examine(cloud, source, env=clients_of(server))
        stack.close()

    assert "pass" == roomy.status("connections")
    assert ["connections"] == found.having("fail")
    assert "the server has 3 left" in found.reason("connections")
    assert "max_connections" in found.fix("connections")
    assert "jobs: 1" in found.fix("connections")


# And then


def test_after_a_green_diagnosis_a_backup_is_green(cloud: Cloud, shop: Shop) -> None:
    shop.sql("CREATE TABLE t AS SELECT n FROM generate_series(1, 100) n")
    shop.sql(shop.examine(cloud).fix("tables"))
    assert [] == shop.examine(cloud).having("fail")
    login = {"user": shop.user, "password": READERS_PASSWORD}
    green(back_up(cloud, shop.server, shop.name, login))


def test_the_privileges_of_a_hundred_thousand_tables_are_no_hundred_thousand_searches(
    shop: Shop,
) -> None:
    """The snapshot stays open meanwhile, and no timeout of the server's ends it."""
    shop.sql(
        "DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format('CREATE TABLE t%s (x int)', n);"
        " END LOOP; END $$"
    )
    source = Source("127.0.0.1", shop.name, shop.user, str(shop.server.port),
                    password=lambda: Secret(READERS_PASSWORD))  # fmt: skip
    with connect(source) as connection:
        export_snapshot(connection, 1000)
        inventory = read_inventory(connection, Selection())
        elsewhere = tuple(Relation("public", f"elsewhere_{n}", "r", 0) for n in range(99_000))
        many = replace(inventory, relations=inventory.relations + elsewhere)
        # Where a hundred thousand names fit in no memory that the server would give to one step.
        connection.execute("SET LOCAL work_mem = '64kB'")
        connection.execute("SET LOCAL statement_timeout = '5s'")
        found = read_privileges(connection, many, (), ())

    assert 1000 == found.tables.number == len(found.tables.relations)
