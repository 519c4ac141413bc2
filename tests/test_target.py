"""What is asked of a target before it is written to, and what marks it until all is loaded."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from backup.archive import toc
from backup.errors import AccessError, BackupError, InputError, RestoreError
from backup.model import Extension, ObjectName, ServerVersion
from backup.postgres.connection import Connection, Source, connect
from backup.postgres.databases import DatabaseDefinition, create_database, finish_database
from backup.postgres.dropping import Drop
from backup.postgres.globals import load_globals
from backup.postgres.objects import KINDS, objects_in
from backup.postgres.patterns import matching_names, matching_schema_names
from backup.postgres.refusals import (
    lacking_extensions,
    lacking_roles,
    refuse_collisions,
    refuse_older,
    refuse_the_source,
    refuse_unless_new,
    refuse_unwritable,
)
from backup.postgres.target import Target, assume, read_target
from backup.postgres.unfinished import SCHEMA, begin, clean, end, find, lock, undo
from backup.settings import Secret
from tests.conftest import MAJORS
from tests.lab.daemon import LOOPBACK
from tests.lab.postgres import PostgresServer
from tests.steps import database_named, drop_roles, forget, identifier

EVERYTHING = Path(__file__).with_name("everything.sql")
HOSTILE = '-it\'s "100%" a=b.c $HOME/🐘\nline; DATABASE DROP'
OWNER = 'the "owner" of\'it, 100%'

# What everything.sql has none of: more kinds, and names that are hard to tag.
MORE = """
CREATE TYPE kinds.base;
CREATE FUNCTION kinds.base_in(cstring) RETURNS kinds.base LANGUAGE internal IMMUTABLE STRICT
    AS 'textin';
CREATE FUNCTION kinds.base_out(kinds.base) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT
    AS 'textout';
CREATE TYPE kinds.base (input = kinds.base_in, output = kinds.base_out, like = text);
CREATE TABLE kinds.of_base (x kinds.base);
CREATE TYPE kinds.only_a_shell;
CREATE VIEW kinds.loop AS SELECT 1 AS x;
CREATE FUNCTION kinds.of_loop(kinds.loop) RETURNS int LANGUAGE sql RETURN 1;
CREATE OR REPLACE VIEW kinds.loop AS SELECT kinds.of_loop(NULL) AS x;
CREATE AGGREGATE kinds.rows(*) (sfunc = int8inc, stype = int8, initcond = '0');
CREATE FUNCTION kinds.many(OUT x int, INOUT y char, VARIADIC z kinds.mood[]) LANGUAGE sql
    AS 'SELECT 1, y::char';
CREATE FUNCTION kinds.many(character(3), timestamp(3), "char", kinds.float_multirange, numeric(3))
    RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE kinds.proc(a int, OUT b text) LANGUAGE sql AS $$ SELECT '1' $$;
CREATE OPERATOR FAMILY kinds.family USING btree;
CREATE OPERATOR CLASS kinds.class FOR TYPE kinds.mood USING btree AS
    OPERATOR 1 = (anyenum, anyenum), FUNCTION 1 enum_cmp(anyenum, anyenum);
CREATE TEXT SEARCH DICTIONARY kinds.dictionary (TEMPLATE = simple);
CREATE TEXT SEARCH PARSER kinds.parser (START = prsd_start, GETTOKEN = prsd_nexttoken,
    END = prsd_end, LEXTYPES = prsd_lextype);
CREATE TEXT SEARCH TEMPLATE kinds.template (LEXIZE = dsimple_lexize);
CREATE CONVERSION kinds.conversion FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE USER MAPPING FOR "a.b" SERVER far;
CREATE USER MAPPING FOR PUBLIC SERVER far;
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
CREATE LANGUAGE "own language" HANDLER plpgsql_call_handler;
ALTER DOMAIN kinds.positive ADD CONSTRAINT "less than" CHECK (VALUE < 1e9) NOT VALID;
CREATE TYPE kinds."multi word" AS (x kinds.positive);
CREATE FUNCTION kinds."Fü (x)"(kinds."multi word"[], interval day) RETURNS int LANGUAGE sql
    AS 'SELECT 1';
ALTER TABLE kinds.event_2024 DISABLE TRIGGER on_all_partitions;
CREATE TABLE kinds.refers (id bigint, day date, kind text,
    FOREIGN KEY (id, day, kind) REFERENCES kinds.event);
CREATE TABLE kinds.of_parent (id bigint, parent bigint REFERENCES kinds.parent)
    PARTITION BY LIST (id);
CREATE TABLE kinds.of_parent_1 PARTITION OF kinds.of_parent FOR VALUES IN (1);
"""


SUBSCRIPTION = """
CREATE SUBSCRIPTION "sub, scription" CONNECTION 'host=127.0.0.1 port=1' PUBLICATION x
    WITH (connect = false, slot_name = 'of_another')
"""


@pytest.fixture
def owned(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A server with an empty database HOSTILE that belongs to OWNER, who is no superuser."""
    postgres.sql(f"CREATE ROLE {identifier(OWNER)} LOGIN PASSWORD 'owner'")
    postgres.sql(
        f"CREATE DATABASE {identifier(HOSTILE)} TEMPLATE template0 OWNER {identifier(OWNER)}"
    )
    yield postgres
    forget(postgres, HOSTILE)
    drop_roles(postgres)


def source_of(
    server: PostgresServer, database: str, user: str = "postgres", password: str | None = None
) -> Source:
    secret = Secret(password or server.password)
    return Source(LOOPBACK, database, user, str(server.port), password=lambda: secret)


def as_owner(server: PostgresServer) -> Connection:
    return connect(source_of(server, HOSTILE, OWNER, "owner"))


def dumped(server: PostgresServer, database: str, folder: Path) -> toc.TableOfContents:
    command = [str(server.binaries / "pg_dump"), "-Fd", "-f", str(folder)]
    subprocess.run([*command, "-d", dsn(server, database)], check=True)
    return toc.read(folder / "toc.dat")


def dsn(server: PostgresServer, database: str, user: str = "postgres", password: str = "") -> str:
    return psycopg.conninfo.make_conninfo(
        host=LOOPBACK,
        port=server.port,
        user=user,
        password=password or server.password,
        dbname=database,
    )


def named(entry: toc.Entry) -> ObjectName:
    return ObjectName(entry.kind, entry.schema or "", entry.name)


def drops_of(contents: toc.TableOfContents) -> list[Drop]:
    """As a restore asks for them: the last that is created goes first."""
    found = []
    for entry in reversed(contents.entries):
        if entry.kind == "BLOB METADATA":
            numbers = re.findall(r"\d+", entry.definition or entry.name)
            found += [Drop.of_large_object(int(number)) for number in numbers]
        else:
            found.append(Drop(named(entry), entry.drop))
    return found


def forget_with_subscription(server: PostgresServer) -> None:
    """A database with a subscription cannot be dropped."""
    name = '"sub, scription"'
    for change in ("DISABLE", "SET (slot_name = NONE)"):
        server.sql(f"ALTER SUBSCRIPTION {name} {change}", HOSTILE)
    server.sql(f"DROP SUBSCRIPTION {name}", HOSTILE)
    forget(server, HOSTILE)


def told(refused: pytest.ExceptionInfo[BackupError]) -> str:
    return "\n".join(refused.value.lines())


# ---- what a database holds


@pytest.mark.parametrize("major", MAJORS)
def test_what_users_made_bears_the_names_of_the_dump(
    servers: Callable[[int], PostgresServer], major: int, tmp_path: Path
) -> None:
    server = servers(major)
    database_named(server, HOSTILE, EVERYTHING.read_text() + MORE + SUBSCRIPTION)
    if major >= 18:
        server.sql("ALTER TABLE kinds.refers ADD CONSTRAINT nn NOT NULL id NOT VALID", HOSTILE)
    try:
        contents = dumped(server, HOSTILE, tmp_path / "dump")
        with connect(source_of(server, HOSTILE)) as connection:
            found = objects_in(connection)
    finally:
        forget_with_subscription(server)
        drop_roles(server)

    # A loop of views is broken up by writing a view and the rule behind it apart.
    loop = ObjectName("RULE", "kinds", "loop _RETURN")
    names = {named(entry) for entry in contents.entries if entry.kind in KINDS} - {loop}
    assert sorted(names) == sorted(found)
    assert len(found) > 120
    missing = KINDS - {each.kind for each in found}
    assert {"EXTENSION", "TRANSFORM"} == missing


@pytest.mark.parametrize("major", MAJORS)
def test_a_fresh_database_is_empty(servers: Callable[[int], PostgresServer], major: int) -> None:
    server = servers(major)
    database_named(server, "fresh")
    try:
        with connect(source_of(server, "fresh")) as connection:
            target = read_target(connection, LOOPBACK, str(server.port))
    finally:
        forget(server, "fresh")

    assert () == target.holds
    assert 0 == target.large_objects
    assert major == target.server.major
    refuse_unless_new(target, allow_existing=False, clean=False, confirmed=None)


def test_extensions_and_their_schemas_do_not_fill_a_database(postgres: PostgresServer) -> None:
    names = {name for (name,) in postgres.sql("SELECT name FROM pg_available_extensions")}
    if "hstore" not in names:
        pytest.skip("this server has no contrib modules: the 17 of `make test` has them")
    database_named(postgres, "extended", "CREATE SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext")
    try:
        with connect(source_of(postgres, "extended")) as connection:
            target = read_target(connection, LOOPBACK, str(postgres.port))
            everything = objects_in(connection)
    finally:
        forget(postgres, "extended")

    assert () == target.holds
    assert {ObjectName("EXTENSION", "", "hstore"), ObjectName("SCHEMA", "", "ext")} == everything
    assert target.extensions["hstore"].installed
    assert target.extensions["hstore"].trusted


def test_the_target_is_read_by_an_owner_who_is_no_superuser(owned: PostgresServer) -> None:
    owned.sql('CREATE TABLE "x %s"(); SELECT lo_create(7)', HOSTILE)
    with as_owner(owned) as connection:
        target = read_target(connection, LOOPBACK, str(owned.port))

    assert (HOSTILE, OWNER) == (target.database, target.login)
    assert (ObjectName("TABLE", "public", "x %s"),) == target.holds
    assert 1 == target.large_objects
    assert OWNER in target.roles
    assert (False, False) == (target.is_superuser, target.read_only)
    assert target.may_create
    assert target.free_bytes is None
    refuse_unwritable(target)


def test_the_disk_is_known_where_the_server_runs_here(postgres: PostgresServer) -> None:
    with connect(source_of(postgres, "postgres")) as connection:
        target = read_target(connection, LOOPBACK, str(postgres.port))

    assert target.free_bytes is not None
    assert target.free_bytes > 1 << 20


# ---- refusals


@pytest.fixture
def target(owned: PostgresServer) -> Target:
    owned.sql("CREATE TABLE t(x int PRIMARY KEY); CREATE SCHEMA s; SELECT lo_create(7)", HOSTILE)
    with as_owner(owned) as connection:
        return read_target(connection, LOOPBACK, str(owned.port))


def test_a_target_that_holds_something_is_refused_with_the_yaml_to_paste(target: Target) -> None:
    with pytest.raises(InputError) as refused:
        refuse_unless_new(target, allow_existing=False, clean=False, confirmed=None)

    assert "TABLE public.t" in refused.value.detail
    assert "1 large object" in refused.value.detail
    assert "allow-existing: true\nconfirm-target: " in refused.value.hint
    # The name as YAML: one line, whatever it has.
    assert 2 == len(refused.value.hint.splitlines())


@pytest.mark.parametrize(("allow_existing", "clean"), [(True, False), (False, True)])
def test_only_the_confirmed_name_lets_a_restore_into_what_is_there(
    target: Target, allow_existing: bool, clean: bool
) -> None:
    refuse_unless_new(target, allow_existing=allow_existing, clean=clean, confirmed=HOSTILE)
    for confirmed in (None, HOSTILE.lower(), ""):
        with pytest.raises(InputError):
            refuse_unless_new(
                target, allow_existing=allow_existing, clean=clean, confirmed=confirmed
            )
    with pytest.raises(InputError):
        refuse_unless_new(target, allow_existing=False, clean=False, confirmed=HOSTILE)


def test_a_confirmed_name_that_is_another_is_refused_even_for_an_empty_target(
    target: Target,
) -> None:
    empty = replace(target, holds=(), large_objects=0)
    refuse_unless_new(empty, allow_existing=False, clean=False, confirmed=None)
    with pytest.raises(InputError):
        refuse_unless_new(empty, allow_existing=False, clean=False, confirmed="shop")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LocalHost.", "::1", "/var/run/postgresql", "127.0.0.2"]
)
def test_the_source_is_known_by_all_its_names(
    target: Target, postgres: PostgresServer, host: str
) -> None:
    port = str(postgres.port)
    with pytest.raises(InputError, match="is the source of this backup"):
        refuse_the_source(target, host=host, port=port, database=HOSTILE, confirmed=None)
    with pytest.raises(InputError):
        refuse_the_source(target, host=host, port=port, database=HOSTILE, confirmed="else")
    refuse_the_source(target, host=host, port=port, database=HOSTILE, confirmed=HOSTILE)
    refuse_the_source(target, host=host, port=port, database="other", confirmed=None)
    refuse_the_source(target, host=host, port="1", database=HOSTILE, confirmed=None)


def test_a_name_that_is_not_known_here_is_compared_as_a_name(target: Target) -> None:
    gone = replace(target, endpoints=frozenset({("db.invalid", "5432")}))
    with pytest.raises(InputError):
        refuse_the_source(gone, host="DB.invalid.", port="", database=HOSTILE, confirmed=None)
    refuse_the_source(gone, host="db2.invalid", port="5432", database=HOSTILE, confirmed=None)


def test_a_tunnel_does_not_hide_the_source(owned: PostgresServer) -> None:
    with as_owner(owned) as connection:
        target = read_target(connection, "tunnel.invalid", "15432")

    with pytest.raises(InputError):
        refuse_the_source(
            target, host=LOOPBACK, port=str(owned.port), database=HOSTILE, confirmed=None
        )


def test_an_older_server_a_standby_and_a_login_without_create_are_refused(target: Target) -> None:
    refuse_older(target, target.server)
    with pytest.raises(InputError, match="older than the backup"):
        refuse_older(target, ServerVersion(990001, "99.1"))
    with pytest.raises(InputError, match="can only be read"):
        refuse_unwritable(replace(target, read_only=True))
    with pytest.raises(AccessError, match="may not create") as refused:
        refuse_unwritable(replace(target, may_create=False))
    quoted = [identifier(name) for name in (HOSTILE, OWNER)]
    assert "GRANT CREATE ON DATABASE {} TO {};".format(*quoted) in refused.value.hint


def test_what_exists_already_is_not_loaded_a_second_time(target: Target) -> None:
    refuse_collisions(target, [ObjectName("TABLE", "public", "u")])
    with pytest.raises(InputError, match="1 object of the backup exist") as refused:
        refuse_collisions(target, [ObjectName("TABLE", "public", name) for name in "tu"])
    assert "TABLE public.t" == refused.value.detail


def test_extensions_and_roles_that_are_lacking_are_listed(target: Target) -> None:
    needed = [Extension(name, "1.0", "public") for name in ("plpgsql", "no such extension")]
    assert ["no such extension"] == [each.name for each in lacking_extensions(target, needed)]

    lacks = lacking_roles(target, [OWNER, 'gone "x"', "PUBLIC", "", "rds_iam", "rdsadmin"])
    assert ['gone "x"'] == [each.name for each in lacks]
    assert 'CREATE ROLE "gone ""x""";' in lacks[0].remedy


def test_a_login_acts_as_the_role_or_is_told_why_not(owned: PostgresServer) -> None:
    owned.sql("""CREATE ROLE "the %s role" NOLOGIN""")
    with as_owner(owned) as connection:
        with pytest.raises(AccessError) as refused:
            assume(connection, "the %s role")
        assert f'GRANT "the %s role" TO {identifier(OWNER)};' in refused.value.hint
        with pytest.raises(AccessError, match="no such role"):
            assume(connection, "no such role")
        owned.sql(f'GRANT "the %s role" TO {identifier(OWNER)}')
        assume(connection, "the %s role")
        assert "the %s role" == read_target(connection, LOOPBACK, "1").login


# ---- the mark


def test_a_second_restore_into_the_same_database_is_refused(owned: PostgresServer) -> None:
    with as_owner(owned) as first:
        lock(first)
        with as_owner(owned) as second, pytest.raises(InputError, match="another restore"):
            lock(second)
        with connect(source_of(owned, "postgres")) as elsewhere:
            lock(elsewhere)
    with as_owner(owned) as third:
        lock(third)


@pytest.mark.parametrize("major", MAJORS)
def test_an_undo_leaves_the_database_as_it_was(
    servers: Callable[[int], PostgresServer], major: int, tmp_path: Path
) -> None:
    server = servers(major)
    database_named(server, HOSTILE, EVERYTHING.read_text() + MORE)
    try:
        contents = dumped(server, HOSTILE, tmp_path / "dump")
        forget(server, HOSTILE)
        # Objects that were there, some under the names of the backup's.
        database_named(
            server,
            HOSTILE,
            "CREATE SCHEMA kinds; CREATE TABLE kinds.parent (mine int); CREATE SCHEMA own;"
            "CREATE VIEW kinds.loop AS SELECT 2 AS mine; CREATE TABLE own.kept AS SELECT 1 AS x;"
            "SELECT lo_from_bytea(7002, 'mine')",
        )
        with connect(source_of(server, HOSTILE)) as connection:
            before = objects_in(connection)
            begin(connection, "20261122T020000Z-1f9c3a", drops_of(contents))
            restored = [str(server.binaries / "pg_restore"), "-d", dsn(server, HOSTILE)]
            subprocess.run([*restored, str(tmp_path / "dump")], capture_output=True, timeout=120)
            assert len(objects_in(connection)) > 100
            connection.rollback()
            unfinished = find(connection)
            assert unfinished is not None
            assert "20261122T020000Z-1f9c3a" == unfinished.backup_id
            left = undo(connection, unfinished)

            assert () == left
            assert sorted(before) == sorted(objects_in(connection))
            assert find(connection) is None
        assert [("mine",)] == server.sql("SELECT convert_from(lo_get(7002), 'UTF8')", HOSTILE)
        assert [(1,)] == server.sql("SELECT count(*) FROM pg_largeobject_metadata", HOSTILE)
        assert [(1,)] == server.sql("SELECT x FROM own.kept", HOSTILE)
        assert [(2,)] == server.sql("SELECT mine FROM kinds.loop", HOSTILE)
    finally:
        forget(server, HOSTILE)
        drop_roles(server)


def table(name: str, schema: str = "public") -> Drop:
    return Drop(
        ObjectName("TABLE", schema, name), f"DROP TABLE {identifier(schema)}.{identifier(name)};\n"
    )


def test_the_mark_says_what_is_the_matter_and_goes_at_the_end(owned: PostgresServer) -> None:
    with as_owner(owned) as connection:
        assert find(connection) is None
        begun = begin(connection, "ID-1", [table("new")])
        with pytest.raises(InputError, match="marked"):
            begin(connection, "ID-2", [])
    ((said,),) = owned.sql(f"SELECT obj_description('{SCHEMA}'::regnamespace)", HOSTILE)
    assert "restore of backup ID-1" in said
    assert "data is missing" in said
    with as_owner(owned) as connection:
        assert begun == find(connection)
        target = read_target(connection, LOOPBACK, "1")
        assert () == target.holds
        end(connection)
    with as_owner(owned) as connection:
        assert find(connection) is None
        assert frozenset() == objects_in(connection)


def test_what_was_there_before_is_never_undone(owned: PostgresServer) -> None:
    with as_owner(owned) as connection:
        connection.execute('CREATE TABLE "old %s"(); SELECT lo_create(7)')
        connection.commit()
        drops = [table("new %s"), table("old %s"), *map(Drop.of_large_object, (7, 8))]
        begin(connection, "ID", drops)
        connection.execute('CREATE TABLE "new %s"(); SELECT lo_create(8)')
        connection.commit()
        unfinished = find(connection)
        assert unfinished is not None
        undo(connection, unfinished)

        assert {ObjectName("TABLE", "public", "old %s")} == objects_in(connection)
    assert [(7,)] == owned.sql("SELECT oid::int FROM pg_largeobject_metadata", HOSTILE)


def test_an_undo_stops_where_others_depend_on_the_restored_and_names_them(
    owned: PostgresServer,
) -> None:
    with as_owner(owned) as connection:
        begin(connection, "ID", [table("free"), table("used %s")])
        connection.execute(
            'CREATE TABLE free(); CREATE TABLE "used %s"(x int);'
            'CREATE VIEW "my view" AS SELECT * FROM "used %s"'
        )
        connection.commit()
        unfinished = find(connection)
        assert unfinished is not None
        with pytest.raises(RestoreError) as refused:
            undo(connection, unfinished)
        assert "my view" in refused.value.detail
        marked = find(connection)
        assert marked is not None
        assert [table("used %s")] == list(marked.drops)

        # What somebody makes since under the name of what is gone is theirs.
        connection.execute('DROP VIEW "my view"; CREATE TABLE free(theirs int)')
        connection.commit()
        undo(connection, marked)
        assert {ObjectName("TABLE", "public", "free")} == objects_in(connection)


def test_a_base_type_takes_nobody_elses_column_along(postgres: PostgresServer) -> None:
    database_named(postgres, HOSTILE)
    made = MORE.split("CREATE TABLE kinds.of_base")[0].replace("kinds.", "")
    drops = [
        Drop(ObjectName("TYPE", "public", "base"), "DROP TYPE public.base CASCADE;\n"),
        Drop(ObjectName("FUNCTION", "public", "base_out(public.base)"), ""),
    ]
    try:
        with connect(source_of(postgres, HOSTILE)) as connection:
            begin(connection, "ID", drops)
            postgres.sql(f"{made}; CREATE TABLE mine (x base)", HOSTILE)
            unfinished = find(connection)
            assert unfinished is not None
            with pytest.raises(RestoreError, match="cannot be dropped") as refused:
                undo(connection, unfinished)
            assert "column x of table mine" in refused.value.detail.replace("public.", "")
            postgres.sql("DROP TABLE mine", HOSTILE)
            undo(connection, unfinished)
            assert frozenset() == objects_in(connection)
    finally:
        forget(postgres, HOSTILE)


def test_a_mark_that_a_stranger_put_there_is_not_obeyed(owned: PostgresServer) -> None:
    owned.sql(f"CREATE ROLE \"str'anger\"; GRANT CREATE ON DATABASE {identifier(HOSTILE)}"
              " TO \"str'anger\"")  # fmt: skip
    with connect(source_of(owned, HOSTILE)) as stranger:
        assume(stranger, "str'anger")
        begin(stranger, "ID", [table("salaries")])
    with as_owner(owned) as connection, pytest.raises(InputError, match="str'anger"):
        find(connection)


def test_a_role_that_the_login_acts_as_marks_and_undoes(owned: PostgresServer) -> None:
    role = 'the "role" %s'
    owned.sql(
        f"CREATE ROLE {identifier(role)} NOLOGIN; CREATE ROLE login LOGIN NOINHERIT PASSWORD 'l';"
        f"GRANT {identifier(role)} TO login;"
        f"GRANT CREATE ON DATABASE {identifier(HOSTILE)} TO {identifier(role)}"
    )
    login = source_of(owned, HOSTILE, "login", "l")
    drops = [
        table("t", "of role"),
        Drop(ObjectName("SCHEMA", "", "of role"), 'DROP SCHEMA "of role"'),
    ]
    with connect(login) as connection:
        assume(connection, role)
        begin(connection, "ID", drops)
        connection.execute('CREATE SCHEMA "of role"; CREATE TABLE "of role".t()')
    with connect(login) as connection:
        with pytest.raises(InputError, match=r"role.* %s"):
            find(connection)
        assume(connection, role)
        unfinished = find(connection)
        assert unfinished is not None
        assert () == undo(connection, unfinished)
        assert frozenset() == objects_in(connection)


def test_an_undo_needs_few_locks_and_a_clean_that_needs_too_many_says_so(
    postgres: PostgresServer,
) -> None:
    names = [f"many {number} %s" for number in range(2500)]
    settings = {"max_locks_per_transaction": "10", "max_connections": "10"}
    with (
        PostgresServer(postgres.binaries, settings) as server,
        connect(source_of(server, "postgres")) as connection,
    ):
        begin(connection, "ID", [table(name) for name in names])
        for start in range(0, len(names), 100):
            for name in names[start : start + 100]:
                connection.execute(f"CREATE TABLE {identifier(name)}()".encode())
            connection.commit()
        with pytest.raises(RestoreError, match="locks") as refused:
            clean(connection, [table(name) for name in names])
        assert "max_locks_per_transaction" in refused.value.hint
        assert len(names) + 3 == len(objects_in(connection)) - 1  # and the key of the list
        unfinished = find(connection)
        assert unfinished is not None
        assert () == undo(connection, unfinished)
        assert frozenset() == objects_in(connection)


def test_the_slot_of_a_subscription_is_left_to_its_publisher(postgres: PostgresServer) -> None:
    database_named(postgres, HOSTILE)
    name = ObjectName("SUBSCRIPTION", "", "sub, scription")
    try:
        with connect(source_of(postgres, HOSTILE)) as connection:
            begin(connection, "ID", [Drop(name, 'DROP SUBSCRIPTION "sub, scription";')])
            postgres.sql(SUBSCRIPTION, HOSTILE)
            unfinished = find(connection)
            assert unfinished is not None
            undo(connection, unfinished)  # the publisher, of whom nothing is asked, is not there
            assert frozenset() == objects_in(connection)
    finally:
        forget(postgres, HOSTILE)


# ---- clean


def test_clean_drops_in_one_transaction_with_the_mark(owned: PostgresServer) -> None:
    drops = [
        table("parent"),  # in the wrong order: child refers to it
        table("child"),
        table("never there"),
        Drop(ObjectName("SCHEMA", "", "shared"), "DROP SCHEMA shared;"),
        Drop(ObjectName("SCHEMA", "", "public"), "DROP SCHEMA public;"),
        Drop(ObjectName("EXTENSION", "", "plpgsql"), "DROP EXTENSION plpgsql;"),
    ]
    with as_owner(owned) as connection:
        connection.execute(
            "CREATE TABLE parent(x int PRIMARY KEY); CREATE SCHEMA shared;"
            "CREATE TABLE child(x int REFERENCES parent); CREATE TABLE shared.kept()"
        )
        connection.commit()
        assert (ObjectName("SCHEMA", "", "shared"),) == clean(connection, drops)
        with as_owner(owned) as other:
            other.execute("SET lock_timeout = 100")
            with pytest.raises(psycopg.errors.LockNotAvailable):  # not committed yet
                other.execute("TABLE parent")
        begin(connection, "ID", drops)
    with as_owner(owned) as connection:
        unfinished = find(connection)
        assert unfinished is not None
        # What was dropped is now the restore's to create and to undo; what stayed is not.
        assert {"parent", "child", "never there"} == {each.name.name for each in unfinished.drops}
        end(connection)
        kept = {ObjectName("SCHEMA", "", "shared"), ObjectName("TABLE", "shared", "kept")}
        assert kept == objects_in(connection)


def test_clean_drops_nothing_where_something_else_depends_on_it(owned: PostgresServer) -> None:
    with as_owner(owned) as connection:
        connection.execute(
            "CREATE TABLE a(x int); CREATE TABLE b(x int); CREATE VIEW mine AS SELECT * FROM b"
        )
        connection.commit()
        with pytest.raises(RestoreError) as refused:
            clean(connection, [table("a"), table("b")])
        assert "view public.mine depends on table public.b" in told(refused)
        assert {"a", "b", "mine"} == {each.name for each in objects_in(connection)}


def test_clean_does_not_wait_for_a_lock_for_ever(owned: PostgresServer) -> None:
    with as_owner(owned) as connection, as_owner(owned) as reader:
        connection.execute("CREATE TABLE a(x int)")
        connection.commit()
        reader.execute("TABLE a")
        with pytest.raises(RestoreError, match="locked"):
            clean(connection, [table("a")], lock_timeout_ms=200)
        assert 1 == len(objects_in(connection))


# ---- a new database


def definition_of(contents: toc.TableOfContents) -> DatabaseDefinition:
    (entry,) = [each for each in contents.entries if each.kind == "DATABASE"]
    return DatabaseDefinition(
        create=entry.definition,
        properties=tuple(
            each.definition
            for each in contents.entries
            if each.kind == "DATABASE PROPERTIES" or each.name.startswith("DATABASE ")
        ),
        owner=entry.owner,
    )


def properties_of(server: PostgresServer, database: str) -> list[tuple[object, ...]]:
    return server.sql(
        f"""SELECT pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit,
        datdba::regrole::text, ARRAY(SELECT a::text FROM unnest(datacl) a ORDER BY 1),
        shobj_description(oid, 'pg_database'),
        (SELECT array_agg(setconfig::text || setrole ORDER BY setrole) FROM pg_db_role_setting
         WHERE setdatabase = d.oid)
        FROM pg_database d WHERE datname = $x${database}$x$"""
    )


@pytest.mark.parametrize("major", MAJORS)
def test_a_new_database_is_as_the_one_that_was_backed_up(
    servers: Callable[[int], PostgresServer], major: int, tmp_path: Path
) -> None:
    server = servers(major)
    role, old = identifier("DATABASE"), identifier(HOSTILE)
    statements = (
        f"""CREATE ROLE {role} CREATEDB LOGIN PASSWORD 'owner'; CREATE ROLE database""",
        f"""CREATE DATABASE {old} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'""",
        f"""ALTER DATABASE {old} CONNECTION LIMIT 7;
        ALTER DATABASE {old} SET search_path = 'DATABASE', 'it''s; DATABASE x';
        ALTER DATABASE {old} SET default_transaction_read_only = on;
        ALTER ROLE database IN DATABASE {old} SET work_mem = '5MB';
        COMMENT ON DATABASE {old} IS 'DATABASE "a"; it''s \\ 100%';
        REVOKE CONNECT ON DATABASE {old} FROM PUBLIC;
        GRANT CONNECT ON DATABASE {old} TO {role}, database;
        ALTER DATABASE {old} OWNER TO {role}""",
    )
    for each in statements:
        server.sql(each)
    new = f"{HOSTILE} 2"
    try:
        definition = definition_of(dumped(server, HOSTILE, tmp_path / "dump"))
        assert () == create_database(source_of(server, new), definition)
        with connect(source_of(server, new)) as connection:
            target = read_target(connection, LOOPBACK, str(server.port))
            refuse_unless_new(target, allow_existing=False, clean=False, confirmed=None)
            refuse_unwritable(target)
            assert () == finish_database(connection, new, definition)
        expected = properties_of(server, HOSTILE)
        found = properties_of(server, new)
        with pytest.raises(InputError, match="exists already"):
            create_database(source_of(server, new), definition)
    finally:
        forget(server, HOSTILE)
        forget(server, new)
        drop_roles(server)

    assert 1 == len(expected)
    assert expected == found


def test_a_locale_that_the_server_lacks_ends_with_the_way_out(owned: PostgresServer) -> None:
    definition = DatabaseDefinition(
        "CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'xx_YY.utf8';",
        (),
        None,
    )
    with pytest.raises(InputError) as refused:
        create_database(source_of(owned, "new"), definition)
    assert "xx_YY.utf8" in refused.value.detail
    assert 'CREATE DATABASE "new" TEMPLATE template0' in refused.value.hint


def test_a_login_without_createdb_is_told_so(owned: PostgresServer) -> None:
    definition = DatabaseDefinition("CREATE DATABASE a WITH ENCODING = 'UTF8';", (), None)
    with pytest.raises(AccessError, match="may not create") as refused:
        create_database(source_of(owned, "new", OWNER, "owner"), definition)
    assert f"ALTER ROLE {identifier(OWNER)} CREATEDB;" in refused.value.hint


def test_where_the_database_postgres_is_closed_another_one_does(owned: PostgresServer) -> None:
    owned.sql(f"ALTER ROLE {identifier(OWNER)} CREATEDB")
    owned.sql("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
    definition = DatabaseDefinition("CREATE DATABASE a WITH ENCODING = 'UTF8';", (), None)
    try:
        assert () == create_database(source_of(owned, "new", OWNER, "owner"), definition)
        assert [(OWNER,)] == owned.sql(
            "SELECT r.rolname FROM pg_database d JOIN pg_roles r ON r.oid = datdba"
            " WHERE datname = 'new'"
        )
    finally:
        owned.sql("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        forget(owned, "new")


def test_what_a_new_database_cannot_have_is_told_and_the_rest_is_done(
    owned: PostgresServer,
) -> None:
    owned.sql(f"ALTER ROLE {identifier(OWNER)} CREATEDB")
    target = source_of(owned, "new database", OWNER, "owner")
    definition = DatabaseDefinition(
        "CREATE DATABASE a WITH TEMPLATE = template0 ENCODING = 'UTF8' TABLESPACE = \"a b\";",
        (
            "ALTER DATABASE a SET work_mem TO '5MB';\n"
            "ALTER ROLE gone IN DATABASE a SET work_mem TO '5MB';\n"
            "ALTER DATABASE a SET log_statement TO 'all';\n",
            "GRANT CONNECT ON DATABASE a TO gone;\nGRANT CONNECT ON DATABASE a TO pg_monitor;",
        ),
        "gone",
    )
    try:
        early = create_database(target, definition)
        with connect(target) as connection:
            late = finish_database(connection, "new database", definition)
            assert ("5MB",) == connection.execute("SHOW work_mem").fetchone()
    finally:
        forget(owned, "new database")

    assert ['tablespace "a b" does not exist', "gone", "log_statement"] == [
        next(word for word in ('tablespace "a b" does not exist', "gone", "log_statement")
             if word in each.said) for each in early
    ]  # fmt: skip
    assert 2 == len(late)
    assert all("gone" in each.said for each in late)


# ---- patterns against the names of an archive

NAMES = {
    ("public", "orders"),
    ("sales", "orders"),
    ("sales", "Order"),
    ("sales", "a.b"),
    ("Odd.Schema", 'x"%s\ny'),
    ("public", "🐘 one"),
}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["orders"], {("public", "orders"), ("sales", "orders")}),
        (["ORDERS"], {("public", "orders"), ("sales", "orders")}),
        (["sales.orders"], {("sales", "orders")}),
        (['"Order"', "pub*.orders"], {("sales", "Order"), ("public", "orders")}),
        (['"a.b"'], {("sales", "a.b")}),
        (['"Odd.Schema".*'], {("Odd.Schema", 'x"%s\ny')}),
        (['"x""%s\ny"'], {("Odd.Schema", 'x"%s\ny')}),
        (["? one"], {("public", "🐘 one")}),
        (["*"], NAMES),
        ([], set()),
    ],
)
def test_patterns_match_the_names_of_an_archive(
    postgres: PostgresServer, patterns: list[str], expected: set[tuple[str, str]]
) -> None:
    with connect(source_of(postgres, "postgres")) as connection:
        assert expected == matching_names(connection, "tables", patterns, NAMES)


def test_schemas_of_an_archive_match_too(postgres: PostgresServer) -> None:
    schemas = {schema for schema, _ in NAMES}
    with connect(source_of(postgres, "postgres")) as connection:
        found = matching_schema_names(connection, "schemas", ["S*", '"Odd.Schema"'], schemas)
        assert {"sales", "Odd.Schema"} == found
        with pytest.raises(InputError, match="'salse'") as refused:
            matching_schema_names(connection, "schemas", ["sales", "salse"], schemas)
        assert "sales" in refused.value.detail
        with pytest.raises(InputError, match="no pattern for schemas"):
            matching_schema_names(connection, "schemas", ["a.b"], schemas)


@pytest.mark.parametrize("pattern", ["order", "Sales.Orders2", "public.ordesr", "Order"])
def test_a_pattern_that_matches_nothing_is_told_what_is_near(
    postgres: PostgresServer, pattern: str
) -> None:
    with connect(source_of(postgres, "postgres")) as connection:
        with pytest.raises(InputError, match="nothing in the backup matches") as refused:
            matching_names(connection, "tables", ["sales.*", pattern], NAMES)
        assert "orders" in refused.value.detail.lower()


@pytest.mark.parametrize("pattern", ["a.b.c", "(", "a{2"])
def test_what_is_no_pattern_is_refused_and_the_connection_lives_on(
    postgres: PostgresServer, pattern: str
) -> None:
    with connect(source_of(postgres, "postgres")) as connection:
        with pytest.raises(InputError, match="is no pattern"):
            matching_names(connection, "tables", [pattern], NAMES)
        assert {("sales", "a.b")} == matching_names(connection, "tables", ['"a.b"'], NAMES)


# ---- roles


def globals_of(server: PostgresServer) -> str:
    command = [str(server.binaries / "pg_dumpall"), "--globals-only", "--no-role-passwords"]
    return subprocess.run(
        [*command, "-d", dsn(server, "postgres")], check=True, capture_output=True, text=True
    ).stdout


def without_key(script: str) -> str:
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", script)


@pytest.mark.parametrize("major", MAJORS)
def test_roles_come_back_as_they_were(servers: Callable[[int], PostgresServer], major: int) -> None:
    server = servers(major)
    database_named(server, HOSTILE, EVERYTHING.read_text())
    forget(server, HOSTILE)
    script = globals_of(server)
    drop_roles(server)
    try:
        complaints = load_globals(source_of(server, "no such database"), script)
        again = load_globals(source_of(server, "no such database"), script)
        after = globals_of(server)
    finally:
        drop_roles(server)

    assert () == complaints
    assert () == again
    assert "two\nlines" in script
    assert without_key(script) == without_key(after)


SCRIPT = """
CREATE ROLE rdsadmin;
ALTER ROLE rdsadmin WITH SUPERUSER;
CREATE ROLE present;
ALTER ROLE present WITH NOLOGIN;
CREATE ROLE "new; -- one";
ALTER ROLE "new; -- one" WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS;
CREATE ROLE strong;
ALTER ROLE strong WITH SUPERUSER LOGIN BYPASSRLS;
COMMENT ON ROLE strong IS 'it''s -- no comment; CREATE ROLE x;';
CREATE TABLESPACE fast OWNER nobody LOCATION '/no/such/folder';
GRANT rds_superuser TO strong;
GRANT "new; -- one" TO strong GRANTED BY rdsadmin;
"""  # noqa: E501


def test_roles_are_created_by_a_login_that_is_no_superuser(owned: PostgresServer) -> None:
    owned.sql(f"ALTER ROLE {identifier(OWNER)} CREATEROLE; CREATE ROLE present LOGIN")

    try:
        complaints = load_globals(source_of(owned, "postgres", OWNER, "owner"), SCRIPT)
        roles = owned.sql(
            "SELECT rolname, rolcanlogin, rolsuper FROM pg_roles"
            " WHERE rolname IN ('rdsadmin', 'present', 'new; -- one', 'strong') ORDER BY 1"
        )
        members = owned.sql(
            "SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
            " WHERE m.member = (SELECT oid FROM pg_roles WHERE rolname = 'strong')"
        )
    finally:
        owned.sql('DROP ROLE IF EXISTS strong; DROP ROLE IF EXISTS "new; -- one"')

    assert ["ROLE strong", "TABLESPACE fast"] == [str(each.about) for each in complaints]
    assert "SUPERUSER, BYPASSRLS" in complaints[0].said
    expected = [("new; -- one", True, False), ("present", True, False), ("strong", True, False)]
    assert expected == roles
    assert [("new; -- one",)] == members
