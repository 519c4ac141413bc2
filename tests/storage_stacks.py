"""Stacks of both regions in the strict double, and users of them with their own permissions."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from tests.lab.aws import Ministack
from tests.lab.stacks import deploy
from tests.lab.templates import INFRASTRUCTURE

EVERYTHING = {"Effect": "Allow", "Action": ["s3:*", "kms:*"], "Resource": "*"}


@dataclass(frozen=True)
class StorageStack:
    """A deployed storage.yaml (or replication.yaml) with what it puts out."""

    double: Ministack
    outputs: Mapping[str, str]

    @property
    def bucket(self) -> str:
        return self.outputs.get("Bucket") or self.outputs["ReplicaBucket"]

    @property
    def arn(self) -> str:
        return f"arn:aws:s3:::{self.bucket}"

    @property
    def owner(self) -> Any:
        """A client past every policy."""
        return self.double.client("s3")

    def user(self, *statements: Mapping[str, Any]) -> Any:
        """A client of a user with these permissions; of one whom IAM lets do everything."""
        keys = user_keys(self.double, statements or [EVERYTHING])
        return self.double.client("s3", access_key=keys[0], secret_key=keys[1])


def user_keys(double: Ministack, statements: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    iam = double.client("iam")
    name = f"user-{secrets.token_hex(4)}"
    iam.create_user(UserName=name)
    policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def new_storage(double: Ministack, **parameters: str) -> StorageStack:
    """storage.yaml with a bucket of a new name."""
    bucket = parameters.pop("Bucket", f"storage-{secrets.token_hex(4)}")
    return StorageStack(double, deploy(double, "storage", bucket, {"Bucket": bucket, **parameters}))


def new_replica(double: Ministack, region: str, **parameters: str) -> StorageStack:
    """replication.yaml in a region, with a bucket of a new name."""
    bucket = f"replica-{secrets.token_hex(4)}"
    given = {"ReplicaBucket": bucket, **parameters}
    return StorageStack(double, deploy(double, "replication", bucket, given, region=region))


def replica_elsewhere(
    double: Ministack, account: str, region: str, **parameters: str
) -> dict[str, str]:
    """The outputs of replication.yaml in another account, by the keys of its root."""
    cloudformation = double.client("cloudformation", access_key=account, region=region)
    name = f"replica-{secrets.token_hex(4)}"
    given = {"ReplicaBucket": name, **parameters}
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=(INFRASTRUCTURE / "replication.yaml").read_text(),
        Parameters=[{"ParameterKey": key, "ParameterValue": given[key]} for key in given],
    )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    [stack] = cloudformation.describe_stacks(StackName=name)["Stacks"]
    return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}


def refusal(call: Any, **arguments: Any) -> str:
    """The code with which S3 refuses a request; empty where it does not."""
    try:
        call(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""
