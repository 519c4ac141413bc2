"""What the buckets of both regions have in common: how they are protected, and for how long they
keep what. The templates are read property by property."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from tests.lab.sts import ACCOUNT
from tests.lab.templates import ResolvedTemplate, read_template, resolve

BUCKET = "mine"
ARN = f"arn:aws:s3:::{BUCKET}"
KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/0a1b2c3d"
WRITERS = "arn:aws:iam::111122223333:role/writer,arn:aws:iam::444455556666:role/writer"
READERS = "arn:aws:iam::111122223333:role/reader"
# Of each template: the parameter that names its bucket, and what makes all statements there are.
NAME = {"storage": "Bucket", "replication": "ReplicaBucket"}
SOURCE = f"arn:aws:iam::{ACCOUNT}:role/pg-backup-replication/first"
EVERYTHING: Mapping[str, Mapping[str, str]] = {
    "storage": {
        "WriterRoleArns": WRITERS,
        "ReaderRoleArns": READERS,
        "ReplicaBucket": "copies",
        "ReplicaKmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/4d5e6f",
    },
    "replication": {"ReaderRoleArns": READERS, "SourceRoleArn": SOURCE},
}


def made(template: str, **parameters: str) -> ResolvedTemplate:
    """The template with a bucket called `mine`, whose key is KEY."""
    attributes = {"Key.Arn": KEY, "LogBucket": "mine-logs"}
    return resolve(template, attributes=attributes, **{NAME[template]: BUCKET, **parameters})


def store(template: str, **parameters: str) -> dict[str, Any]:
    """The properties of its bucket."""
    return made(template, **parameters).properties("Store")


def statements(resolved: ResolvedTemplate, of: str = "StorePolicy") -> dict[str, dict[str, Any]]:
    """A bucket policy's statements by Sid."""
    return by_sid(resolved.properties(of)["PolicyDocument"])


def by_sid(policy: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = {each["Sid"]: each for each in policy["Statement"]}
    assert len(found) == len(policy["Statement"])
    return found


def policies(resolved: ResolvedTemplate) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every policy of the stack with the type of what it belongs to."""
    for name, resource in resolved.resources.items():
        properties = resolved.properties(name)
        match resource["Type"]:
            case "AWS::S3::BucketPolicy":
                yield resource["Type"], properties["PolicyDocument"]
            case "AWS::KMS::Key":
                yield resource["Type"], properties["KeyPolicy"]
            case "AWS::IAM::Role":
                for each in properties["Policies"]:
                    yield resource["Type"], each["PolicyDocument"]


def combinations(template: str) -> Iterator[dict[str, str]]:
    """Parameters in every combination that makes a difference."""
    choices: dict[str, tuple[str, ...]] = {
        "Encryption": ("kms", "s3"),
        "KmsKeyArn": ("", KEY),
        "ArchiveClass": ("GLACIER_IR", "GLACIER", "NONE"),
        "ObjectLockMode": ("NONE", "COMPLIANCE"),
        "AccessLog": ("new", "none", "logs-of-ours"),
        "Prefix": ("", "a/b"),
    }
    choices |= {name: ("", value) for name, value in EVERYTHING[template].items()}
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def lifecycle(template: str, **parameters: str) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = store(template, **parameters)["LifecycleConfiguration"]["Rules"]
    return rules


def expires_after(rules: list[dict[str, Any]], tier: str | None) -> int:
    """Days until S3 expires an object with that tag: the shortest of what meets it.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-conflicts.html
    """
    tags = [{"Key": "retention-tier", "Value": tier}] if tier else []
    return min(
        int(rule["ExpirationInDays"])
        for rule in rules
        if "ExpirationInDays" in rule
        and rule["Status"] == "Enabled"
        and all(tag in tags for tag in rule.get("TagFilters", []))
    )


def parameters_of(template: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read_template(template)["Parameters"]
    return found
