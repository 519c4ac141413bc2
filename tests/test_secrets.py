"""No secret is ever in argv, a log, an output, a summary or a manifest; not on failures either."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from tests.lab.cloud import Cloud, source_inputs
from tests.lab.commands import secrets_seen, unescape_data
from tests.lab.faults import ACCESS_DENIED, Answer
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun
from tests.lab.tcp import TcpProxy
from tests.steps import database_named, fill_with_chance, forget, start_backup

PASSWORD = "s3cret /+@ päss%word"
DATABASE = "secrets"


@dataclass
class CommandLines:
    """Every command line of young processes, looked at every few milliseconds."""

    seen: set[str] = field(default_factory=set)

    def __enter__(self) -> CommandLines:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.01):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    if folder.stat().st_mtime < time.time() - 60:
                        continue
                    self.seen.add((folder / "cmdline").read_bytes().decode(errors="replace"))
                except OSError:
                    continue  # ended meanwhile


@pytest.fixture(scope="module")
def secretive(postgres: PostgresServer) -> Iterator[PostgresServer]:
    database_named(postgres, DATABASE, "CREATE TABLE noise (block bytea)")
    fill_with_chance(postgres, DATABASE, "noise", 3)
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE keeper LOGIN SUPERUSER PASSWORD {}").format(PASSWORD)
        )
    yield postgres
    forget(postgres, DATABASE)
    postgres.sql("DROP ROLE keeper")


def by_url(server: PostgresServer, port: int | None = None) -> dict[str, str]:
    url = server.url(DATABASE, "keeper", PASSWORD, port=port)
    return dict.fromkeys(("host", "port", "database", "user", "password"), "") | {
        "database-url": url
    }


def by_parts(server: PostgresServer, port: int | None = None) -> dict[str, str]:
    port = port or server.port
    return source_inputs(server, DATABASE, user="keeper", password=PASSWORD, port=str(port))


def run_watched(
    cloud: Cloud, server: PostgresServer, inputs: Mapping[str, str], env: Mapping[str, str]
) -> ActionRun:
    """The step's end; asserts that no secret was anywhere, each in every form it may take."""
    with (
        start_backup(cloud, server, DATABASE, inputs, env) as running,
        CommandLines() as lines,
    ):
        run = running.finish()
    keys = [
        mask
        for mask in run.log.masks
        # What STS handed out is known from the masks; the proxy knows what was really used.
        if mask.startswith(("ASIA", "FwoG", "IQoJ")) or len(mask) == 40
    ]
    tokens = [*cloud.issuer.issued, cloud.issuer.request_token]
    secrets = [PASSWORD, *keys, *tokens]
    for record in cloud.proxy.records:
        session = record.headers.get("x-amz-security-token")
        assert session is None or session in run.log.masks
        secrets += [session] if session else []
    told = [run.summary, *run.outputs.values(), *(error.message for error in run.annotations)]
    told += [error.title for error in run.annotations]
    told += [cloud.read(key).decode(errors="replace") for key in cloud.objects() if "json" in key]
    assert [] == secrets_seen("\n".join(told), secrets)
    # What a person could read if the runner masked nothing at all.
    assert [] == secrets_seen(run.log.printed, secrets)
    assert [] == secrets_seen(unescape_data(run.log.printed), secrets)
    assert any("--format=directory" in line for line in lines.seen) or run.exit_code
    assert [] == secrets_seen("\n".join(lines.seen), secrets)
    assert any("entrypoint.py" in line for line in lines.seen)
    return run


def test_nothing_is_told_by_a_backup_that_succeeds(secretive: PostgresServer, cloud: Cloud) -> None:
    run = run_watched(cloud, secretive, by_parts(secretive), {"ACTIONS_STEP_DEBUG": "true"})

    assert 0 == run.exit_code, run.output
    assert PASSWORD in run.log.masks
    assert quote(PASSWORD, safe="") in run.log.masks


def test_nothing_is_told_where_the_password_comes_in_a_url(
    secretive: PostgresServer, cloud: Cloud
) -> None:
    run = run_watched(cloud, secretive, by_url(secretive), {})

    assert 0 == run.exit_code, run.output
    assert PASSWORD in run.log.masks
    assert quote(PASSWORD, safe="") in run.log.masks


@pytest.mark.parametrize("form", [by_url, by_parts])
def test_nothing_is_told_when_the_login_is_refused(
    secretive: PostgresServer, cloud: Cloud, form: object
) -> None:
    given = by_url(secretive) if form is by_url else by_parts(secretive)
    given = {name: value.replace("keeper", "nobody") for name, value in given.items()}
    run = run_watched(cloud, secretive, given, {})

    assert 3 == run.exit_code
    assert "nobody" in run.errors[0].message


def test_nothing_is_told_when_the_connection_breaks_in_the_middle(
    secretive: PostgresServer, cloud: Cloud
) -> None:
    with TcpProxy(secretive.port) as front:
        front.stop_after(1_500_000, resetting=True)
        run = run_watched(cloud, secretive, by_url(secretive, front.port), {})

    assert 4 == run.exit_code, run.output


def test_nothing_is_told_when_the_store_refuses(secretive: PostgresServer, cloud: Cloud) -> None:
    cloud.proxy.add(ACCESS_DENIED, method="PUT", pattern="partNumber")
    run = run_watched(cloud, secretive, by_parts(secretive), {})

    assert 3 == run.exit_code


def test_nothing_is_told_when_the_store_repeats_what_it_was_sent(
    secretive: PostgresServer, cloud: Cloud
) -> None:
    """Some stores answer a refusal with the request in it."""
    cloud.proxy.add(
        Answer(403, "SignatureDoesNotMatch", f"you sent {PASSWORD} and {quote(PASSWORD)}")
    )
    run = run_watched(cloud, secretive, by_parts(secretive), {})

    assert 3 == run.exit_code
    assert "***" in run.errors[0].message


def test_nothing_is_told_when_the_inputs_are_bad(secretive: PostgresServer, cloud: Cloud) -> None:
    run = run_watched(cloud, secretive, by_parts(secretive) | {"jobs": PASSWORD, "bucket": "B"}, {})

    assert 2 == run.exit_code
    assert "***" in run.errors[0].message


def test_nothing_is_told_when_sts_refuses(secretive: PostgresServer, cloud: Cloud) -> None:
    cloud.issuer.forge = True
    try:
        run = run_watched(cloud, secretive, by_parts(secretive), {})
    finally:
        cloud.issuer.forge = False

    assert 3 == run.exit_code
