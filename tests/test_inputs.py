"""One table of options for every face, and bad input refused whole before anything is touched."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backup.cli import parser
from backup.options import OPTIONS
from tests import snapshots
from tests.fleets import Workspace
from tests.lab.aws import REGION, REPOSITORY, Ministack
from tests.lab.cloud import Cloud, listing, new_cloud, reading, source_inputs, writing
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun, run_action
from tests.lab.scripted.server import ScriptedAws
from tests.lab.tcp import TcpProxy
from tests.replicas import REPLICA_REGION, second_region
from tests.steps import back_up, database_named, forget, green

yaml: Any = importlib.import_module("yaml")  # has no type information of its own


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / "action.yml").read_text())
    return loaded


def rows_of_readme(heading: str) -> list[tuple[str, ...]]:
    """The cells of the first table under a heading, without its head."""
    text = (REPOSITORY / "README.md").read_text()
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


def test_action_yml_has_every_option_with_its_help_and_default(action: dict[str, Any]) -> None:
    expected = [(option.name, option.help, option.default) for option in OPTIONS]
    found = [
        (name, entry["description"], entry["default"]) for name, entry in action["inputs"].items()
    ]
    assert expected == found


def test_no_text_of_action_yml_holds_an_expression() -> None:
    """The runner evaluates them in descriptions too, and does not load an action with one that it
    cannot: https://github.com/aws-actions/aws-cloudformation-github-deploy/issues/61
    """
    assert "${{" not in (REPOSITORY / "action.yml").read_text()


def test_the_readme_has_every_option_with_its_help_and_default() -> None:
    expected = [(f"`{option.name}`", option.help, option.default) for option in OPTIONS]
    assert expected == rows_of_readme("Inputs")


def test_the_command_line_has_every_option_that_is_no_secret() -> None:
    flags = {
        flag.removeprefix("--")
        for action in parser()._actions
        for flag in action.option_strings or [action.dest]
    }
    secret = {option.name for option in OPTIONS if option.secret}
    urls = {"database-url", "target-url", "webhook-url"}
    assert {"password", "github-token", "webhook-secret", *urls} == secret
    own = {"-h", "help", "json", "debug"}
    assert {option.name for option in OPTIONS} - secret == flags - own


def test_the_command_line_shows_every_default() -> None:
    text = re.sub(r"\s+", "", parser().format_help())  # lines break at hyphens
    for option in OPTIONS:
        if option.default and option.name != "operation":
            assert f"[{option.default}]" in text, option.name


def test_outputs_are_those_of_action_yml_and_of_the_readme(
    action: dict[str, Any],
    postgres: PostgresServer,
    cloud: Cloud,
    scripted: ScriptedAws,
    tmp_path: Path,
) -> None:
    name = database_named(postgres, "outputs")
    with second_region(cloud) as replica:
        replica.replicate()
        tagging = {"Effect": "Allow", "Action": "s3:PutObjectTagging", "Resource": "*"}
        there = listing(replica.name)
        here = (writing(cloud.bucket), listing(cloud.bucket), reading(cloud.bucket))
        cloud.allow(*here, there, tagging)
        waiting = {"replica-bucket": replica.name, "replica-region": REPLICA_REGION,
                   "replica-wait": "1min", "retention-tier": "auto"}  # fmt: skip
        backed_up = green(back_up(cloud, postgres, name, waiting | {"verify": "true"}))
    target = source_inputs(postgres, name, **{"target-database": "outputs again"})
    restore = {"operation": "restore", "create-database": "true"}
    restored = green(
        run_action(
            cloud.inputs | target | restore,
            cloud.env | {"PG_BACKUP_CLIENTS": str(postgres.binaries)},
        )
    )
    listed = green(run_action(cloud.inputs | {"operation": "list"}, cloud.env))
    workspace = Workspace(tmp_path, cloud.env)
    workspace.write(f"databases: [{{database: {name}, host: a.example.org, user: backup}}]\n")
    given = {"aws_region": REGION, "bucket": cloud.bucket, "role_to_assume": cloud.role}
    planned, collected = green(workspace.plan(**given)), green(workspace.collect(**given))
    audit = {"operation": "audit", "fail-on": "never"}
    audited = green(run_action(cloud.inputs | audit, cloud.env))
    scripted.rds.add_instance("shop")
    taken = green(snapshots.run(cloud, scripted, "snapshot"))
    roles = {"service_role": snapshots.BACKUP_ROLE, "kms_key_id": "alias/exports"}
    exported = green(snapshots.run(cloud, scripted, "export", **roles))
    remade = green(snapshots.run(cloud, scripted, "restore-instance", wait="none"))
    chained = {"operation": "policy", "bucket-role": "arn:aws:iam::210987654321:role/backups"}
    policies = green(run_action(cloud.inputs | chained))
    forget(postgres, name)
    forget(postgres, "outputs again")

    described = [(name, entry["description"]) for name, entry in action["outputs"].items()]
    assert [(f"`{name}`", text) for name, text in described] == rows_of_readme("Outputs")
    of_rds = (taken, exported, remade)
    runs = (backed_up, restored, listed, planned, collected, audited, policies, *of_rds)
    assert {name for name, _ in described} == {name for run in runs for name in run.outputs}


@dataclass(frozen=True)
class Untouched:
    """A source and a cloud that notice if anyone so much as knocks."""

    cloud: Cloud
    front: TcpProxy
    server: PostgresServer

    def run(self, **changes: str) -> ActionRun:
        """The step with good inputs but for the changes; names with underscores for hyphens."""
        good = self.cloud.inputs | source_inputs(self.server, "shop", port=str(self.front.port))
        given = good | {name.replace("_", "-"): value for name, value in changes.items()}
        return run_action(given, self.cloud.env)

    def assert_nobody_knocked(self) -> None:
        assert [] == self.cloud.proxy.records
        assert [] == self.cloud.sts.exchanges + self.cloud.sts.refusals
        assert 0 == self.front.connections


@pytest.fixture(scope="module")
def untouched(
    postgres: PostgresServer, ministack: Ministack, issuer: Issuer
) -> Iterator[Untouched]:
    """One for all: whoever knocks at it fails every test from there on."""
    with new_cloud(ministack, issuer) as cloud, TcpProxy(postgres.port) as front:
        yield Untouched(cloud, front, postgres)


BAD = [
    ("operation", "backups", "use one of backup, list, restore, verify"),
    ("aws-region", "Frankfurt", "write it like eu-central-1"),
    ("aws-region", "eu-central-1 ; rm", "write it like eu-central-1"),
    ("role-to-assume", "pg-backup", "arn:aws:iam::123456789012:role/"),
    ("role-session-name", "with space", "write it like pg-backup-action"),
    ("role-duration-seconds", "900", "from 3600 to 43200"),
    ("role-duration-seconds", "1h", "from 3600 to 43200"),
    ("allowed-account-ids", "12345", "write 12 digits"),
    ("bucket", "", "name the bucket"),
    ("bucket", "s3://backups/x", "without s3://"),
    ("prefix", "back ups", "use letters, digits"),
    ("prefix", "a\nb", "use letters, digits"),
    ("expected-bucket-owner", "me", "write it like 123456789012"),
    ("object-tags", "team", "write key=value, one a line"),
    ("object-tags", "\n".join(f"k{n}=v" for n in range(11)), "leave some out"),
    ("database-url", "postgresql://u:p@h/d", "give the one or the other"),
    ("host", "", "as in host: db.example.org"),
    ("database", " ", "as in database: shop"),
    ("user", "", "as in user: backup"),
    ("port", "543 2", "from 1 to 65535"),
    ("port", "70000", "from 1 to 65535"),
    ("port", "٥٤٣٢", "from 1 to 65535"),
    ("sslmode", "verify_full", "use one of disable, allow"),
    ("password-secret-id", "shop/db", "keep one of password"),
    ("iam-auth", "true", "keep one of password"),
    ("iam-auth", "yes", "write true or false"),
    ("jobs", "0", "from 1 to 64"),
    ("jobs", "٢", "from 1 to 64"),
    ("compression", "brotli", "write zstd, zstd:3, gzip:6 or none"),
    ("compression", "zstd:23", "write zstd, zstd:3, gzip:6 or none"),
    ("compression", "zstd:", "write zstd, zstd:3, gzip:6 or none"),
    ("compression", "zstd:²", "write zstd, zstd:3, gzip:6 or none"),
    ("lock-timeout", "0", "write 60s, 5min or 500ms"),
    ("lock-timeout", "1 week", "write 60s, 5min or 500ms"),
    ("lock-timeout", "999999999h", "write 60s, 5min or 500ms"),
    ("scratch-limit", "16MiB", "write 32MiB, or 1GiB"),
    ("scratch-limit", "64 apples", "write 32MiB, or 1GiB"),
    ("row-counts", "1", "write true or false"),
]


@pytest.mark.parametrize(
    ("name", "value"), [("host", "a.example.org,b.example.org"), ("port", "5432,5433")]
)
def test_a_login_token_is_for_one_host_and_one_port(
    untouched: Untouched, name: str, value: str
) -> None:
    run = untouched.run(**{"iam-auth": "true", "password": "", name: value})

    assert 2 == run.exit_code, run.output
    (error,) = run.errors
    assert re.search(rf"^{name}: is a list, .*; give one {name}$", error.message, re.MULTILINE)
    untouched.assert_nobody_knocked()


@pytest.mark.parametrize(("name", "value", "remedy"), BAD)
def test_a_bad_value_is_refused_before_anything_is_touched(
    untouched: Untouched, name: str, value: str, remedy: str
) -> None:
    run = untouched.run(**{name: value})

    assert 2 == run.exit_code, run.output
    (error,) = run.errors
    told = {"database-url": "host", "password-secret-id": "password"}.get(name, name)
    told = "password" if (name, value) == ("iam-auth", "true") else told
    assert re.search(rf"^{told}: .+; .*{re.escape(remedy)}", error.message, re.MULTILINE)
    assert "❌" in run.summary
    assert "Traceback" not in re.sub("^::debug::.*$", "", run.log.visible, flags=re.MULTILINE)
    untouched.assert_nobody_knocked()


@pytest.mark.parametrize(
    ("told", "changes", "remedy"),
    [
        ("sns-topic-arn", {}, "write it like arn:aws:sns:eu-central-1:123456789012:pg-backup"),
        ("cloudwatch-namespace", {"cloudwatch-namespace": "AWS/RDS"}, "write it like PgBackup"),
        ("cloudwatch-namespace", {"cloudwatch-namespace": "Pg Backup"}, "write it like PgBackup"),
        ("notify-on", {"notify-on": "never"}, "use one of failure, always, change"),
        ("webhook-format", {"webhook-format": "teams"}, "use one of slack, json"),
        ("webhook-secret", {"webhook-url": ""}, "give webhook-url and webhook-format: json"),
        ("webhook-secret", {"webhook-format": "slack"}, "give webhook-url and webhook-format"),
        ("webhook-url", {"webhook-url": "http://hooks.example.org/x"}, "write https://hooks."),
        ("webhook-url", {"webhook-url": "ftp://127.0.0.1/x"}, "write https://hooks."),
        ("webhook-url", {"webhook-url": "127.0.0.1:1/x"}, "write https://hooks."),
        ("webhook-url", {"webhook-url": "https://me:s3cr3t@127.0.0.1/x"}, "write https://hooks."),
        ("webhook-url", {"webhook-url": "https://127.0.0.1:99999/x"}, "write https://hooks."),
        ("webhook-url", {"webhook-url": "https://127.0.0.1/a\r\nHost: b"}, "write https://hooks."),
    ],
)
def test_a_bad_value_for_a_notification_is_refused(
    untouched: Untouched, told: str, changes: dict[str, str], remedy: str
) -> None:
    """The URL is a secret as a whole, and never shown."""
    bad = {"sns-topic-arn": "pg-backup"} if not changes else {}
    good = {"webhook-url": "http://127.0.0.1:1/hook", "webhook-secret": "key"}
    run = untouched.run(**good | bad | changes)

    assert 2 == run.exit_code, run.output
    (error,) = run.errors
    assert re.search(rf"^{told}: .+; .*{re.escape(remedy)}", error.message, re.MULTILINE)
    shown = [changes.get("webhook-url"), "s3cr3t"]
    assert [] == [text for text in shown if text and text in run.log.visible + run.summary]
    untouched.assert_nobody_knocked()


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("scope", "all", "use one of strategy, setup"),
        ("fail-on", "error", "use one of fail, warn, never"),
        ("max-age-hours", "0", "write a number above 0"),
        ("max-drill-age-days", "a month", "write a number above 0"),
        ("backup-workflow", "../backup.yml", "write it like backup.yml"),
        ("github-token", "two words", "write ${{ github.token }}"),
        ("release-tag", "v1.4.2", "give both: github-token"),
        ("writer-role", "pg-backup-writer", "arn:aws:iam::123456789012:role/pg-backup-writer"),
        ("report-file", "/etc/passwd", "write audit.json"),
        ("report-file", "a/../../b.json", "write audit.json"),
        ("report-file", ".", "write audit.json"),
    ],
)
def test_a_bad_value_for_an_audit_is_refused(
    untouched: Untouched, name: str, value: str, remedy: str
) -> None:
    run = run_action(
        untouched.cloud.inputs | {"operation": "audit", name: value}, untouched.cloud.env
    )

    assert 2 == run.exit_code, run.output
    (error,) = run.errors
    assert re.search(rf"^{name}: .+; .*{re.escape(remedy)}", error.message, re.MULTILINE)
    untouched.assert_nobody_knocked()


@pytest.mark.parametrize(
    ("changes", "told", "remedy"),
    [
        ({"tunnel": "bastion:22"}, "tunnel", "write ssh://user@bastion.example.org:22"),
        ({"tunnel": "ssh://bastion"}, "tunnel", "write ssh://user@bastion.example.org:22"),
        ({"tunnel": "ssh://-oProxyCommand=x@b"}, "tunnel", "write ssh://user@"),
        ({"tunnel": "ssh://user@-oProxyCommand=x"}, "tunnel", "write ssh://user@"),
        ({"tunnel": "ssh://user:password@bastion"}, "tunnel", "write ssh://user@"),
        ({"tunnel": "ssh://us er@bastion"}, "tunnel", "write ssh://user@"),
        ({"tunnel": "ssh://$(id)@bastion"}, "tunnel", "write ssh://user@"),
        ({"tunnel": "ssh://user@bastion:70000"}, "tunnel", "write ssh://user@"),
        ({"tunnel": "ssh://user@bastion/path"}, "tunnel", "write ssh://user@"),
        ({"tunnel-secret-id": ""}, "tunnel", "give tunnel-secret-id or tunnel-instance-id"),
        ({"tunnel-instance-id": "i-01234567"}, "tunnel", "give tunnel-secret-id or"),
        ({"tunnel-instance-id": "bastion"}, "tunnel-instance-id", "i-0123456789abcdef0"),
        ({"tunnel-secret-id": "", "tunnel-host-key": "", "tunnel-instance-id": "i-01234567"},
         "tunnel-host-key", "ssh-keyscan"),
        ({"tunnel-host-key": "bastion ssh-ed25519 AAAA"}, "tunnel-host-key", "ssh-keyscan"),
        ({"tunnel-host-key": "* ssh-ed25519 AAAA"}, "tunnel-host-key", "ssh-keyscan"),
        ({"tunnel": ""}, "tunnel-secret-id", "name the SSH server"),
    ],
)  # fmt: skip
def test_a_bad_tunnel_is_refused_before_anything_is_touched(
    untouched: Untouched, changes: dict[str, str], told: str, remedy: str
) -> None:
    good = {
        "tunnel": "ssh://backup@bastion.example.org:22",
        "tunnel-secret-id": "shop/tunnel",
        "tunnel-host-key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE",
    }
    run = untouched.run(**good | changes)

    assert 2 == run.exit_code, run.output
    (error,) = run.errors
    assert re.search(rf"^{told}: .+; .*{re.escape(remedy)}", error.message, re.MULTILINE)
    untouched.assert_nobody_knocked()


def test_every_fault_is_told_at_once_with_its_remedy(untouched: Untouched) -> None:
    run = untouched.run(bucket="My_Bucket", jobs="many", sslmode="on", lock_timeout="soon")

    (error,) = run.errors
    assert "4 inputs cannot be used" == error.title
    for name in ("bucket", "jobs", "sslmode", "lock-timeout"):
        assert 1 == len(re.findall(rf"^{name}: .+; .+", error.message, re.MULTILINE)), name
    untouched.assert_nobody_knocked()


def test_a_misspelled_input_is_refused_with_the_name_that_was_meant(untouched: Untouched) -> None:
    run = untouched.run(comression="gzip", role_to_asume="x", quux="1")

    assert 2 == run.exit_code
    (error,) = run.errors
    for name, remedy in (
        ("comression", "did you mean compression?"),
        ("role-to-asume", "did you mean role-to-assume?"),
        ("quux", "remove it"),
    ):
        assert f"{name}: is not an input of this action; {remedy}" in error.message
    untouched.assert_nobody_knocked()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:p@h/d",
        "postgresql://u:s3cr3t@h:5432/d?nonsense=1",
        "postgresql://u:s3cr3t@/d",
        "postgresql://u:s3cr3t%zz@h/d",
    ],
)
def test_a_bad_url_is_refused_and_never_shown(untouched: Untouched, url: str) -> None:
    parts = dict.fromkeys(("host", "port", "database", "user", "password"), "")
    run = untouched.run(**parts, database_url=url)

    assert 2 == run.exit_code, run.output
    assert "database-url" in run.errors[0].message
    assert "s3cr3t" not in run.log.visible + run.summary
    assert "s3cr3t" not in run.errors[0].message
    untouched.assert_nobody_knocked()


def test_an_empty_input_means_its_default(postgres: PostgresServer, cloud: Cloud) -> None:
    """The runner passes every input that a workflow leaves out as an empty text."""
    name = database_named(postgres, "defaults", "CREATE TABLE t AS SELECT 1 AS x")
    given = cloud.inputs | source_inputs(postgres, name)
    empty = {option.name: "" for option in OPTIONS if option.name not in given}

    run = green(back_up(cloud, postgres, name, empty))
    forget(postgres, name)

    assert run.outputs["s3-uri"].startswith(f"s3://{cloud.bucket}/postgresql/defaults/")
