"""Whoever listens to how runs end: a topic with a queue behind it, a webhook, a namespace."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.lab.aws import Moto
from tests.lab.cloud import Cloud
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun, run_action
from tests.lab.webhook import Hook
from tests.schemas import validator
from tests.steps import back_up

NAMESPACE = "PgBackup"


@dataclass(frozen=True)
class Mail:
    """What a subscriber of the topic gets."""

    subject: str
    message: str
    attributes: dict[str, str]


@dataclass
class Listeners:
    """`topic` is an ARN of the broad double, where its queue and the metrics are as well."""

    double: Moto
    topic: str
    queue: str
    namespace: str
    hook: Hook

    @property
    def env(self) -> dict[str, str]:
        services = ("SNS", "CLOUDWATCH")
        return {f"AWS_ENDPOINT_URL_{service}": self.double.url for service in services}

    def inputs(self, **others: str) -> dict[str, str]:
        """All of them are told; `others` by name, with underscores for hyphens."""
        given = {
            "sns-topic-arn": self.topic,
            "webhook-url": self.hook.secret_url,
            "cloudwatch-namespace": self.namespace,
        }
        return given | {name.replace("_", "-"): text for name, text in others.items()}

    def mails(self) -> list[Mail]:
        """What has come since the last look."""
        sqs, found = self.double.client("sqs"), []
        while answer := sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for each in answer:
                told = json.loads(each["Body"])
                attributes = told.get("MessageAttributes", {}).items()
                values = {name: attribute["Value"] for name, attribute in attributes}
                found.append(Mail(told["Subject"], told["Message"], values))
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=each["ReceiptHandle"])
        return found

    def metrics(self) -> dict[tuple[str, str, str], list[float]]:
        """Every value by (name, unit, `Dimension=value`), in the order of time."""
        cloudwatch = self.double.client("cloudwatch")
        known = cloudwatch.list_metrics(Namespace=self.namespace)["Metrics"]
        return {
            (each["MetricName"], unit, _shown(each["Dimensions"])): values
            for each in known
            for unit, values in self._values(cloudwatch, each).items()
        }

    def _values(self, cloudwatch: Any, metric: Mapping[str, Any]) -> dict[str, list[float]]:
        now = datetime.now(UTC)
        answer = cloudwatch.get_metric_statistics(
            Namespace=self.namespace,
            MetricName=metric["MetricName"],
            Dimensions=metric["Dimensions"],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(minutes=1),
            Period=60,
            Statistics=["Sum", "SampleCount"],
        )
        found: dict[str, list[float]] = {}
        for point in sorted(answer["Datapoints"], key=lambda each: each["Timestamp"]):
            found.setdefault(point["Unit"], []).append(point["Sum"] / point["SampleCount"])
        return found


def _shown(dimensions: list[dict[str, str]]) -> str:
    return ",".join(f"{each['Name']}={each['Value']}" for each in dimensions)


@contextmanager
def listeners(double: Moto) -> Iterator[Listeners]:
    """A topic, its queue, a namespace and a hook, for one test."""
    name = f"pg-backup-{secrets.token_hex(4)}"
    sns, sqs = double.client("sns"), double.client("sqs")
    topic = sns.create_topic(Name=name)["TopicArn"]
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["QueueArn"])
    with Hook() as hook:
        yield Listeners(double, topic, queue, f"{NAMESPACE}/{name}", hook)
        told = [body for body in hook.told if "format" in body]
        schema = validator("notification")
        assert [] == [error.message for body in told for error in schema.iter_errors(body)]


def run_backup(
    cloud: Cloud, server: PostgresServer, told: Listeners, name: str, **others: str
) -> ActionRun:
    return back_up(cloud, server, name, told.inputs(**others), told.env)


def run_list(cloud: Cloud, told: Listeners, **others: str) -> ActionRun:
    """The quickest of runs: good while the role may list the bucket."""
    inputs = cloud.inputs | {"operation": "list", "database": "shop"}
    return run_action(inputs | told.inputs(**others), cloud.env | told.env)
