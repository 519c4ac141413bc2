"""github-oidc.yaml resolved: what each of its roles may do, and who may become it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from backup.aws.grants import Grant, PolicyScope, needed
from backup.aws.policy_document import merged
from tests.lab.aws import REGION
from tests.lab.sts import ACCOUNT
from tests.lab.templates import ResolvedTemplate, resolve

Permission = tuple[str, str, str]

ROLES = ("Writer", "Restorer", "Operator", "Auditor")
OPERATIONS = {
    "Writer": ("backup",),
    "Restorer": ("restore", "verify", "list"),
    "Operator": ("snapshot", "restore-instance"),
    "Auditor": ("audit", "list", "collect"),
}
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-4333-8444-555555555555"
ELSEWHERE = "eu-west-1"
NEEDED = {"Repository": "acme/shop", "Bucket": "backups-of-acme"}
EVERYTHING = NEEDED | {
    "KmsKeyArn": KEY,
    "ReplicaBucket": "replica-of-acme",
    "ReplicaKmsKeyArn": f"arn:aws:kms:{ELSEWHERE}:{ACCOUNT}:key/2",
    "PasswordSecretArn": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:shop/db-AbCdEf",
    "LoginArn": f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:db-ABC123/pg_backup",
    "TopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:pg-backup",
    "InstanceKmsKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/3",
    "MonitoringRoleArn": f"arn:aws:iam::{ACCOUNT}:role/rds-monitoring-role",
    "CopyRegion": ELSEWHERE,
    "CopyKmsKeyArn": f"arn:aws:kms:{ELSEWHERE}:{ACCOUNT}:key/4",
    "ExportRoleArn": f"arn:aws:iam::{ACCOUNT}:role/pg-backup-export",
    "BackupVault": "production",
    "BackupServiceRoleArn": f"arn:aws:iam::{ACCOUNT}:role/pg-backup-vault",
}
WRITER_ARN = f"arn:aws:iam::{ACCOUNT}:role/pg-backup-writer"


def roles_template(**parameters: str) -> ResolvedTemplate:
    given: dict[str, Any] = {**NEEDED, **parameters}
    return resolve("github-oidc", **given)


def scope_of(parameters: Mapping[str, str]) -> PolicyScope:
    """What the parameters mean to the code."""
    get = parameters.get
    return PolicyScope(
        "aws",
        REGION,
        ACCOUNT,
        parameters["Bucket"],
        get("Prefix", "postgresql"),
        kms_key_arn=get("KmsKeyArn"),
        tags_objects=True,
        thaws=True,
        secret_arn=get("PasswordSecretArn"),
        login_arn=get("LoginArn"),
        role=WRITER_ARN,
        instance=get("DbInstance"),
        cluster=get("DbCluster"),
        service_role=get("ExportRoleArn"),
        copy_region=get("CopyRegion"),
        copy_kms_key_arn=get("CopyKmsKeyArn"),
        instance_key_arn=get("InstanceKmsKeyArn"),
        monitoring_role=get("MonitoringRoleArn"),
        replica=get("ReplicaBucket"),
        replica_region=ELSEWHERE,
        replica_key_arn=get("ReplicaKmsKeyArn"),
        read_from="auto",
        awaits_replica="ReplicaBucket" in parameters,
        topic_arn=get("TopicArn"),
        namespace=get("CloudwatchNamespace", "PgBackup"),
    )


def wanted(role: str, parameters: Mapping[str, str]) -> set[Permission]:
    """What the code says that the role needs."""
    scope = scope_of(parameters)
    grants: list[Grant] = [each for name in OPERATIONS[role] for each in needed(name, scope)]
    if role == "Operator" and scope.service_role:
        grants += needed("export", scope)
    if role == "Operator" and "BackupVault" in parameters:
        vault, passed = parameters["BackupVault"], parameters["BackupServiceRoleArn"]
        grants += needed("snapshot", replace(scope, vault=vault, service_role=passed))
    return permissions(grant.statement() for grant in merged(grants))


def permissions(statements: Iterable[Mapping[str, Any]]) -> set[Permission]:
    """Every action on every resource, under its condition."""
    return {
        (action, resource, json.dumps(each.get("Condition", {}), sort_keys=True))
        for each in statements
        for action in listed(each["Action"])
        for resource in listed(each["Resource"])
    }


def statements_of(template: ResolvedTemplate, role: str) -> list[dict[str, Any]]:
    """All policies of a role, its own and those that are put on it."""
    properties = template.properties(role)
    documents = [each["PolicyDocument"] for each in properties["Policies"]]
    documents += [
        each["PolicyDocument"]
        for each in template.of_type("AWS::IAM::Policy").values()
        if properties["RoleName"] in each["Roles"]
    ]
    return [statement for document in documents for statement in document["Statement"]]


def allowed(template: ResolvedTemplate, role: str) -> list[dict[str, Any]]:
    return [each for each in statements_of(template, role) if each["Effect"] == "Allow"]


def denied(template: ResolvedTemplate, role: str) -> list[dict[str, Any]]:
    return [each for each in statements_of(template, role) if each["Effect"] == "Deny"]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
