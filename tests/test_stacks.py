"""What all templates of examples/infrastructure have in common."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backup.options import OPTIONS
from tests.lab.aws import REPOSITORY, Ministack
from tests.lab.stacks import INFRASTRUCTURE, StackError, delete, deploy
from tests.lab.templates import TemplateError, read_template, resolve

TEMPLATES = sorted(path.stem for path in INFRASTRUCTURE.glob("*.yaml"))
# The parameters that have no sane default, with a value for the tests.
REQUIRED = {
    "database-access": {"Database": "shop", "Host": "shop.abc123.eu-central-1.rds.amazonaws.com"},
    "github-oidc": {"Repository": "acme/shop", "Bucket": "backups"},
    "monitoring": {"Database": "shop"},
    "serverless": {
        "Bucket": "backups",
        "Database": "shop",
        "ImageUri": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/pg-backup-action:v1",
    },
}
# And what a rule of the template asks for besides.
ALONE = {
    "database-access": {"ResourceId": "db-ABCDEFGHIJKLMNOPQRSTUVWXYZ"},
    "serverless": {
        "PasswordSecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:shop-AbCdEf",
    },
}
# What holds data. With it, the key of the stack, without which it cannot be read.
DATA = {"AWS::Backup::BackupVault", "AWS::S3::Bucket", "AWS::SecretsManager::Secret"}
# Outputs that are no input of the action: what they are handed on to.
HANDED_ON = {
    ("aws-backup", "VaultArn"): ("aws-backup", "DestinationVaultArn"),
    ("database-access", "LoginArn"): ("github-oidc", "LoginArn"),
    ("replication", "KmsKeyId"): ("storage", "ReplicaKmsKeyArn"),
    ("serverless", "RoleArn"): ("storage", "WriterRoleArns"),
    ("storage", "KmsKeyId"): ("github-oidc", "KmsKeyArn"),
}
# Actions on all resources although the reference knows a type of them, and why.
EVERYTHING = {
    "cloudwatch:GetMetricData": "a dataset is OpenTelemetry's; metrics have no ARN",
    "cloudwatch:PutMetricData": "a dataset is OpenTelemetry's; the namespace is a condition",
    "rds:DescribeExportTasks": "asked for by the task's name, and a task has no ARN",
}
REFERENCE = json.loads(
    (
        Path(str(importlib.import_module("cfnlint").__file__)).parent
        / "data/AdditionalSpecs/Policies.json"
    ).read_text()
)


def given(name: str) -> dict[str, str]:
    return REQUIRED.get(name, {}) | ALONE.get(name, {})


def statements(node: Any) -> Iterator[dict[str, Any]]:
    """Every statement of every policy below a node."""
    if isinstance(node, list):
        for each in node:
            yield from statements(each)
    elif isinstance(node, dict):
        if "Effect" in node:
            yield node
        for each in node.values():
            yield from statements(each)


def listed(value: Any) -> list[str]:
    """One text or many, whatever a condition chooses."""
    if isinstance(value, list):
        return [text for each in value for text in listed(each)]
    if isinstance(value, dict) and "Fn::If" in value:
        return listed(value["Fn::If"][1:])
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_parameter_says_what_it_is_and_takes_only_what_can_be_right(name: str) -> None:
    parameters = read_template(name)["Parameters"]

    required = {each for each, declared in parameters.items() if "Default" not in declared}
    assert set(REQUIRED.get(name, {})) == required
    for each, declared in parameters.items():
        assert declared["Description"].endswith((".", ")")) or len(declared["Description"]) > 20
        if declared["Type"] == "String":
            assert {"AllowedValues", "AllowedPattern"} & declared.keys(), each
        if "AllowedPattern" in declared:
            assert "ConstraintDescription" in declared, each
        if declared["Type"] == "Number":
            assert "MinValue" in declared, each
    resolve(name, **given(name))  # every default is a value that is allowed


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_output_is_an_input_of_the_action_or_of_another_stack(name: str) -> None:
    options = {option.name for option in OPTIONS}
    for output, declared in read_template(name).get("Outputs", {}).items():
        option, colon, _ = declared["Description"].partition(":")
        if (name, output) in HANDED_ON:
            other, parameter = HANDED_ON[name, output]
            assert parameter in read_template(other)["Parameters"], output
        elif colon and option in options:
            own = "".join(word.capitalize() for word in option.split("-"))
            assert own == output or option == "role-to-assume", output
        else:
            assert re.search(r"\b(policy|action|statement)\b", declared["Description"]), output


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_holds_data_outlives_its_stack(name: str) -> None:
    resources = read_template(name)["Resources"]
    held = DATA & {resource["Type"] for resource in resources.values()}
    for logical_id, resource in resources.items():
        if held and resource["Type"] in DATA | {"AWS::KMS::Key"}:
            assert "Retain" == resource.get("UpdateReplacePolicy"), logical_id
            # The latter lets go of what the very deployment made that fails.
            assert resource.get("DeletionPolicy") in ("Retain", "RetainExceptOnCreate"), logical_id


@pytest.mark.parametrize("name", TEMPLATES)
def test_nothing_is_allowed_on_all_resources_where_the_service_knows_some(name: str) -> None:
    """As the Service Authorization Reference has it, which cfn-lint brings along."""
    wide = []
    for logical_id, resource in read_template(name)["Resources"].items():
        # In the policy of a key, or of a secret, "*" is that key, or that secret.
        if resource["Type"] in ("AWS::KMS::Key", "AWS::SecretsManager::ResourcePolicy"):
            continue
        for statement in statements(resource):
            if statement["Effect"] != "Allow" or "*" not in listed(statement.get("Resource")):
                continue
            for action in listed(statement["Action"]):
                service, _, call = action.partition(":")
                known = REFERENCE[service]["Actions"][call.lower()].get("Resources", [])
                if known and action not in EVERYTHING:
                    wide.append(f"{logical_id}: {action} knows {known}")
    assert [] == wide


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_role_may_do_all_that_a_service_can(name: str) -> None:
    for logical_id, resource in read_template(name)["Resources"].items():
        if resource["Type"] == "AWS::KMS::Key":
            continue  # its account governs it
        for statement in statements(resource):
            if statement["Effect"] == "Allow":
                for action in listed(statement["Action"]):
                    assert not action.endswith(":*"), logical_id
                    assert "*" != action, logical_id
                assert "NotAction" not in statement


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_whole_in_itself(name: str) -> None:
    template = read_template(name)
    assert "Transform" not in template
    kinds = {resource["Type"] for resource in template["Resources"].values()}
    assert "AWS::CloudFormation::Stack" not in kinds
    assert not any(kind.startswith("Custom::") for kind in kinds)


@pytest.fixture(scope="module")
def account() -> Iterator[Ministack]:
    """An empty account, in which no other test has made anything."""
    with Ministack() as double:
        yield double


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_deployed_alone_and_what_it_holds_outlives_the_stack(
    account: Ministack, name: str
) -> None:
    made = deploy(account, name, name, given(name))
    assert set(resolve(name, **given(name)).outputs) == set(made)

    kept = len(account.client("s3").list_buckets()["Buckets"])
    delete(account, name)
    assert kept == len(account.client("s3").list_buckets()["Buckets"])


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_page_about_the_stacks_knows_each_of_them(name: str) -> None:
    page = (INFRASTRUCTURE / "README.md").read_text()
    assert f"]({name}.yaml)" in page
    for output in read_template(name).get("Outputs", {}):
        assert f"`{output}`" in page, output


def test_the_script_passes_what_the_templates_take() -> None:
    script = (INFRASTRUCTURE / "deploy.sh").read_text().replace("\\\n", " ")
    calls = re.findall(r"^ *deploy \S+ \S+ ([a-z-]+)\.yaml(.*)$", script, re.MULTILINE)
    assert {"storage", "replication", "monitoring", "database-access", "aws-backup"} < {
        name for name, _ in calls
    }
    for name, arguments in calls:
        passed = set(re.findall(r'"(\w+)=', arguments))
        assert set() == passed - set(read_template(name)["Parameters"]), name


# The lab itself: what the tests of the templates rest on.

DROPPED = """
Resources:
  Queue:
    Type: AWS::SNS::Topic
    Properties: {TopicName: t, ArchivePolicy: {MessageRetentionPeriod: 7}}
"""
FUNCTIONS = """
Parameters:
  Name: {Type: String, Default: '', AllowedPattern: '[a-z]*', ConstraintDescription: letters}
  Days: {Type: Number, Default: 30, MinValue: 1, MaxValue: 90}
  Roles: {Type: CommaDelimitedList, Default: ''}
Conditions:
  Named: !Not [!Equals [!Ref Name, '']]
  Both: !And [!Condition Named, !Equals [!Ref Days, 30]]
Resources:
  Store:
    Type: AWS::S3::Bucket
    Properties:
      BucketName: !If [Named, !Ref Name, !Sub 'made-in-${AWS::Region}']
      Tags: !If [Both, [{Key: both, Value: 'yes'}], !Ref AWS::NoValue]
  Role:
    Type: AWS::IAM::Role
    Condition: Named
    Properties:
      Path: /backups/
      RoleName: !Ref Name
      Policies:
        - !If
          - Both
          - Statement: {Resource: !Sub '${Store.Arn}/*', Condition: {Bool: {a: 'true'}}}
          - !Ref AWS::NoValue
Outputs:
  Arn: {Value: !Sub ['${Own}-${!Literal}', {Own: !Select [1, !Split [':', 'a:b:c']]}]}
  Role: {Condition: Named, Value: !GetAtt Role.Arn}
"""


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    file = tmp_path / "functions.yaml"
    file.write_text(FUNCTIONS)
    return file


def test_a_template_is_resolved_as_cloudformation_does(functions: Path) -> None:
    plain = resolve(functions)
    named = resolve(functions, Name="mine", Days="30")

    assert {"BucketName": "made-in-eu-central-1"} == plain.properties("Store")
    assert ["Store"] == list(plain.resources)
    assert {"Arn": "b-${Literal}"} == plain.outputs
    assert [{"Key": "both", "Value": "yes"}] == named.properties("Store")["Tags"]
    assert "arn:aws:iam::123456789012:role/backups/mine" == named.outputs["Role"]
    assert [
        {"Statement": {"Resource": "arn:aws:s3:::mine/*", "Condition": {"Bool": {"a": "true"}}}}
    ] == named.of_type("AWS::IAM::Role")["Role"]["Policies"]


@pytest.mark.parametrize("wrong", [{"Name": "UPPER"}, {"Days": "91"}, {"Nobody": "x"}])
def test_what_a_parameter_does_not_take_is_refused(functions: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(TemplateError, match=next(iter(wrong))):
        resolve(functions, **wrong)


def test_a_property_that_the_double_would_drop_fails_the_stack(
    ministack: Ministack, tmp_path: Path
) -> None:
    file = tmp_path / "dropped.yaml"
    file.write_text(DROPPED)

    with pytest.raises(StackError, match="Queue: CREATE_FAILED: AWS::SNS::Topic ArchivePolicy"):
        deploy(ministack, file, "dropped")


def test_the_demo_is_told_of_in_the_readme() -> None:
    assert "make demo-aws" in (REPOSITORY / "README.md").read_text()
