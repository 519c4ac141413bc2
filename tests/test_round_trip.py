"""A backup restored by hand is the database that was backed up, byte for byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import by_hand
from tests.conftest import MAJORS, skip_without
from tests.lab.aws import Ministack
from tests.lab.cloud import Cloud, listing, new_cloud, writing
from tests.lab.issuer import Issuer
from tests.lab.login import VersionFront
from tests.lab.postgres import PostgresServer, installed
from tests.steps import (
    back_up,
    database_named,
    drop_roles,
    fill_with_chance,
    forget,
    green,
)

EVERYTHING = Path(__file__).with_name("everything.sql")
HOSTILE_NAME = '-it\'s "100%" a=b.c $HOME/🐘\nline two; DROP'


@pytest.mark.parametrize("major", MAJORS)
def test_a_restore_by_hand_with_the_lines_of_the_summary_gives_the_same_database(
    major: int, cloud: Cloud, tmp_path: Path
) -> None:
    skip_without(major)
    with PostgresServer(installed()[major]) as server:
        database_named(server, HOSTILE_NAME, EVERYTHING.read_text())
        fill_with_chance(server, HOSTILE_NAME, "kinds.bulk", 10)

        run = green(back_up(cloud, server, HOSTILE_NAME))

        before, roles_before = by_hand.plain(server, HOSTILE_NAME), by_hand.roles(server)
        forget(server, HOSTILE_NAME)
        drop_roles(server)
        shell = by_hand.shell(tmp_path, server, cloud)
        for line in by_hand.restore_lines(run):
            shell.run(line)
        after, roles_after = by_hand.plain(server, "restored"), by_hand.roles(server)
    assert len(before) > 20 << 20
    assert "" == by_hand.first_difference(before, after)
    assert "" == by_hand.first_difference(roles_before, roles_after)
    keys = [Path(key).name for key in cloud.objects() if "/archive/" in key]
    assert 2 == len(keys), keys
    assert [] == run.warnings


ORDERS = "SELECT n AS id, md5(n::text) AS note FROM generate_series(1, 4000) n"


@pytest.mark.parametrize("lines", ["the whole", "one table"])
def test_the_lines_of_the_readme_restore_a_backup(
    postgres: PostgresServer, cloud: Cloud, tmp_path: Path, lines: str
) -> None:
    if lines == "one table" and not shutil.which("jq"):
        pytest.skip("jq is not installed here: .ci/run installs it, and runners of GitHub have it")
    database_named(postgres, "shop", f"CREATE TABLE orders AS {ORDERS}; CREATE TABLE t (x int)")
    run = green(back_up(cloud, postgres, "shop"))
    before = by_hand.plain(postgres, "shop")
    forget(postgres, "shop")
    shell = by_hand.shell(tmp_path, postgres, cloud)
    whole, one_table, *_ = (
        block.replace("BUCKET", cloud.bucket).replace("ID", run.outputs["backup-id"])
        for block in by_hand.readme_blocks("Restoring by hand")
    )

    shell.run(f"set -e\n{whole}")
    if lines == "one table":
        postgres.sql("TRUNCATE orders", "restored")
        shell.run(f"set -e\n{one_table}")
    after = by_hand.plain(postgres, "restored")
    forget(postgres, "restored")

    assert "" == by_hand.first_difference(before, after)


# Variants: the archive as SQL is what pg_dump itself prints, so no second database is needed.

SHOP = """
CREATE SCHEMA sales;
CREATE SCHEMA stock;
CREATE TABLE sales.orders AS SELECT n AS id, md5(n::text) AS note FROM generate_series(1, 4000) n;
CREATE TABLE sales."Order Line" AS SELECT n AS id FROM generate_series(1, 300) n;
CREATE TABLE stock.item (id int PRIMARY KEY, name text);
INSERT INTO stock.item VALUES (1, 'one'), (2, 'two');
CREATE TABLE log AS SELECT n AS id FROM generate_series(1, 100) n;
SELECT lo_from_bytea(500, 'large');
"""


@pytest.fixture(scope="module")
def shop(postgres: PostgresServer) -> Iterator[str]:
    yield database_named(postgres, "round trip shop", SHOP)
    forget(postgres, "round trip shop")


@pytest.mark.parametrize(
    ("compression", "jobs", "ending"),
    [
        ("none", "4", ".dat"),
        ("gzip", "1", ".dat.gz"),
        ("gzip:1", "4", ".dat.gz"),
        ("lz4", "1", ".dat.lz4"),
        ("zstd:3", "4", ".dat.zst"),
        ("", "1", ".dat.zst"),
    ],
)
def test_each_compression_and_number_of_jobs_gives_the_same_dump(
    postgres: PostgresServer, cloud: Cloud, shop: str, tmp_path: Path,
    compression: str, jobs: str, ending: str,
) -> None:  # fmt: skip
    run = back_up(cloud, postgres, shop, {"compression": compression, "jobs": jobs})

    by_hand.assert_same_dump(run, cloud, postgres, shop, tmp_path)
    (manifest,) = cloud.manifests().values()
    data = [member["name"] for member in manifest["members"] if "table" in member]
    assert 4 == len(data)
    assert all(name.endswith(ending) for name in data), data
    assert (compression or "zstd:1") == manifest["compression"]


@pytest.mark.parametrize("major", [14, 15])
def test_a_client_without_zstd_compresses_with_gzip_and_refuses_to_be_asked_for_more(
    major: int, servers: Callable[[int], PostgresServer], cloud: Cloud
) -> None:
    server = servers(major)
    database_named(server, "old", "CREATE TABLE t AS SELECT n FROM generate_series(1, 9000) n")

    run = back_up(cloud, server, "old")
    refused = back_up(cloud, server, "old", {"compression": "zstd:3"})
    forget(server, "old")

    green(run)
    (manifest,) = cloud.manifests().values()
    assert "gzip:1" == manifest["compression"]
    assert 2 == refused.exit_code
    assert "cannot compress with zstd" in refused.errors[0].message
    assert "write gzip:3" in refused.errors[0].message


@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        ({"schemas": "sales\nstock"}, ("--schema=sales", "--schema=stock")),
        ({"exclude-schemas": "s*"}, ("--exclude-schema=s*",)),
        ({"tables": 'sales."Order Line"\n\nlog\n'}, ('--table=sales."Order Line"', "--table=log")),
        ({"exclude-tables": "sales.*"}, ("--exclude-table=sales.*",)),
        ({"exclude-table-data": "*.orders\nlog"},
         ("--exclude-table-data=*.orders", "--exclude-table-data=log")),
        ({"schemas": "sales", "exclude-tables": "sales.orders"},
         ("--schema=sales", "--exclude-table=sales.orders")),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_selection_is_what_pg_dump_selects_and_the_manifest_says_so(
    postgres: PostgresServer, cloud: Cloud, shop: str, tmp_path: Path,
    inputs: dict[str, str], options: tuple[str, ...],
) -> None:  # fmt: skip
    run = back_up(cloud, postgres, shop, inputs)

    by_hand.assert_same_dump(run, cloud, postgres, shop, tmp_path, *options)
    (manifest,) = cloud.manifests().values()
    for name, text in inputs.items():
        patterns = [line for line in text.splitlines() if line]
        assert patterns == manifest["selection"][name.replace("-", "_")]


def test_a_pattern_that_matches_nothing_is_refused(
    postgres: PostgresServer, cloud: Cloud, shop: str
) -> None:
    run = back_up(cloud, postgres, shop, {"tables": "log\nsales.Orders_2031"})

    assert 2 == run.exit_code
    assert "nothing matches 'sales.Orders_2031'" in run.errors[0].message
    assert {} == cloud.objects()


def test_rows_are_not_counted_where_nobody_wants_them(
    postgres: PostgresServer, cloud: Cloud, shop: str, tmp_path: Path
) -> None:
    run = back_up(cloud, postgres, shop, {"row-counts": "false"})

    by_hand.assert_same_dump(run, cloud, postgres, shop, tmp_path)
    (manifest,) = cloud.manifests().values()
    assert {None} == {relation["rows"] for relation in manifest["inventory"]["relations"]}
    assert "rows not counted" in run.summary


def test_backups_may_lie_at_the_root_of_the_bucket(
    postgres: PostgresServer, ministack: Ministack, issuer: Issuer, shop: str, tmp_path: Path
) -> None:
    with new_cloud(ministack, issuer) as cloud:
        cloud.allow(writing(cloud.bucket, prefix=""), listing(cloud.bucket))
        run = back_up(cloud, postgres, shop, {"prefix": "/"})

        by_hand.assert_same_dump(run, cloud, postgres, shop, tmp_path)
        assert all(key.startswith("round%20trip%20shop/2") for key in cloud.objects())


# Clients of other majors.


def test_a_newer_client_is_used_with_a_warning_that_says_what_it_means(
    servers: Callable[[int], PostgresServer], cloud: Cloud
) -> None:
    packaged = {folder.parent.name for folder in Path("/usr/lib/postgresql").glob("*/bin")}
    newest = max(installed())
    hidden = [major for major in installed() if str(major) not in packaged and major < newest]
    if not hidden:
        pytest.skip(
            "each server's own client lies in /usr/lib/postgresql and cannot be hidden: a machine"
            " with the PostgreSQLs of the wheels (make test) runs it"
        )
    major = max((each for each in hidden if each < 17), default=hidden[0])
    server = servers(major)
    database_named(server, "older", "CREATE TABLE t (x int)")

    run = back_up(cloud, server, "older", env={"PG_BACKUP_CLIENTS": str(installed()[newest])})
    forget(server, "older")

    green(run)
    (warning,) = run.warnings
    assert "No pg_dump of the server's own version" == warning.title
    assert f"no pg_dump {major} is installed" in warning.message
    assert f"Restore the archive with pg_restore {newest} or newer" in warning.message
    (manifest,) = cloud.manifests().values()
    assert newest == manifest["client"]["major"]


def test_a_server_newer_than_every_client_is_refused(
    postgres: PostgresServer, cloud: Cloud, shop: str
) -> None:
    ((told,),) = postgres.sql("SHOW server_version")
    number = told.split()[0]
    future = "99" + number[2:]
    with VersionFront(postgres.port, told=number, instead=future) as front:
        run = back_up(cloud, postgres, shop, {"port": str(front.port)})

    assert 4 == run.exit_code
    (error,) = run.errors
    assert f"the server is PostgreSQL {future}, newer than every pg_dump here" == error.title
    assert "Use a version of the action that knows PostgreSQL 99" in error.message
    assert {} == cloud.objects()
    assert [] == run.leftovers
