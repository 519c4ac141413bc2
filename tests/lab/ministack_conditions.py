"""Condition keys of S3 that ministack leaves out, put in as S3 has them; CloudWatch's namespace.

`aws:SecureTransport` too: the lab's http stands for https, and the header `x-forwarded-proto: http`
for a client that came by plain http.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

# ministack has no type information.
evaluator: Any = importlib.import_module("ministack.core.iam_evaluator")
iam_actions: Any = importlib.import_module("ministack.core.iam_actions")
s3: Any = importlib.import_module("ministack.services.s3")

_KEY_HEADER = "x-amz-server-side-encryption-aws-kms-key-id"
_CUSTOMER_HEADER = "x-amz-server-side-encryption-customer-algorithm"
_TAGGING = {
    f"s3:{verb}Object{version}Tagging"
    for verb in ("Get", "Put", "Delete")
    for version in ("", "Version")
}
_s3_service_context = iam_actions.s3_service_context
_request_tag_context = iam_actions.request_tag_context


def s3_service_context(
    action: str,
    query: Mapping[str, Any] | None,
    path: str = "",
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    query, headers = query or {}, headers or {}
    context: dict[str, Any] = _s3_service_context(action, query, path, headers)
    if headers.get("x-forwarded-proto") == "http":
        source_ip, _ = evaluator._request_origin.get()
        evaluator.pin_request_origin(source_ip, False)
    if action == "s3:PutObject":
        context |= _creation(query, headers)
    if action in _TAGGING:
        bucket, _, key = path.lstrip("/").partition("/")
        tags = s3.object_tags_for_condition(bucket, key, query)
        context |= {f"s3:ExistingObjectTag/{name}": value for name, value in tags.items()}
    return context


def _creation(query: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html"""
    makes_object = not {"uploads", "partNumber"} & query.keys()
    context = {"s3:ObjectCreationOperation": str(makes_object).lower()}
    if header := headers.get("if-none-match"):
        context["s3:if-none-match"] = header
    # A part and the completion say what the upload's own request said.
    upload = s3._multipart_uploads.get(s3._qp(query, "uploadId")) or {}
    told = {**upload.get("preserved_headers", {}), **headers}
    for name in (_KEY_HEADER, _CUSTOMER_HEADER):
        if value := told.get(name):
            context[f"s3:{name}"] = value
    return context


def request_tag_context(
    service: str, action: str, body: bytes, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/iam-cw-condition-keys-namespace.html"""
    context: dict[str, Any] = _request_tag_context(service, action, body, parameters)
    if action == "cloudwatch:PutMetricData":
        context["cloudwatch:namespace"] = iam_actions._param(body, parameters, "Namespace")
    return context


def install() -> None:
    iam_actions.s3_service_context = s3_service_context
    iam_actions.request_tag_context = request_tag_context
