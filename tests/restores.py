"""What every test of a restore asks: is the target whole, untouched, or marked as unusable?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests import by_hand
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun
from tests.lab.stage import Stage, assert_clean_end, the_error
from tests.steps import database_named, forget

MARK = "restore_unfinished_do_not_use"
# A small database, and two roles that its owners and grants name.
SHOP = """
CREATE ROLE shop_owner LOGIN PASSWORD 'owner';
CREATE ROLE shop_reader;
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id serial PRIMARY KEY, note text);
INSERT INTO sales.orders (note) SELECT md5(n::text) FROM generate_series(1, 4000) n;
CREATE INDEX ON sales.orders (note);
CREATE TABLE sales.lines (id int PRIMARY KEY, ordered int REFERENCES sales.orders);
INSERT INTO sales.lines SELECT n, n FROM generate_series(1, 300) n;
CREATE VIEW sales.recent AS SELECT * FROM sales.orders WHERE id > 3900;
CREATE TABLE settings (name text PRIMARY KEY, value text);
INSERT INTO settings VALUES ('colour', 'blue');
SELECT lo_from_bytea(500, 'large');
GRANT SELECT ON sales.orders TO shop_reader;
ALTER TABLE sales.lines OWNER TO shop_reader;
"""


@contextmanager
def target(server: PostgresServer, name: str, statements: str = "") -> Iterator[str]:
    """A database to restore into, and gone afterwards."""
    try:
        yield database_named(server, name, statements)
    finally:
        forget(server, name)


def is_marked(server: PostgresServer, database: str) -> bool:
    return [] != server.sql(f"SELECT 1 FROM pg_namespace WHERE nspname = '{MARK}'", database)


def databases(server: PostgresServer) -> list[str]:
    return [name for (name,) in server.sql("SELECT datname FROM pg_database ORDER BY 1")]


def assert_same(
    server: PostgresServer,
    expected: str,
    actual: str,
    *options: str,
    other: PostgresServer | None = None,
) -> None:
    """Two databases are equal in all that pg_dump prints of them; `other` holds the second."""
    one = by_hand.plain(server, expected, *options)
    two = by_hand.plain(other or server, actual, *options)
    difference = by_hand.first_difference(one, two)
    assert "" == difference, difference


def assert_restored(run: ActionRun, stage: Stage, database: str) -> None:
    """A green run with a clean end, and no mark in the target."""
    assert 0 == run.exit_code, run.output
    assert [] == run.errors
    assert_clean_end(run, stage)
    assert not is_marked(stage.server, database)
    assert "✅" in run.summary


def assert_failed(run: ActionRun, stage: Stage, exit_code: int, words: Sequence[str]) -> str:
    """A red run with a clean end and one error of three parts that holds the words; its text."""
    assert exit_code == run.exit_code, run.output
    assert_clean_end(run, stage)
    assert "❌" in run.summary
    return the_error(run, *words)


def assert_unusable(
    run: ActionRun, stage: Stage, database: str, exit_code: int, *words: str
) -> None:
    """A restore that failed half way says so, and left its target marked."""
    error = assert_failed(run, stage, exit_code, ["not to be used", MARK, *words])
    assert "can be run again" in error, error
    assert is_marked(stage.server, database)


def told(run: ActionRun) -> str:
    """The job summary without the signs that keep names from being taken for markdown."""
    return run.summary.replace("\\", "")


@contextmanager
def untouched(server: PostgresServer, *names: str) -> Iterator[None]:
    """No database comes or goes, and nothing in those of these names changes."""
    before = databases(server), [by_hand.plain(server, name) for name in names]
    yield
    assert before[0] == databases(server)
    for name, dump in zip(names, before[1], strict=True):
        difference = by_hand.first_difference(dump, by_hand.plain(server, name))
        assert "" == difference, difference
