"""Runs ministack with what its S3 lacks put in: `python -m tests.lab.ministack_server`.

Added, as S3 does it: checksums of type FULL_OBJECT on multipart uploads, tags on multipart
uploads, the expected bucket owner, the smallest part size, metrics configurations, and the
permissions that tags and KMS keys need. CRCs are computed by awscrt (ministack's own take 0.7 s
for 5 MB).

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuAndPermissions.html
"""

from __future__ import annotations

import base64
import contextvars
import importlib
import re
import zlib
from typing import Any
from urllib.parse import parse_qsl, unquote

from awscrt import checksums

from tests.lab import (
    ministack_alarms,
    ministack_buckets,
    ministack_cloudformation,
    ministack_conditions,
    ministack_iam,
    ministack_resources,
    ministack_secrets,
    ministack_templates,
    ministack_vaults,
)

# ministack has no type information.
app: Any = importlib.import_module("ministack.app")
iam_actions: Any = importlib.import_module("ministack.core.iam_actions")
responses: Any = importlib.import_module("ministack.core.responses")
s3: Any = importlib.import_module("ministack.services.s3")

KEY_HEADER = "x-amz-server-side-encryption-aws-kms-key-id"
MINIMUM_PART = 5 * 1024 * 1024
FULL_OBJECT_CRCS = {
    "CRC32": (zlib.crc32, 4),
    "CRC32C": (checksums.crc32c, 4),
    "CRC64NVME": (checksums.crc64nvme, 8),
}

# Each configuration's own XML, by bucket and id.
_metrics: dict[tuple[str, str], bytes] = {}

_full_object: contextvars.ContextVar[str | None] = contextvars.ContextVar("full", default=None)
_pin_request_origin = app.pin_request_origin
_dispatch = s3._dispatch
_create = s3._create_multipart_upload
_complete = s3._complete_multipart_upload
_composite = s3._composite_checksum
_additional_checks = iam_actions.s3_additional_checks
_extract_resource_arn = iam_actions.extract_resource_arn


def pin_request_origin(address: str, _is_https: bool) -> None:
    """The lab's http on loopback stands for AWS's https: a policy may refuse plain http."""
    _pin_request_origin(address, True)


def dispatch(
    method: str, bucket: str, key: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
) -> Any:
    owner = headers.get("x-amz-expected-bucket-owner")
    if owner and owner != responses.get_account_id():
        return s3._error("AccessDenied", "Access Denied", 403, f"/{bucket}")
    if "metrics" in query and not key:
        return metrics_configurations(method, bucket, body, query)
    return _dispatch(method, bucket, key, headers, body, query)


def metrics_configurations(method: str, bucket: str, body: bytes, query: dict[str, Any]) -> Any:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBucketMetricsConfigurations.html"""
    if method == "PUT":
        _metrics[bucket, s3._qp(query, "id")] = body
        return 200, {}, b""
    if method == "DELETE":
        _metrics.pop((bucket, s3._qp(query, "id")), None)
        return 204, {}, b""
    found = b"".join(each for (name, _), each in sorted(_metrics.items()) if name == bucket)
    text = b"<ListMetricsConfigurationsResult><IsTruncated>false</IsTruncated>%s</%s>"
    return (
        200,
        {"Content-Type": "application/xml"},
        text % (found, b"ListMetricsConfigurationsResult"),
    )


def create_multipart_upload(bucket: str, key: str, headers: dict[str, str]) -> Any:
    algorithm = headers.get("x-amz-checksum-algorithm", "").upper()
    # S3's default for CRC64NVME is FULL_OBJECT, and there is no composite of it.
    usual = "FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"
    kind = headers.get("x-amz-checksum-type", usual).upper()
    if kind == "FULL_OBJECT" and algorithm not in FULL_OBJECT_CRCS:
        message = f"The FULL_OBJECT checksum type cannot be used with the {algorithm} algorithm."
        return s3._error("InvalidRequest", message, 400)
    status, answer, body = _create(bucket, key, headers)
    if status == 200:
        upload_id = re.search(rb"<UploadId>([^<]+)", body)
        assert upload_id is not None
        upload = s3._multipart_uploads[upload_id[1].decode()]
        upload["full_object"] = kind == "FULL_OBJECT"
        upload["tags"] = dict(parse_qsl(headers.get("x-amz-tagging", ""), keep_blank_values=True))
        if upload["full_object"]:
            answer["x-amz-checksum-type"] = "FULL_OBJECT"
    return status, answer, body


def complete_multipart_upload(
    bucket: str, key: str, body: bytes, query: dict[str, Any], headers: dict[str, str]
) -> Any:
    upload = s3._multipart_uploads.get(s3._qp(query, "uploadId"))
    if upload is None:
        return _complete(bucket, key, body, query, headers)
    numbers = [int(number) for number in re.findall(rb"<PartNumber>(\d+)", body)]
    if not numbers or numbers != sorted(set(numbers)):
        code = "InvalidPartOrder" if numbers else "MalformedXML"
        return s3._error(code, "The list of parts was empty or not in ascending order.", 400)
    parts = [upload["parts"].get(number, {"body": b"", "size": 0}) for number in numbers]
    if any(part["size"] < MINIMUM_PART for part in parts[:-1]):
        message = "Your proposed upload is smaller than the minimum allowed size"
        return s3._error("EntityTooSmall", message, 400)
    full = None
    if upload["full_object"]:
        function, width = FULL_OBJECT_CRCS[upload["checksum_algorithm"]]
        value = 0
        for part in parts:
            value = function(part["body"], value)
        full = base64.b64encode(value.to_bytes(width, "big")).decode()
    token = _full_object.set(full)
    try:
        status, answer, text = _complete(bucket, key, body, query, headers)
    finally:
        _full_object.reset(token)
    if status == 200:
        record = s3._ensure_bucket(bucket)["objects"][key]
        if upload["tags"]:
            s3._object_tags[(bucket, key, record.get("version_id"))] = upload["tags"]
        if full:
            record["checksum_type"] = "FULL_OBJECT"
            text = text.replace(b">COMPOSITE<", b">FULL_OBJECT<")
    # ministack keeps its own for a repeated request, and must not find our length in it.
    return status, dict(answer), text


def composite_checksum(algorithm: str, parts: list[str]) -> Any:
    return _full_object.get() or _composite(algorithm, parts)


def additional_checks(
    method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
) -> list[tuple[str, str]]:
    checks: list[tuple[str, str]] = _additional_checks(method, path, headers, body, query)
    if headers.get("x-amz-tagging"):
        checks.append(("s3:PutObjectTagging", f"arn:aws:s3:::{path.lstrip('/')}"))
    key = headers.get(KEY_HEADER, "")
    if key.startswith("arn:"):
        checks.append(("kms:GenerateDataKey", key))
        if "uploads" in query:
            checks.append(("kms:Decrypt", key))
    # S3 asks for the key of what is read, and for that of a checksum in the answer to HEAD.
    bucket, _, name = unquote(path).lstrip("/").partition("/")
    if name and method in ("GET", "HEAD") and (kept := s3._ensure_bucket(bucket)):
        key = kept["objects"].get(name, {}).get("preserved_headers", {}).get(KEY_HEADER, "")
        checks += [("kms:Decrypt", key)] * key.startswith("arn:")
    return checks


def extract_resource_arn(*request: Any) -> str:
    """A simulation is allowed on the role that it is about, not on all.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsidentityandaccessmanagementiam.html
    """
    service, query = request[0], request[5]
    about = iam_actions._query_param(query, "PolicySourceArn") if service == "iam" else ""
    return str(about or _extract_resource_arn(*request))


def main() -> None:
    s3._crc64nvme = checksums.crc64nvme
    s3._crc32c = checksums.crc32c
    s3._dispatch = dispatch
    s3._create_multipart_upload = create_multipart_upload
    s3._complete_multipart_upload = complete_multipart_upload
    s3._composite_checksum = composite_checksum
    iam_actions.s3_additional_checks = additional_checks
    iam_actions.extract_resource_arn = extract_resource_arn
    app.pin_request_origin = pin_request_origin
    ministack_conditions.install()
    ministack_templates.install()
    ministack_iam.install()
    ministack_buckets.register()
    ministack_resources.register()
    ministack_secrets.register()
    ministack_alarms.register()
    ministack_vaults.register()
    ministack_cloudformation.install()
    app.main()


if __name__ == "__main__":
    main()
