"""What is chosen of an archive, restored in its steps by the real pg_restore, is what was there."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg.conninfo
import pytest

from backup.archive import selection, toc
from backup.archive.selection import Chosen
from backup.archive.toc import Entry, TableOfContents
from backup.errors import DumpError
from backup.model import ObjectName
from tests import by_hand
from tests.conftest import MAJORS, skip_without
from tests.lab.postgres import PostgresServer, installed
from tests.steps import database_named, forget

EVERYTHING = Path(__file__).with_name("everything.sql")

# What everything.sql lacks: what pg_dump must break up, and what must wait for the data.
CIRCLES = """
CREATE SCHEMA circle;
CREATE TABLE circle.item (id int PRIMARY KEY, name text, kind int);
INSERT INTO circle.item SELECT n, 'item ' || n, n % 3 FROM generate_series(1, 500) n;
-- Needs the primary key: the view is a dummy until its rule comes, after the data.
CREATE VIEW circle.by_key AS SELECT id, name, count(*) FROM circle.item GROUP BY id;
CREATE VIEW circle.on_view AS SELECT id FROM circle.by_key;
-- Come after the data as a whole.
CREATE MATERIALIZED VIEW circle.kept_by_key AS SELECT id, name FROM circle.item GROUP BY id;
COMMENT ON MATERIALIZED VIEW circle.kept_by_key IS 'late';
CREATE INDEX kept_name ON circle.kept_by_key (name);
CREATE FUNCTION circle.rows_of() RETURNS SETOF circle.item LANGUAGE sql
    BEGIN ATOMIC SELECT id, name, kind FROM circle.item GROUP BY id; END;
COMMENT ON FUNCTION circle.rows_of() IS 'later';
-- A type of one's own, with a shell before its functions, and a default operator class.
CREATE TYPE circle.mine;
CREATE FUNCTION circle.mine_in(cstring) RETURNS circle.mine AS 'int4in'
    LANGUAGE internal IMMUTABLE STRICT;
CREATE FUNCTION circle.mine_out(circle.mine) RETURNS cstring AS 'int4out'
    LANGUAGE internal IMMUTABLE STRICT;
CREATE TYPE circle.mine (input = circle.mine_in, output = circle.mine_out, internallength = 4,
    passedbyvalue, alignment = int4);
CREATE CAST (circle.mine AS int) WITHOUT FUNCTION;
CREATE FUNCTION circle.same(circle.mine, circle.mine) RETURNS boolean AS 'int4eq'
    LANGUAGE internal IMMUTABLE STRICT;
CREATE OPERATOR circle.= (leftarg = circle.mine, rightarg = circle.mine, function = circle.same,
    commutator = OPERATOR(circle.=), hashes);
CREATE FUNCTION circle.hash(circle.mine) RETURNS int AS 'hashint4'
    LANGUAGE internal IMMUTABLE STRICT;
CREATE OPERATOR CLASS circle.mine_ops DEFAULT FOR TYPE circle.mine USING hash AS
    OPERATOR 1 circle.= (circle.mine, circle.mine), FUNCTION 1 circle.hash(circle.mine);
CREATE FUNCTION circle.less(circle.mine, circle.mine) RETURNS boolean AS 'int4lt'
    LANGUAGE internal IMMUTABLE STRICT;
CREATE FUNCTION circle.compare(circle.mine, circle.mine) RETURNS int AS 'btint4cmp'
    LANGUAGE internal IMMUTABLE STRICT;
CREATE OPERATOR circle.< (leftarg = circle.mine, rightarg = circle.mine, function = circle.less);
CREATE OPERATOR CLASS circle.mine_order DEFAULT FOR TYPE circle.mine USING btree AS
    OPERATOR 1 circle.<, OPERATOR 3 circle.=, FUNCTION 1 circle.compare(circle.mine, circle.mine);
-- Its key needs the class, and pg_dump does not say so.
CREATE TABLE circle.keyed (id circle.mine PRIMARY KEY);
INSERT INTO circle.keyed SELECT n::text::circle.mine FROM generate_series(1, 50) n;
CREATE ACCESS METHOD own_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE circle.of_mine (a circle.mine) USING own_heap;
CREATE INDEX of_mine_a ON circle.of_mine USING hash (a);
INSERT INTO circle.of_mine SELECT n::text::circle.mine FROM generate_series(1, 50) n;
CREATE DOMAIN circle.year AS int;
CREATE TABLE circle.years (y circle.year);
INSERT INTO circle.years VALUES (-5), (2020);
ALTER DOMAIN circle.year ADD CONSTRAINT positive CHECK (VALUE > 0) NOT VALID;
CREATE AGGREGATE circle.sum_of(int) (sfunc = int4pl, stype = int);
CREATE TEXT SEARCH DICTIONARY circle.plain (TEMPLATE = pg_catalog.simple);
CREATE TEXT SEARCH CONFIGURATION circle.search (PARSER = pg_catalog."default");
ALTER TEXT SEARCH CONFIGURATION circle.search ADD MAPPING FOR word WITH circle.plain;
CREATE TABLE circle.searched (
    body text, found tsvector GENERATED ALWAYS AS (to_tsvector('circle.search', body)) STORED);
INSERT INTO circle.searched VALUES ('one two');
-- An owner who may not write to her own table, nor use her own function, type and schema.
CREATE ROLE "selection owner";
CREATE SCHEMA locked AUTHORIZATION "selection owner";
CREATE TABLE locked.away (x int);
INSERT INTO locked.away VALUES (1), (2);
CREATE FUNCTION locked.positive(int) RETURNS boolean LANGUAGE sql IMMUTABLE
    AS $$ SELECT $1 > 0 $$;
ALTER TABLE locked.away ADD CHECK (locked.positive(x));
ALTER TABLE locked.away OWNER TO "selection owner";
ALTER FUNCTION locked.positive(int) OWNER TO "selection owner";
REVOKE ALL ON locked.away FROM "selection owner";
REVOKE ALL ON FUNCTION locked.positive(int) FROM "selection owner", PUBLIC;
REVOKE ALL ON SCHEMA locked FROM "selection owner";
ALTER DEFAULT PRIVILEGES FOR ROLE "selection owner" REVOKE ALL ON TABLES FROM "selection owner";
-- Before the end of a restore it would stop it.
CREATE FUNCTION circle.refuse() RETURNS event_trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'refused: %', tg_tag; END $$;
CREATE EVENT TRIGGER refuses ON ddl_command_start
    WHEN TAG IN ('CREATE TABLE', 'CREATE INDEX', 'ALTER TABLE') EXECUTE FUNCTION circle.refuse();
SELECT lo_from_bytea(9001, 'locked');
ALTER LARGE OBJECT 9001 OWNER TO "selection owner";
REVOKE ALL ON LARGE OBJECT 9001 FROM "selection owner";
"""


@dataclass(frozen=True)
class Archive:
    """A dump of one database, and the server to restore it on."""

    server: PostgresServer
    folder: Path
    contents: TableOfContents

    def restored(self, chosen: Chosen, target: str) -> None:
        """Each step as a pg_restore of its own, the last two with several connections."""
        steps = (chosen.definitions, chosen.data, chosen.finish, chosen.attachments)
        for number, (entries, jobs) in enumerate(zip(steps, (1, 1, 3, 1), strict=True)):
            if not entries:
                continue
            names = self.folder.with_name(f"step-{number}.list")
            names.write_text("".join(f"{entry.dump_id};\n" for entry in entries))
            result = subprocess.run(
                [self.server.binaries / "pg_restore", "--format=directory", f"--jobs={jobs}",
                 f"--use-list={names}", f"--dbname={_url(self.server, target)}", self.folder],
                capture_output=True, text=True,
            )  # fmt: skip
            assert (0, "") == (result.returncode, result.stderr), f"step {number}"


def dumped(server: PostgresServer, database: str, folder: Path) -> Archive:
    archive = folder / "archive"
    subprocess.run(
        [server.binaries / "pg_dump", "--format=directory", "--compress=0", f"--file={archive}",
         f"--dbname={_url(server, database)}"],
        check=True,
    )  # fmt: skip
    return Archive(server, archive, toc.read(archive / "toc.dat"))


def _url(server: PostgresServer, database: str) -> str:
    return psycopg.conninfo.make_conninfo(server.url(), dbname=database)


@pytest.mark.parametrize("major", MAJORS)
def test_a_database_restored_in_steps_is_the_same_database(major: int, tmp_path: Path) -> None:
    skip_without(major)
    with PostgresServer(installed()[major], {"wal_level": "logical"}) as server:
        database_named(server, "source", EVERYTHING.read_text() + CIRCLES)
        archive = dumped(server, "source", tmp_path)
        database_named(server, "target")

        archive.restored(selection.everything(archive.contents), "target")

        before, after = by_hand.plain(server, "source"), by_hand.plain(server, "target")
    assert "" == by_hand.first_difference(before, after)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Both in one database, in the major where it does not matter."""
    major = 17 if 17 in installed() else max(installed())
    with PostgresServer(installed()[major], {"wal_level": "logical"}) as server:
        database_named(server, "source", EVERYTHING.read_text() + CIRCLES)
        yield dumped(server, "source", tmp_path_factory.mktemp("everything"))


@contextmanager
def target_of(archive: Archive, chosen: Chosen, statements: str = "") -> Iterator[str]:
    """A database that holds what the statements make, with what was chosen restored into it."""
    name = database_named(archive.server, "target", statements)
    try:
        archive.restored(chosen, name)
        yield name
    finally:
        forget(archive.server, name)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def dump_of(archive: Archive, database: str, schema: str, table: str) -> bytes:
    """The table as pg_dump prints it, with its indexes, keys, triggers, grants and rows."""
    return by_hand.plain(
        archive.server,
        database,
        f"--table={quoted(schema)}.{quoted(table)}",
        "--no-publications",
    )


def test_schemas_come_whole(everything: Archive) -> None:
    for schemas in (["kinds"], ["circle", "locked"], ["-schema \"x\", 'y' 100% a=b.c $HOME 🐘"]):
        chosen = selection.of_schemas(everything.contents, schemas)
        options = [f"--schema={quoted(schema)}" for schema in schemas] + ["--no-publications"]
        with target_of(everything, chosen) as target:
            before = by_hand.plain(everything.server, "source", *options, "--no-blobs")
            after = by_hand.plain(everything.server, target, *options)
        assert "" == by_hand.first_difference(before, after)
        assert {"PUBLICATION TABLE"} >= {each.entry.kind for each in chosen.left_out}


def test_every_relation_can_be_restored_alone(everything: Archive) -> None:
    relations = [
        (entry.schema or "", entry.name)
        for entry in everything.contents.entries
        if entry.kind in ("TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE")
    ]
    not_whole = set()
    for schema, name in relations:
        chosen = selection.of_tables(everything.contents, [(schema, name)])
        with target_of(everything, chosen) as target:
            after = dump_of(everything, target, schema, name)
        before = dump_of(everything, "source", schema, name)
        lacks = [
            each.entry
            for each in chosen.left_out
            if each.entry.name == name or each.entry.name.startswith(f"{name} ")
        ]
        if lacks:
            not_whole.add((name, lacks[0].kind))
        else:
            assert "" == by_hand.first_difference(before, after), f"{schema}.{name}"
    partitions = "2024", "2025", "2025_a", "2025_a0", "2025_a1", "2025_other", "other"
    assert 53 == len(relations)
    assert not_whole == {
        ("child", "FK CONSTRAINT"),
        ("child_id_seq", "SEQUENCE OWNED BY"),
        ("by_mood", "MATERIALIZED VIEW DATA"),
        ("on_top", "MATERIALIZED VIEW DATA"),
        ("kept_by_key", "MATERIALIZED VIEW DATA"),
        *((f"event_{each}", "TABLE ATTACH") for each in partitions),
    }


SHOP = """
CREATE ROLE "shop, reader";
CREATE SCHEMA shop;
CREATE SCHEMA tools;
COMMENT ON SCHEMA tools IS 'what tables need';
GRANT USAGE ON SCHEMA shop TO "shop, reader";
CREATE TYPE tools.state AS ENUM ('new', 'sent');
COMMENT ON TYPE tools.state IS 'of an order';
CREATE DOMAIN tools.positive AS int CHECK (VALUE > 0);
CREATE FUNCTION tools.short(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT left($1, 3) $$;
REVOKE ALL ON FUNCTION tools.short(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tools.short(text) TO "shop, reader";
CREATE FUNCTION tools.stamp() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN NEW.note := 'stamped'; RETURN NEW; END $$;
CREATE SEQUENCE tools.numbers START 7000;
CREATE TABLE shop.customers (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text);
INSERT INTO shop.customers (name) SELECT 'customer ' || n FROM generate_series(1, 300) n;
CREATE TABLE shop.products (id int PRIMARY KEY, name text);
INSERT INTO shop.products SELECT n, 'product ' || n FROM generate_series(1, 50) n;
CREATE TABLE shop.orders (
    id serial PRIMARY KEY,
    customer int NOT NULL CONSTRAINT of_customer REFERENCES shop.customers,
    product int CONSTRAINT of_product REFERENCES shop.products ON DELETE SET NULL,
    state tools.state DEFAULT 'new',
    amount tools.positive,
    number bigint DEFAULT nextval('tools.numbers'),
    note text CHECK (note <> 'never'),
    twice int GENERATED ALWAYS AS (amount * 2) STORED
);
INSERT INTO shop.orders (customer, product, amount, note)
    SELECT 1 + n % 300, 1 + n % 50, n, 'note ' || n FROM generate_series(1, 2000) n;
CREATE INDEX orders_short ON shop.orders (tools.short(note));
CREATE UNIQUE INDEX orders_number ON shop.orders (number);
ALTER TABLE shop.orders ALTER COLUMN number SET NOT NULL;
ALTER TABLE shop.orders REPLICA IDENTITY USING INDEX orders_number;
ALTER TABLE shop.orders ADD CONSTRAINT late CHECK (customer > 0) NOT VALID;
ALTER TABLE shop.orders ADD EXCLUDE USING btree (number WITH =);
CREATE STATISTICS shop.orders_related ON customer, product FROM shop.orders;
CREATE TRIGGER stamped BEFORE UPDATE ON shop.orders FOR EACH ROW EXECUTE FUNCTION tools.stamp();
CREATE RULE unsaid AS ON DELETE TO shop.orders WHERE old.id = 1 DO INSTEAD NOTHING;
ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON shop.orders USING (note <> current_user);
COMMENT ON TABLE shop.orders IS 'what was ordered';
COMMENT ON COLUMN shop.orders.note IS '100% "free"';
COMMENT ON INDEX shop.orders_short IS 'an index';
COMMENT ON CONSTRAINT of_customer ON shop.orders IS 'a key';
COMMENT ON TRIGGER stamped ON shop.orders IS 'a trigger';
COMMENT ON POLICY mine ON shop.orders IS 'a policy';
GRANT SELECT ON shop.orders TO "shop, reader";
GRANT UPDATE (note) ON shop.orders TO "shop, reader";
CREATE TABLE shop.items (
    order_id int CONSTRAINT of_order REFERENCES shop.orders,
    line int,
    PRIMARY KEY (order_id, line)
);
INSERT INTO shop.items SELECT n, 1 FROM generate_series(1, 2000) n;
CREATE VIEW shop.open AS SELECT o.id, c.name FROM shop.orders o JOIN shop.customers c
    ON c.id = o.customer WHERE state = 'new';
CREATE MATERIALIZED VIEW shop.per_customer AS SELECT name, count(*) FROM shop.open GROUP BY name;
CREATE PUBLICATION shop_changes FOR TABLE shop.orders, shop.items;
CREATE TABLE shop.day (at date NOT NULL, what text, PRIMARY KEY (at, what)) PARTITION BY RANGE (at);
CREATE TABLE shop.day_1 PARTITION OF shop.day FOR VALUES FROM ('2025-01-01') TO ('2025-02-01');
CREATE TABLE shop.day_2 PARTITION OF shop.day FOR VALUES FROM ('2025-02-01') TO ('2025-03-01')
    PARTITION BY LIST (what);
CREATE TABLE shop.day_2_a PARTITION OF shop.day_2 FOR VALUES IN ('a');
CREATE INDEX day_what ON shop.day (what);
INSERT INTO shop.day SELECT date '2025-01-01' + n, 'a' FROM generate_series(0, 50) n;
CREATE TABLE shop.base (a int, b text DEFAULT 'from base');
ALTER TABLE shop.base ADD CONSTRAINT checked CHECK (a > 0) NOT VALID;
INSERT INTO shop.base VALUES (1, 'x');
CREATE TABLE shop.heir (c int) INHERITS (shop.base);
INSERT INTO shop.heir VALUES (2, 'y', 3);
CREATE TABLE shop.borrower (id bigint DEFAULT nextval('shop.orders_id_seq'), x int);
INSERT INTO shop.borrower (x) VALUES (1);
SELECT lo_from_bytea(4711, 'never with a table');
-- Names that could be taken for one another.
CREATE TABLE shop."a" (x int);
CREATE TABLE shop."a b" (x int);
ALTER TABLE shop."a" ADD CONSTRAINT "b c" CHECK (x > 1) NOT VALID;
ALTER TABLE shop."a b" ADD CONSTRAINT c CHECK (x > 2) NOT VALID;
CREATE POLICY "b c" ON shop."a" USING (EXISTS (SELECT FROM shop."a b"));
CREATE POLICY c ON shop."a b" USING (EXISTS (SELECT FROM shop."a"));
CREATE TABLE shop."far REFERENCES shop.a(" (x int PRIMARY KEY);
CREATE TABLE shop.refers (" REFERENCES shop.a(x" int REFERENCES shop."far REFERENCES shop.a(");
"""


@pytest.fixture(scope="module")
def shop(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    database_named(postgres, "selection shop", SHOP)
    yield dumped(postgres, "selection shop", tmp_path_factory.mktemp("shop"))
    forget(postgres, "selection shop")
    postgres.sql('DROP ROLE "shop, reader"')


def in_shop(name: str) -> ObjectName:
    return ObjectName("TABLE", "shop", name)


def names(entries: Collection[Entry]) -> set[str]:
    return {f"{entry.kind} {entry.schema}.{entry.name}" for entry in entries}


def lost(chosen: Chosen) -> dict[str, str]:
    return {f"{each.entry.kind} {each.entry.name}": each.reason for each in chosen.left_out}


def remedies(chosen: Chosen) -> str:
    return "\n".join(each.remedy for each in chosen.left_out)


def test_a_table_comes_back_whole_with_what_it_needs(shop: Archive) -> None:
    tables = [("shop", "orders"), ("shop", "customers"), ("shop", "products"), ("shop", "items")]
    chosen = selection.of_tables(shop.contents, tables)

    with target_of(shop, chosen) as target:
        for schema, table in tables:
            before = dump_of(shop, "selection shop", schema, table)
            assert "" == by_hand.first_difference(before, dump_of(shop, target, schema, table))
        needed = ["--schema=tools", "--schema-only"]
        before = by_hand.plain(shop.server, "selection shop", *needed)
        assert "" == by_hand.first_difference(before, by_hand.plain(shop.server, target, *needed))
        assert [(9000,)] == shop.server.sql("SELECT nextval('tools.numbers')", target)
        assert [] == shop.server.sql("SELECT 1 FROM pg_largeobject_metadata", target)
    assert {"PUBLICATION TABLE shop_changes orders", "PUBLICATION TABLE shop_changes items"} == set(
        lost(chosen)
    )


def test_keys_to_and_from_tables_that_were_not_chosen_are_listed_with_their_remedy(
    shop: Archive,
) -> None:
    chosen = selection.of_tables(
        shop.contents,
        [("shop", "orders")],
        {ObjectName("SCHEMA", "", "shop"), in_shop("products")},
    )

    outside = "CREATE SCHEMA shop; CREATE TABLE shop.products AS SELECT generate_series(1, 50) id;"
    with target_of(shop, chosen, outside + "ALTER TABLE shop.products ADD PRIMARY KEY (id)") as it:
        keys = shop.server.sql(
            "SELECT conname FROM pg_constraint WHERE contype = 'f' ORDER BY 1", it
        )
        shop.server.sql(
            "CREATE TABLE shop.customers AS SELECT generate_series(1, 300) id;"
            "ALTER TABLE shop.customers ADD PRIMARY KEY (id);"
            "CREATE TABLE shop.items (order_id int);"
            "CREATE PUBLICATION shop_changes",
            it,
        )
        shop.server.sql(remedies(chosen), it)
        after = shop.server.sql(
            "SELECT conname FROM pg_constraint WHERE contype = 'f' ORDER BY 1", it
        )
    assert [("of_product",)] == keys
    assert [("of_customer",), ("of_order",), ("of_product",)] == after
    assert {
        "FK CONSTRAINT orders of_customer": "it refers to shop.customers, which was not chosen and"
        " is not in the target",
        "FK CONSTRAINT items of_order": "shop.items, which refers to shop.orders, was not chosen:"
        " add its key back where it is",
        "PUBLICATION TABLE shop_changes orders": "publications do not come with their tables",
    } == lost(chosen)


def test_what_the_target_holds_is_not_touched(shop: Archive) -> None:
    present = {
        ObjectName("SCHEMA", "", "shop"),
        ObjectName("SCHEMA", "", "tools"),
        ObjectName("TYPE", "tools", "state"),
        ObjectName("FUNCTION", "tools", "short(text)"),
        ObjectName("SEQUENCE", "tools", "numbers"),
        ObjectName("TABLE", "shop", "orders"),
    }

    came = names(selection.of_tables(shop.contents, [("shop", "orders")], present).entries)

    assert "TABLE shop.orders" in came
    assert "DOMAIN tools.positive" in came
    assert "FUNCTION tools.stamp()" in came
    assert not {"SCHEMA None.tools", "COMMENT None.SCHEMA tools", "ACL None.SCHEMA shop"} & came
    assert not {"TYPE tools.state", "COMMENT tools.TYPE state"} & came
    assert not {"FUNCTION tools.short(text)", "ACL tools.FUNCTION short(text)"} & came
    assert not {"SEQUENCE tools.numbers", "SEQUENCE SET tools.numbers"} & came


def test_a_view_brings_its_tables_without_their_rows_and_says_so(shop: Archive) -> None:
    chosen = selection.of_tables(shop.contents, [("shop", "per_customer")])

    with target_of(shop, chosen) as target:
        assert [(0, 0)] == shop.server.sql(
            "SELECT (SELECT count(*) FROM shop.orders), (SELECT count(*) FROM shop.open)", target
        )
        assert [(False,)] == shop.server.sql(
            "SELECT relispopulated FROM pg_class WHERE relname = 'per_customer'", target
        )
    reasons = lost(chosen)
    assert (
        "shop.orders was not chosen, shop.open needs it: it comes without its rows"
        == reasons["TABLE DATA orders"]
    )
    assert "TABLE DATA customers" in reasons
    refresh = reasons["MATERIALIZED VIEW DATA per_customer"]
    assert refresh in {
        f"it reads shop.{table}, which comes without its rows" for table in ("orders", "customers")
    }
    # Both ends are empty: the key between them can come.
    assert "FK CONSTRAINT shop.orders of_customer" in names(chosen.finish)


def test_a_view_comes_filled_where_its_tables_are_chosen_or_there(shop: Archive) -> None:
    tables = [("shop", "per_customer"), ("shop", "orders"), ("shop", "customers")]
    together = selection.of_tables(shop.contents, tables)
    present = {in_shop("orders"), in_shop("customers")}
    alone = selection.of_tables(shop.contents, tables[:1], present)

    with target_of(shop, together) as target:
        assert [(300,)] == shop.server.sql("SELECT count(*) FROM shop.per_customer", target)
    refresh = "MATERIALIZED VIEW DATA shop.per_customer"
    assert refresh in names(together.finish)
    assert refresh in names(alone.finish)
    assert {"VIEW shop.open", "MATERIALIZED VIEW shop.per_customer"} == names(
        [each for each in alone.definitions if each.kind not in ("SCHEMA", "TYPE")]
    )


def test_a_partitioned_table_brings_its_partitions(shop: Archive) -> None:
    chosen = selection.of_tables(shop.contents, [("shop", "day")])

    with target_of(shop, chosen) as target:
        tree = shop.server.sql("SELECT relid::text FROM pg_partition_tree('shop.day')", target)
        assert [("shop.day",), ("shop.day_1",), ("shop.day_2",), ("shop.day_2_a",)] == tree
        assert [(51,)] == shop.server.sql("SELECT count(*) FROM shop.day", target)
        assert [] == shop.server.sql(
            "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid", target
        )
    assert () == chosen.left_out


def test_a_partition_alone_is_attached_only_where_its_table_is(shop: Archive) -> None:
    alone = selection.of_tables(shop.contents, [("shop", "day_1"), ("shop", "day_2")])
    with target_of(shop, alone) as target:
        assert [(51,)] == shop.server.sql(
            "SELECT (SELECT count(*) FROM shop.day_1) + (SELECT count(*) FROM shop.day_2)", target
        )
        assert [("shop.day_2_a",)] == shop.server.sql(
            "SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class ON oid = inhrelid"
            " WHERE relkind = 'r'",
            target,
        )
    reason = "it is a partition of shop.day, which was not chosen and is not in the target"
    assert {"TABLE ATTACH day_1": reason, "TABLE ATTACH day_2": reason} == lost(alone)

    there = selection.of_tables(
        shop.contents,
        [("shop", "day_1")],
        {ObjectName("SCHEMA", "", "shop"), in_shop("day")},
    )
    with target_of(
        shop,
        there,
        "CREATE SCHEMA shop;"
        "CREATE TABLE shop.day (at date NOT NULL, what text, PRIMARY KEY (at, what))"
        " PARTITION BY RANGE (at);"
        "CREATE INDEX day_what ON shop.day (what)",
    ) as target:
        assert [(31,)] == shop.server.sql("SELECT count(*) FROM shop.day", target)
        indexes = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'shop.day_1'"
        assert [("shop.day_1_pkey",), ("shop.day_1_what_idx",)] == shop.server.sql(
            f"{indexes}::regclass AND indisvalid ORDER BY 1", target
        )
    assert {} == lost(there)


def test_an_heir_brings_what_it_inherits_from_without_its_rows(shop: Archive) -> None:
    chosen = selection.of_tables(shop.contents, [("shop", "heir")])

    with target_of(shop, chosen) as target:
        rows = shop.server.sql("SELECT tableoid::regclass::text, a, b FROM shop.base", target)
        checks = shop.server.sql(
            "SELECT conname FROM pg_constraint WHERE conname = 'checked'", target
        )
    assert [("shop.heir", 2, "y")] == rows
    assert [("checked",), ("checked",)] == checks
    assert {
        "TABLE DATA base": "shop.base was not chosen, shop.heir needs it: it comes without its rows"
    } == lost(chosen)


def test_a_sequence_of_another_table_comes_with_its_value(shop: Archive) -> None:
    chosen = selection.of_tables(shop.contents, [("shop", "borrower")])

    with target_of(shop, chosen) as target:
        shop.server.sql("INSERT INTO shop.borrower (x) VALUES (2)", target)
        assert [(2001,), (2002,)] == shop.server.sql("SELECT id FROM shop.borrower", target)
    assert {
        "SEQUENCE OWNED BY orders_id_seq": "shop.orders owns it, which was not chosen and is not in"
        " the target"
    } == lost(chosen)


ALIKE = {in_shop("a"), in_shop("a b")}


def test_names_that_look_alike_are_told_apart(shop: Archive) -> None:
    for table, constraint in (("a", "b c"), ("a b", "c")):
        chosen = selection.of_tables(shop.contents, [("shop", table)], ALIKE - {in_shop(table)})
        came = names(chosen.entries)
        assert {
            f"TABLE shop.{table}",
            f"CHECK CONSTRAINT shop.{table} {constraint}",
            f"POLICY shop.{table} {constraint}",
        } == {each for each in came if each.startswith(("TABLE shop", "CHECK", "POLICY"))}
    key = selection.of_tables(shop.contents, [("shop", "refers")], {in_shop("a")})
    (left_out,) = key.left_out
    assert (
        "it refers to shop.far REFERENCES shop.a(, which was not chosen and is not in the target"
        == left_out.reason
    )


def test_a_table_brings_the_extensions_that_it_needs(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    wanted = ("btree_gist", "citext", "pg_trgm")
    if len(wanted) != len(
        postgres.sql(f"SELECT name FROM pg_available_extensions WHERE name IN {wanted}")
    ):
        pytest.skip("this server has no contrib modules: the 17 of `make test` has them")
    database_named(
        postgres,
        "rooms",
        "CREATE SCHEMA more; CREATE EXTENSION citext SCHEMA more;"
        "CREATE EXTENSION btree_gist; CREATE EXTENSION pg_trgm;"
        "CREATE TABLE booked (room int, during daterange, by more.citext,"
        " EXCLUDE USING gist (room WITH =, during WITH &&));"
        "CREATE INDEX ON booked USING gin ((by::text) gin_trgm_ops);"
        "INSERT INTO booked VALUES (1, '[2025-01-01,2025-02-01)', 'Me');"
        "CREATE TABLE plain (during daterange, EXCLUDE USING gist (during WITH &&))",
    )
    archive = dumped(postgres, "rooms", tmp_path)
    booked = selection.of_tables(archive.contents, [("public", "booked")])
    plain = selection.of_tables(archive.contents, [("public", "plain")])

    with target_of(archive, booked) as target:
        before = dump_of(archive, "rooms", "public", "booked")
        assert "" == by_hand.first_difference(before, dump_of(archive, target, "public", "booked"))
    forget(postgres, "rooms")
    assert {f"EXTENSION None.{name}" for name in wanted} <= names(booked.definitions)
    assert {"TABLE public.plain"} == names(plain.definitions)


def test_a_table_of_another_name_is_not_silently_nothing(shop: Archive) -> None:
    with pytest.raises(DumpError, match=r"does not hold shop\.Orders$"):
        selection.of_tables(shop.contents, [("shop", "orders"), ("shop", "Orders")])
    with pytest.raises(DumpError, match=r"nothing of the schemas sales$"):
        selection.of_schemas(shop.contents, ["shop", "sales"])


def test_a_schema_says_what_it_leaves_as_it_is(shop: Archive) -> None:
    present = {ObjectName("SCHEMA", "", "tools"), ObjectName("TYPE", "tools", "state")}

    chosen = selection.of_schemas(shop.contents, ["tools"], present)

    assert "FUNCTION tools.short(text)" in names(chosen.definitions)
    assert "ACL tools.FUNCTION short(text)" in names(chosen.finish)
    assert {
        "TYPE state": "the target has it already, and it was left as it is there",
        "COMMENT SCHEMA tools": "it alters what this restore does not make",
    } == lost(chosen)
    assert "CREATE TYPE tools.state" in remedies(chosen)


def test_a_whole_database_without_some_objects_names_them(shop: Archive) -> None:
    contents = shop.contents
    ids = {entry.dump_id for entry in contents.entries if entry.name == "positive"}
    behind = selection.dependents(contents, ids)

    chosen = selection.everything(
        contents, without=dict.fromkeys(ids | behind, "it needs what the target lacks")
    )

    with target_of(shop, chosen) as target:
        assert [(None, 300)] == shop.server.sql(
            "SELECT to_regclass('shop.orders'), count(*) FROM shop.customers", target
        )
    left_out = names([each.entry for each in chosen.left_out])
    assert {
        "DOMAIN tools.positive",
        "TABLE shop.orders",
        "TABLE DATA shop.orders",
        "ACL shop.TABLE orders",
        "VIEW shop.open",
        "MATERIALIZED VIEW DATA shop.per_customer",
        "FK CONSTRAINT shop.items of_order",
    } <= left_out
    assert "TABLE shop.items" not in left_out
    assert len(contents.entries) - 4 == len(chosen.entries) + len(chosen.left_out)
    assert ["DATABASE"] == [each.kind for each in selection.database_entries(contents)]


def test_a_view_in_a_circle_falls_with_its_rule(everything: Archive) -> None:
    key = {
        entry.dump_id
        for entry in everything.contents.entries
        if entry.kind == "CONSTRAINT" and entry.name == "item item_pkey"
    }

    fallen = selection.dependents(everything.contents, key)

    assert {
        "RULE circle.by_key _RETURN",
        "VIEW circle.by_key",
        "VIEW circle.on_view",
        "MATERIALIZED VIEW circle.kept_by_key",
        "FUNCTION circle.rows_of()",
    } <= names([entry for entry in everything.contents.entries if entry.dump_id in fallen])
