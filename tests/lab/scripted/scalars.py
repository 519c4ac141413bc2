"""Single values as they stand on the wire: in a form, a path, a header, XML."""

from __future__ import annotations

import base64
import datetime
import email.utils
from typing import Any

from botocore.utils import parse_timestamp


class WireFault(Exception):
    """A request or an answer that the service's model does not allow."""


def from_text(text: Any, shape: Any) -> Any:
    """A scalar as it stands in a form, a header, a path, or (times, bytes) in JSON."""
    try:
        if shape.type_name == "timestamp":
            return parse_timestamp(text)
        if shape.type_name == "blob":
            return base64.b64decode(text, validate=True)
        if shape.type_name in ("integer", "long"):
            return int(text)
        if shape.type_name in ("float", "double"):
            return float(text)
        if shape.type_name == "boolean":
            return {"true": True, "false": False}[text]
    except (ValueError, KeyError) as error:
        raise WireFault(f"{text!r} is no {shape.type_name} ({shape.name})") from error
    return text


def to_text(value: Any, shape: Any) -> str:
    if shape.type_name == "timestamp":
        if shape.serialization.get("timestampFormat") == "rfc822":
            return email.utils.format_datetime(value.astimezone(datetime.UTC), usegmt=True)
        moment = value.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
        return str(moment.replace("+00:00", "Z"))
    if shape.type_name == "blob":
        return base64.b64encode(value).decode()
    if shape.type_name == "boolean":
        return "true" if value else "false"
    return str(value)
