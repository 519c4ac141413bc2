"""The policies that are documented are what the operations on backups need: no action more or less.

`tests/test_grants.py` compares the documents with `needed`; here each operation is run with
exactly that, and with one action less, by a role that may do nothing else.
"""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from backup.aws.grants import PolicyScope
from tests.doctor import Diagnosis, clients_of, examine
from tests.lab.aws import REGION, Ministack
from tests.lab.cloud import Cloud, new_cloud, source_inputs
from tests.lab.faults import ACCESS_DENIED
from tests.lab.issuer import Issuer
from tests.lab.login import LoginFront
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun, run_action
from tests.lab.sts import ACCOUNT
from tests.permissions import (
    KEY,
    SCOPE,
    Removal,
    assert_prints,
    assert_refused,
    assert_warned,
    lacking,
    policy,
    removals,
)
from tests.steps import database_named, forget, green

ENCRYPTED = replace(SCOPE, kms_key_arn=KEY)
BACKUP = replace(ENCRYPTED, tags_objects=True, secret_arn="SECRET")
RESTORE = replace(ENCRYPTED, secret_arn="SECRET")
LOGIN = f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:db-SHOP/token_user"
LISTING = Removal("ListBackups", "s3:ListBucket")
ABORTING = Removal("WriteBackups", "s3:AbortMultipartUpload")
# What a backup, or a drill, is worth having without; a warning says so.
WARNED = {
    "backup": [LISTING],
    "verify": [
        Removal("KeepTheResult", "s3:PutObject"),
        Removal("EncryptTheResult", "kms:GenerateDataKey"),
    ],
}


@dataclass
class Scene:
    """A database, its backup under a KMS key, and a secret with the password."""

    cloud: Cloud
    server: PostgresServer
    secret: dict[str, str]
    id: str = ""
    names: Iterator[str] = field(default_factory=lambda: (f"copy_{n}" for n in itertools.count()))

    def allow(self, operation: str, scope: PolicyScope, without: Removal | None = None) -> None:
        mine = replace(scope, bucket=self.cloud.bucket)
        if scope.secret_arn:
            mine = replace(mine, secret_arn=self.secret["ARN"])
        self.cloud.allow(*policy(operation, mine, without))

    def run(self, operation: str, **more: str) -> ActionRun:
        """`more` are inputs with underscores for hyphens."""
        given = self.cloud.inputs | {"operation": operation, "database": "shop"}
        given |= {name.replace("_", "-"): value for name, value in more.items()}
        env = {"PG_BACKUP_CLIENTS": str(self.server.binaries), "AWS_MAX_ATTEMPTS": "2"}
        return run_action(given, self.cloud.env | env)

    def login(self) -> dict[str, str]:
        """Where to connect, with the password in Secrets Manager."""
        inputs = source_inputs(self.server, "shop", password_secret_id=self.secret["Name"])
        del inputs["password"]
        return inputs

    def backup(self, **more: str) -> ActionRun:
        return self.run("backup", kms_key_id=KEY, object_tags="team=shop", **self.login(), **more)

    def examine(self, without: Removal | None = None) -> Diagnosis:
        self.allow("backup", BACKUP, without)
        more = {"kms-key-id": KEY, "object-tags": "team=shop"}
        source = {name.replace("_", "-"): text for name, text in self.login().items()}
        return examine(self.cloud, source, more, clients_of(self.server))

    def restore(self) -> ActionRun:
        name = next(self.names)
        try:
            inputs = self.login() | {"target_database": name, "create_database": "true"}
            return self.run("restore", backup_id=self.id, **inputs)
        finally:
            forget(self.server, name)

    def verify(self, **more: str) -> ActionRun:
        return self.run("verify", backup_id=self.id, verify_depth="objects", **more)


@pytest.fixture(scope="module")
def scene(postgres: PostgresServer, ministack: Ministack, issuer: Issuer) -> Iterator[Scene]:
    database_named(postgres, "shop", "CREATE TABLE basket AS SELECT 1 AS id")
    secret = ministack.client("secretsmanager").create_secret(
        Name=f"shop/{secrets.token_hex(4)}", SecretString=postgres.password
    )
    with new_cloud(ministack, issuer) as cloud:
        ready = Scene(cloud, postgres, secret)
        ready.allow("backup", BACKUP)
        ready.id = green(ready.backup()).outputs["backup-id"]
        yield ready
    forget(postgres, "shop")


def test_a_backup_into_a_plain_bucket_needs_the_shortest_policy(scene: Scene) -> None:
    scene.allow("backup", SCOPE)
    green(scene.run("backup", **source_inputs(scene.server, "shop")))


@lacking("backup", BACKUP, but=[ABORTING, *WARNED["backup"]])
def test_a_backup_names_the_action_that_it_lacks(scene: Scene, removal: Removal) -> None:
    scene.allow("backup", BACKUP, removal)
    before = scene.cloud.manifests()
    assert_refused(scene.backup(), removal)
    assert before == scene.cloud.manifests()


@pytest.mark.parametrize("removal", WARNED["backup"], ids=str)
def test_a_backup_warns_of_the_action_that_it_can_do_without(
    scene: Scene, removal: Removal
) -> None:
    scene.allow("backup", BACKUP, removal)
    assert_warned(scene.backup(), removal)


@pytest.mark.parametrize("removal", [None, ABORTING], ids=str)
def test_a_failed_backup_cleans_up_behind_it_or_names_the_action_that_it_lacks(
    scene: Scene, removal: Removal | None
) -> None:
    scene.allow("backup", BACKUP, removal)
    before = scene.cloud.open_uploads()
    scene.cloud.proxy.add(ACCESS_DENIED, method="PUT", pattern="partNumber=")
    try:
        run = scene.backup()
    finally:
        scene.cloud.proxy.clear()

    assert 3 == run.exit_code, run.output
    assert (removal is None) == (before == scene.cloud.open_uploads())
    assert (removal is None) == ([] == run.warnings)
    if removal:
        assert_prints(run.warnings[0].message, removal)


def test_a_login_by_iam_is_refused_with_the_action_that_it_lacks(scene: Scene) -> None:
    scope = replace(SCOPE, bucket=scene.cloud.bucket, login_arn=LOGIN)
    with token_user(scene.server) as user, RdsLogin(scene) as front:
        inputs = source_inputs(scene.server, "shop", user=user, iam_auth="true")
        inputs["port"] = str(front.port)
        del inputs["password"]
        scene.allow("backup", scope)
        green(scene.run("backup", **inputs))
        (removal,) = [each for each in removals("backup", scope) if each.sid == "LogIn"]
        scene.allow("backup", scope, removal)
        refused = scene.run("backup", **inputs)

    assert 3 == refused.exit_code
    assert removal.action in refused.errors[0].message


def test_the_doctor_needs_the_policy_of_the_backup(scene: Scene) -> None:
    found = scene.examine()
    assert [] == [*found.having("fail"), *found.having("unknown")], found.run.output


@lacking("backup", BACKUP)
def test_the_doctor_names_the_action_that_a_backup_would_lack(
    scene: Scene, removal: Removal
) -> None:
    found = scene.examine(removal)
    fixes = [found.fix(name) for name in found.having("warn" if removal == LISTING else "fail")]
    assert_prints("\n".join(fixes), removal)


def test_a_list_needs_the_policy(scene: Scene) -> None:
    scene.allow("list", ENCRYPTED)
    listed = json.loads(green(scene.run("list")).outputs["backups"])
    assert [] != listed


@lacking("list", ENCRYPTED)
def test_a_list_names_the_action_that_it_lacks(scene: Scene, removal: Removal) -> None:
    scene.allow("list", ENCRYPTED, removal)
    assert_refused(scene.run("list"), removal)


def test_a_restore_needs_the_policy(scene: Scene) -> None:
    scene.allow("restore", RESTORE)
    green(scene.restore())


@lacking("restore", RESTORE)
def test_a_restore_names_the_action_that_it_lacks(scene: Scene, removal: Removal) -> None:
    scene.allow("restore", RESTORE, removal)
    assert_refused(scene.restore(), removal)


def test_a_drill_needs_the_policy(scene: Scene) -> None:
    scene.allow("verify", ENCRYPTED)
    assert [] == green(scene.verify(kms_key_id=KEY)).warnings


@lacking("verify", ENCRYPTED, but=WARNED["verify"])
def test_a_drill_names_the_action_that_it_lacks(scene: Scene, removal: Removal) -> None:
    scene.allow("verify", ENCRYPTED, removal)
    assert_refused(scene.verify(), removal)


@pytest.mark.parametrize("removal", WARNED["verify"], ids=str)
def test_a_drill_warns_of_the_action_that_it_can_do_without(scene: Scene, removal: Removal) -> None:
    scene.allow("verify", ENCRYPTED, removal)
    assert_warned(scene.verify(kms_key_id=KEY), removal)


def test_a_drill_on_a_server_of_ones_own_needs_the_secret_with_its_password(scene: Scene) -> None:
    (removal,) = [each for each in removals("verify", RESTORE) if each.sid == "ReadPassword"]
    target = f"postgresql://postgres@127.0.0.1:{scene.server.port}/shop"
    scene.allow("verify", RESTORE, removal)
    run = scene.run(
        "verify", backup_id=scene.id, target_url=target, password_secret_id=scene.secret["Name"]
    )
    assert_refused(run, removal)


def test_archived_backups_come_back_only_with_the_action_for_it(scene: Scene) -> None:
    scope = replace(ENCRYPTED, thaws=True)
    (removal,) = [each for each in removals("restore", scope) if each.sid == "ThawBackups"]
    with new_cloud(scene.cloud.double, scene.cloud.issuer) as cold:
        for key in scene.cloud.objects():
            source = {"Bucket": scene.cloud.bucket, "Key": key}
            cold.s3.copy_object(
                Bucket=cold.bucket, Key=key, CopySource=source, StorageClass="GLACIER"
            )
        archive = replace(scene, cloud=cold)
        archive.allow("restore", scope, removal)
        assert_refused(archive.verify(), removal)
        archive.allow("verify", scope)
        green(archive.verify(thaw_wait="1min"))


@contextmanager
def token_user(server: PostgresServer) -> Iterator[str]:
    """A user who may log in without a password, for what is in front asks for a token."""
    name = "token_user"
    server.sql(f"CREATE ROLE {name} LOGIN SUPERUSER")
    rules = server.data / "pg_hba.conf"
    usual = rules.read_text()
    rules.write_text(f"host all {name} 127.0.0.1/32 trust\n{usual}")
    server.sql("SELECT pg_reload_conf()")
    try:
        yield name
    finally:
        rules.write_text(usual)
        server.sql("SELECT pg_reload_conf()")
        server.sql(f"DROP ROLE {name}")


class RdsLogin(LoginFront):
    """Lets in whom IAM allows `rds-db:connect`, as RDS does."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene.server.port, "", "", REGION)
        self._cloud = scene.cloud

    def fault(self, token: str, user: str) -> str:
        session = self._cloud.sts.exchanges[-1]
        self.access_key, self.secret_key = session.access_key, session.secrets[0]
        if fault := super().fault(token, user):
            return fault
        answer = self._cloud.double.client("iam").simulate_principal_policy(
            PolicySourceArn=self._cloud.role,
            ActionNames=["rds-db:connect"],
            ResourceArns=[LOGIN],
        )
        (told,) = answer["EvaluationResults"]
        return "" if told["EvalDecision"] == "allowed" else f"for user {user}"
