"""A message to an SNS topic.

https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from backup.aws.permissions import WRITE_KMS, partition
from backup.aws.refusals import Attempt, Remedy, explained
from backup.aws.session import AwsSession, short_of_patience
from backup.errors import DumpError, InputError

# ASCII, no control characters, and not a blank at its start.
LONGEST_SUBJECT = 100


@dataclass(frozen=True)
class Notice:
    """What subscribers get; `attributes` are for their filter policies, and none is empty."""

    subject: str
    message: str
    attributes: Mapping[str, str] = field(default_factory=dict)


def region_of(topic_arn: str) -> str:
    return topic_arn.split(":")[3]


def publish(session: AwsSession, topic_arn: str, notice: Notice) -> None:
    """Tell the topic, in its own region. Raises AccessError, InputError or DumpError."""
    region, account = topic_arn.split(":")[3:5]
    attempt = Attempt(
        message="the topic was not told",
        region=region,
        actions=("sns:Publish",),
        resource=topic_arn,
        # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
        kms_actions=WRITE_KMS,
        kms_resource=f"arn:{partition(region)}:kms:{region}:{account}:key/KEY_ID",
        failure=DumpError,
        remedies={
            "NotFound": Remedy(InputError, "correct sns-topic-arn: there is no such topic"),
            "InvalidParameter": Remedy(InputError, "correct sns-topic-arn"),
        },
    )
    with explained(attempt):
        client = session.in_region(region).client("sns", short_of_patience())
        client.publish(
            TopicArn=topic_arn,
            Subject=notice.subject,
            Message=notice.message,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": text}
                for name, text in notice.attributes.items()
            },
        )
