"""serverless.yaml resolved: parameters in several forms, and what a stack of them holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.lab.aws import REGION
from tests.lab.sts import ACCOUNT
from tests.lab.templates import ResolvedTemplate, resolve

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-4333-8444-555555555555"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:pg-backup"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:shop/backup-AbCdEf"
LOGIN = f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:db-ABC123/backup"
GIVEN = {
    "Bucket": "backups-of-acme",
    "Database": "shop",
    "ImageUri": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/pg-backup-action:v1.2.3",
    "PasswordSecretArn": SECRET,
}
VPC = {
    "VpcId": "vpc-0a1b2c3d4e5f60718",
    "SubnetIds": "subnet-0a1b2c3d4e5f60718,subnet-1a1b2c3d4e5f60718",
    "DatabaseSecurityGroupId": "sg-0a1b2c3d4e5f60718",
}
FARGATE = {"Platform": "fargate", **VPC}
FORMS: dict[str, dict[str, str]] = {
    "function": {},
    "function-in-vpc": VPC,
    "task": FARGATE,
    "key-and-topic": {"KmsKeyArn": KEY, "TopicArn": TOPIC},
    "login-by-iam": {"PasswordSecretArn": "", "LoginArn": LOGIN, "Host": "db", "User": "backup"},
    "untold": {"CloudwatchNamespace": "", **FARGATE},
}


def made(**parameters: str) -> ResolvedTemplate:
    chosen = {"Topic": f"arn:aws:sns:{REGION}:{ACCOUNT}:stack", "SecurityGroup": "sg-ours"}
    return resolve("serverless", attributes=chosen, **{**GIVEN, **parameters})


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(template: ResolvedTemplate, role: str) -> list[dict[str, Any]]:
    """Of the role's own policies."""
    policies = template.properties(role)["Policies"]
    return [each for policy in policies for each in policy["PolicyDocument"]["Statement"]]


def permissions(given: Sequence[Mapping[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (action, resource, json.dumps(each.get("Condition", {}), sort_keys=True))
        for each in given
        for action in listed(each["Action"])
        for resource in listed(each["Resource"])
    }


def variables(template: ResolvedTemplate) -> dict[str, str]:
    """Of the function or of the task."""
    if "Function" in template.resources:
        given: dict[str, str] = template.properties("Function")["Environment"]["Variables"]
        return {name: str(value) for name, value in given.items()}
    (container,) = template.properties("TaskDefinition")["ContainerDefinitions"]
    return {each["Name"]: each["Value"] for each in container["Environment"]}
