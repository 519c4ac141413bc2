"""Stacks as a user makes them: the real AWS CLI deploys templates into the strict double."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import WaiterError

from tests.lab.aws import REGION, Ministack
from tests.lab.templates import INFRASTRUCTURE, ResolvedTemplate, TemplateError, resolve

__all__ = [
    "INFRASTRUCTURE",
    "ResolvedTemplate",
    "StackError",
    "TemplateError",
    "administrator",
    "delete",
    "deploy",
    "outputs_of",
    "resolve",
]
_PATIENCE_SECONDS = 120


class StackError(Exception):
    """A stack could not be made; the text holds what the CLI said and the stack's events."""


def administrator(double: Ministack, region: str = REGION) -> dict[str, str]:
    """The variables of a shell in which `aws` may do everything in the double."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {
        "PATH": path,
        "HOME": str(double.home),
        "AWS_ENDPOINT_URL": double.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": region,
        "AWS_PAGER": "",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def deploy(
    double: Ministack,
    template: str | Path,
    stack_name: str,
    parameters: Mapping[str, str] | None = None,
    *,
    region: str = REGION,
) -> dict[str, str]:
    """Make or update a stack with `aws cloudformation deploy`; its outputs.

    `template` is a path, or the name of one of ours: "storage". Raises StackError.
    """
    path = template if isinstance(template, Path) else INFRASTRUCTURE / f"{template}.yaml"
    overrides = [f"{name}={value}" for name, value in (parameters or {}).items()]
    command = [
        *("aws", "cloudformation", "deploy", "--no-fail-on-empty-changeset"),
        *("--capabilities", "CAPABILITY_NAMED_IAM"),
        *("--template-file", str(path), "--stack-name", stack_name),
        *(["--parameter-overrides", *overrides] if overrides else []),
    ]
    ran = subprocess.run(
        command,
        env=administrator(double, region),
        capture_output=True,
        text=True,
        timeout=_PATIENCE_SECONDS,
        check=False,
    )
    if ran.returncode:
        said = f"{ran.stdout}{ran.stderr}"
        raise StackError(f"{' '.join(command)}\n{said}\n{_failures(double, stack_name, region)}")
    return outputs_of(double, stack_name, region=region)


def outputs_of(double: Ministack, stack_name: str, *, region: str = REGION) -> dict[str, str]:
    [stack] = _client(double, region).describe_stacks(StackName=stack_name)["Stacks"]
    return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())}


def delete(double: Ministack, stack_name: str, *, region: str = REGION) -> None:
    """Delete a stack; what its template retains stays. Raises StackError."""
    cloudformation = _client(double, region)
    cloudformation.delete_stack(StackName=stack_name)
    waiter = cloudformation.get_waiter("stack_delete_complete")
    try:
        waiter.wait(StackName=stack_name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    except WaiterError as error:
        raise StackError(f"{error}\n{_failures(double, stack_name, region)}") from error


def _client(double: Ministack, region: str) -> Any:
    return double.client("cloudformation", region=region)


def _failures(double: Ministack, stack_name: str, region: str) -> str:
    """The events that say why, the oldest first."""
    cloudformation = _client(double, region)
    try:
        events = cloudformation.describe_stack_events(StackName=stack_name)["StackEvents"]
    except cloudformation.exceptions.ClientError as error:
        return str(error)
    return "\n".join(
        f"{each['LogicalResourceId']}: {each['ResourceStatus']}:"
        f" {each.get('ResourceStatusReason', '')}"
        for each in reversed(events)
        if each["ResourceStatus"].endswith("FAILED")
    )
