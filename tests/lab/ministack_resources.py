"""The other resources of our stacks in ministack: what it applies by itself, and what it does not.

The requests are the SDK's own, so that a property which the service's API does not know, or does
not take, fails the stack.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from tests.lab.ministack_cloudformation import provide
from tests.lab.ministack_sdk import call

# ministack has no type information.
provisioners: Any = importlib.import_module("ministack.services.cloudformation.provisioners")

Properties = Mapping[str, Any]

_FUNCTION_AFTERWARDS = {
    "DeadLetterConfig": "DeadLetterConfig",
    "KmsKeyArn": "KMSKeyArn",
    "VpcConfig": "VpcConfig",
}
_TOPIC_AFTERWARDS = ("KmsMasterKeyId", "SignatureVersion", "TracingConfig")
_TASK_DEFINITION = (
    "ContainerDefinitions Cpu EphemeralStorage ExecutionRoleArn Family Memory NetworkMode"
    " RequiresCompatibilities RuntimePlatform Tags TaskRoleArn Volumes"
)
_SCHEDULE = (
    "Name GroupName Description ScheduleExpression ScheduleExpressionTimezone FlexibleTimeWindow"
    " Target State StartDate EndDate KmsKeyArn"
)
# Read in ministack's provisioners: these it applies whole.
_OWN = {
    "AWS::CloudWatch::Dashboard": "DashboardName DashboardBody",
    "AWS::EC2::SecurityGroup": "GroupName GroupDescription VpcId SecurityGroupIngress"
    " SecurityGroupEgress Tags",
    "AWS::ECS::Cluster": "ClusterName Tags ClusterSettings CapacityProviders"
    " DefaultCapacityProviderStrategy Configuration",
    "AWS::Events::Rule": "Name EventBusName State Description ScheduleExpression EventPattern"
    " RoleArn Targets Tags",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName Path Description PolicyDocument Roles Users"
    " Groups",
    "AWS::IAM::Policy": "PolicyName PolicyDocument Roles Users Groups",
    "AWS::IAM::Role": "RoleName Path AssumeRolePolicyDocument Description MaxSessionDuration"
    " ManagedPolicyArns Policies Tags",
    "AWS::KMS::Alias": "AliasName TargetKeyId",
    "AWS::KMS::Key": "Description EnableKeyRotation RotationPeriodInDays KeyPolicy KeySpec"
    " KeyUsage Enabled MultiRegion Origin PendingWindowInDays Tags",
    "AWS::Lambda::EventInvokeConfig": "FunctionName Qualifier DestinationConfig"
    " MaximumEventAgeInSeconds MaximumRetryAttempts",
    "AWS::Lambda::Permission": "FunctionName Action Principal SourceArn SourceAccount",
    "AWS::Logs::LogGroup": "LogGroupName RetentionInDays LogGroupClass KmsKeyId Tags",
    "AWS::Logs::MetricFilter": "LogGroupName FilterName FilterPattern MetricTransformations",
    "AWS::Scheduler::ScheduleGroup": "Name Tags",
    "AWS::SNS::Subscription": "TopicArn Protocol Endpoint DeliveryPolicy FilterPolicy"
    " FilterPolicyScope RawMessageDelivery RedrivePolicy SubscriptionRoleArn",
    "AWS::SNS::TopicPolicy": "Topics PolicyDocument",
    "AWS::SQS::Queue": "QueueName FifoQueue VisibilityTimeout MaximumMessageSize"
    " MessageRetentionPeriod DelaySeconds ReceiveMessageWaitTimeSeconds KmsMasterKeyId"
    " KmsDataKeyReusePeriodSeconds SqsManagedSseEnabled RedrivePolicy RedriveAllowPolicy Tags",
    "AWS::SQS::QueuePolicy": "Queues PolicyDocument",
}


def create_provider(_logical_id: str, properties: Properties, _stack_name: str) -> Any:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-iam-oidcprovider.html"""
    answer = call(
        "iam",
        "CreateOpenIDConnectProvider",
        Url=properties["Url"],
        ClientIDList=properties.get("ClientIdList", []),
        ThumbprintList=properties.get("ThumbprintList", []),
        Tags=properties.get("Tags", []),
    )
    arn = answer["OpenIDConnectProviderArn"]
    return arn, {"Arn": arn}


def update_provider(arn: str, old: Properties, new: Properties, stack_name: str) -> Any:
    delete_provider(arn, old)
    return create_provider(arn, new, stack_name)


def delete_provider(arn: str, _properties: Properties) -> None:
    call("iam", "DeleteOpenIDConnectProvider", OpenIDConnectProviderArn=arn)


def let_in(_logical_id: str, properties: Properties, _stack_name: str) -> Any:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-ec2-securitygroupingress.html"""
    group = properties["GroupId"]
    call("ec2", "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=_opened(properties))
    name = f"{group}/{properties['SourceSecurityGroupId']}/{properties['FromPort']}"
    return name, {"Id": name}


def let_in_no_more(_name: str, properties: Properties) -> None:
    group = properties["GroupId"]
    call("ec2", "RevokeSecurityGroupIngress", GroupId=group, IpPermissions=_opened(properties))


def _opened(properties: Properties) -> list[dict[str, Any]]:
    source = {
        "GroupId": properties["SourceSecurityGroupId"],
        "Description": properties.get("Description", ""),
    }
    ports = {name: properties[name] for name in ("IpProtocol", "FromPort", "ToPort")}
    return [{**ports, "UserIdGroupPairs": [source]}]


def create_topic(logical_id: str, properties: Properties, stack_name: str) -> Any:
    arn, attributes = provisioners._sns_create(logical_id, properties, stack_name)
    _finish_topic(arn, properties, {})
    return arn, attributes


def update_topic(arn: str, old: Properties, new: Properties, stack: str, logical_id: str) -> Any:
    made, attributes = provisioners._sns_update(arn, old, new, stack, logical_id)
    _finish_topic(made, new, old)
    return made, attributes


def _finish_topic(arn: str, new: Properties, old: Properties) -> None:
    for name in _TOPIC_AFTERWARDS:
        if name in new or name in old:
            value = str(new.get(name, ""))
            call(
                "sns",
                "SetTopicAttributes",
                TopicArn=arn,
                AttributeName=name,
                AttributeValue=value,
            )


def create_function(logical_id: str, properties: Properties, stack_name: str) -> Any:
    name, attributes = provisioners._lambda_create(logical_id, properties, stack_name)
    _finish_function(name, properties, {})
    return name, attributes


def update_function(
    name: str, old: Properties, new: Properties, stack: str, logical_id: str
) -> Any:
    made, attributes = provisioners._lambda_update(name, old, new, stack, logical_id)
    _finish_function(made, new, old)
    return made, attributes


def _finish_function(name: str, new: Properties, old: Properties) -> None:
    wanted = {api: new[each] for each, api in _FUNCTION_AFTERWARDS.items() if each in new}
    if wanted:
        call("lambda", "UpdateFunctionConfiguration", FunctionName=name, **wanted)
    if "ReservedConcurrentExecutions" in new:
        reserved = new["ReservedConcurrentExecutions"]
        call(
            "lambda",
            "PutFunctionConcurrency",
            FunctionName=name,
            ReservedConcurrentExecutions=reserved,
        )
    elif "ReservedConcurrentExecutions" in old:
        call("lambda", "DeleteFunctionConcurrency", FunctionName=name)


def register_task(logical_id: str, properties: Properties, stack_name: str) -> Any:
    given = {"Family": f"{stack_name}-{logical_id}", **properties}
    arn = call("ecs", "RegisterTaskDefinition", **given)["taskDefinition"]["taskDefinitionArn"]
    return arn, {"TaskDefinitionArn": arn}


def update_task(arn: str, _old: Properties, new: Properties, stack_name: str) -> Any:
    """A new revision; the family of a task that has no name of its own stays."""
    family = arn.rpartition("/")[2].rpartition(":")[0]
    return register_task("", {"Family": family, **new}, stack_name)


def create_schedule(logical_id: str, properties: Properties, stack_name: str) -> Any:
    given = {"Name": provisioners._physical_name(stack_name, logical_id, max_len=64), **properties}
    arn = call("scheduler", "CreateSchedule", **given)["ScheduleArn"]
    return given["Name"], {"Arn": arn}


def update_schedule(name: str, old: Properties, new: Properties, stack_name: str) -> Any:
    if {each: old.get(each) for each in ("Name", "GroupName")} != {
        each: new.get(each) for each in ("Name", "GroupName")
    }:
        made = create_schedule(name, new, stack_name)
        delete_schedule(name, old)
        return made
    arn = call("scheduler", "UpdateSchedule", **{"Name": name, **new})["ScheduleArn"]
    return name, {"Arn": arn}


def delete_schedule(name: str, properties: Properties) -> None:
    call("scheduler", "DeleteSchedule", Name=name, GroupName=properties.get("GroupName", "default"))


def put_composite(logical_id: str, properties: Properties, stack_name: str) -> Any:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-cloudwatch-compositealarm.html"""
    name = provisioners._physical_name(stack_name, logical_id, max_len=255)
    call("cloudwatch", "PutCompositeAlarm", **{"AlarmName": name, **properties})
    name = properties.get("AlarmName", name)
    [alarm] = call(
        "cloudwatch", "DescribeAlarms", AlarmNames=[name], AlarmTypes=["CompositeAlarm"]
    )["CompositeAlarms"]
    return name, {"Arn": alarm["AlarmArn"]}


def delete_composite(name: str, _properties: Properties) -> None:
    call("cloudwatch", "DeleteAlarms", AlarmNames=[name])


def register() -> None:
    for kind, properties in _OWN.items():
        provide(kind, properties)
    provide(
        "AWS::CloudWatch::CompositeAlarm",
        "AlarmName AlarmDescription AlarmRule ActionsEnabled AlarmActions OKActions"
        " InsufficientDataActions Tags",
        create=put_composite,
        delete=delete_composite,
    )
    provide(
        "AWS::EC2::SecurityGroupIngress",
        "Description GroupId IpProtocol FromPort ToPort SourceSecurityGroupId",
        create=let_in,
        delete=let_in_no_more,
    )
    provide(
        "AWS::ECS::TaskDefinition",
        _TASK_DEFINITION,
        create=register_task,
        update=update_task,
        delete=provisioners._ecs_task_def_delete,
    )
    provide(
        "AWS::IAM::OIDCProvider",
        "Url ClientIdList ThumbprintList Tags",
        create=create_provider,
        update=update_provider,
        delete=delete_provider,
    )
    provide(
        "AWS::Lambda::Function",
        "FunctionName Code Role Handler Runtime Timeout MemorySize Environment Description Layers"
        " PackageType Architectures EphemeralStorage TracingConfig LoggingConfig ImageConfig Tags"
        f" ReservedConcurrentExecutions {' '.join(_FUNCTION_AFTERWARDS)}",
        create=create_function,
        update=update_function,
        update_with_logical_id=True,
        delete=provisioners._lambda_delete,
    )
    provide(
        "AWS::Scheduler::Schedule",
        _SCHEDULE,
        create=create_schedule,
        update=update_schedule,
        delete=delete_schedule,
    )
    provide(
        "AWS::SNS::Topic",
        f"TopicName DisplayName Subscription Tags {' '.join(_TOPIC_AFTERWARDS)}",
        create=create_topic,
        update=update_topic,
        update_with_logical_id=True,
        delete=provisioners._sns_delete,
    )
