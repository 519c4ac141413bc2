"""The doctor before the first backup: GitHub's id token, the role, the bucket, the disk."""

from __future__ import annotations

import datetime
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from backup.aws.grants import PolicyScope
from backup.operations.auditing.setup_course import Step
from tests.doctor import Diagnosis, clients_of, examine
from tests.lab.aws import REGION, REPOSITORY, Moto
from tests.lab.cloud import PREFIX, Cloud, listing, new_cloud, source_inputs, writing
from tests.lab.commands import secrets_seen
from tests.lab.faults import Header, Reset, Without
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer
from tests.lab.sts import ACCOUNT
from tests.permissions import KEY, Removal, removals
from tests.permissions import policy as policy_of
from tests.steps import database_named, forget

NO_TOKEN = {"ACTIONS_ID_TOKEN_REQUEST_URL": "", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": ""}
AFTER_THE_ROLE = ["bucket", "listing", "key", "write", "upload"]


@pytest.fixture(scope="module")
def shop(postgres: PostgresServer) -> Iterator[dict[str, str]]:
    """The inputs of a source with which nothing is wrong."""
    database = database_named(postgres, "checkup", "CREATE TABLE t AS SELECT 1 AS x")
    yield source_inputs(postgres, database)
    forget(postgres, database)


@pytest.fixture
def env(postgres: PostgresServer) -> dict[str, str]:
    return clients_of(postgres)


def policy(cloud: Cloud, *more: dict[str, Any]) -> list[dict[str, Any]]:
    return [writing(cloud.bucket), listing(cloud.bucket), *more]


def run_the_line(cloud: Cloud, line: str) -> None:
    """One line of `aws …`, by an administrator."""
    command = Path(sys.executable).parent / "aws"
    subprocess.run(
        [command, *shlex.split(line)[1:]],
        env={"AWS_ENDPOINT_URL": cloud.double.url, "AWS_ACCESS_KEY_ID": "test",
             "AWS_SECRET_ACCESS_KEY": "test", "PATH": os.defpath},
        check=True,
    )  # fmt: skip


def test_a_sound_setup_passes_every_check_and_leaves_one_small_object(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    found = examine(cloud, shop, env=env)
    if found.status("key") == "warn":
        run_the_line(cloud, found.fix("key"))
        found = examine(cloud, shop, env=env)

    assert 0 == found.run.exit_code, found.run.output
    assert list(found.checks) == [f"setup.{name}" for name in found.having("pass")]
    assert list(found.checks) == [step.id for step in Step if step is not Step.TUNNEL]
    assert f"sub={cloud.issuer.subject}, aud=sts.amazonaws.com" in found.reason("id-token")
    assert f"assumed-role/{cloud.bucket}/" in found.reason("role")
    assert [] == cloud.open_uploads()
    *_, key = sorted(cloud.objects())
    assert key.startswith(f"{PREFIX}/setup/")
    assert key in found.reason("write")
    assert "setup" in json.loads(cloud.read(key))["made_by"]
    assert [] == [record for record in cloud.proxy.records if record.path.endswith("manifest.json")]
    assert [] == cloud.proxy.seen("DELETE", rf"^/{cloud.bucket}/[^?]*\.json")
    told = found.run.log.printed + found.run.summary
    keys = [secret for each in cloud.sts.exchanges for secret in each.secrets]
    assert [] == secrets_seen(told, [shop["password"], *cloud.issuer.issued, *keys])


def test_what_the_doctor_leaves_is_no_backup(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    from tests.lab.runner import run_action

    examine(cloud, shop, env=env)
    inputs = cloud.inputs | {"operation": "list"}
    run = run_action(inputs, cloud.env | env)

    assert 0 == run.exit_code, run.output
    assert [] == json.loads(run.outputs["backups"])


def test_a_job_without_the_permission_is_shown_the_lines_and_the_database_is_looked_at_all_the_same(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    found = examine(cloud, shop, env=env | NO_TOKEN)

    assert 6 == found.run.exit_code
    assert ["id-token"] == found.having("fail")
    assert "permissions:\n  id-token: write\n" in found.fix("id-token")
    assert ["role", *AFTER_THE_ROLE] == found.having("unknown")
    assert "“Id token”" in found.reason("write")
    assert "pass" == found.status("tables")
    assert 1 == len(found.run.errors)


def test_a_role_that_does_not_trust_the_token_is_shown_the_statement_it_needs(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    usual = cloud.issuer.subject
    cloud.issuer.subject = "repo:octo-org/other:ref:refs/heads/main"
    try:
        found = examine(cloud, shop, env=env)
    finally:
        cloud.issuer.subject = usual

    assert ["role"] == found.having("fail")
    assert "repo:octo-org/other:ref:refs/heads/main" in found.fix("role")
    assert "sts:AssumeRoleWithWebIdentity" in found.fix("role")
    assert AFTER_THE_ROLE == found.having("unknown")


def test_without_github_the_credentials_of_the_environment_are_looked_at(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    inputs = {"role-to-assume": ""}
    found = examine(cloud, shop, inputs, env | keys | {"GITHUB_ACTIONS": ""})
    nobody = examine(cloud, shop, inputs, env | {"GITHUB_ACTIONS": "", "HOME": "/nonexistent"})

    assert "not needed" in found.reason("id-token")
    assert "pass" == found.status("write")
    assert ["role"] == nobody.having("fail")
    assert "role-to-assume" in nobody.fix("role")


# The clock


@pytest.mark.parametrize(("off", "status"), [(-3600, "fail"), (120, "warn"), (3, "pass")])
def test_a_clock_that_is_off_is_told_from_the_time_in_an_answer_of_s3(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str], off: int, status: str
) -> None:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=off)
    cloud.proxy.add(Header("Date", format_datetime(moment, usegmt=True)), method="HEAD")
    found = examine(cloud, shop, env=env)

    assert status == found.status("clock")
    if status != "pass":
        assert ("ahead of" if off < 0 else "behind") in found.reason("clock")
        assert "timedatectl" in found.fix("clock")
    assert "pass" == found.status("write")


def test_a_time_that_cannot_be_asked_for_is_unknown(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    cloud.proxy.add(Reset(), method="HEAD")
    found = examine(cloud, shop, env=env)

    assert ["clock"] == found.having("unknown")
    assert 0 == found.run.exit_code


# The bucket


def test_a_bucket_that_is_not_there_is_shown_how_to_make_it(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    bucket = f"{cloud.bucket}-other"
    cloud.allow(writing(bucket), listing(bucket))
    found = examine(cloud, shop, {"bucket": bucket}, env)

    assert ["bucket"] == found.having("fail")
    assert f"aws s3 mb s3://{bucket}" in found.fix("bucket")
    assert ["listing", "key", "write", "upload"] == found.having("unknown")
    assert "pass" == found.status("login")

    cloud.s3.create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    assert [] == examine(cloud, shop, {"bucket": bucket}, env).having("fail")


def test_a_bucket_in_another_region_is_named_with_it(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    cloud.proxy.add(Header("x-amz-bucket-region", "us-west-2"), method="GET")
    found = examine(cloud, shop, env=env)

    assert ["bucket"] == found.having("fail")
    assert "aws-region: us-west-2" == found.fix("bucket")


def test_a_bucket_of_somebody_else_is_told(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    found = examine(cloud, shop, {"expected-bucket-owner": "999988887777"}, env)
    right = examine(cloud, shop, {"expected-bucket-owner": ACCOUNT}, env)

    assert ["bucket"] == found.having("fail")
    assert "expected-bucket-owner" in found.fix("bucket")
    assert ACCOUNT in right.reason("bucket")


def test_a_role_that_may_not_list_passes_with_a_warning(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    cloud.allow(writing(cloud.bucket))
    found = examine(cloud, shop, env=env)

    assert "warn" == found.status("listing")
    assert "pass" == found.status("write")
    assert 0 == found.run.exit_code

    cloud.allow(writing(cloud.bucket), *found.statements("listing"))
    assert "pass" == examine(cloud, shop, env=env).status("listing")


def mended(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str], found: Diagnosis, id: str,
    statements: list[dict[str, Any]], inputs: dict[str, str] | None = None,
) -> Diagnosis:  # fmt: skip
    """What the doctor says once the fix of a check is pasted into the role's policy."""
    assert found.statements(id), found.fix(id)
    cloud.allow(*statements, *found.statements(id))
    return examine(cloud, shop, inputs, env)


def test_a_role_that_may_not_write_is_shown_the_statement(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    cloud.allow(listing(cloud.bucket))
    found = examine(cloud, shop, env=env)

    assert ["write"] == found.having("fail")
    assert ["key", "upload"] == found.having("unknown")
    after = mended(cloud, shop, env, found, "write", [listing(cloud.bucket)])
    assert "pass" == after.status("write")


def test_a_role_that_may_not_abort_is_shown_the_statement(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    usual = writing(cloud.bucket) | {"Action": "s3:PutObject"}
    cloud.allow(usual, listing(cloud.bucket))
    found = examine(cloud, shop, env=env)

    assert ["upload"] == found.having("fail")
    assert "s3:AbortMultipartUpload" in found.fix("upload")
    after = mended(cloud, shop, env, found, "upload", [usual, listing(cloud.bucket)])
    assert "pass" == after.status("upload")


def test_a_role_without_the_key_is_shown_the_statement_for_it(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    inputs = {"kms-key-id": KEY}
    found = examine(cloud, shop, inputs, env)

    assert ["key"] == found.having("fail")
    assert ["write", "upload"] == found.having("unknown")
    after = mended(cloud, shop, env, found, "key", policy(cloud), inputs)
    assert [] == after.having("fail")
    assert f"aws:kms {KEY}" in after.reason("key")


@pytest.mark.parametrize("inputs", [{"object-tags": "team=shop"}, {"retention-tier": "auto"}])
def test_a_role_without_tags_is_shown_the_statement_for_them(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str], inputs: dict[str, str]
) -> None:
    found = examine(cloud, shop, inputs, env)

    assert ["write"] == found.having("fail")
    assert "s3:PutObjectTagging" in found.fix("write")
    after = mended(cloud, shop, env, found, "write", policy(cloud), inputs)
    assert [] == after.having("fail")


def test_a_store_that_would_write_over_an_object_is_refused(
    moto: Moto, issuer: Issuer, shop: dict[str, str], env: dict[str, str]
) -> None:
    with new_cloud(moto, issuer) as cloud:
        cloud.proxy.add(Without("If-None-Match"), method="PUT")
        found = examine(cloud, shop, env=env)

    assert ["write"] == found.having("fail")
    assert "If-None-Match" in found.reason("write")


# The policy of a backup is all that it takes


TAGGED = {"kms-key-id": KEY, "object-tags": "team=shop"}


def scope_of(cloud: Cloud, secret_arn: str) -> PolicyScope:
    return PolicyScope(
        "aws", REGION, ACCOUNT, cloud.bucket, PREFIX, KEY, tags_objects=True, secret_arn=secret_arn
    )


REMOVALS = removals("backup", PolicyScope("aws", REGION, ACCOUNT, "any", PREFIX, KEY, True,
                                          secret_arn="any"))  # fmt: skip


@pytest.mark.parametrize("removal", [None, *REMOVALS], ids=str)
def test_the_policy_of_a_backup_is_enough_and_what_it_lacks_is_named(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str], removal: Removal | None
) -> None:
    name = f"policy/{cloud.bucket}"
    secret = cloud.double.client("secretsmanager").create_secret(
        Name=name, SecretString=shop["password"]
    )
    cloud.allow(*policy_of("backup", scope_of(cloud, secret["ARN"]), removal))
    inputs = TAGGED | {"password": "", "password-secret-id": name}
    found = examine(cloud, shop, inputs, env)

    bad = [*found.having("fail"), *found.having("warn")]
    if removal is None:
        assert [] == bad
    else:
        assert 1 == len(bad)
        assert f'"{removal.action}"' in found.fix(bad[0])


# The login data


def test_a_secret_that_may_not_be_read_leaves_the_way_to_be_looked_at(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    name = f"shop/{cloud.bucket}"
    made = cloud.double.client("secretsmanager").create_secret(
        Name=name, SecretString=shop["password"]
    )
    source = shop | {"password": ""}
    found = examine(cloud, source, {"password-secret-id": name}, env)

    assert ["secret"] == found.having("fail")
    assert "secretsmanager:GetSecretValue" in found.fix("secret")
    assert "pass" == found.status("tcp")
    assert "“Login data”" in found.reason("login")
    assert "unknown" == found.status("tables")

    statement = found.statements("secret")[0] | {"Resource": made["ARN"]}
    cloud.allow(*policy(cloud), statement)
    assert [] == examine(cloud, source, {"password-secret-id": name}, env).having("fail")


def test_a_secret_of_rds_names_the_database_itself(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str]
) -> None:
    name = f"rds/{cloud.bucket}"
    held = {
        "engine": "postgres",
        "username": shop["user"],
        "password": shop["password"],
        "host": shop["host"],
        "port": shop["port"],
        "dbname": shop["database"],
    }
    made = cloud.double.client("secretsmanager").create_secret(
        Name=name, SecretString=json.dumps(held)
    )
    allowed = {
        "Effect": "Allow",
        "Action": "secretsmanager:GetSecretValue",
        "Resource": made["ARN"],
    }
    denied = examine(cloud, {}, {"password-secret-id": name}, env)
    cloud.allow(*policy(cloud), allowed)
    found = examine(cloud, {}, {"password-secret-id": name}, env)

    assert ["secret"] == denied.having("fail")
    assert {"dns", "tcp", "tls", "login"} < set(denied.having("unknown"))
    assert [] == found.having("fail")
    assert name in found.reason("secret")
    assert [] == secrets_seen(found.run.log.visible + found.run.summary, [shop["password"]])


# The disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("needs root and mount, for a file system of its own: .ci/run as root runs it")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", tmp_path])
    if made.returncode:
        pytest.skip("no file system can be mounted here, as in a container without privileges")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_small_scratch_disk_is_found_before_a_dump_fills_it(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str], small_disk: Path
) -> None:
    found = examine(cloud, shop, env=env | {"TMPDIR": str(small_disk)})
    (small_disk / "full").write_bytes(bytes(2 << 20))
    full = examine(cloud, shop, env=env | {"TMPDIR": str(small_disk)})

    assert ["disk"] == found.having("fail")
    assert "64 MiB" in found.reason("disk")
    assert "TMPDIR" in found.fix("disk")
    assert ["disk"] == full.having("fail")
    assert ["client"] == full.having("unknown")
    assert "pass" == full.status("tables")


def test_a_scratch_folder_that_is_not_there_is_told(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str], tmp_path: Path
) -> None:
    found = examine(cloud, shop, env=env | {"TMPDIR": str(tmp_path / "none")})

    assert ["disk"] == found.having("fail")
    assert "set TMPDIR" in found.fix("disk")


# By hand


def test_on_a_terminal_the_checks_come_as_json(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "backup", "audit", "--scope=setup", "--json"]
    command += [f"--bucket={cloud.bucket}", "--aws-region=eu-central-1"]
    command += [f"--{name}={shop[name]}" for name in ("host", "port", "database", "user")]
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    endpoints = {name: value for name, value in cloud.env.items() if name.startswith("AWS_")}
    place = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    run = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True,
        env=place | keys | endpoints | env | {"PGPASSWORD": shop["password"]},
    )  # fmt: skip

    assert 0 == run.returncode, run.stderr
    checks = json.loads(run.stdout)["checks"]
    assert {"setup"} == {check["area"] for check in checks}
    assert "pass" == {check["id"]: check["status"] for check in checks}["setup.write"]


# When it is red


@pytest.mark.parametrize(("fail_on", "code"), [("fail", 0), ("warn", 6), ("never", 0)])
def test_what_makes_it_red_is_the_callers(
    cloud: Cloud, shop: dict[str, str], env: dict[str, str], fail_on: str, code: int
) -> None:
    cloud.allow(writing(cloud.bucket))
    found = examine(cloud, shop, {"fail-on": fail_on}, env)

    assert "warn" == found.status("listing")
    assert code == found.run.exit_code
