"""AWS::S3::Bucket in ministack's stacks, whole: its own leaves out all but versions and blocks.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-s3-bucket.html
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from tests.lab.ministack_cloudformation import provide
from tests.lab.ministack_sdk import call

# ministack has no type information.
provisioners: Any = importlib.import_module("ministack.services.cloudformation.provisioners")
s3: Any = importlib.import_module("ministack.services.s3")

Properties = Mapping[str, Any]

# In a template's words, and in the API's.
_RENAMED = {"Id": "ID", "TagFilter": "Tag", "TagFilters": "Tags"}


def create(logical_id: str, properties: Properties, stack_name: str) -> Any:
    name, attributes = provisioners._s3_create(logical_id, properties, stack_name)
    try:
        _apply(name, properties, {})
    except Exception:
        provisioners._s3_delete(name, properties)
        raise
    return name, attributes


def update(name: str, old: Properties, new: Properties, stack_name: str) -> Any:
    made, attributes = provisioners._s3_update(name, old, new, stack_name)
    _apply(made, new, old if made == name else {})
    return made, attributes


def delete(name: str, properties: Properties) -> None:
    if s3._buckets.get(name, {}).get("objects"):
        raise ValueError("The bucket you tried to delete is not empty.")
    provisioners._s3_delete(name, properties)
    for kept in (s3._bucket_object_lock, s3._bucket_replication, s3._bucket_logging_config):
        kept.pop(name, None)


def put_policy(_logical_id: str, properties: Properties, _stack_name: str) -> Any:
    document = provisioners._policy_document_json(properties)
    call("s3", "PutBucketPolicy", Bucket=properties["Bucket"], Policy=document)
    return f"{properties['Bucket']}-policy", {}


def _apply(bucket: str, new: Properties, old: Properties) -> None:
    for name, apply in _SETTINGS.items():
        if name in new and new[name] != old.get(name):
            apply(bucket, new[name])
        elif name in old and name not in new:
            if name not in _REMOVALS:
                raise ValueError(f"AWS::S3::Bucket {name} cannot be taken away in the double")
            call("s3", _REMOVALS[name], Bucket=bucket)
    gone = {each["Id"] for each in old.get("MetricsConfigurations", ())}
    for each in new.get("MetricsConfigurations", ()):
        gone.discard(each["Id"])
        _put_metrics(bucket, each)
    for metrics_id in gone:
        call("s3", "DeleteBucketMetricsConfiguration", Bucket=bucket, Id=metrics_id)


def _put_encryption(bucket: str, wanted: Properties) -> None:
    names = {"ServerSideEncryptionByDefault": "ApplyServerSideEncryptionByDefault"}
    rules = [
        {names.get(name, name): each for name, each in rule.items()}
        for rule in wanted["ServerSideEncryptionConfiguration"]
    ]
    configuration = {"Rules": rules}
    call(
        "s3",
        "PutBucketEncryption",
        Bucket=bucket,
        ServerSideEncryptionConfiguration=configuration,
    )


def _put_versioning(bucket: str, wanted: Properties) -> None:
    call("s3", "PutBucketVersioning", Bucket=bucket, VersioningConfiguration=wanted)


def _put_lifecycle(bucket: str, wanted: Properties) -> None:
    rules = [_lifecycle_rule(rule) for rule in wanted["Rules"]]
    call(
        "s3",
        "PutBucketLifecycleConfiguration",
        Bucket=bucket,
        LifecycleConfiguration={"Rules": rules},
        **{name: each for name, each in wanted.items() if name != "Rules"},
    )


def _lifecycle_rule(rule: Properties) -> dict[str, Any]:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-s3-bucket-rule.html"""
    rest = dict(rule)
    filters: dict[str, Any] = {
        name: rest.pop(name)
        for name in ("Prefix", "ObjectSizeGreaterThan", "ObjectSizeLessThan")
        if name in rest
    }
    tags = rest.pop("TagFilters", [])
    if len(filters) + len(tags) > 1:
        filters = {"And": {**filters, **({"Tags": tags} if tags else {})}}
    elif tags:
        filters = {"Tag": tags[0]}
    made: dict[str, Any] = {"Filter": filters or {"Prefix": ""}}
    expiration = {
        api: rest.pop(name)
        for name, api in (
            ("ExpirationInDays", "Days"),
            ("ExpirationDate", "Date"),
            ("ExpiredObjectDeleteMarker", "ExpiredObjectDeleteMarker"),
        )
        if name in rest
    }
    if expiration:
        made["Expiration"] = expiration
    if "Transitions" in rest:
        names = {"TransitionInDays": "Days", "TransitionDate": "Date"}
        made["Transitions"] = [
            {names.get(name, name): each for name, each in transition.items()}
            for transition in rest.pop("Transitions")
        ]
    if "NoncurrentVersionTransitions" in rest:
        made["NoncurrentVersionTransitions"] = [
            {"NoncurrentDays" if n == "TransitionInDays" else n: each for n, each in one.items()}
            for one in rest.pop("NoncurrentVersionTransitions")
        ]
    # What is left has the API's own names; the SDK refuses what has not.
    return made | {_RENAMED.get(name, name): each for name, each in rest.items()}


def _put_ownership(bucket: str, wanted: Properties) -> None:
    call("s3", "PutBucketOwnershipControls", Bucket=bucket, OwnershipControls=wanted)


def _put_lock(bucket: str, wanted: Properties) -> None:
    call("s3", "PutObjectLockConfiguration", Bucket=bucket, ObjectLockConfiguration=wanted)


def _enable_lock(bucket: str, wanted: Any) -> None:
    if str(wanted).lower() == "true" and not s3._bucket_object_lock.get(bucket):
        _put_lock(bucket, {"ObjectLockEnabled": "Enabled"})


def _put_tags(bucket: str, wanted: Any) -> None:
    call("s3", "PutBucketTagging", Bucket=bucket, Tagging={"TagSet": wanted})


def _put_logging(bucket: str, wanted: Properties) -> None:
    # A template may leave the target's bucket or prefix out, the API demands both.
    target = {
        "TargetBucket": wanted.get("DestinationBucketName", bucket),
        "TargetPrefix": wanted.get("LogFilePrefix", ""),
    }
    if "TargetObjectKeyFormat" in wanted:
        target["TargetObjectKeyFormat"] = wanted["TargetObjectKeyFormat"]
    call("s3", "PutBucketLogging", Bucket=bucket, BucketLoggingStatus={"LoggingEnabled": target})


def _put_replication(bucket: str, wanted: Properties) -> None:
    call(
        "s3", "PutBucketReplication", Bucket=bucket, ReplicationConfiguration=_in_api_words(wanted)
    )


def _put_metrics(bucket: str, wanted: Properties) -> None:
    rest = dict(wanted)
    filters: dict[str, Any] = {
        name: rest.pop(name) for name in ("Prefix", "AccessPointArn") if name in rest
    }
    tags = rest.pop("TagFilters", [])
    if len(filters) + len(tags) > 1:
        filters = {"And": {**filters, **({"Tags": tags} if tags else {})}}
    elif tags:
        filters = {"Tag": tags[0]}
    configuration = {**rest, **({"Filter": filters} if filters else {})}
    call(
        "s3",
        "PutBucketMetricsConfiguration",
        Bucket=bucket,
        Id=wanted["Id"],
        MetricsConfiguration=configuration,
    )


def _in_api_words(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_api_words(each) for each in value]
    if isinstance(value, dict):
        return {_RENAMED.get(name, name): _in_api_words(each) for name, each in value.items()}
    return value


# In the order in which they must be applied: a lock needs versions.
_SETTINGS: dict[str, Callable[[str, Any], None]] = {
    "VersioningConfiguration": _put_versioning,
    "BucketEncryption": _put_encryption,
    "OwnershipControls": _put_ownership,
    "ObjectLockEnabled": _enable_lock,
    "ObjectLockConfiguration": _put_lock,
    "LifecycleConfiguration": _put_lifecycle,
    "ReplicationConfiguration": _put_replication,
    "LoggingConfiguration": _put_logging,
    "Tags": _put_tags,
}
_REMOVALS = {
    "BucketEncryption": "DeleteBucketEncryption",
    "LifecycleConfiguration": "DeleteBucketLifecycle",
    "OwnershipControls": "DeleteBucketOwnershipControls",
    "ReplicationConfiguration": "DeleteBucketReplication",
    "Tags": "DeleteBucketTagging",
}


def register() -> None:
    provide(
        "AWS::S3::Bucket",
        "BucketName MetricsConfigurations NotificationConfiguration PublicAccessBlockConfiguration "
        + " ".join(_SETTINGS),
        create=create,
        update=update,
        delete=delete,
    )
    provide(
        "AWS::S3::BucketPolicy",
        "Bucket PolicyDocument",
        create=put_policy,
        delete=provisioners._s3_bucket_policy_delete,
    )
