"""What the bucket writes down of itself: who reads and writes its objects, and how often."""

from __future__ import annotations

from typing import Any

from backup.aws.bucket_posture import BucketPosture
from backup.aws.permissions import partition
from backup.aws.session import AwsSession
from backup.aws.trails import trails_of_objects
from backup.checks import Check, Unanswered, ask, passed, warned
from backup.operations.auditing.shell import aws, document, s3api
from backup.settings import BucketSettings

_LOG = ("bucket.access-log", "Who reads and writes backups is recorded")
_METRICS = ("bucket.metrics", "Requests for backups are counted in CloudWatch")
_METRICS_ID = "pg-backups"
_LONGEST_NAME = 63


def checks(session: AwsSession, settings: BucketSettings, posture: BucketPosture) -> list[Check]:
    return [_log(session, settings, posture), _metrics(session, settings, posture)]


def _log(session: AwsSession, settings: BucketSettings, posture: BucketPosture) -> Check:
    """One of the two records is enough, so one that may not be looked at may be enough."""
    target = ask(posture.log_bucket)
    if not isinstance(target, Unanswered) and target.value:
        return passed(*_LOG, f"server access log in {target.value}")
    objects = f"{posture.arn}/{_below(settings)}"
    trails = ask(lambda: trails_of_objects(session, objects))
    if not isinstance(trails, Unanswered) and trails.value:
        return passed(*_LOG, f"data events in CloudTrail's {', '.join(trails.value)}")
    for answer in (target, trails):
        if isinstance(answer, Unanswered):
            return answer.check(*_LOG)
    reason = "there is neither a server access log nor a trail with data events of all objects"
    return warned(*_LOG, reason, _logging(session, settings, posture.arn))


def _logging(session: AwsSession, settings: BucketSettings, arn: str) -> str:
    """A bucket for the log, S3's permission to write there, and the log itself.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-server-access-logging.html
    """
    name = f"{settings.name[: _LONGEST_NAME - len('-logs')]}-logs"
    write = {
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"arn:{partition(session.region)}:s3:::{name}/*",
        "Condition": {"ArnLike": {"aws:SourceArn": arn}},
    }
    policy = {"Version": "2012-10-17", "Statement": [write]}
    target = {"LoggingEnabled": {"TargetBucket": name, "TargetPrefix": f"{settings.name}/"}}
    return "\n".join(
        (
            creating(name, session.region),
            aws(
                "s3api", "put-bucket-policy", "--region", session.region,
                "--bucket", name, "--policy", document(policy),
            ),
            s3api(
                settings, session.region, "put-bucket-logging",
                "--bucket-logging-status", document(target),
            ),
        )
    )  # fmt: skip


def creating(name: str, region: str, *options: str) -> str:
    """The command that makes a bucket in a region."""
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucketConfiguration.html
    place = ("--create-bucket-configuration", f"LocationConstraint={region}")
    return aws(
        "s3api", "create-bucket", "--region", region, "--bucket", name,
        *(() if region == "us-east-1" else place), *options,
    )  # fmt: skip


def _metrics(session: AwsSession, settings: BucketSettings, posture: BucketPosture) -> Check:
    answer = ask(posture.metrics)
    if isinstance(answer, Unanswered):
        return answer.check(*_METRICS)
    prefix = _below(settings)
    if any(each.covers(prefix, settings.tags) for each in answer.value):
        return passed(*_METRICS, "a metrics configuration takes in all of them")
    configuration: dict[str, Any] = {"Id": _METRICS_ID}
    if prefix:
        configuration["Filter"] = {"Prefix": prefix}
    fix = s3api(
        settings, session.region, "put-bucket-metrics-configuration",
        "--id", _METRICS_ID, "--metrics-configuration", document(configuration),
    )  # fmt: skip
    reason = (
        f"no metrics configuration takes in all of s3://{settings.name}/{prefix}, so nothing can"
        " warn of unusual reads, deletions or errors"
    )
    return warned(*_METRICS, reason, fix)


def _below(settings: BucketSettings) -> str:
    return f"{settings.prefix}/" if settings.prefix else ""
