"""The runbooks: each way through a page, with its commands and its YAML as they are written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import by_hand
from tests.lab.aws import Moto
from tests.lab.cloud import Cloud, new_cloud
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer, installed
from tests.restores import databases, is_marked, told
from tests.runbooks import Desk, clients, sit_down
from tests.steps import back_up, database_named, forget, green

pytestmark = pytest.mark.skipif(
    not shutil.which("jq"), reason="jq is not installed here; runners of GitHub have it"
)

PASSWORD = "it's: 100% /?#"
ROLES = f"""
CREATE ROLE restore SUPERUSER LOGIN PASSWORD '{PASSWORD.replace("'", "''")}';
CREATE ROLE shop LOGIN PASSWORD 'shop';
"""
SHOP = """
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL);
INSERT INTO orders (note) SELECT md5(n::text) FROM generate_series(1, 4000) n;
CREATE INDEX ON orders (note);
CREATE TABLE order_lines (id int PRIMARY KEY, order_id bigint REFERENCES orders (id));
INSERT INTO order_lines SELECT n, n FROM generate_series(1, 300) n;
GRANT SELECT ON orders TO shop;
ALTER TABLE orders OWNER TO shop;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server to be reached over TLS alone, by a login that may do all."""
    majors = installed()
    # 17 is the one in a wheel that has zstd.
    with PostgresServer(majors[17 if 17 in majors else max(majors)], tls_only=True) as running:
        running.sql(ROLES)
        yield running


@pytest.fixture
def desk(server: PostgresServer, cloud: Cloud, tmp_path: Path) -> Iterator[Desk]:
    """A desk, and on the server a shop that was backed up."""
    yield from with_shop(sit_down(server, cloud, tmp_path, PASSWORD))


def with_shop(desk: Desk) -> Iterator[Desk]:
    before = databases(desk.server)
    database_named(desk.server, "shop", SHOP)
    run = green(back_up(desk.cloud, desk.server, "shop"))
    desk.filled["20261122T020000Z-1f9c3a"] = run.outputs["backup-id"]
    yield desk
    for name in set(databases(desk.server)) - set(before):
        forget(desk.server, name)


def shop_of(desk: Desk, database: str = "shop") -> bytes:
    return by_hand.plain(desk.server, database)


def assert_shop(desk: Desk, expected: bytes, database: str = "shop") -> None:
    assert not is_marked(desk.server, database)
    assert "" == by_hand.first_difference(expected, shop_of(desk, database))


def orders(desk: Desk, condition: str = "true") -> int:
    ((rows,),) = desk.server.sql(f"SELECT count(*)::int FROM orders WHERE {condition}", "shop")
    assert isinstance(rows, int)
    return rows


WAYS = pytest.mark.parametrize("way", ["terminal", "workflow"])


@WAYS
def test_a_deleted_table_comes_back_to_its_place(desk: Desk, way: str) -> None:
    book = desk.open("deleted-table.md")
    gone = "3a. The table is gone: bring it back to its place"
    before = shop_of(desk)
    desk.server.sql("DROP TABLE orders CASCADE", "shop")
    backup_id = desk.filled["20261122T020000Z-1f9c3a"]

    assert backup_id in desk.type(book, "2. Choose the backup", 0)
    assert f"{backup_id}\t4000\n" == desk.type(book, "2. Choose the backup", 1)
    if way == "terminal":
        summary = desk.type(book, gone)
    else:
        summary = told(green(desk.paste(book, gone)))
    assert "ADD CONSTRAINT order_lines_order_id_fkey" in summary
    desk.server.sql(book.block(gone, language="sql"), "shop")

    assert "4000" in desk.type(book, "Check")
    assert_shop(desk, before)


def test_deleted_rows_come_back_beside_those_that_were_left(desk: Desk) -> None:
    book = desk.open("deleted-table.md")
    desk.server.sql("DELETE FROM order_lines; DELETE FROM orders WHERE id % 2 = 0", "shop")
    desk.server.sql("UPDATE orders SET note = 'changed since' WHERE id = 1", "shop")
    for number in range(3):
        beside = "3b. The table is there, and rows are missing or wrong: bring them beside it"
        desk.type(book, beside, number)

    assert (4000, 1) == (orders(desk), orders(desk, "note = 'changed since'"))


def test_a_table_is_replaced_unless_something_depends_on_it(desk: Desk) -> None:
    book = desk.open("deleted-table.md")
    block = book.block("3a. The table is gone: bring it back to its place")
    line = book.names_before(block) + block.replace("--allow-existing true", "--clean true")
    desk.server.sql("UPDATE orders SET note = 'wrong'", "shop")

    with pytest.raises(AssertionError, match="order_lines_order_id_fkey"):
        desk.shell.run(f"set -e\n{line}")
    assert 4000 == orders(desk, "note = 'wrong'")
    desk.server.sql("DROP TABLE order_lines", "shop")
    desk.shell.run(f"set -e\n{line}")

    assert (4000, 0) == (orders(desk), orders(desk, "note = 'wrong'"))


@WAYS
def test_a_dropped_database_comes_back(desk: Desk, way: str) -> None:
    book = desk.open("dropped-database.md")
    gone = "3a. The database is gone: create it and fill it"
    before = shop_of(desk)
    forget(desk.server, "shop")
    desk.server.sql("DROP ROLE shop")

    desk.type(book, "2. Choose the backup", 0)
    if way == "terminal":
        desk.type(book, gone)
    else:
        green(desk.paste(book, gone))

    assert "" == desk.type(book, "If it stops half way").strip()
    assert "orders" in desk.type(book, "Check")
    desk.type(book, "Next")
    assert_shop(desk, before)


def test_a_damaged_database_changes_places_with_the_restored_one(desk: Desk) -> None:
    book = desk.open("dropped-database.md")
    before = shop_of(desk)
    desk.server.sql("UPDATE orders SET note = 'wrong'", "shop")
    for number in range(2):
        beside = "3b. The damaged database is still there: restore beside it, then change the names"
        desk.type(book, beside, number)

    assert_shop(desk, before)
    assert "shop_damaged" in databases(desk.server)


def test_a_database_is_restored_without_this_project(desk: Desk) -> None:
    book = desk.open("without-this-action.md")
    before = shop_of(desk)
    assert f"{desk.filled['20261122T020000Z-1f9c3a']}\n" == desk.type(book, "1. Choose the backup")
    desk.type(book, "1. Choose the backup", 2)
    assert "" == desk.type(book, "2a. All of it", 0).replace("download: ", "")[:0]
    desk.shell.run("sh -c 'exit 0'")
    desk.type(book, "2a. All of it", 1)
    desk.type(book, "2a. All of it", 2)

    assert "public\torders\t4000" in desk.type(book, "Check")
    assert_shop(desk, before, "restored")


def test_a_table_is_restored_without_this_project(desk: Desk) -> None:
    book = desk.open("without-this-action.md")
    before = shop_of(desk)
    desk.server.sql("ALTER TABLE order_lines DROP CONSTRAINT order_lines_order_id_fkey", "shop")
    desk.server.sql("DROP TABLE orders", "shop")
    desk.type(book, "1. Choose the backup", 2)
    desk.type(book, "2b. One table", 1)
    listed = desk.type(book, "2b. One table", 2)
    desk.type(book, "2b. One table", 3)
    desk.server.sql(
        desk.open("deleted-table.md").block(
            "3a. The table is gone: bring it back to its place", language="sql"
        ),
        "shop",
    )

    assert "TABLE DATA public orders" in listed
    assert_shop(desk, before)
