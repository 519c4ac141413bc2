"""Backs a sample shop up as a workflow would, gets a lost table back, drills the backup, and
restores it by hand; exits 1 if anything differs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from backup.wording import size
from demo.by_hand import DemoError, Shell, compare, dump_plain, environment, restore_lines
from demo.narration import Narrator
from demo.steps import empty_folder, run_demo, run_step
from tests.lab.aws import REGION, REPOSITORY, Moto, visible_objects
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer, installed
from tests.lab.runner import ActionRun
from tests.lab.sts import ROLE, Sts

BUCKET = "octo-org-backups"
DATABASE = "shop"
READER = "backup"
READER_PASSWORD = "p@ss/w: ö%"
LOST_TABLE = "media.thumbnail"
FILES = REPOSITORY / ".demo"
SHOP = Path(__file__).with_name("shop.sql")
# Loads faster, and means nothing for a server that is thrown away.
SETTINGS = {"full_page_writes": "off", "max_wal_size": "4GB", "shared_buffers": "256MB"}


@dataclass(frozen=True)
class Parts:
    """What stands in for the world outside: the servers, and what tells the action of them."""

    major: int
    binaries: Path
    source: PostgresServer
    aws: Moto
    variables: Mapping[str, str]


def main() -> int:
    left = "The archive, both dumps, the logs and the job summaries"
    return run_demo(_demonstrate, steps=9, folder=FILES, left=left)


def _demonstrate(narrator: Narrator, undo: ExitStack) -> None:
    empty_folder(FILES)
    with narrator.step("Start PostgreSQL, S3, STS and an id-token issuer on loopback"):
        parts = _start(undo)
        narrator.say(
            f"PostgreSQL {parts.major}, TLS only, at port {parts.source.port}",
            f"S3 at {parts.aws.url}, bucket {BUCKET} with versions",
            f"STS at {parts.variables['AWS_ENDPOINT_URL_STS']}, checks every token",
        )

    with narrator.step(f"Create a sample database, {DATABASE}"):
        _create_shop(parts, narrator)

    with narrator.step("Back it up, as a step of a workflow: entrypoint.py"):
        _back_up(parts, narrator)

    with narrator.step("Look into the bucket"):
        objects = visible_objects(parts.aws.client("s3"), BUCKET)
        width = max(len(size(stored)) for stored in objects.values())
        narrator.say(*(f"{size(objects[key]):>{width}}  {key}" for key in sorted(objects)))

    with narrator.step(f"Lose the table {LOST_TABLE}, and get it back: operation: restore"):
        _restore_a_table(parts, narrator)

    with narrator.step("Prove that the backup restores: operation: verify"):
        drill = _run_action(parts, {"operation": "verify", "database": DATABASE}, "drill", narrator)
        (FILES / "drill-summary.md").write_text(drill.summary)

    with narrator.step("Restore it by hand into another server, with the lines of its job summary"):
        target = undo.enter_context(PostgresServer(parts.binaries, SETTINGS))
        shell = Shell(FILES, environment(parts.binaries, target, parts.aws.url, REGION), narrator)
        for line in restore_lines((FILES / "summary.md").read_text()):
            shell.run(line)
        [(restored,)] = target.sql(
            "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
        )

    with narrator.step("Compare both databases, byte for byte"):
        dump_plain(shell, parts.source, DATABASE, "source")
        dump_plain(shell, target, restored, "restored")
        lines = compare(FILES / "source.sql", FILES / "restored.sql")
        roles = compare(FILES / "source-roles.sql", FILES / "restored-roles.sql")
        total = (FILES / "source.sql").stat().st_size
        narrator.say(f"the same: {lines:,} lines and {size(total)} of SQL, {roles} lines of roles")

    with narrator.step("Read the job summary it wrote"):
        narrator.quote((FILES / "summary.md").read_text())


def _start(undo: ExitStack) -> Parts:
    majors = installed()
    # 17 comes as a wheel with TLS and zstd; of others that may be here not all have both.
    major = 17 if 17 in majors else max(majors, default=0)
    if not major:
        raise DemoError("no PostgreSQL is installed, neither in the system nor as a wheel")
    source = undo.enter_context(PostgresServer(majors[major], SETTINGS, tls_only=True))
    aws = undo.enter_context(Moto())
    issuer = undo.enter_context(Issuer())
    sts = undo.enter_context(Sts(issuer.jwks_url, aws.url))
    aws.make_bucket(BUCKET)
    aws.client("s3").put_bucket_versioning(
        Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"}
    )
    endpoints = {"AWS_ENDPOINT_URL_S3": aws.url, "AWS_ENDPOINT_URL_STS": sts.url}
    # The image has its clients in /usr/lib/postgresql, this machine may have them elsewhere.
    clients = {"PG_BACKUP_CLIENTS": str(majors[major])}
    return Parts(major, majors[major], source, aws, issuer.env | endpoints | clients)


def _create_shop(parts: Parts, narrator: Narrator) -> None:
    source = parts.source
    source.sql(f"CREATE DATABASE {DATABASE}")
    source.sql(SHOP.read_text(), DATABASE)
    source.sql(f"ALTER ROLE {READER} PASSWORD '{READER_PASSWORD}'")
    [(relations, rows, large_objects, stored)] = source.sql(
        """SELECT count(*), sum(greatest(reltuples, 0))::bigint,
                  (SELECT count(*) FROM pg_largeobject_metadata),
                  pg_database_size(current_database())
           FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text
               NOT IN ('pg_catalog', 'information_schema')""",
        DATABASE,
    )
    narrator.say(
        f"{relations} tables, {rows:,} rows, {large_objects} large objects, {size(stored)};",
        "partitions of partitions, JSONB, full text, row-level security, names no one should give",
    )


def _back_up(parts: Parts, narrator: Narrator) -> None:
    assert parts.source.certificates is not None
    url = parts.source.url(
        DATABASE,
        READER,
        READER_PASSWORD,
        sslmode="verify-full",
        sslrootcert=str(parts.source.certificates.authority),
    )
    run = _run_action(
        parts, {"database-url": url, "object-tags": "made-by=demo"}, "backup", narrator
    )
    (FILES / "summary.md").write_text(run.summary)
    (FILES / "outputs.txt").write_text("".join(f"{n}={v}\n" for n, v in run.outputs.items()))


def _restore_a_table(parts: Parts, narrator: Narrator) -> None:
    """Into the very database that was backed up, which therefore is named a second time."""
    parts.source.sql(f"DROP TABLE {LOST_TABLE}", DATABASE)
    narrator.say(f"DROP TABLE {LOST_TABLE};")
    inputs = {
        "operation": "restore",
        "database": DATABASE,
        "tables": LOST_TABLE,
        "target-url": parts.source.url(DATABASE),
        "allow-existing": "true",
        "confirm-target": DATABASE,
    }
    _run_action(parts, inputs, "restore", narrator)
    [(rows,)] = parts.source.sql(f"SELECT count(*) FROM {LOST_TABLE}", DATABASE)
    narrator.say(f"{LOST_TABLE} has {rows:,} rows again")


def _run_action(
    parts: Parts, inputs: Mapping[str, str], name: str, narrator: Narrator
) -> ActionRun:
    given = {"aws-region": REGION, "role-to-assume": ROLE, "bucket": BUCKET, **inputs}
    run = run_step(given, parts.variables, FILES / f"{name}.log", narrator)
    narrator.say("its outputs:", *(f"  {name}={value}" for name, value in run.outputs.items()))
    return run


if __name__ == "__main__":
    sys.exit(main())
