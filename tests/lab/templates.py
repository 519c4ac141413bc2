"""Templates of CloudFormation as plain values: what a stack holds for the parameters it is given.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html
"""

from __future__ import annotations

import functools
import importlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.aws import REGION, REPOSITORY
from tests.lab.sts import ACCOUNT

# cfn-lint has no type information. Its decoder knows the short forms (!Sub ...) and refuses what
# CloudFormation refuses, duplicate keys for one.
cfn_yaml: Any = importlib.import_module("cfnlint.decode.cfn_yaml")

INFRASTRUCTURE = REPOSITORY / "examples/infrastructure"
STACK_ID = "51af3dc0-da77-11e4-872e-1234567db123"
NO_VALUE = object()
# Where a resource's Ref is not its ARN or a name of its own.
_NAMES = {
    "AWS::Backup::BackupVault": "BackupVaultName",
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::CloudWatch::Dashboard": "DashboardName",
    "AWS::ECS::Cluster": "ClusterName",
    "AWS::IAM::Role": "RoleName",
    "AWS::KMS::Alias": "AliasName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::Scheduler::Schedule": "Name",
}
_ARNS = {
    "AWS::Backup::BackupVault": "arn:aws:backup:{region}:{account}:backup-vault:{name}",
    "AWS::CloudWatch::Alarm": "arn:aws:cloudwatch:{region}:{account}:alarm:{name}",
    "AWS::IAM::Role": "arn:aws:iam::{account}:role{path}{name}",
    "AWS::KMS::Key": "arn:aws:kms:{region}:{account}:key/{name}",
    "AWS::Lambda::Function": "arn:aws:lambda:{region}:{account}:function:{name}",
    "AWS::Logs::LogGroup": "arn:aws:logs:{region}:{account}:log-group:{name}:*",
    "AWS::S3::Bucket": "arn:aws:s3:::{name}",
}


class TemplateError(Exception):
    """A template cannot be resolved: an unknown name, or a parameter that it refuses."""


@dataclass(frozen=True)
class ResolvedTemplate:
    """What a stack would hold: every function answered, conditions applied.

    A resource that stands for itself (an id that AWS chooses) is `LogicalId` in angle brackets,
    an attribute of it `<LogicalId.Attribute>`.
    """

    conditions: Mapping[str, bool]
    resources: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Any]

    def properties(self, logical_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.resources[logical_id].get("Properties", {})
        return found

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of every resource of a type, by logical id."""
        return {
            name: self.properties(name)
            for name, resource in self.resources.items()
            if resource["Type"] == kind
        }


@functools.cache
def _decoded(path: Path) -> str:
    return json.dumps(cfn_yaml.load(str(path)))


def read_template(template: str | Path) -> dict[str, Any]:
    """A template as it is written, short forms spelled out (`{"Fn::Sub": ...}`).

    `template` is a path, or the name of one of ours: "storage".
    """
    path = template if isinstance(template, Path) else INFRASTRUCTURE / f"{template}.yaml"
    found: dict[str, Any] = json.loads(_decoded(path))
    return found


def resolve(
    template: str | Path,
    *,
    region: str = REGION,
    attributes: Any = None,  # a mapping; named so, mypy would refuse **dict[str, str] besides
    **parameters: str,
) -> ResolvedTemplate:
    """Resolve a template; `attributes` says what AWS would choose: {"Key.Arn": "arn:..."}.

    Raises TemplateError.
    """
    return _Resolver(read_template(template), region, attributes or {}, parameters).resolve()


class _Resolver:
    def __init__(
        self,
        template: Mapping[str, Any],
        region: str,
        attributes: Mapping[str, str],
        parameters: Mapping[str, str],
    ) -> None:
        self._template = template
        self._resources: Mapping[str, Any] = template["Resources"]
        self._region = region
        self._attributes = attributes
        self._conditions: dict[str, bool] = {}
        declared = template.get("Parameters", {})
        if unknown := set(parameters) - set(declared):
            raise TemplateError(f"no parameter {', '.join(sorted(unknown))} in this template")
        self._values = {name: _value(name, each, parameters) for name, each in declared.items()}
        self._pseudo = {
            "AWS::AccountId": ACCOUNT,
            "AWS::NoValue": NO_VALUE,
            "AWS::NotificationARNs": [],
            "AWS::Partition": "aws",
            "AWS::Region": region,
            "AWS::StackId": f"arn:aws:cloudformation:{region}:{ACCOUNT}:stack/stack/{STACK_ID}",
            "AWS::StackName": "stack",
            "AWS::URLSuffix": "amazonaws.com",
        }

    def resolve(self) -> ResolvedTemplate:
        resources = {
            name: self._value(each) for name, each in self._resources.items() if self._is_made(each)
        }
        outputs = {
            name: self._value(each["Value"])
            for name, each in self._template.get("Outputs", {}).items()
            if self._is_made(each)
        }
        conditions = {name: self._condition(name) for name in self._template.get("Conditions", {})}
        return ResolvedTemplate(conditions, resources, outputs)

    def _is_made(self, part: Mapping[str, Any]) -> bool:
        return "Condition" not in part or self._condition(part["Condition"])

    def _condition(self, name: str) -> bool:
        if name not in self._conditions:
            self._conditions[name] = bool(self._value(self._template["Conditions"][name]))
        return self._conditions[name]

    def _value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [value for each in node if (value := self._value(each)) is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            [(key, argument)] = node.items()
            if key == "Ref":
                return self._ref(argument)
            if key == "Condition" and isinstance(argument, str):
                return self._condition(argument)
            if key.startswith("Fn::"):
                return self._call(key, argument)
        pairs = ((key, self._value(each)) for key, each in node.items() if key != "Condition")
        held = {key: value for key, value in pairs if value is not NO_VALUE}
        # A statement's Condition is IAM's; only a resource's, which is a name, is CloudFormation's.
        if isinstance(node.get("Condition"), dict):
            held["Condition"] = self._value(node["Condition"])
        return held

    def _call(self, function: str, argument: Any) -> Any:
        if function == "Fn::If":
            name, then, otherwise = argument
            return self._value(then if self._condition(name) else otherwise)
        if function == "Fn::GetAtt":
            parts = argument if isinstance(argument, list) else argument.split(".", 1)
            return self._attribute(parts[0], self._value(parts[1]))
        if function == "Fn::Sub":
            return self._sub(argument)
        given = self._value(argument)
        match function:
            case "Fn::And":
                return all(given)
            case "Fn::Equals":
                return str(given[0]) == str(given[1])
            case "Fn::FindInMap":
                return self._template["Mappings"][given[0]][given[1]][given[2]]
            case "Fn::Join":
                return str(given[0]).join(str(each) for each in given[1])
            case "Fn::Not":
                return not given[0]
            case "Fn::Or":
                return any(given)
            case "Fn::Select":
                return given[1][int(given[0])]
            case "Fn::Split":
                return given[1].split(given[0])
            case "Fn::ToJsonString":
                return json.dumps(given)
            case "Fn::GetAZs":
                return [f"{given or self._region}{zone}" for zone in "abc"]
            case "Fn::Base64" | "Fn::Cidr" | "Fn::ImportValue" | _:
                raise TemplateError(f"{function} is not known to the lab")

    def _sub(self, argument: Any) -> str:
        text, own = (argument, {}) if isinstance(argument, str) else argument

        def replacement(found: re.Match[str]) -> str:
            name = found[1].strip()
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            if name in own:
                value = self._value(own[name])
            elif "." in name:
                value = self._attribute(*name.split(".", 1))
            else:
                value = self._ref(name)
            if not isinstance(value, str | int | float):
                raise TemplateError(f"${{{name}}} is not one value: {value!r}")
            return str(value)

        return re.sub(r"\$\{([^}]+)}", replacement, text)

    def _ref(self, name: str) -> Any:
        if name in self._pseudo:
            return self._pseudo[name]
        if name in self._values:
            return self._values[name]
        resource = self._resource(name)
        chosen = _NAMES.get(resource["Type"], "")
        own = resource.get("Properties", {}).get(chosen)
        value = NO_VALUE if own is None else self._value(own)
        return self._attributes.get(name, f"<{name}>") if value is NO_VALUE else value

    def _attribute(self, name: str, attribute: str) -> str:
        resource = self._resource(name)
        if f"{name}.{attribute}" in self._attributes:
            return self._attributes[f"{name}.{attribute}"]
        form = _ARNS.get(resource["Type"]) if attribute in ("Arn", "BackupVaultArn") else None
        if form:
            path = self._value(resource.get("Properties", {}).get("Path", "/"))
            return form.format(
                region=self._region, account=ACCOUNT, path=path, name=self._ref(name)
            )
        return f"<{name}.{attribute}>"

    def _resource(self, name: str) -> Mapping[str, Any]:
        resource: Mapping[str, Any] | None = self._resources.get(name)
        if resource is None:
            raise TemplateError(f"nothing is called {name}")
        if not self._is_made(resource):
            raise TemplateError(f"{name} is referred to, and its condition is false")
        return resource


def _value(name: str, declared: Mapping[str, Any], given: Mapping[str, str]) -> str | list[str]:
    """A parameter's value, checked as CloudFormation checks it."""
    if name not in given and "Default" not in declared:
        raise TemplateError(f"parameter {name} is required")
    text = str(given.get(name, declared.get("Default")))
    allowed: Sequence[Any] | None = declared.get("AllowedValues")
    pattern = declared.get("AllowedPattern")
    number = declared["Type"] == "Number"
    refused = (
        (allowed is not None and text not in map(str, allowed))
        or (pattern is not None and re.fullmatch(pattern, text) is None)
        or (number and not declared.get("MinValue", float(text)) <= float(text))
        or (number and not float(text) <= declared.get("MaxValue", float(text)))
    )
    if refused:
        raise TemplateError(f"parameter {name} does not take {text!r}")
    if declared["Type"].startswith(("CommaDelimitedList", "List<")):
        return [each.strip() for each in text.split(",")] if text else []
    return text
