"""The real SDK inside ministack: a stack's resources are made by requests to its own services.

A request does not go over the network: the service's handler answers it in this thread, in the
account and the region of the request for the stack.
"""

from __future__ import annotations

import functools
import importlib
import io
import json
from collections.abc import Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.session
from botocore import xform_name
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

# ministack has no type information.
app: Any = importlib.import_module("ministack.app")
responses: Any = importlib.import_module("ministack.core.responses")
ecs: Any = importlib.import_module("ministack.services.ecs")


class _Raw(io.BytesIO):
    """A body as botocore reads it from urllib3."""

    def stream(self) -> Any:
        yield self.read()


def sdk(service: str) -> Any:
    """A client of the double's own service, in the region at hand; it may do everything."""
    return _client(service, responses.get_region())


@functools.cache
def _client(service: str, region: str) -> Any:
    client = botocore.session.Session().create_client(
        service,
        region_name=region,
        endpoint_url="http://127.0.0.1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )
    client.meta.events.register(
        "before-send", functools.partial(_answer, client.meta.service_model.signing_name)
    )
    return client


def _answer(service: str, request: AWSPreparedRequest, **_others: Any) -> AWSResponse:
    parts = urlsplit(request.url)
    body = request.body or b""
    handler = _ecs if service == "ecs" else app.SERVICE_HANDLERS[service]
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else value
        for name, value in request.headers.items()
    }
    status, answered, text = _driven(
        handler(
            request.method,
            parts.path,
            headers,
            body.encode() if isinstance(body, str) else body,
            parse_qs(parts.query, keep_blank_values=True),
        )
    )
    content = text.encode() if isinstance(text, str) else text
    return AWSResponse(request.url, status, answered, _Raw(content))


async def _ecs(
    _method: str, _path: str, headers: Mapping[str, str], body: bytes, _query: Any
) -> Any:
    """As its handler does it, but for the thread that keeps its containers off the loop."""
    action = headers["x-amz-target"].rpartition(".")[2]
    return ecs._finalize_ecs_response(ecs._dispatch_action(action, json.loads(body)))


def _driven(handler: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that never waits; the handlers used here compute and answer."""
    try:
        handler.send(None)
    except StopIteration as done:
        return done.value
    handler.close()
    raise RuntimeError("this service of the double waits, and cannot be called from a stack")


def call(service: str, operation: str, **parameters: Any) -> dict[str, Any]:
    """Call `operation` ("PutBucketEncryption"); numbers and truths may be text, as in a template.

    Raises botocore's ClientError, and ParamValidationError for what the API does not know.
    """
    client = sdk(service)
    shape = client.meta.service_model.operation_model(operation).input_shape
    answer: dict[str, Any] = getattr(client, xform_name(operation))(**as_shape(shape, parameters))
    return answer


def as_shape(shape: Any, value: Any) -> Any:
    """`value` with the types and the spelling (`awsvpcConfiguration`) of an API's shape.

    What the shape does not know stays as it is, for the SDK to refuse.
    """
    if shape is None or value is None:
        return value
    match shape.type_name:
        case "structure" if isinstance(value, Mapping):
            spelled = {_spelling(shape, name): each for name, each in value.items()}
            return {name: as_shape(shape.members.get(name), each) for name, each in spelled.items()}
        case "map" if isinstance(value, Mapping):
            return {name: as_shape(shape.value, each) for name, each in value.items()}
        case "list" if isinstance(value, list):
            return [as_shape(shape.member, each) for each in value]
        case "boolean":
            return str(value).lower() == "true"
        case "integer" | "long":
            return int(value)
        case "float" | "double":
            return float(value)
        case "string" if isinstance(value, int | float):
            return str(value)
    return value


def _spelling(shape: Any, name: str) -> str:
    other = name[:1].swapcase() + name[1:]
    return other if name not in shape.members and other in shape.members else name
