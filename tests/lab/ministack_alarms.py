"""Alarms of ministack as CloudWatch evaluates them, and what stands around them in our stacks.

ministack's own evaluation knows no dimensions, periods, missing data and metric math. Bands of
anomaly detection need a model, which nobody has here: such an alarm stays as it is.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from typing import Any

from tests.lab.alarm_rules import INSUFFICIENT_DATA, MORE_PERIODS, Series, evaluated, faults, state
from tests.lab.ministack_cloudformation import provide
from tests.lab.ministack_sdk import as_shape, call, sdk

# ministack has no type information.
cloudwatch: Any = importlib.import_module("ministack.services.cloudwatch")
evaluator: Any = importlib.import_module("ministack.core.iam_evaluator")
kms: Any = importlib.import_module("ministack.services.kms")
provisioners: Any = importlib.import_module("ministack.services.cloudformation.provisioners")
sns: Any = importlib.import_module("ministack.services.sns")
responses: Any = importlib.import_module("ministack.core.responses")
validation: Any = importlib.import_module("botocore.validate")

Properties = Mapping[str, Any]

_put = cloudwatch._put_metric_alarm
_dispatch = cloudwatch._dispatch_alarm_actions
_SERVICE = "cloudwatch.amazonaws.com"
# CloudFormation's names of chat channels, and those of the API.
_CHAT_NAMES = {
    "GuardrailPolicies": "GuardrailPolicyArns",
    "SlackWorkspaceId": "SlackTeamId",
    "TeamsChannelId": "ChannelId",
    "TeamsTenantId": "TenantId",
}
_BAND = "ANOMALY_DETECTION_BAND("


def put_metric_alarm(params: Any, data: Any, is_cbor: bool, is_json: bool = False) -> Any:
    asked = data or {}
    queries = asked.get("Metrics", [])
    periods = int(asked.get("EvaluationPeriods", 1))
    stats = [each["MetricStat"] for each in queries if "MetricStat" in each] or [asked]
    wrong = [
        fault
        for stat in stats
        for fault in faults(
            int(stat.get("Period", 0)), periods, int(asked.get("DatapointsToAlarm", periods))
        )
    ]
    shown = [each["Id"] for each in queries if each.get("ReturnData", True)]
    if queries and len(shown) != (2 if asked.get("ThresholdMetricId") else 1):
        wrong.append(f"{shown} return data: one metric may, and a band beside it")
    if wrong:
        return cloudwatch._error(
            "ValidationError", "; ".join(wrong), 400, use_json=is_json, use_cbor=is_cbor
        )
    answer = _put(params, data, is_cbor, is_json)
    if queries and answer[0] == 200:
        alarm = cloudwatch._alarms[asked["AlarmName"]]
        alarm |= {name: asked[name] for name in ("Metrics", "ThresholdMetricId") if name in asked}
        evaluate(alarm)
    return answer


def evaluate(alarm: dict[str, Any]) -> None:
    """Change the alarm's state as its data says, and tell its actions."""
    series = _series(alarm)
    if series is None:
        return
    old, periods = alarm["StateValue"], alarm["EvaluationPeriods"]
    new = state(
        series,
        before=old,
        periods=periods,
        datapoints=alarm.get("DatapointsToAlarm", periods),
        missing=alarm["TreatMissingData"],
        comparison=alarm["ComparisonOperator"],
        threshold=alarm["Threshold"],
    )
    if new == old:
        return
    reason = f"Threshold Crossed: {[value for value in series if value is not None][-3:]}"
    alarm |= {
        "StateValue": new,
        "StateReason": reason if new != INSUFFICIENT_DATA else "Insufficient Data",
        "StateUpdatedTimestamp": int(time.time()),
    }
    cloudwatch._record_history(alarm["AlarmName"], old, new, alarm["StateReason"])
    cloudwatch._dispatch_alarm_actions(alarm, old, new, alarm["StateReason"])
    cloudwatch._evaluate_parent_alarms(alarm)


def dispatch(alarm: Mapping[str, Any], old: str, new: str, reason: str) -> None:
    """Tell the topics that let an alarm publish; AWS says nothing of the others either."""
    heard = {
        actions: [each for each in alarm.get(actions) or [] if _may_tell(each, alarm["AlarmArn"])]
        for actions in ("AlarmActions", "OKActions", "InsufficientDataActions")
    }
    _dispatch({**alarm, **heard}, old, new, reason)


def _may_tell(topic_arn: str, alarm_arn: str) -> bool:
    """Both must allow it: the topic's policy, and that of its key."""
    account = responses.get_account_id()
    if not sns.topic_policy_allows(topic_arn, _SERVICE, alarm_arn, account):
        return False
    topic = sns._topics[topic_arn]
    key = topic["attributes"].get("KmsMasterKeyId")
    if not key:
        return True
    # Of alias/aws/sns nobody can write the policy, and it lets no service in.
    policy, _ = kms.key_policy_for_arn(key) or ("", "")
    return all(
        evaluator.evaluate_resource_policy(
            policy,
            evaluator.EvalContext(
                principal_arn="*",
                principal_type="Service",
                principal_account="",
                action=action,
                resource_arn=key,
                region=responses.get_region(),
            ),
            service=_SERVICE,
        ).decision
        == "Allow"
        for action in ("kms:GenerateDataKey", "kms:Decrypt")
    )


def _series(alarm: Mapping[str, Any]) -> Series | None:
    """What the alarm looks at, the oldest period first; None where it cannot be computed."""
    periods = alarm["EvaluationPeriods"] + MORE_PERIODS
    queries = alarm.get("Metrics", [])
    if not queries:
        return _values(alarm, alarm["Period"], alarm["Statistic"], periods)
    if any(_BAND in each.get("Expression", "") for each in queries):
        return None
    by_id = {
        each["Id"]: _values(
            each["MetricStat"]["Metric"],
            each["MetricStat"]["Period"],
            each["MetricStat"]["Stat"],
            periods,
        )
        for each in queries
        if "MetricStat" in each
    }
    [shown] = [each for each in queries if each.get("ReturnData", True)]
    if "Expression" in shown:
        return evaluated(shown["Expression"], by_id)
    return by_id[shown["Id"]]


def _values(metric: Mapping[str, Any], period: int, statistic: str, periods: int) -> Series:
    dimensions = {each["Name"]: each["Value"] for each in metric.get("Dimensions", [])}
    key = (metric["Namespace"], metric["MetricName"], cloudwatch._dims_key(dimensions))
    points = cloudwatch._metrics.get(key) or []
    newest = int(time.time()) // period
    by_period: dict[int, list[Any]] = {}
    for point in points:
        by_period.setdefault(int(point["Timestamp"]) // period, []).append(point)
    return [
        cloudwatch._calc_stats(by_period[number])[statistic] if number in by_period else None
        for number in range(newest - periods + 1, newest + 1)
    ]


def put_alarm(logical_id: str, properties: Properties, stack_name: str) -> Any:
    name = provisioners._physical_name(stack_name, logical_id, max_len=255)
    given = {"AlarmName": name, **properties}
    tags = given.pop("Tags", [])  # a stack's own begin with aws:, which no request may give
    call("cloudwatch", "PutMetricAlarm", **given)
    cloudwatch.cloudformation_set_metric_alarm_tags(given["AlarmName"], tags)
    return given["AlarmName"], {"Arn": cloudwatch._alarms[given["AlarmName"]]["AlarmArn"]}


def update_alarm(name: str, _old: Properties, new: Properties, stack_name: str) -> Any:
    made, attributes = put_alarm(name, {"AlarmName": name, **new}, stack_name)
    if made != name:
        delete_alarm(name, new)
    return made, attributes


def delete_alarm(name: str, _properties: Properties) -> None:
    call("cloudwatch", "DeleteAlarms", AlarmNames=[name])


def put_budget(_logical_id: str, properties: Properties, _stack_name: str) -> Any:
    account = responses.get_account_id()
    call("budgets", "CreateBudget", AccountId=account, **properties)
    return properties["Budget"]["BudgetName"], {}


def update_budget(name: str, old: Properties, new: Properties, stack_name: str) -> Any:
    delete_budget(name, old)
    return put_budget(name, new, stack_name)


def delete_budget(name: str, _properties: Properties) -> None:
    call("budgets", "DeleteBudget", AccountId=responses.get_account_id(), BudgetName=name)


def _checked(service: str, operation: str, arn: str) -> dict[str, Any]:
    """Handlers for what ministack has no service of: only the form of the request is checked."""

    def create(logical_id: str, properties: Properties, stack_name: str) -> Any:
        shape = sdk(service).meta.service_model.operation_model(operation).input_shape
        named = {_CHAT_NAMES.get(name, name): each for name, each in properties.items()}
        given = {name: as_shape(shape.members.get(name), each) for name, each in named.items()}
        found = validation.ParamValidator().validate(given, shape)
        if found.has_errors():
            raise ValueError(found.generate_report())
        return arn.format(account=responses.get_account_id(), name=f"{stack_name}-{logical_id}"), {}

    def update(_ref: str, _old: Properties, new: Properties, stack_name: str) -> Any:
        return create("", new, stack_name)

    return {"create": create, "update": update, "delete": lambda _ref, _properties: None}


def register() -> None:
    cloudwatch._put_metric_alarm = put_metric_alarm
    cloudwatch._evaluate_alarm = evaluate
    cloudwatch._dispatch_alarm_actions = dispatch
    provide(
        "AWS::CloudWatch::Alarm",
        "AlarmName AlarmDescription ActionsEnabled AlarmActions OKActions InsufficientDataActions"
        " Namespace MetricName Dimensions Statistic Period Metrics ThresholdMetricId"
        " ComparisonOperator Threshold EvaluationPeriods DatapointsToAlarm TreatMissingData Tags",
        create=put_alarm,
        update=update_alarm,
        delete=delete_alarm,
    )
    provide(
        "AWS::Budgets::Budget",
        "Budget NotificationsWithSubscribers",
        create=put_budget,
        update=update_budget,
        delete=delete_budget,
    )
    provide(
        "AWS::CloudWatch::AnomalyDetector",
        "Namespace MetricName Dimensions Stat",
        **_checked("cloudwatch", "PutAnomalyDetector", "{name}"),
    )
    channel = "arn:aws:chatbot::{account}:chat-configuration/%s-channel/{name}"
    common = " ConfigurationName IamRoleArn GuardrailPolicies SnsTopicArns Tags"
    provide(
        "AWS::Chatbot::SlackChannelConfiguration",
        f"SlackWorkspaceId SlackChannelId{common}",
        **_checked("chatbot", "CreateSlackChannelConfiguration", channel % "slack"),
    )
    provide(
        "AWS::Chatbot::MicrosoftTeamsChannelConfiguration",
        f"TeamId TeamsTenantId TeamsChannelId{common}",
        **_checked("chatbot", "CreateMicrosoftTeamsChannelConfiguration", channel % "teams"),
    )
