"""A secret of ministack's stacks as AWS makes it: Ref is its ARN, and its text is a generated one.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-secretsmanager-secret.html
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any

from tests.lab.ministack_cloudformation import provide
from tests.lab.ministack_sdk import call

# ministack has no type information.
provisioners: Any = importlib.import_module("ministack.services.cloudformation.provisioners")

Properties = Mapping[str, Any]

_SERVICE = "secretsmanager"


def create_secret(logical_id: str, properties: Properties, stack_name: str) -> Any:
    name = properties.get("Name") or provisioners._physical_name(stack_name, logical_id)
    given = {each: properties[each] for each in ("Description", "KmsKeyId") if each in properties}
    answer = call(
        _SERVICE,
        "CreateSecret",
        Name=name,
        SecretString=_text(properties),
        Tags=properties.get("Tags", []),
        **given,
    )
    return answer["ARN"], {"Id": answer["ARN"]}


def update_secret(arn: str, old: Properties, new: Properties, stack_name: str) -> Any:
    if new.get("Name") != old.get("Name"):
        return create_secret(arn, new, stack_name)
    given = {each: new.get(each, "") for each in ("Description", "KmsKeyId") if each in new}
    # A new text is made where the template asks for another one, and not at each update.
    sources = ("SecretString", "GenerateSecretString")
    if [new.get(each) for each in sources] != [old.get(each) for each in sources]:
        given["SecretString"] = _text(new)
    call(_SERVICE, "UpdateSecret", SecretId=arn, **given)
    return arn, {"Id": arn}


def delete_secret(arn: str, _properties: Properties) -> None:
    call(_SERVICE, "DeleteSecret", SecretId=arn, ForceDeleteWithoutRecovery=True)


def _text(properties: Properties) -> str:
    wanted = dict(properties.get("GenerateSecretString", {}))
    if not wanted:
        return str(properties.get("SecretString", ""))
    template = wanted.pop("SecretStringTemplate", None)
    key = wanted.pop("GenerateStringKey", None)
    password: str = call(_SERVICE, "GetRandomPassword", **wanted)["RandomPassword"]
    return password if template is None else json.dumps({**json.loads(template), key: password})


def register() -> None:
    provide(
        "AWS::SecretsManager::Secret",
        "Name Description KmsKeyId SecretString GenerateSecretString Tags",
        create=create_secret,
        update=update_secret,
        delete=delete_secret,
    )
