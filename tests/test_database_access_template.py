"""database-access.yaml: a login without a password, or a secret that only its readers read."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doctor import clients_of
from tests.lab.aws import REGION, Ministack
from tests.lab.cloud import Cloud, listing, writing
from tests.lab.postgres import PostgresServer
from tests.lab.runner import run_action
from tests.lab.stacks import StackError, delete, deploy
from tests.lab.sts import ACCOUNT
from tests.lab.templates import (
    INFRASTRUCTURE,
    ResolvedTemplate,
    TemplateError,
    read_template,
    resolve,
)
from tests.steps import database_named, forget, green

READER = f"arn:aws:iam::{ACCOUNT}:role/pg-backup-writer"
ROTATOR = f"arn:aws:iam::{ACCOUNT}:role/rotation"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:pg-backup-rotation"
HOST = "shop.abc123.eu-central-1.rds.amazonaws.com"


def by_password(**parameters: str) -> ResolvedTemplate:
    return resolve("database-access", Database="shop", Host=HOST, Login="password", **parameters)


def by_iam() -> ResolvedTemplate:
    return resolve("database-access", Database="shop", Host=HOST, ResourceId="db-ABC")


def one(template: ResolvedTemplate, kind: str) -> dict[str, Any]:
    [found] = template.of_type(kind).values()
    return found


def statements(template: ResolvedTemplate) -> dict[str, dict[str, Any]]:
    policy = one(template, "AWS::SecretsManager::ResourcePolicy")
    assert policy["BlockPublicPolicy"] is True
    return {each["Sid"]: each for each in policy["ResourcePolicy"]["Statement"]}


def test_by_iam_there_is_no_password_to_keep_and_the_writer_is_named_what_it_may() -> None:
    template = by_iam()
    assert {} == template.resources
    assert f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:db-ABC/backup" == template.outputs["LoginArn"]
    assert ("true", "backup") == (template.outputs["IamAuth"], template.outputs["User"])
    assert "iam" == read_template("database-access")["Parameters"]["Login"]["Default"]


def test_by_password_the_outputs_are_all_that_the_action_asks_for() -> None:
    outputs = by_password().outputs
    assert {
        "Host": HOST, "Port": "5432", "Database": "shop", "User": "backup", "IamAuth": "false",
        "PasswordSecretId": "<Secret>",
    } == {name: str(value) for name, value in outputs.items()}  # fmt: skip


@pytest.mark.parametrize("name", ["pg_backup", "Backup", "back up", 'b"', ""])
def test_a_user_that_would_need_quoting_or_that_postgresql_refuses_is_refused(name: str) -> None:
    with pytest.raises(TemplateError, match="User"):
        by_password(User=name)


def test_the_secret_has_the_form_of_rds_and_a_long_password_without_what_needs_quoting() -> None:
    wanted = one(by_password(), "AWS::SecretsManager::Secret")["GenerateSecretString"]
    assert {
        "engine": "postgres", "host": HOST, "port": 5432, "dbname": "shop", "username": "backup",
    } == json.loads(wanted["SecretStringTemplate"])  # fmt: skip
    assert "password" == wanted["GenerateStringKey"]
    assert wanted["PasswordLength"] >= 32
    assert wanted["ExcludePunctuation"] is True


def test_nobody_but_the_readers_reads_it_and_nobody_without_tls() -> None:
    by_sid = statements(by_password(Readers=f"{READER},{ROTATOR}"))
    only = by_sid.pop("OnlyTheReaders")
    tls = by_sid.pop("OnlyThroughTls")

    assert {} == by_sid
    assert ("Deny", "*") == (only["Effect"], only["Principal"])
    assert "secretsmanager:GetSecretValue" == only["Action"]
    assert {"ArnNotEquals": {"aws:PrincipalArn": [READER, ROTATOR]}} == only["Condition"]
    assert ("Deny", "secretsmanager:*") == (tls["Effect"], tls["Action"])
    assert {"Bool": {"aws:SecureTransport": "false"}} == tls["Condition"]
    assert {"OnlyThroughTls"} == statements(by_password()).keys()


def test_its_key_decrypts_through_secrets_manager_for_whoever_may_read_it() -> None:
    key = one(by_password(), "AWS::KMS::Key")
    by_sid = {each["Sid"]: each for each in key["KeyPolicy"]["Statement"]}
    assert key["EnableKeyRotation"] is True
    assert {
        "kms:CallerAccount": ACCOUNT,
        "kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com",
    } == by_sid["WhoeverMayReadTheSecretDecrypts"]["Condition"]["StringEquals"]
    given = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/given"
    assert {} == by_password(KmsKeyArn=given).of_type("AWS::KMS::Key")


def test_it_rotates_by_a_function_that_is_there_and_not_before_the_user_has_the_password() -> None:
    assert {} == by_password().of_type("AWS::SecretsManager::RotationSchedule")
    template = by_password(RotationFunctionArn=FUNCTION, RotationDays="14")
    rotation = one(template, "AWS::SecretsManager::RotationSchedule")
    permission = one(template, "AWS::Lambda::Permission")

    assert FUNCTION == rotation["RotationLambdaARN"] == permission["FunctionName"]
    assert rotation["RotateImmediatelyOnUpdate"] is False
    assert "14" == rotation["RotationRules"]["AutomaticallyAfterDays"]
    assert {
        "Action": "lambda:InvokeFunction", "Principal": "secretsmanager.amazonaws.com",
        "SourceAccount": ACCOUNT, "SourceArn": "<Secret>", "FunctionName": FUNCTION,
    } == permission  # fmt: skip
    text = (INFRASTRUCTURE / "database-access.yaml").read_text()
    assert "\nTransform" not in text


@pytest.fixture
def shop(postgres: PostgresServer) -> Iterator[str]:
    name = database_named(postgres, f"shop_{secrets.token_hex(4)}", "CREATE TABLE t AS SELECT 1 n")
    yield name
    postgres.sql("DROP OWNED BY backup_of_test", name)
    forget(postgres, name)
    postgres.sql("DROP ROLE backup_of_test")


def test_from_the_stack_and_the_script_to_a_backup(
    cloud: Cloud, ministack: Ministack, postgres: PostgresServer, shop: str
) -> None:
    """The role reads the secret because it is a reader; another with the same policy may not."""
    stack = f"login-{secrets.token_hex(4)}"
    outputs = deploy(ministack, "database-access", stack, {
        "Database": shop, "Host": "127.0.0.1", "Port": str(postgres.port), "Login": "password",
        "User": "backup_of_test", "Readers": f"{cloud.role},arn:aws:iam::{ACCOUNT}:root",
    })  # fmt: skip
    manager = ministack.client("secretsmanager")
    arn = manager.describe_secret(SecretId=outputs["PasswordSecretId"])["ARN"]
    told = json.loads(manager.get_secret_value(SecretId=arn)["SecretString"])
    subprocess.run(
        [f"{postgres.binaries}/psql", "-X", "-v", "login=password", "-v",
         f"backup_user={outputs['User']}", "-f", INFRASTRUCTURE / "database-access.sql"],
        env={**os.environ, **postgres.psql_env, "PGDATABASE": shop,
             "BACKUP_PASSWORD": told["password"]},
        check=True, capture_output=True,
    )  # fmt: skip
    reads = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": arn}
    cloud.allow(writing(cloud.bucket), listing(cloud.bucket), reads)
    inputs = cloud.inputs | {"password-secret-id": outputs["PasswordSecretId"]}

    run = run_action(inputs, cloud.env | clients_of(postgres))

    green(run)
    assert f"::add-mask::{told['password']}" in run.output
    assert shop in run.summary

    # A stack whose readers are others refuses the very same role.
    deploy(ministack, "database-access", stack, {"Readers": READER})
    refused = run_action(inputs, cloud.env | clients_of(postgres))
    assert 3 == refused.exit_code
    assert "explicit deny" in refused.output or "denied" in refused.output
    delete(ministack, stack)
    manager.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)


def test_a_first_deployment_that_fails_leaves_nothing_in_the_way_of_the_next(
    ministack: Ministack, tmp_path: Path
) -> None:
    stack, broken = f"access-{secrets.token_hex(4)}", tmp_path / "broken.yaml"
    given = {"Database": "shop", "Host": HOST, "Login": "password"}
    fault = (
        "  Fault:\n    Type: AWS::Lambda::EventInvokeConfig\n    DependsOn: Secret\n"
        "    Properties:\n      FunctionName: nobody\n      Qualifier: $LATEST\n"
    )
    text = (INFRASTRUCTURE / "database-access.yaml").read_text()
    broken.write_text(text.replace("\nOutputs:\n", f"\n{fault}\nOutputs:\n"))
    with pytest.raises(StackError):
        deploy(ministack, broken, stack, given)
    delete(ministack, stack)

    outputs = deploy(ministack, "database-access", stack, given)

    assert f":secret:{stack}-" in outputs["PasswordSecretId"]
    delete(ministack, stack)
    kept = ministack.client("secretsmanager").describe_secret(SecretId=outputs["PasswordSecretId"])
    assert "DeletedDate" not in kept
