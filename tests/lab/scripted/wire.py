"""Requests and answers of one AWS service, in its own wire format.

Everything is driven by the service model that botocore ships: a request with a member that the
model does not know, and an answer that does not fit it, is a `WireFault`. The formats:
https://smithy.io/2.0/aws/protocols/index.html
"""

from __future__ import annotations

import datetime
import functools
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

import botocore.session

from tests.lab.httpd import Request, Response
from tests.lab.scripted import form
from tests.lab.scripted.scalars import WireFault, from_text, to_text

TYPES: Mapping[str, Any] = {
    "string": str,
    "character": str,
    "boolean": bool,
    "integer": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
    "timestamp": datetime.datetime,
    "blob": bytes,
    "list": (list, tuple),
    "map": Mapping,
    "structure": Mapping,
}


@functools.cache
def service_model(service: str) -> Any:
    return botocore.session.Session().get_service_model(service)


class Wire:
    """One service's protocol: `query`, `ec2`, `json` or `rest-json`."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.model = service_model(service)
        self.protocol: str = self.model.metadata["protocol"]
        if self.protocol not in ("query", "ec2", "json", "rest-json"):
            raise WireFault(f"{service} speaks {self.protocol}, which is not scripted")

    def parse(self, request: Request) -> tuple[str, dict[str, Any]]:
        """The operation's name, and its input in the words of the input shape."""
        if self.protocol in ("query", "ec2"):
            return self._parse_form(request)
        if self.protocol == "json":
            return self._parse_target(request)
        return self._parse_route(request)

    def _parse_form(self, request: Request) -> tuple[str, dict[str, Any]]:
        pairs = {**_single(request.query), **_single(_form_of(request.body))}
        operation = pairs.pop("Action", "")
        version = pairs.pop("Version", "")
        if version != self.model.metadata["apiVersion"]:
            raise WireFault(f"{self.service}: no API version {version!r}")
        shape = self._operation(operation).input_shape
        tree = form.tree_of(pairs)
        given = form.read(tree, shape, self.protocol == "ec2") if shape else {}
        if not shape and tree:
            raise WireFault(f"{operation} takes no input, not {sorted(tree)}")
        return operation, checked(given, shape, operation)

    def _parse_target(self, request: Request) -> tuple[str, dict[str, Any]]:
        prefix, _, operation = request.headers.get("x-amz-target", "").rpartition(".")
        if prefix != self.model.metadata["targetPrefix"]:
            raise WireFault(f"{self.service}: no target {prefix}.{operation}")
        shape = self._operation(operation).input_shape
        raw = json.loads(request.body or b"{}")
        return operation, checked(from_json(raw, shape) if shape else raw, shape, operation)

    def _parse_route(self, request: Request) -> tuple[str, dict[str, Any]]:
        for operation in self.model.operation_names:
            http = self.model.operation_model(operation).http
            found = re.fullmatch(_route(http["requestUri"]), request.path)
            if request.method == http["method"] and found:
                labels = {name: unquote(text) for name, text in found.groupdict().items()}
                shape = self._operation(operation).input_shape
                return operation, checked(_rest_input(request, labels, shape), shape, operation)
        raise WireFault(f"{self.service}: no operation at {request.method} {request.path}")

    def answer(self, operation: str, output: Mapping[str, Any]) -> Response:
        shape = self._operation(operation).output_shape
        checked(output, shape, f"the answer to {operation}")
        request_id = str(uuid.uuid4())
        if self.protocol in ("query", "ec2"):
            namespace = self.model.metadata["xmlNamespace"]
            body = form.document(operation, output, shape, namespace, request_id, self.protocol)
            return Response(200, body, {"Content-Type": "text/xml"})
        headers = {"x-amzn-RequestId": request_id, "Content-Type": self._content_type()}
        members = shape.members if shape else {}
        beside = {name for name, member in members.items() if "location" in member.serialization}
        for name in beside & output.keys():
            headers[members[name].serialization["name"]] = str(output[name])
        inside = {name: value for name, value in output.items() if name not in beside}
        body = json.dumps(to_json(inside, shape) if shape else {}).encode()
        return Response(200, body, headers)

    def refusal(self, code: str, message: str, status: int | None = None) -> Response:
        """An error by its code on the wire; its HTTP status is the model's unless given."""
        status = status or self._status(code)
        request_id = str(uuid.uuid4())
        if self.protocol in ("query", "ec2"):
            body = form.refusal(code, message, status, request_id, self.protocol)
            return Response(status, body, {"Content-Type": "text/xml"})
        headers = {
            "x-amzn-RequestId": request_id,
            "x-amzn-ErrorType": code,
            "Content-Type": self._content_type(),
        }
        return Response(status, json.dumps({"__type": code, "message": message}).encode(), headers)

    def _status(self, code: str) -> int:
        for shape in self.model.error_shapes:
            error = shape.metadata.get("error") or {}
            if code in (error.get("code"), shape.name):
                return int(error.get("httpStatusCode", 400))
        raise WireFault(
            f"{self.service} has no error {code}: give its status if it is a common one"
        )

    def _content_type(self) -> str:
        if self.protocol == "json":
            return f"application/x-amz-json-{self.model.metadata['jsonVersion']}"
        return "application/json"

    def _operation(self, name: str) -> Any:
        if name not in self.model.operation_names:
            raise WireFault(f"{self.service} has no operation {name!r}")
        return self.model.operation_model(name)


def checked(value: Any, shape: Any, where: str) -> Any:
    """The value, if it fits the shape: types, enumerations, known and required members."""
    if shape is None:
        if value:
            raise WireFault(f"{where} holds nothing, not {value!r}")
        return value
    kind = shape.type_name
    if not isinstance(value, TYPES[kind]) or (kind != "boolean" and isinstance(value, bool)):
        raise WireFault(f"{where} is a {kind}, not {value!r}")
    if kind == "structure":
        unknown = sorted(value.keys() - shape.members.keys())
        absent = sorted(set(shape.required_members) - value.keys())
        if unknown or absent:
            raise WireFault(f"{where} ({shape.name}): unknown {unknown}, absent {absent}")
        for name, part in value.items():
            checked(part, shape.members[name], f"{where}.{name}")
    elif kind == "list":
        for number, part in enumerate(value):
            checked(part, shape.member, f"{where}[{number}]")
    elif kind == "map":
        for key, part in value.items():
            checked(key, shape.key, f"{where} key")
            checked(part, shape.value, f"{where}[{key}]")
    elif kind == "string" and getattr(shape, "enum", []) and value not in shape.enum:
        raise WireFault(f"{where} is one of {shape.enum}, not {value!r}")
    elif kind == "timestamp" and value.tzinfo is None:
        raise WireFault(f"{where} has no time zone: {value!r}")
    return value


def from_json(raw: Any, shape: Any) -> Any:
    kind = shape.type_name
    if kind == "structure" and isinstance(raw, dict):
        names = {m.serialization.get("name", name): name for name, m in shape.members.items()}
        return {
            names.get(key, key): from_json(part, shape.members[names[key]])
            if key in names
            else part
            for key, part in raw.items()
        }
    if kind == "list" and isinstance(raw, list):
        return [from_json(part, shape.member) for part in raw]
    if kind == "map" and isinstance(raw, dict):
        return {key: from_json(part, shape.value) for key, part in raw.items()}
    return from_text(raw, shape) if kind in ("timestamp", "blob") else raw


def to_json(value: Any, shape: Any) -> Any:
    kind = shape.type_name
    if kind == "structure":
        return {
            shape.members[name].serialization.get("name", name): to_json(part, shape.members[name])
            for name, part in value.items()
        }
    if kind == "list":
        return [to_json(part, shape.member) for part in value]
    if kind == "map":
        return {key: to_json(part, shape.value) for key, part in value.items()}
    if kind == "timestamp" and shape.serialization.get("timestampFormat") in (
        None,
        "unixTimestamp",
    ):
        return value.timestamp()
    return to_text(value, shape) if kind in ("timestamp", "blob") else value


def _rest_input(request: Request, labels: Mapping[str, str], shape: Any) -> dict[str, Any]:
    given: dict[str, Any] = {}
    query = dict(request.query)
    body = json.loads(request.body or b"{}")
    for name, member in (shape.members if shape else {}).items():
        place = member.serialization.get("location")
        key = member.serialization.get("name", name)
        if place == "uri":
            given[name] = from_text(labels[key], member)
        elif place == "querystring" and key in query:
            texts = query.pop(key)
            many = member.type_name == "list"
            given[name] = (
                [from_text(text, member.member) for text in texts]
                if many
                else from_text(texts[0], member)
            )
        elif place == "header" and key.lower() in request.headers:
            given[name] = from_text(request.headers[key.lower()], member)
    if query:
        raise WireFault(f"{request.path}: unknown in its query: {sorted(query)}")
    return {**given, **(from_json(body, shape) if shape else body)}


@functools.cache
def _route(template: str) -> str:
    """A pattern for `/backup-jobs/{backupJobId}`."""
    parts = re.split(r"{(\w+)}", template)
    return "".join(
        f"(?P<{part}>[^/]+)" if number % 2 else re.escape(part) for number, part in enumerate(parts)
    )


def _form_of(body: bytes) -> Mapping[str, list[str]]:
    return parse_qs(body.decode(), keep_blank_values=True, strict_parsing=bool(body))


def _single(pairs: Mapping[str, list[str]]) -> dict[str, str]:
    for name, values in pairs.items():
        if len(values) != 1:
            raise WireFault(f"{name} is given {len(values)} times")
    return {name: values[0] for name, values in pairs.items()}
