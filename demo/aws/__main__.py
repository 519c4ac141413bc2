"""From an empty AWS account to a green audit, as a new user does it; exits 1 if anything is not as
it should be."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from demo.aws.account import WITH_IDS, World, begin, bill
from demo.aws.workflows import Workflow, read_workflows
from demo.by_hand import DemoError, Shell
from demo.narration import Narrator
from demo.steps import empty_folder, run_demo, run_step
from tests.lab.aws import REGION, REPOSITORY
from tests.lab.daemon import LOOPBACK
from tests.lab.github_api import REPOSITORY as SLUG
from tests.lab.github_api import TOKEN
from tests.lab.runner import ActionRun
from tests.lab.stacks import outputs_of

DATABASE = "shop"
SECOND_REGION = "eu-west-1"
INSTANCE = "shop"
FILES = REPOSITORY / ".demo-aws"
INFRASTRUCTURE = Path("examples/infrastructure")
SHOP = """
CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (
    id int PRIMARY KEY,
    customer int NOT NULL REFERENCES customer,
    placed timestamptz NOT NULL,
    total numeric(12, 2) NOT NULL CHECK (total >= 0)
);
INSERT INTO customer SELECT n, 'customer ' || n FROM generate_series(1, 5000) n;
INSERT INTO orders SELECT n, 1 + n % 5000, timestamptz '2026-01-01' + n * interval '7 min', n % 997
FROM generate_series(1, 60000) n;
CREATE INDEX ON orders (customer, placed);
ALTER TABLE customer ENABLE ROW LEVEL SECURITY;
"""


@dataclass(frozen=True)
class Deployment:
    """What the script has said while it ran, and the workflows that it has printed."""

    log: str
    workflows: Mapping[str, Workflow]


@dataclass(frozen=True)
class Tour:
    """One walk through it all."""

    world: World
    narrator: Narrator

    def deploy(self) -> Deployment:
        """Run the script of examples/infrastructure, as its user does."""
        world = self.world
        line = [
            str(INFRASTRUCTURE / "deploy.sh"),
            *("--repository", SLUG, "--repository-ids", WITH_IDS),
            *("--database", DATABASE, "--host", LOOPBACK, "--port", str(world.source.port)),
            *("--login", "password", "--db-instance", INSTANCE),
            *("--lock-days", "30", "--replica-region", SECOND_REGION),
            *("--region", REGION, "--email", "oncall@example.org"),
        ]
        self.narrator.say("$ " + " ".join(line))
        with subprocess.Popen(
            line,
            cwd=REPOSITORY,
            env=dict(world.shell),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as script:
            assert script.stderr is not None
            assert script.stdout is not None
            log = ""
            try:
                for said in script.stderr:
                    self.narrator.quote(said.rstrip())
                    log += said
                printed = script.stdout.read()
            except BaseException:
                os.killpg(script.pid, signal.SIGKILL)
                raise
        if script.returncode:
            raise DemoError(f"deploy.sh exited with {script.returncode}")
        (FILES / "workflows.yml").write_text(printed)
        return Deployment(log, read_workflows(printed, {"github.token": TOKEN}))

    def step(
        self, name: str, inputs: Mapping[str, str], *, exit_code: int = 0, tells: bool = True
    ) -> ActionRun:
        log = FILES / f"{name}.log"
        run = run_step(inputs, self.world.job, log, self.narrator, exit_code=exit_code)
        (FILES / f"{name}-summary.md").write_text(run.summary)
        if tells:
            self.narrator.say(
                "its outputs:", *(f"  {each}={value}" for each, value in run.outputs.items())
            )
        return run

    def database_user(self) -> None:
        """The user of the backups, with the password of the secret that the stack made."""
        shell = Shell(REPOSITORY, self.world.shell, self.narrator)
        access = outputs_of(self.world.double, f"pg-backup-access-{DATABASE}")
        secret = shlex.quote(access["PasswordSecretId"])
        shell.run(
            "BACKUP_PASSWORD=$(aws secretsmanager get-secret-value --query SecretString"
            f" --output text --secret-id {secret}"
            """ | sed 's/.*"password": *"\\([^"]*\\)".*/\\1/')"""
            " && export BACKUP_PASSWORD && psql --no-psqlrc --dbname shop"
            f" -v login=password -v backup_user={access['User']}"
            f" -f {INFRASTRUCTURE / 'database-access.sql'}"
        )

    def snapshot(self, roles: Mapping[str, str]) -> None:
        """Of an RDS instance of the account, by the operator, whom an environment gives way."""
        shell = Shell(REPOSITORY, self.world.shell, self.narrator)
        shell.run(
            f"aws rds create-db-instance --db-instance-identifier {INSTANCE} --engine postgres"
            " --db-instance-class db.t4g.micro --allocated-storage 20 --storage-encrypted"
            " --master-username postgres --manage-master-user-password"
            " --query DBInstance.DBInstanceStatus"
        )
        issuer = self.world.issuer
        before, issuer.subject = issuer.subject, f"repo:{WITH_IDS}:environment:production"
        bucket = outputs_of(self.world.double, "pg-backup-storage")["Bucket"]
        self.step(
            "snapshot",
            {
                "operation": "snapshot",
                "aws-region": REGION,
                "bucket": bucket,
                "role-to-assume": roles["OperatorRole"],
                "db-instance": INSTANCE,
            },
        )
        issuer.subject = before

    def alert(self, inputs: Mapping[str, str]) -> None:
        """The password is changed and the secret is not: what the topic's subscriber is sent."""
        topic = inputs["sns-topic-arn"]
        sqs = self.world.double.client("sqs")
        queue = sqs.create_queue(QueueName="oncall")["QueueUrl"]
        about = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": about["QueueArn"],
            "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
        self.world.double.client("sns").subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=about["QueueArn"]
        )
        user = outputs_of(self.world.double, f"pg-backup-access-{DATABASE}")["User"]
        self.world.source.sql(f"ALTER ROLE {user} PASSWORD 'another'")
        self.narrator.say(f"ALTER ROLE {user} PASSWORD 'another';")

        self.step("failed", inputs, exit_code=3, tells=False)

        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=5)
        told = [json.loads(each["Body"]) for each in answer.get("Messages", ())]
        by_run = [each for each in told if each["Subject"].startswith("FAILED: ")]
        by_alarm = [each for each in told if each["Subject"].startswith("ALARM: ")]
        if not by_run or not by_alarm:
            raise DemoError(f"who is on call was sent {[each['Subject'] for each in told]}")
        self.narrator.say("the run itself tells who is on call:")
        self.narrator.quote(f"{by_run[0]['Subject']}\n\n{by_run[0]['Message']}")
        for each in by_alarm:
            self.narrator.say("and so does an alarm, on the metrics that it sends:")
            self.narrator.quote(f"{each['Subject']}\n\n")
            self.narrator.quote(json.loads(each["Message"])["AlarmDescription"])

    def audit(self, inputs: Mapping[str, str], backup: Workflow) -> None:
        """GitHub has run the backup's workflow on its schedule by now."""
        hub = self.world.hub
        hub.file, hub.text = backup.file, backup.text
        hub.ran(0.1, "success")
        run = self.step("audit", inputs)
        counts = {name: run.outputs[f"checks-{name}"] for name in ("failed", "warned", "unknown")}
        if set(counts.values()) != {"0"} or run.outputs["verdict"] != "pass":
            raise DemoError(f"the audit is not green: {counts}")


def main() -> int:
    left = "The workflows, the logs and the job summaries"
    return run_demo(_demonstrate, steps=12, folder=FILES, left=left)


def _demonstrate(narrator: Narrator, undo: ExitStack) -> None:
    empty_folder(FILES)
    with narrator.step("Start an empty AWS account, GitHub's issuer and API, and PostgreSQL"):
        world = begin(undo)
        tour = Tour(world, narrator)
        narrator.say(
            f"AWS at {world.double.url}: signatures, policies and their conditions are enforced",
            f"id tokens as {world.issuer.subject}",
            f"PostgreSQL, TLS only, at port {world.source.port}",
        )

    with narrator.step(f"Create a sample database, {DATABASE}"):
        world.source.sql(f"CREATE DATABASE {DATABASE}")
        world.source.sql(SHOP, DATABASE)

    with narrator.step("Set everything up: one script"):
        first = tour.deploy()
        workflows = first.workflows
        backup, drill, audit = (workflows[name].inputs for name in ("backup", "drill", "audit"))
        roles = outputs_of(world.double, "pg-backup-roles")
        narrator.say(*(f"{name} = {arn}" for name, arn in sorted(roles.items())))

    with narrator.step("Make the user who reads the database"):
        tour.database_user()

    with narrator.step("Ask the doctor before the first backup: operation: audit, scope: setup"):
        tour.step("doctor", {**backup, "operation": "audit", "scope": "setup"}, tells=False)

    with narrator.step("Back up, with the workflow that the script has printed"):
        narrator.quote(workflows["backup"].text)
        tour.step("backup", backup)

    with narrator.step("Prove that it restores: the drill's workflow, as the restorer"):
        tour.step("drill", drill)

    with narrator.step("Restore it into a new database, as the restorer"):
        target = {"target-url": world.source.url("shop_again"), "create-database": "true"}
        tour.step("restore", {**drill, "operation": "restore", **target})

    with narrator.step("Take a snapshot of the RDS instance, as the operator"):
        tour.snapshot(roles)

    with narrator.step("Let a backup fail: who is told?"):
        tour.alert(backup)

    with narrator.step("Audit it all, as the auditor: is everything green?"):
        tour.audit(audit, workflows["backup"])
        narrator.quote((FILES / "audit-summary.md").read_text())

    with narrator.step("Run the script again: nothing changes"):
        tour.deploy()
        narrator.say(
            "In a real account all this would cost:", *bill(world.double, (REGION, SECOND_REGION))
        )


if __name__ == "__main__":
    sys.exit(main())
