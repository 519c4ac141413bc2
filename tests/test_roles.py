"""The four roles of github-oidc.yaml, deployed, on buckets of storage.yaml: each does its own job
with the real entrypoint, and is refused every other's by an error that names the action.
"""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests import snapshots
from tests.lab.aws import REGION, Ministack
from tests.lab.cloud import Cloud, source_inputs
from tests.lab.faults import FaultProxy
from tests.lab.github_api import TOKEN, GitHub, github
from tests.lab.issuer import Issuer
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun, run_action, start_action
from tests.lab.scripted.made import key_of
from tests.lab.scripted.server import ScriptedAws
from tests.lab.stacks import deploy
from tests.lab.sts import Sts
from tests.steps import database_named, forget, green

ROLES = ("writer", "restorer", "operator", "auditor")
SUBJECTS = {
    name: "repo:octo-org/shop:"
    + ("environment:production" if name == "operator" else "ref:refs/heads/main")
    for name in ROLES
}


REPOSITORY = {
    "GITHUB_REPOSITORY": "octo-org/shop",
    "GITHUB_REPOSITORY_ID": "4242",
    "GITHUB_REPOSITORY_OWNER_ID": "77",
}


@dataclass
class Account:
    """All that the stacks make, a database and a server of RDS, both called shop."""

    cloud: Cloud
    aws: ScriptedAws
    server: PostgresServer
    hub: GitHub
    roles: dict[str, str]
    key: str
    secret: dict[str, str]
    backup_id: str = ""
    names: Iterator[str] = field(
        default_factory=lambda: (f"copy_{number}" for number in itertools.count())
    )

    def become(self, role: str) -> None:
        """The next run's job is one that the role trusts; RDS knows the role's own policies."""
        self.cloud.issuer.subject = SUBJECTS[role]
        self.aws.allow_only(self.policies(role))

    def policies(self, role: str) -> list[dict[str, Any]]:
        """Every statement of a role, as IAM has it."""
        iam, name = self.cloud.double.client("iam"), self.roles[role].rpartition("/")[2]
        policies = [
            iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"]
            for each in iam.list_role_policies(RoleName=name)["PolicyNames"]
        ]
        return [statement for policy in policies for statement in policy["Statement"]]

    def inputs(self, role: str, operation: str, **more: str) -> dict[str, str]:
        given = {
            "operation": operation,
            "aws-region": REGION,
            "bucket": self.cloud.bucket,
            "kms-key-id": self.key,
            "role-to-assume": self.roles[role],
            "database": "shop",
        }
        return given | {name.replace("_", "-"): value for name, value in more.items()}

    def env(self) -> dict[str, str]:
        clients = {"PG_BACKUP_CLIENTS": str(self.server.binaries)}
        return snapshots.env(self.cloud, self.aws) | self.hub.env | clients | REPOSITORY

    def run(self, role: str, operation: str, **more: str) -> ActionRun:
        self.become(role)
        return run_action(self.inputs(role, operation, **more), self.env())

    def login(self) -> dict[str, str]:
        """Where to connect, with the password in the secret that the roles may read."""
        inputs = source_inputs(self.server, "shop", password_secret_id=self.secret["ARN"])
        del inputs["password"], inputs["database"]
        return inputs

    def backup(self, role: str) -> ActionRun:
        return self.run(role, "backup", retention_tier="auto", **self.login())

    def list(self, role: str) -> ActionRun:
        return self.run(role, "list")

    def restore(self, role: str) -> ActionRun:
        name = next(self.names)
        target = {"target_database": name, "create_database": "true"}
        try:
            # A role that may read no secret knows the password all the same.
            if role in ("writer", "restorer", "operator"):
                login = self.login()
            else:
                login = source_inputs(self.server, "shop")
            return self.run(role, "restore", backup_id=self.backup_id, **login, **target)
        finally:
            forget(self.server, name)

    def verify(self, role: str) -> ActionRun:
        return self.run(role, "verify", backup_id=self.backup_id, verify_depth="archive")

    def snapshot(self, role: str) -> ActionRun:
        self.stand_up()
        return self.run(role, "snapshot", db_instance="shop", wait="60s", keep="3")

    def restore_instance(self, role: str) -> ActionRun:
        self.stand_up()
        login = {"user": "postgres", "password": self.server.password}
        return self.run(role, "restore-instance", db_instance="shop", wait="60s", **login)

    def audit(self, role: str) -> ActionRun:
        """With `unknown` among its outputs: the checks that have no answer, and their fixes; and
        with `identity`: what was found of the writer."""
        self.stand_up()
        self.become(role)
        more = {
            "writer_role": self.roles["writer"],
            "db_instance": "shop",
            "report_file": "audit.json",
            "github_token": TOKEN,
            "release_tag": "v1",
        }
        inputs = self.inputs(role, "audit", **more)
        with start_action(inputs, self.env()) as running:
            run = running.finish()
            told = json.loads((running.home / "workspace/audit.json").read_text())
        unknown = [each for each in told["checks"] if each["status"] == "unknown"]
        run.outputs["unknown"] = "\n".join(f"{each['id']}: {each['fix']}" for each in unknown)
        of_writer = {
            each["id"]: each["status"]
            for each in told["checks"]
            if each["id"].startswith("identity.")
        }
        run.outputs["identity"] = json.dumps(of_writer)
        return run

    def stand_up(self) -> None:
        """The instance as it was, with a snapshot of somebody's."""
        self.aws.allow_only([{"Effect": "Allow", "Action": "*", "Resource": "*"}])
        self.aws.rds.add_instance("shop")
        self.aws.rds.add_snapshot("nightly")


@pytest.fixture(scope="module")
def account(postgres: PostgresServer) -> Iterator[Account]:
    database_named(postgres, "shop", "CREATE TABLE basket AS SELECT 1 AS id")
    with Ministack() as double, Issuer() as issuer, ScriptedAws() as aws, github() as hub:
        storage = deploy(double, "storage", "storage", {"Bucket": f"of-{secrets.token_hex(4)}"})
        secret = double.client("secretsmanager").create_secret(
            Name="shop/db", SecretString=postgres.password
        )
        outputs = deploy(
            double,
            "github-oidc",
            "roles",
            {
                "Repository": "octo-org/shop",
                "RepositoryIds": "octo-org@77/shop@4242",
                "Bucket": storage["Bucket"],
                "KmsKeyArn": storage["KmsKeyId"],
                "PasswordSecretArn": secret["ARN"],
                "DbInstance": "shop",
                "InstanceKmsKeyArn": key_of(REGION),
                "MonitoringRoleArn": monitoring_role(aws),
            },
        )
        hub.tags["v1"] = datetime.now(UTC) - timedelta(days=1)
        aws.network.add_route_table("rtb-main", main=True)
        aws.rds.endpoint = ("127.0.0.1", postgres.port)
        aws.rds.pace.seconds_per_state = 0
        with (
            Sts(issuer.jwks_url, double.url, trust=None) as sts,
            FaultProxy(double.url, is_expired=sts.is_expired) as proxy,
        ):
            made = Account(
                Cloud(double, issuer, sts, proxy, storage["Bucket"]),
                aws,
                postgres,
                hub,
                {name: outputs[f"{name.title()}Role"] for name in ROLES},
                storage["KmsKeyId"],
                secret,
            )
            made.backup_id = green(made.backup("writer")).outputs["backup-id"]
            yield made
        assert [] == aws.wrong
    forget(postgres, "shop")


def monitoring_role(aws: ScriptedAws) -> str:
    """What the instance has, which a new one gets as well."""
    aws.rds.add_instance("shop")
    told = snapshots.thing(aws, "shop", kind="db").description
    return str(told["MonitoringRoleArn"])


def test_the_writer_makes_a_backup_and_nothing_warns(account: Account) -> None:
    assert [] == green(account.backup("writer")).warnings


def test_the_restorer_lists_restores_and_drills(account: Account) -> None:
    listed = json.loads(green(account.list("restorer")).outputs["backups"])
    assert account.backup_id in {each["id"] for each in listed}
    assert [] == green(account.restore("restorer")).warnings
    assert [] == green(account.verify("restorer")).warnings


def test_the_operator_takes_a_snapshot_and_makes_a_new_instance(account: Account) -> None:
    assert [] == green(account.snapshot("operator")).warnings
    green(account.restore_instance("operator"))


def test_the_auditor_has_an_answer_to_every_question(account: Account) -> None:
    run = account.audit("auditor")
    assert run.exit_code in (0, 6), run.output
    assert "" == run.outputs["unknown"]
    assert {"pass"} == set(json.loads(run.outputs["identity"]).values()), run.output


Job = Callable[[Account, str], ActionRun]

# What each job of another role is refused for.
STRANGERS: list[tuple[str, Job, str]] = [
    ("writer", Account.restore, "s3:GetObject"),
    ("writer", Account.verify, "s3:GetObject"),
    ("writer", Account.snapshot, "rds:"),
    ("writer", Account.restore_instance, "rds:"),
    ("restorer", Account.backup, "s3:PutObject"),
    ("restorer", Account.snapshot, "rds:"),
    ("restorer", Account.restore_instance, "rds:"),
    ("operator", Account.backup, "s3:PutObject"),
    ("operator", Account.restore, "s3:GetObject"),
    ("operator", Account.verify, "s3:GetObject"),
    ("auditor", Account.backup, "secretsmanager:GetSecretValue"),
    ("auditor", Account.restore, "s3:GetObject"),
    ("auditor", Account.verify, "s3:GetObject"),
    ("auditor", Account.snapshot, "rds:CreateDBSnapshot"),
    ("auditor", Account.restore_instance, "rds:"),
]


@pytest.mark.parametrize(
    ("role", "job", "action"),
    STRANGERS,
    ids=[f"{role}-{job.__name__}" for role, job, _ in STRANGERS],
)
def test_a_role_is_refused_the_job_of_another(
    account: Account, role: str, job: Job, action: str
) -> None:
    before = account.cloud.objects()
    run = job(account, role)

    assert 3 == run.exit_code, run.output
    (error,) = run.errors
    assert action in error.message, error.message
    # A drill that failed is told as such, by who may write.
    after = account.cloud.objects()
    assert before == {key: size for key, size in after.items() if key in before}
    assert [] == [key for key in after.keys() - before if "/drills/" not in key]


@pytest.mark.parametrize("role", ["writer", "restorer", "operator"])
def test_no_other_role_can_audit(account: Account, role: str) -> None:
    unknown = account.audit(role).outputs["unknown"]
    for action in ("s3:GetBucketPolicy", "s3:GetLifecycleConfiguration", "iam:GetRole"):
        assert action in unknown


def test_the_auditor_cannot_write_where_it_needs_no_secret(account: Account) -> None:
    run = account.run("auditor", "backup", **source_inputs(account.server, "shop"))
    assert 3 == run.exit_code, run.output
    assert "s3:PutObject" in run.errors[0].message
