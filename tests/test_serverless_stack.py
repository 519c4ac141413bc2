"""serverless.yaml as a user deploys it: what it says is run, as the role that it makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.aws import REGION, Ministack
from tests.lab.cloud import Cloud
from tests.lab.lambda_api import LambdaApi
from tests.lab.platforms import (
    TaskCredentials,
    keys_of,
    result_of,
    start_container,
    start_function,
)
from tests.lab.postgres import PostgresServer
from tests.lab.stacks import deploy
from tests.lab.sts import ACCOUNT
from tests.steps import database_named, forget

IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/pg-backup-action:v1"


@dataclass(frozen=True)
class Account:
    """Who deploys has a bucket, a database with its secret, a VPC, and a topic with a queue."""

    double: Ministack
    cloud: Cloud
    server: PostgresServer
    parameters: dict[str, str]
    queue: str

    def variables(self, given: dict[str, str]) -> dict[str, str]:
        """Of a deployed function or task, and what leads it to the lab."""
        endpoints = {name: url for name, url in self.cloud.env.items() if "ENDPOINT" in name}
        return {**given, **endpoints, "PG_BACKUP_CLIENTS": str(self.server.binaries)}

    def told(self) -> list[str]:
        """The subjects and texts that the topic has passed on."""
        answer = self.double.client("sqs").receive_message(
            QueueUrl=self.queue, MaxNumberOfMessages=10, WaitTimeSeconds=1
        )
        return [json.loads(each["Body"])["Message"] for each in answer.get("Messages", ())]


@pytest.fixture
def account(cloud: Cloud, ministack: Ministack, noisy: PostgresServer) -> Iterator[Account]:
    name = database_named(noisy, f"serverless {cloud.bucket}", "CREATE TABLE t AS SELECT 1 AS x")
    ec2, sns, sqs = (ministack.client(service) for service in ("ec2", "sns", "sqs"))
    login = {
        "engine": "postgres", "host": "127.0.0.1", "port": noisy.port, "username": "postgres",
        "password": noisy.password, "dbname": name,
    }  # fmt: skip
    secret = ministack.client("secretsmanager").create_secret(
        Name=cloud.bucket, SecretString=json.dumps(login)
    )
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName=cloud.bucket, Description="x", VpcId=vpc)
    topic = sns.create_topic(Name=cloud.bucket)["TopicArn"]
    queue = sqs.create_queue(QueueName=cloud.bucket)["QueueUrl"]
    told = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    deliver = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": told["QueueArn"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deliver]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=told["QueueArn"])
    parameters = {
        "ImageUri": IMAGE,
        "Bucket": cloud.bucket,
        "Database": name,
        "Port": str(noisy.port),
        "PasswordSecretArn": secret["ARN"],
        "TopicArn": topic,
        "VpcId": vpc,
        "SubnetIds": subnet,
        "DatabaseSecurityGroupId": group["GroupId"],
        "MoreInputs": '{"jobs": 1, "notify-on": "always"}',
    }
    yield Account(ministack, cloud, noisy, parameters, queue)
    forget(noisy, name)


def test_the_deployed_function_backs_up_as_its_role_and_tells(account: Account) -> None:
    stack = f"function-{account.cloud.bucket}"
    outputs = deploy(account.double, "serverless", stack, account.parameters)
    found = account.double.client("lambda").get_function_configuration(FunctionName=stack)
    assert found["Role"] == outputs["RoleArn"]

    keys = keys_of(account.double, found["Role"])
    given = account.variables(found["Environment"]["Variables"])
    with LambdaApi() as api, start_function(api, {}, given | keys.env) as running:
        schedule = account.double.client("scheduler").get_schedule(Name=stack, GroupName=stack)
        answer = api.invoke(json.loads(schedule["Target"]["Input"]), seconds=found["Timeout"])
        assert None is answer.error, running.output

    _assert_backed_up_and_told(account, answer.response)


def test_the_deployed_task_backs_up_as_its_role_and_tells(account: Account) -> None:
    stack = f"task-{account.cloud.bucket}"
    parameters = account.parameters | {"Platform": "fargate"}
    outputs = deploy(account.double, "serverless", stack, parameters)
    ecs = account.double.client("ecs")
    schedule = account.double.client("scheduler").get_schedule(Name=stack, GroupName=stack)
    wanted = schedule["Target"]["EcsParameters"]["TaskDefinitionArn"]
    definition = ecs.describe_task_definition(taskDefinition=wanted)["taskDefinition"]
    assert definition["taskRoleArn"] == outputs["RoleArn"]
    (container,) = definition["containerDefinitions"]

    keys = keys_of(account.double, definition["taskRoleArn"])
    variables = {each["name"]: each["value"] for each in container["environment"]}
    with TaskCredentials(keys, outputs["RoleArn"]) as credentials:
        given = account.variables(variables) | credentials.env
        with start_container({}, given) as running:
            run = running.finish()
            assert 0 == run.exit_code, run.output

    _assert_backed_up_and_told(account, result_of(run.output))


def test_the_deployed_role_is_refused_what_is_not_its_own(account: Account) -> None:
    outputs = deploy(account.double, "serverless", "refused", account.parameters)
    keys = keys_of(account.double, outputs["RoleArn"])
    bucket = account.cloud.bucket
    account.cloud.s3.put_object(Bucket=bucket, Key="postgresql/x", Body=b"x")
    secrets = account.double.client("secretsmanager")
    other = secrets.create_secret(Name=f"other-{bucket}", SecretString="x")["ARN"]

    def client(service: str) -> Any:
        return account.double.client(
            service,
            access_key=keys.access_key,
            secret_key=keys.secret_key,
            session_token=keys.token,
        )

    s3, secret = client("s3"), client("secretsmanager")
    attempts: list[Callable[[], Any]] = [
        lambda: s3.get_object(Bucket=bucket, Key="postgresql/x"),
        lambda: s3.delete_object(Bucket=bucket, Key="postgresql/x"),
        lambda: s3.put_object(Bucket=bucket, Key="elsewhere/x", Body=b"x"),
        lambda: s3.list_objects_v2(Bucket=bucket),
        lambda: secret.get_secret_value(SecretId=other),
    ]
    for attempt in attempts:
        with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
            attempt()


def _assert_backed_up_and_told(account: Account, result: dict[str, Any]) -> None:
    (manifest,) = account.cloud.manifests().values()
    assert manifest["id"] == result["outputs"]["backup-id"]
    assert account.parameters["Database"] == manifest["database"]
    assert "yearly" == result["outputs"]["retention-tier"]  # the first of its year
    (message,) = account.told()
    assert manifest["id"] in message
    metrics = account.double.client("cloudwatch").list_metrics(Namespace="PgBackup")["Metrics"]
    sent = {each["MetricName"] for each in metrics}
    assert {"BackupSucceeded", "BackupSeconds", "BackupBytes"} <= sent
