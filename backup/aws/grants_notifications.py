"""What telling somebody how a run ended asks of AWS, whatever the run is for."""

from __future__ import annotations

from backup.aws.grants_backups import listing
from backup.aws.policy import Grant, PolicyScope, on_key


def notifying(operation: str, scope: PolicyScope) -> tuple[Grant, ...]:
    """For the topic, the namespace, and the records that `notify-on: change` compares with."""
    topic = (scope.topic_arn,) if scope.topic_arn else ()
    return (
        *(Grant("Notify", ("sns:Publish",), (each,)) for each in topic),
        *((sending(scope.namespace),) if scope.namespace else ()),
        *(_remembering(operation, scope) if scope.remembers_outcomes else ()),
    )


def sending(namespace: str) -> Grant:
    """PutMetricData knows no resources; the condition keeps it out of other namespaces.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/iam-cw-condition-keys-namespace.html
    """
    condition = {"StringEquals": {"cloudwatch:namespace": namespace}}
    return Grant("SendMetrics", ("cloudwatch:PutMetricData",), ("*",), condition)


def _remembering(operation: str, scope: PolicyScope) -> tuple[Grant, ...]:
    """The last outcome is read from the list of objects alone."""
    records = scope.objects(f"outcomes/{operation}/*")
    return (
        Grant("RememberTheEnd", ("s3:PutObject",), (records,)),
        listing(scope),
        *on_key("EncryptTheEnd", ("kms:GenerateDataKey",), scope),
    )
