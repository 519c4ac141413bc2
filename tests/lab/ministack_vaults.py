"""What ministack leaves out of AWS Backup's vaults and tests, and of the rotation of secrets.

It keeps them and gives them back; it makes no restore test, and rotates nothing.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.lab.ministack_cloudformation import provide
from tests.lab.ministack_sdk import as_shape, call, sdk

# ministack has no type information.
backup: Any = importlib.import_module("ministack.services.backup")
provisioners: Any = importlib.import_module("ministack.services.cloudformation.provisioners")
secrets: Any = importlib.import_module("ministack.services.secretsmanager")
responses: Any = importlib.import_module("ministack.core.responses")
validation: Any = importlib.import_module("botocore.validate")

Properties = Mapping[str, Any]

# The access policies of vaults, and the tests of restores, by their names.
_policies: dict[tuple[str, str, str], str] = {}
_plans: dict[tuple[str, str, str], dict[str, Any]] = {}
_selections: dict[tuple[str, str, str], dict[str, Any]] = {}
_get_vault_access_policy = backup._get_vault_access_policy


def _key(*names: str) -> tuple[str, str, str]:
    return (responses.get_account_id(), responses.get_region(), "/".join(names))


def get_vault_access_policy(name: str) -> Any:
    policy = _policies.get(_key(name))
    if policy is None:
        return _get_vault_access_policy(name)
    arn = backup._vault_arn(name)
    return backup._ok({"BackupVaultName": name, "BackupVaultArn": arn, "Policy": policy})


def create_vault(logical_id: str, properties: Properties, stack_name: str) -> Any:
    ref, attributes = provisioners._backup_vault_create(logical_id, properties, stack_name)
    _finish_vault(ref, properties)
    return ref, attributes


def update_vault(ref: str, old: Properties, new: Properties, stack: str, logical_id: str) -> Any:
    made, attributes = provisioners._backup_vault_update(ref, old, new, stack, logical_id)
    _finish_vault(made, new)
    return made, attributes


def _finish_vault(name: str, properties: Properties) -> None:
    vault = backup._vaults[name]
    lock = properties.get("LockConfiguration")
    shape = _shape("PutBackupVaultLockConfiguration", lock or {})
    vault["Locked"] = lock is not None
    for each in ("MinRetentionDays", "MaxRetentionDays", "LockDate"):
        vault.pop(each, None)
    if lock is not None:
        days = shape.pop("ChangeableForDays", None)
        vault |= shape
        if days is not None:  # compliance mode: from that day on nobody may take it away
            if days < 3:
                raise ValueError("ChangeableForDays must be 3 or more")
            vault["LockDate"] = (datetime.now(UTC) + timedelta(days=days)).timestamp()
    if "AccessPolicy" in properties:
        _policies[_key(name)] = json.dumps(properties["AccessPolicy"])
    else:
        _policies.pop(_key(name), None)


def create_selection(_logical_id: str, properties: Properties, _stack_name: str) -> Any:
    plan = properties["BackupPlanId"]
    chosen = properties["BackupSelection"]
    answer = call("backup", "CreateBackupSelection", BackupPlanId=plan, BackupSelection=chosen)
    return f"{answer['SelectionId']}_{plan}", {"SelectionId": answer["SelectionId"]}


def update_selection(ref: str, old: Properties, new: Properties, stack_name: str) -> Any:
    delete_selection(ref, old)
    return create_selection(ref, new, stack_name)


def delete_selection(ref: str, _properties: Properties) -> None:
    selection, _, plan = ref.partition("_")
    call("backup", "DeleteBackupSelection", BackupPlanId=plan, SelectionId=selection)


def create_test_plan(_logical_id: str, properties: Properties, _stack_name: str) -> Any:
    plan = {name: each for name, each in properties.items() if name != "Tags"}
    wanted = _shape("CreateRestoreTestingPlan", {"RestoreTestingPlan": plan})
    name = plan["RestoreTestingPlanName"]
    arn = f"arn:aws:backup:{_key()[1]}:{_key()[0]}:restore-testing-plan:{name}"
    _plans[_key(name)] = wanted["RestoreTestingPlan"] | {
        "RestoreTestingPlanArn": arn,
        "CreationTime": datetime.now(UTC).timestamp(),
    }
    return name, {"RestoreTestingPlanArn": arn}


def get_test_plan(name: str) -> Any:
    found = _plans.get(_key(name))
    if found is None:
        return backup._not_found(f"Restore testing plan '{name}' not found.")
    return backup._ok({"RestoreTestingPlan": found})


def create_test_selection(_logical_id: str, properties: Properties, _stack_name: str) -> Any:
    plan = properties["RestoreTestingPlanName"]
    if _key(plan) not in _plans:
        raise ValueError(f"there is no restore testing plan {plan}")
    chosen = {name: each for name, each in properties.items() if name != "RestoreTestingPlanName"}
    wanted = _shape(
        "CreateRestoreTestingSelection",
        {"RestoreTestingPlanName": plan, "RestoreTestingSelection": chosen},
    )["RestoreTestingSelection"]
    name = wanted["RestoreTestingSelectionName"]
    _selections[_key(plan, name)] = wanted | {
        "RestoreTestingPlanName": plan,
        "CreationTime": datetime.now(UTC).timestamp(),
    }
    return f"{plan}|{name}", {}


def get_test_selection(plan: str, name: str) -> Any:
    found = _selections.get(_key(plan, name))
    if found is None:
        return backup._not_found(f"Restore testing selection '{name}' not found.")
    return backup._ok({"RestoreTestingSelection": found})


def _shape(operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the API of AWS Backup makes of it. Raises ValueError for what it does not take."""
    shape = sdk("backup").meta.service_model.operation_model(operation).input_shape
    typed = {name: as_shape(shape.members.get(name), each) for name, each in given.items()}
    vault = {"BackupVaultName": "x"} if "VaultLock" in operation else {}
    found = validation.ParamValidator().validate({**vault, **typed}, shape)
    if found.has_errors():
        raise ValueError(found.generate_report())
    return typed


def put_policy(_logical_id: str, properties: Properties, _stack_name: str) -> Any:
    call(
        "secretsmanager",
        "PutResourcePolicy",
        SecretId=properties["SecretId"],
        ResourcePolicy=json.dumps(properties["ResourcePolicy"]),
        BlockPublicPolicy=properties.get("BlockPublicPolicy", False),
    )
    return properties["SecretId"], {}


def delete_policy(_ref: str, properties: Properties) -> None:
    call("secretsmanager", "DeleteResourcePolicy", SecretId=properties["SecretId"])


def put_rotation(_logical_id: str, properties: Properties, _stack_name: str) -> Any:
    """Without RotateSecret, whose stub gives the secret another version at once."""
    if str(properties.get("RotateImmediatelyOnUpdate", True)).lower() != "false":
        raise ValueError("the double cannot rotate at once")
    _, secret = secrets._resolve(properties["SecretId"])
    rules = properties["RotationRules"]
    secret |= {
        "RotationEnabled": True,
        "RotationLambdaARN": properties["RotationLambdaARN"],
        "RotationRules": {
            **rules, "AutomaticallyAfterDays": int(rules["AutomaticallyAfterDays"])
        },
    }  # fmt: skip
    return properties["SecretId"], {}


def delete_rotation(_ref: str, properties: Properties) -> None:
    _, secret = secrets._resolve(properties["SecretId"])
    secret["RotationEnabled"] = False


def register() -> None:
    backup._get_vault_access_policy = get_vault_access_policy
    backup._get_restore_testing_plan = get_test_plan
    backup._get_restore_testing_selection = get_test_selection
    provide(
        "AWS::Backup::BackupVault",
        "BackupVaultName EncryptionKeyArn BackupVaultTags LockConfiguration AccessPolicy",
        create=create_vault,
        update=update_vault,
        update_with_logical_id=True,
        delete=provisioners._backup_vault_delete,
    )
    provide("AWS::Backup::BackupPlan", "BackupPlan BackupPlanTags")
    provide(
        "AWS::Backup::BackupSelection",
        "BackupPlanId BackupSelection",
        create=create_selection,
        update=update_selection,
        delete=delete_selection,
    )
    provide(
        "AWS::Backup::RestoreTestingPlan",
        "RestoreTestingPlanName ScheduleExpression StartWindowHours RecoveryPointSelection Tags",
        create=create_test_plan,
        update=lambda _ref, _old, new, stack: create_test_plan("", new, stack),
        delete=lambda ref, _properties: _plans.pop(_key(ref), None),
    )
    provide(
        "AWS::Backup::RestoreTestingSelection",
        "RestoreTestingPlanName RestoreTestingSelectionName ProtectedResourceType"
        " ProtectedResourceArns ProtectedResourceConditions IamRoleArn ValidationWindowHours",
        create=create_test_selection,
        update=lambda _ref, _old, new, stack: create_test_selection("", new, stack),
        delete=lambda ref, _properties: _selections.pop(_key(*ref.split("|")), None),
    )
    provide(
        "AWS::SecretsManager::ResourcePolicy",
        "SecretId ResourcePolicy BlockPublicPolicy",
        create=put_policy,
        update=lambda _ref, _old, new, stack: put_policy("", new, stack),
        delete=delete_policy,
    )
    provide(
        "AWS::SecretsManager::RotationSchedule",
        "SecretId RotationLambdaARN RotationRules RotateImmediatelyOnUpdate",
        create=put_rotation,
        update=lambda _ref, _old, new, stack: put_rotation("", new, stack),
        delete=delete_rotation,
    )
