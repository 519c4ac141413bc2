"""What a request asked for, and the refusals that a script or a test raises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.lab.sts import ACCOUNT


@dataclass(frozen=True)
class Call:
    """One request that was understood."""

    service: str  # the name it is signed for: rds, backup, ec2, ...
    operation: str
    region: str
    input: Mapping[str, Any]  # in the words of the operation's input shape

    @property
    def action(self) -> str:
        """As IAM names it, `rds:CopyDBSnapshot`."""
        return f"{self.service}:{self.operation}"

    def arn(self, resource: str) -> str:
        """`snapshot:before-1.2` as an ARN of this service, region and account; an ARN stays."""
        if resource.startswith("arn:"):
            return resource
        return f"arn:aws:{self.service}:{self.region}:{ACCOUNT}:{resource}"


class Refused(Exception):
    """An error of the service, by its code on the wire; the HTTP status is the model's.

    `status` is for the errors that all services share and no model lists (AccessDenied,
    Throttling, ValidationError).
    """

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
