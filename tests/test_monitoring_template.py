"""monitoring.yaml: each alarm looks at a metric that the action sends, in times that CloudWatch
takes, and tells somebody what to do."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from backup.operations.notifying.measured import KNOWN
from backup.options import OPTIONS
from tests.lab.alarm_rules import faults
from tests.lab.aws import REPOSITORY
from tests.lab.sts import ACCOUNT
from tests.lab.templates import ResolvedTemplate, TemplateError, read_template, resolve

BUCKET = "backups"
FOREIGN_TOPIC = f"arn:aws:sns:eu-central-1:{ACCOUNT}:theirs"
OF_DATABASE = ("BackupMissing", "BackupFailed", "BackupShrank", "BackupSlow", "DrillFailed",
               "DrillTooOld", "DrillAgeUnknown")  # fmt: skip
OF_BUCKET = ("AuditFailed", "StorageLarge", "BucketRefuses", "BucketFails")
SHOP = {"Database": "shop"}
REQUESTS = {"BucketName": BUCKET, "FilterId": "EntireBucket"}

# What S3 counts the objects of a class as.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/metrics-dimensions.html
STORED_AS = {
    "DEEP_ARCHIVE": {"DeepArchiveStorage"},
    "GLACIER": {"GlacierStorage"},
    "GLACIER_IR": {"GlacierInstantRetrievalStorage"},
    "NONE": set(),
    "INTELLIGENT_TIERING": {f"IntelligentTiering{tier}Storage" for tier in ("FA", "IA", "AIA")},
    "STANDARD_IA": {"StandardIAStorage"},
}

# Metric, dimensions, statistic, period; expression; comparison, threshold; periods; missing data.
MEANT = {
    "BackupMissing": ("BackupSucceeded", SHOP, "Maximum", 3600, "FILL(succeeded, 0)",
                      "LessThanThreshold", 1, "26", "breaching"),
    "BackupFailed": ("BackupSucceeded", SHOP, "Minimum", 300, None,
                     "LessThanThreshold", 1, 1, "ignore"),
    "BackupShrank": ("BackupSizeChange", SHOP, "Minimum", 300, "0 - change",
                     "GreaterThanThreshold", "30", 1, "ignore"),
    "BackupSlow": ("BackupSeconds", SHOP, "Maximum", 3600, "ANOMALY_DETECTION_BAND(seconds, 3)",
                   "GreaterThanUpperThreshold", "norm", 1, "ignore"),
    "DrillFailed": ("DrillSucceeded", SHOP, "Minimum", 300, None,
                    "LessThanThreshold", 1, 1, "ignore"),
    "DrillTooOld": ("NewestDrillAge", SHOP, "Maximum", 300, "age / 86400",
                    "GreaterThanThreshold", "35", 1, "ignore"),
    "DrillAgeUnknown": ("NewestDrillAge", SHOP, "SampleCount", 3600, "FILL(told, 0)",
                        "LessThanThreshold", 1, "168", "breaching"),
    "AuditFailed": ("AuditFindings", {"Status": "fail"}, "Maximum", 300, None,
                    "GreaterThanThreshold", 0, 1, "ignore"),
    "BucketRefuses": ("4xxErrors", REQUESTS, "Sum", 3600, None,
                      "GreaterThanThreshold", "50", 1, "notBreaching"),
    "BucketFails": ("5xxErrors", REQUESTS, "Sum", 3600, None,
                    "GreaterThanThreshold", "20", 1, "notBreaching"),
}  # fmt: skip


def whole(**parameters: str) -> ResolvedTemplate:
    return resolve("monitoring", Database="shop", Bucket=BUCKET, **parameters)


def alarms(template: ResolvedTemplate) -> dict[str, dict[str, Any]]:
    return template.of_type("AWS::CloudWatch::Alarm")


def looked_at(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """Each metric of an alarm, as in an alarm that has one."""
    queries = [each["MetricStat"] for each in alarm.get("Metrics", []) if "MetricStat" in each]
    return [
        {**each["Metric"], "Statistic": each["Stat"], "Period": each["Period"]} for each in queries
    ] or [alarm]


def dimensions(metric: dict[str, Any]) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in metric["Dimensions"]}


def test_there_is_an_alarm_for_everything_that_was_promised() -> None:
    assert {*OF_DATABASE, *OF_BUCKET} == alarms(whole()).keys()
    assert {*MEANT, "StorageLarge"} == alarms(whole()).keys()
    assert set(OF_DATABASE) == alarms(resolve("monitoring", Database="shop")).keys()


@pytest.mark.parametrize("name", MEANT)
def test_an_alarm_is_what_it_is_meant_to_be(name: str) -> None:
    alarm = alarms(whole())[name]
    [metric] = looked_at(alarm)
    expressions = [each["Expression"] for each in alarm.get("Metrics", []) if "Expression" in each]
    meant = MEANT[name]

    assert meant[:4] == (
        metric["MetricName"], dimensions(metric), metric["Statistic"], metric["Period"]
    )  # fmt: skip
    assert [meant[4]] * (meant[4] is not None) == expressions
    assert meant[5] == alarm["ComparisonOperator"]
    assert meant[6] == alarm.get("Threshold", alarm.get("ThresholdMetricId"))
    assert (meant[7], meant[7]) == (alarm["EvaluationPeriods"], alarm["DatapointsToAlarm"])
    assert meant[8] == alarm["TreatMissingData"]


@pytest.mark.parametrize("name", [*OF_DATABASE, *OF_BUCKET])
def test_an_alarm_looks_at_what_is_really_sent(name: str) -> None:
    for metric in looked_at(alarms(whole(CloudwatchNamespace="Mine"))[name]):
        if metric["Namespace"] == "AWS/S3":
            assert BUCKET == dimensions(metric)["BucketName"]
            continue
        assert "Mine" == metric["Namespace"]
        [dimension] = dimensions(metric)
        assert dimension in KNOWN[metric["MetricName"]].dimensions
        assert "Unit" not in metric  # an alarm with a unit sees no value of another


@pytest.mark.parametrize("name", [*OF_DATABASE, *OF_BUCKET])
@pytest.mark.parametrize("hours", ["1", "26", "168"])
def test_cloudwatch_takes_its_times_whatever_the_parameters(name: str, hours: str) -> None:
    alarm = alarms(whole(MaxAgeHours=hours, AuditHours=hours))[name]
    for metric in looked_at(alarm):
        periods, datapoints = int(alarm["EvaluationPeriods"]), int(alarm["DatapointsToAlarm"])
        assert [] == faults(metric["Period"], periods, datapoints)


@pytest.mark.parametrize("parameter", ["MaxAgeHours", "AuditHours"])
def test_more_hours_than_cloudwatch_looks_back_are_refused(parameter: str) -> None:
    with pytest.raises(TemplateError, match=parameter):
        whole(**{parameter: "169"})


def test_the_hours_are_those_that_an_audit_allows_where_nobody_says_otherwise() -> None:
    [hours] = {option.help for option in OPTIONS if option.name == "max-age-hours"}
    assert f"{alarms(whole())['BackupMissing']['EvaluationPeriods']} without it" in hours
    [days] = [option.default for option in OPTIONS if option.name == "max-drill-age-days"]
    assert days == alarms(whole())["DrillTooOld"]["Threshold"]


@pytest.mark.parametrize("name", [*OF_DATABASE, *OF_BUCKET])
def test_an_alarm_tells_what_happened_what_to_do_and_that_it_is_over(name: str) -> None:
    alarm = alarms(whole())[name]
    text = alarm["AlarmDescription"]

    assert ["<Topic>"] == alarm["AlarmActions"] == alarm["OKActions"]
    about = {"AuditFailed": "audit"}.get(name, "shop" if name in OF_DATABASE else BUCKET)
    assert about in text
    assert len(text) <= 1024
    [anchor] = re.findall(r"See docs/monitoring\.md#([a-z-]+)\.$", text)
    assert f"stack-{anchor}" == alarm["AlarmName"]
    assert f"\n### {anchor}\n" in (REPOSITORY / "docs/monitoring.md").read_text()


def test_the_storage_of_every_class_is_added_up_in_gigabytes() -> None:
    alarm = alarms(whole(MaxStorageGigabytes="7"))["StorageLarge"]
    metrics = looked_at(alarm)
    types = {dimensions(each).pop("StorageType") for each in metrics}

    assert {("BucketSizeBytes", 86400, "Average")} == {
        (each["MetricName"], each["Period"], each["Statistic"]) for each in metrics
    }
    # Standard, and every class that storage.yaml can archive into.
    classes = read_template("storage")["Parameters"]["ArchiveClass"]["AllowedValues"]
    assert {"StandardStorage"}.union(*(STORED_AS[each] for each in classes)) <= types
    assert ["SUM(METRICS()) / 1000000000"] == [
        each["Expression"] for each in alarm["Metrics"] if "Expression" in each
    ]
    assert ("7", "GreaterThanThreshold", "ignore") == (
        alarm["Threshold"], alarm["ComparisonOperator"], alarm["TreatMissingData"]
    )  # fmt: skip


def test_of_several_metrics_one_is_compared() -> None:
    for name, alarm in alarms(whole()).items():
        if "Metrics" in alarm:
            shown = [each["Id"] for each in alarm["Metrics"] if each.get("ReturnData", True)]
            # A band is compared with its metric.
            assert len(shown) == (2 if name == "BackupSlow" else 1)


def test_the_norm_of_durations_is_learned_from_the_very_metric_of_its_alarm() -> None:
    template = whole()
    [metric] = looked_at(alarms(template)["BackupSlow"])
    [model] = template.of_type("AWS::CloudWatch::AnomalyDetector").values()
    assert model == {
        "Namespace": metric["Namespace"], "MetricName": metric["MetricName"],
        "Dimensions": metric["Dimensions"], "Stat": metric["Statistic"],
    }  # fmt: skip


def test_the_stacks_of_other_databases_share_a_topic_and_change_nothing_of_it() -> None:
    template = resolve("monitoring", Database="hr", TopicArn=FOREIGN_TOPIC)

    kinds = {resource["Type"] for resource in template.resources.values()}
    assert not kinds & {"AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "AWS::KMS::Key"}
    for alarm in alarms(template).values():
        assert [FOREIGN_TOPIC] == alarm["AlarmActions"] == alarm["OKActions"]
    assert FOREIGN_TOPIC == template.outputs["SnsTopicArn"]


def test_only_this_account_publishes_and_only_through_tls() -> None:
    [policy] = whole().of_type("AWS::SNS::TopicPolicy").values()
    allowed = {}
    for statement in policy["PolicyDocument"]["Statement"]:
        assert "<Topic>" == statement["Resource"]
        assert "sns:Publish" == statement["Action"]
        if statement["Effect"] == "Deny":
            assert {"Bool": {"aws:SecureTransport": "false"}} == statement["Condition"]
            assert "*" == statement["Principal"]
        else:
            allowed[statement["Principal"]["Service"]] = statement["Condition"]
    from_here = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    assert {"cloudwatch.amazonaws.com": from_here, "budgets.amazonaws.com": from_here} == allowed


def test_the_topic_is_encrypted_with_a_key_that_those_who_tell_may_use() -> None:
    template = whole()
    [topic] = template.of_type("AWS::SNS::Topic").values()
    [key] = template.of_type("AWS::KMS::Key").values()
    by_sid = {each["Sid"]: each for each in key["KeyPolicy"]["Statement"]}

    assert "<Key>" == topic["KmsMasterKeyId"]
    assert key["EnableKeyRotation"] is True
    # alias/aws/sns lets no alarm publish; and a service that sends no account must not be silenced.
    services = by_sid["AlarmsAndBudgetsTell"]
    assert ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"] == services["Principal"]["Service"]
    assert ["kms:GenerateDataKey*", "kms:Decrypt"] == services["Action"]
    assert "Condition" not in services
    anyone = by_sid["WhoeverMayPublishTells"]["Condition"]["StringEquals"]
    assert {
        "kms:CallerAccount": ACCOUNT, "kms:ViaService": "sns.eu-central-1.amazonaws.com",
    } == anyone  # fmt: skip


def test_who_is_told_is_a_matter_of_parameters() -> None:
    uuid = "12345678-1234-1234-1234-123456789012"
    quiet, loud = whole(), whole(
        Email="oncall@example.org", HttpsEndpoint="https://events.pagerduty.com/integration/k/enqueue",
        SlackWorkspaceId="T012", SlackChannelId="C012", TeamsTenantId=uuid, TeamsTeamId=uuid,
        TeamsChannelId="19%3Aabc%40thread.tacv2",
    )  # fmt: skip
    chat = ("AWS::Chatbot::SlackChannelConfiguration",
            "AWS::Chatbot::MicrosoftTeamsChannelConfiguration")  # fmt: skip

    assert {} == quiet.of_type("AWS::SNS::Subscription")
    assert {} == quiet.of_type("AWS::IAM::Role")
    assert {
        ("email", "oncall@example.org"), ("https", "https://events.pagerduty.com/integration/k/enqueue"),
    } == {
        (each["Protocol"], each["Endpoint"])
        for each in loud.of_type("AWS::SNS::Subscription").values()
    }  # fmt: skip
    for kind in chat:
        [channel] = loud.of_type(kind).values()
        assert ["<Topic>"] == channel["SnsTopicArns"]
        # Its default would be AdministratorAccess.
        assert ["arn:aws:iam::aws:policy/CloudWatchReadOnlyAccess"] == channel["GuardrailPolicies"]
    assert read_template("monitoring")["Parameters"]["HttpsEndpoint"]["NoEcho"] is True


def test_a_budget_follows_the_buckets_tag_once_it_has_an_amount() -> None:
    assert {} == whole().of_type("AWS::Budgets::Budget")
    [budget] = whole(MonthlyBudget="25").of_type("AWS::Budgets::Budget").values()

    assert {"Amount": "25", "Unit": "USD"} == budget["Budget"]["BudgetLimit"]
    [tag] = resolve("storage", Bucket=BUCKET).properties("Store")["Tags"]
    [followed] = budget["Budget"]["CostFilters"]["TagKeyValue"]
    assert f"user:{tag['Key']}${tag['Value']}" == followed
    for each in budget["NotificationsWithSubscribers"]:
        assert [{"SubscriptionType": "SNS", "Address": "<Topic>"}] == each["Subscribers"]


@pytest.mark.parametrize("bucket", ["", BUCKET])
def test_the_dashboard_is_json_and_shows_only_metrics_that_are_sent(bucket: str) -> None:
    template = resolve("monitoring", Database="shop", Bucket=bucket)
    body = json.loads(template.properties("Dashboard")["DashboardBody"])
    shown = set()
    for widget in body["widgets"]:
        last: list[str] = []
        for row in widget["properties"].get("metrics", []):
            words = [word for word in row if isinstance(word, str)]
            # "." is the word above it, "..." all words above but those that follow.
            if words[0] == "...":
                words = last[: len(last) - len(words) + 1] + words[1:]
            words = [above if word == "." else word for word, above in
                     zip(words, last or words, strict=True)]  # fmt: skip
            last = words
            shown.add(tuple(words))

    own = {words for words in shown if words[0] == "PgBackup"}
    for _, name, dimension, _ in own:
        assert dimension in KNOWN[name].dimensions
    expected = {name for name, kind in KNOWN.items() if "Database" in kind.dimensions}
    assert expected | ({"AuditFindings"} if bucket else set()) == {words[1] for words in own}
    assert bool(bucket) == bool(shown - own)
    [states] = [each for each in body["widgets"] if each["type"] == "alarm"]
    assert {
        f"arn:aws:cloudwatch:eu-central-1:{ACCOUNT}:alarm:{each['AlarmName']}"
        for each in alarms(template).values()
    } == set(states["properties"]["alarms"])


@pytest.mark.parametrize("name", ['it"s', "back\\slash", "größe", ""])
def test_a_name_that_would_break_the_dashboard_is_refused(name: str) -> None:
    with pytest.raises(TemplateError, match="Database"):
        resolve("monitoring", Database=name)
