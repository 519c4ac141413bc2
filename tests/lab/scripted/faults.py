"""Faults on demand: an action denied, throttled or failed, at once or from some call on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.needs import Need
from tests.lab.sts import ACCOUNT

# Who calls, as AWS names a role session.
CALLER = f"arn:aws:sts::{ACCOUNT}:assumed-role/pg-backup/session"


@dataclass
class Fault:
    action: str
    refused: Refused | None  # None: denied, in the words for this very call
    after: int  # calls that still pass
    times: int | None  # calls that it still strikes; None: all


class Faults:
    def __init__(self) -> None:
        self._planned: list[Fault] = []
        self.losing: list[str] = []  # actions whose next answer is lost

    def deny(self, action: str, *, after: int) -> None:
        self._planned.append(Fault(action, None, after, None))

    def throttle(self, action: str, *, times: int, after: int) -> None:
        # RDS and EC2 differ in the code; botocore's retries know both.
        # https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/CommonErrors.html
        code = "RequestLimitExceeded" if action.startswith("ec2:") else "Throttling"
        status = 503 if action.startswith("ec2:") else 400
        if action.startswith("backup:"):
            code, status = "ThrottlingException", 429
        self.fail(action, Refused(code, "Rate exceeded", status), times=times, after=after)

    def fail(self, action: str, refused: Refused, *, times: int | None, after: int) -> None:
        self._planned.append(Fault(action, refused, after, times))

    def clear(self) -> None:
        self._planned.clear()

    def strike(self, call: Call, needs: Sequence[Need]) -> None:
        """Raises `Refused` where a fault is due for something that this call needs."""
        for fault in self._planned:
            need = next((need for need in needs if need.action == fault.action), None)
            if need is None or fault.times == 0:
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            if fault.times is not None:
                fault.times -= 1
            raise fault.refused or denied(call, need.action, need.resource)

    def lose(self, call: Call) -> None:
        """Raises `Refused` in place of an answer that is to be lost."""
        if call.action in self.losing:
            self.losing.remove(call.action)
            raise Refused("InternalFailure", "The request processing has failed.", 500)


def denied(call: Call, action: str, resource: str) -> Refused:
    """In AWS's own words.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
    """
    reason = f"because no identity-based policy allows the {action} action"
    if call.service == "ec2":
        # EC2 says no more than this, and puts the rest into an encoded message.
        code, about = "UnauthorizedOperation", "You are not authorized to perform this operation. "
    else:
        code, about = ("AccessDenied" if call.service == "rds" else "AccessDeniedException"), ""
    text = f"{about}User: {CALLER} is not authorized to perform: {action} on resource: {resource} "
    return Refused(code, text + reason, 403)
