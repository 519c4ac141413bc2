"""serverless.yaml, property by property: logs, what is not delivered, alarms, who is told; and
parameters that do not go together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.lab.aws import REGION, REPOSITORY
from tests.lab.sts import ACCOUNT
from tests.lab.templates import read_template, resolve
from tests.serverless import FARGATE, FORMS, GIVEN, KEY, LOGIN, TOPIC, VPC, made, statements

BOTH = pytest.mark.parametrize("form", [VPC, FARGATE], ids=["function", "task"])


@BOTH
def test_logs_are_kept_for_as_long_as_wanted_and_outlive_the_stack(form: dict[str, str]) -> None:
    template = made(**form, LogKmsKeyArn=KEY, LogRetentionDays="365")
    logs = template.properties("Logs")
    assert ("365", KEY) == (logs["RetentionInDays"], logs["KmsKeyId"])
    assert "RetainExceptOnCreate" == template.resources["Logs"]["DeletionPolicy"]
    assert "KmsKeyId" not in made(**form).properties("Logs")
    if form is VPC:
        assert logs["LogGroupName"] == template.properties("Function")["LoggingConfig"]["LogGroup"]
    else:
        (container,) = template.properties("TaskDefinition")["ContainerDefinitions"]
        options = container["LogConfiguration"]["Options"]
        assert logs["LogGroupName"] == options["awslogs-group"]
        assert "non-blocking" == options["mode"]


@BOTH
def test_what_is_not_delivered_lies_encrypted_for_two_weeks(form: dict[str, str]) -> None:
    template = made(**form)
    queue = template.properties("Undelivered")
    assert queue["SqsManagedSseEnabled"] is True
    assert 14 * 24 * 3600 == queue["MessageRetentionPeriod"]
    target = template.properties("Schedule")["Target"]
    assert {"Arn": "<Undelivered.Arn>"} == target["DeadLetterConfig"]
    assert {"MaximumRetryAttempts": 3, "MaximumEventAgeInSeconds": 3600} == target["RetryPolicy"]
    tls, *others = template.properties("UndeliveredPolicy")["PolicyDocument"]["Statement"]
    assert ("Deny", {"Bool": {"aws:SecureTransport": "false"}}) == (
        tls["Effect"],
        tls["Condition"],
    )
    if form is VPC:
        assert [] == others
        return
    # EventBridge takes no role for a rule's queue, and nobody else's rule may fill it.
    (rule,) = others
    assert ({"Service": "events.amazonaws.com"}, "sqs:SendMessage") == (
        rule["Principal"],
        rule["Action"],
    )
    name = template.properties("TaskFailed")["Name"]
    told = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{name}"
    assert {"ArnEquals": {"aws:SourceArn": told}} == rule["Condition"]


@BOTH
@pytest.mark.parametrize("topic", ["", TOPIC])
def test_every_alarm_tells_the_topic_and_what_to_do(form: dict[str, str], topic: str) -> None:
    template = made(**form, TopicArn=topic)
    told = topic or f"arn:aws:sns:{REGION}:{ACCOUNT}:stack"
    alarms = template.of_type("AWS::CloudWatch::Alarm")
    for alarm in alarms.values():
        assert [told] == alarm["AlarmActions"]
        assert "shop" in alarm["AlarmDescription"]
    metrics = {(alarm["Namespace"], alarm["MetricName"]) for alarm in alarms.values()}
    of_both = {
        ("AWS/Scheduler", "TargetErrorCount"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
    }
    of_lambda = {("AWS/Lambda", "Errors"), ("AWS/Lambda", "Duration")}
    assert of_both | (of_lambda if form is VPC else set()) == metrics
    if form is FARGATE:
        (target,) = template.properties("TaskFailed")["Targets"]
        assert told == target["Arn"]
        (tell,) = statements(template, "EventRole")
        assert ("sns:Publish", told) == (tell["Action"], tell["Resource"])


def test_the_alarm_that_a_function_nears_its_limit_leaves_time_to_change() -> None:
    template = made()
    limit = template.properties("Function")["Timeout"] * 1000
    threshold = template.properties("FunctionNearItsLimit")["Threshold"]
    assert 0.7 * limit < threshold < 0.9 * limit


def test_a_topic_of_its_own_is_encrypted_and_lets_alarms_tell() -> None:
    template = made(Email="oncall@example.org")
    assert "<TopicKey>" == template.properties("Topic")["KmsMasterKeyId"]
    key = template.properties("TopicKey")
    assert key["EnableKeyRotation"] is True
    services = [
        each["Principal"].get("Service") for each in key["KeyPolicy"]["Statement"]
        if isinstance(each["Principal"], dict)
    ]  # fmt: skip
    assert "cloudwatch.amazonaws.com" in services
    assert "oncall@example.org" == template.properties("EmailSubscription")["Endpoint"]
    given = made(TopicArn=TOPIC, Email="oncall@example.org")
    assert not {"Topic", "TopicKey", "TopicPolicy", "EmailSubscription"} & given.resources.keys()
    assert TOPIC == given.outputs["SnsTopicArn"]


@pytest.mark.parametrize(
    ("rule", "refused", "taken"),
    [
        ("SomebodyLogsIn", {"PasswordSecretArn": "", "LoginArn": ""}, {"LoginArn": ""}),
        ("SomebodyLogsIn", {"LoginArn": LOGIN}, {"PasswordSecretArn": "", "LoginArn": LOGIN}),
        ("IamNamesWhoAndWhere", {"LoginArn": LOGIN}, FORMS["login-by-iam"]),
        ("TasksAreInAVpc", {"Platform": "fargate"}, FARGATE),
        ("TheVpcIsWhole", {"VpcId": VPC["VpcId"]}, VPC),
    ],
)
def test_parameters_that_do_not_go_together_are_refused_before_anything_is_made(
    rule: str, refused: dict[str, str], taken: dict[str, str]
) -> None:
    assert not holds(rule, refused)
    assert holds(rule, taken)


def holds(rule: str, given: Mapping[str, str]) -> bool:
    """Whether a rule of the template is content with these parameters."""
    template = read_template("serverless")
    declared = template["Parameters"]
    values = (
        {name: each.get("Default", "") for name, each in declared.items()} | GIVEN | dict(given)
    )

    def value(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        [(function, argument)] = node.items()
        if function == "Ref":
            return values[argument]
        told = [value(each) for each in argument]
        match function:
            case "Fn::Equals":
                return told[0] == told[1]
            case "Fn::Not":
                return not told[0]
            case "Fn::And":
                return all(told)
            case "Fn::Or":
                return any(told)
        raise AssertionError(f"{function} cannot stand in a rule")

    written = template["Rules"][rule]
    applies = value(written.get("RuleCondition", {"Fn::And": []}))
    return not applies or all(value(each["Assert"]) for each in written["Assertions"])


def test_the_command_of_the_documentation_is_one_that_the_template_takes() -> None:
    page = (REPOSITORY / "docs/beyond-the-runner.md").read_text()
    (command,) = re.findall(r"--parameter-overrides \\\n(.*?)\n```", page, re.DOTALL)
    given = dict(re.findall(r"(\w+)=(\S+)", command))
    given["ImageUri"] = GIVEN["ImageUri"]  # which has variables of the shell in it

    for platform in ("lambda", "fargate"):
        template = resolve("serverless", **(given | {"Platform": platform}))
        assert "Logs" in template.resources
    for rule in read_template("serverless")["Rules"]:
        assert holds(rule, given)
