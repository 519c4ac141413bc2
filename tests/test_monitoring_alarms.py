"""The alarms of monitoring.yaml at work: deployed, fed by real runs, heard through the topic.

The double evaluates them by CloudWatch's documented rules (tests/lab/alarm_rules.py).
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.alarm_rules import ALARM, INSUFFICIENT_DATA, OK
from tests.lab.aws import Ministack
from tests.lab.cloud import Cloud, listing, writing
from tests.lab.postgres import PostgresServer
from tests.lab.stacks import delete, deploy
from tests.lab.sts import ACCOUNT
from tests.steps import back_up, database_named, forget, green

HOUR, DAY = 3600.0, 86400.0
SENDING = {
    "Effect": "Allow",
    "Action": "cloudwatch:PutMetricData",
    "Resource": "*",
    "Condition": {"StringLike": {"cloudwatch:namespace": "Lab*"}},
}


@dataclass(frozen=True)
class Watch:
    """A stack of monitoring.yaml, and a queue that hears what its topic is told."""

    double: Ministack
    stack: str
    database: str
    namespace: str
    outputs: Mapping[str, str]
    queue: str

    def put(self, metric: str, value: float, *, ago: float = 0.0, **dimension: str) -> None:
        """A value as the action sends it, as if `ago` seconds had passed since."""
        [(name, of)] = (dimension or {"Database": self.database}).items()
        self.put_all([(metric, value, ago, {name: of})], self.namespace)

    def put_all(
        self, values: list[tuple[str, float, float, dict[str, str]]], namespace: str
    ) -> None:
        data = [
            {
                "MetricName": metric,
                "Value": value,
                "Timestamp": time.time() - ago,
                "Dimensions": [{"Name": name, "Value": of} for name, of in dimensions.items()],
            }
            for metric, value, ago, dimensions in values
        ]
        client = self.double.client("cloudwatch")
        client.put_metric_data(Namespace=namespace, MetricData=data)

    def state(self, alarm: str) -> str:
        name = f"{self.stack}-{alarm}"
        found = self.double.client("cloudwatch").describe_alarms(AlarmNames=[name])
        [told] = found["MetricAlarms"]
        return str(told["StateValue"])

    def heard(self) -> list[tuple[str, str]]:
        """Alarm and new state of every message since the last call, in their order."""
        found: list[dict[str, Any]] = []
        client = self.double.client("sqs")
        while messages := client.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get(
            "Messages", []
        ):
            for each in messages:
                found.append(json.loads(json.loads(each["Body"])["Message"]))
                client.delete_message(QueueUrl=self.queue, ReceiptHandle=each["ReceiptHandle"])
        own = f"{self.stack}-"
        return [
            (each["AlarmName"].removeprefix(own), each["NewStateValue"])
            for each in found
            if each.get("AlarmName", "").startswith(own)
        ]


@pytest.fixture
def watch(ministack: Ministack) -> Iterator[Watch]:
    word = secrets.token_hex(4)
    stack, database, namespace = f"watch-{word}", f"shop {word}", f"Lab{word}"
    outputs = deploy(ministack, "monitoring", stack, {
        "Database": database, "CloudwatchNamespace": namespace, "Bucket": f"backups-{word}",
    })  # fmt: skip
    sqs = ministack.client("sqs")
    queue = sqs.create_queue(QueueName=stack)["QueueUrl"]
    topic = outputs["SnsTopicArn"]
    told = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    hears = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": told["QueueArn"],
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [hears]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    ministack.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=told["QueueArn"])
    yield Watch(ministack, stack, database, namespace, outputs, queue)
    delete(ministack, stack)
    sqs.delete_queue(QueueUrl=queue)


@pytest.fixture
def shop(watch: Watch, postgres: PostgresServer) -> Iterator[str]:
    yield database_named(postgres, watch.database, "CREATE TABLE t AS SELECT 1 AS n")
    forget(postgres, watch.database)


def test_a_real_backup_ends_the_alarm_that_none_has_come(
    cloud: Cloud, postgres: PostgresServer, watch: Watch, shop: str
) -> None:
    cloud.allow(writing(cloud.bucket), listing(cloud.bucket), SENDING)
    inputs = {"cloudwatch-namespace": watch.outputs["CloudwatchNamespace"]}
    assert ALARM == watch.state("backup-missing")  # nothing has ever come
    assert INSUFFICIENT_DATA == watch.state("backup-failed")

    green(back_up(cloud, postgres, shop, inputs))

    assert OK == watch.state("backup-missing")
    assert OK == watch.state("backup-failed")
    assert {("backup-missing", OK), ("backup-failed", OK)} == set(watch.heard())


def test_a_real_failure_rings_once(
    cloud: Cloud, postgres: PostgresServer, watch: Watch, shop: str
) -> None:
    cloud.allow(writing(cloud.bucket), listing(cloud.bucket), SENDING)
    inputs = {"cloudwatch-namespace": watch.namespace, "user": "nobody", "password": "x"}

    assert 3 == back_up(cloud, postgres, shop, inputs).exit_code
    assert 3 == back_up(cloud, postgres, shop, inputs).exit_code

    assert [("backup-failed", ALARM)] == watch.heard()
    assert ALARM == watch.state("backup-missing")  # a run that failed is no backup


def test_a_failure_stays_red_until_a_good_run_whatever_the_time(watch: Watch) -> None:
    watch.put("BackupSucceeded", 0, ago=HOUR)  # beyond all that is looked at, as time goes on
    assert INSUFFICIENT_DATA == watch.state("backup-failed")
    watch.put("BackupSucceeded", 0, ago=400)
    assert ALARM == watch.state("backup-failed")
    watch.put("BackupSucceeded", 1)
    assert OK == watch.state("backup-failed")


def test_an_alarm_is_heard_by_leave_of_the_topics_policy_and_of_its_keys(watch: Watch) -> None:
    sns, topic = watch.double.client("sns"), watch.outputs["SnsTopicArn"]
    attributes = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    other_account = attributes["Policy"].replace(ACCOUNT, "999999999999")
    other_service = attributes["Policy"].replace("cloudwatch.amazonaws.com", "s3.amazonaws.com")
    watch.put("DrillSucceeded", 0)
    assert [("drill-failed", ALARM)] == watch.heard()

    for name, silencing, metric, value, alarm in (
        ("KmsMasterKeyId", "alias/aws/sns", "BackupSizeChange", -99.0, "backup-shrank"),
        ("Policy", other_account, "NewestDrillAge", 36 * DAY, "drill-too-old"),
        ("Policy", other_service, "BackupSucceeded", 0.0, "backup-failed"),
    ):
        sns.set_topic_attributes(TopicArn=topic, AttributeName=name, AttributeValue=silencing)
        watch.put(metric, value)
        assert (ALARM, []) == (watch.state(alarm), watch.heard())
        sns.set_topic_attributes(
            TopicArn=topic, AttributeName=name, AttributeValue=attributes[name]
        )
    watch.put("AuditFindings", 1, Status="fail")
    assert [("audit-failed", ALARM)] == watch.heard()


def test_a_backup_is_missing_as_soon_as_the_last_is_older_than_the_hours(watch: Watch) -> None:
    watch.put("BackupSucceeded", 0, ago=HOUR)  # tries that failed do not count
    # 27 and 28 are those that CloudWatch would still see without FILL.
    for hours, expected in ((200, ALARM), (28, ALARM), (27, ALARM), (24.9, OK)):
        watch.put("BackupSucceeded", 1, ago=hours * HOUR)
        assert expected == watch.state("backup-missing"), hours


def test_of_two_runs_in_an_hour_a_good_one_is_enough(watch: Watch) -> None:
    watch.put("BackupSucceeded", 1, ago=5)
    watch.put("BackupSucceeded", 0, ago=4)
    assert OK == watch.state("backup-missing")
    assert ALARM == watch.state("backup-failed")


def test_other_databases_and_other_namespaces_ring_nobody(watch: Watch) -> None:
    watch.put("BackupSucceeded", 1, Database="another")
    watch.put("BackupSucceeded", 0, Database="another")
    data = [("BackupSucceeded", 1.0, 0.0, {"Database": watch.database})]
    watch.put_all(data, f"{watch.namespace}Other")

    assert ALARM == watch.state("backup-missing")
    assert INSUFFICIENT_DATA == watch.state("backup-failed")


def test_only_a_backup_that_shrank_too_much_rings(watch: Watch) -> None:
    for percent, expected in ((4000, OK), (0, OK), (-30, OK), (-31, ALARM)):
        watch.put("BackupSizeChange", percent)
        assert expected == watch.state("backup-shrank"), percent


def test_drills_ring_when_they_fail_grow_old_or_are_not_told(watch: Watch) -> None:
    assert ALARM == watch.state("drill-age-unknown")
    watch.put("NewestDrillAge", 34 * DAY)
    assert OK == watch.state("drill-age-unknown")
    assert OK == watch.state("drill-too-old")
    watch.put("NewestDrillAge", 36 * DAY)
    assert ALARM == watch.state("drill-too-old")
    watch.put("DrillSucceeded", 0)
    assert ALARM == watch.state("drill-failed")
    heard = watch.heard()
    assert [("drill-age-unknown", OK), ("drill-too-old", OK)] == sorted(heard[:2])
    assert [("drill-too-old", ALARM), ("drill-failed", ALARM)] == heard[2:]


def test_an_audit_a_week_ago_is_not_heard_any_more(watch: Watch) -> None:
    watch.put("NewestDrillAge", DAY, ago=169 * HOUR)
    assert ALARM == watch.state("drill-age-unknown")
    watch.put("NewestDrillAge", DAY, ago=166 * HOUR)
    assert OK == watch.state("drill-age-unknown")


def test_findings_of_an_audit_ring_by_their_status(watch: Watch) -> None:
    watch.put("AuditFindings", 0, Status="fail")
    watch.put("AuditFindings", 9, Status="warn")
    assert OK == watch.state("audit-failed")
    watch.put("AuditFindings", 1, Status="fail")
    assert ALARM == watch.state("audit-failed")


def test_the_bucket_rings_when_all_its_classes_together_are_too_large(watch: Watch) -> None:
    bucket = watch.stack.replace("watch", "backups")
    for kind, gigabytes, expected in (
        ("StandardStorage", 300, OK),
        ("GlacierInstantRetrievalStorage", 150, OK),
        ("IntelligentTieringAIAStorage", 51, ALARM),
    ):
        where = {"BucketName": bucket, "StorageType": kind}
        watch.put_all([("BucketSizeBytes", gigabytes * 1e9, 0.0, where)], "AWS/S3")
        assert expected == watch.state("storage-large")


def test_requests_ring_when_there_are_too_many_in_an_hour(watch: Watch) -> None:
    where = {"BucketName": watch.stack.replace("watch", "backups"), "FilterId": "EntireBucket"}
    assert OK == watch.state("bucket-refuses")
    watch.put_all([("4xxErrors", 50.0, 0.0, where), ("5xxErrors", 21.0, 0.0, where)], "AWS/S3")
    assert OK == watch.state("bucket-refuses")
    assert ALARM == watch.state("bucket-fails")
