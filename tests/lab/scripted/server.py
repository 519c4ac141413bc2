"""The scripted server: one port for all services, told apart by the scope of the signature."""

from __future__ import annotations

import functools
import re
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any

from botocore import xform_name

from tests.lab.httpd import HttpService, Request, Response, Served, answering
from tests.lab.scripted.authorization import Authorization
from tests.lab.scripted.backup import Backup
from tests.lab.scripted.calls import Call, Refused
from tests.lab.scripted.faults import Faults
from tests.lab.scripted.needs import needs_of
from tests.lab.scripted.network import Network
from tests.lab.scripted.rds import Rds
from tests.lab.scripted.routes import Routes
from tests.lab.scripted.scalars import WireFault
from tests.lab.scripted.wire import Wire

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-authentication-methods.html
SCOPE = re.compile(r"Credential=(?P<key>[^/]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_req")


class ScriptedAws(Served):
    """RDS, AWS Backup, a little of EC2: per region, with states that take time.

    Give `url` as AWS_ENDPOINT_URL_RDS, AWS_ENDPOINT_URL_BACKUP, AWS_ENDPOINT_URL_EC2 and
    AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT; all else belongs to the doubles. A request that the
    service's model does not allow, or that no script answers, is answered 400 and kept in
    `wrong`; the fixture `scripted` asserts that it stays empty.
    """

    def __init__(self) -> None:
        self.rds = Rds()
        self.backup = Backup(self.rds)
        self.network = Network()
        self.faults = Faults()
        self.authorization = Authorization(self.rds.tags_of)
        self.calls: list[Call] = []
        self.wrong: list[str] = []
        self._scripts: Mapping[str, Sequence[object]] = {
            "rds": self.rds.scripts,
            "backup": self.backup.scripts,
            "ec2": (self.network, Routes(self.network)),
            "ec2-instance-connect": (self.network,),
        }
        self._lock = threading.Lock()

    def __enter__(self) -> ScriptedAws:
        self._service = HttpService(_all_methods(answering(self._answer)))
        return self

    def scripts(self, service: str) -> Sequence[object]:
        """The objects whose methods answer a service's operations."""
        return self._scripts[service]

    def asked(self, action: str) -> list[Call]:
        """The calls of one action, in order: `asked("rds:CopyDBSnapshot")`."""
        return [call for call in self.calls if call.action == action]

    def deny(self, action: str, *, after: int = 0) -> None:
        """Deny an action, from the call after the first `after` on.

        It need not be an operation: `iam:PassRole` and `rds:AddTagsToResource` are asked for by
        calls that pass a role or set tags.
        """
        self.faults.deny(action, after=after)

    def throttle(self, action: str, *, times: int, after: int = 0) -> None:
        self.faults.throttle(action, times=times, after=after)

    def fail(
        self,
        action: str,
        code: str,
        message: str,
        *,
        status: int | None = None,
        times: int | None = None,
        after: int = 0,
    ) -> None:
        """Answer with any error; `times` None is for ever, `status` None is the model's."""
        self.faults.fail(action, Refused(code, message, status), times=times, after=after)

    def lose_answer(self, action: str) -> None:
        """Do what the next call of an action asks for, and answer as if that had gone wrong."""
        self.faults.losing.append(action)

    def allow_only(self, statements: Sequence[Mapping[str, Any]]) -> None:
        """From now on every call is checked against this policy of the caller."""
        self.authorization.allow_only(statements)

    def _answer(self, request: Request) -> Response:
        if len(request.body) < int(request.headers.get("content-length", 0)):
            # Whoever sent it was ended in the middle of it, as a test may want.
            return Response(400, b"cut off")
        scope = SCOPE.search(request.headers.get("authorization", ""))
        with self._lock:
            if scope is None or scope["service"] not in self._scripts:
                reason = f"{scope['service'] if scope else 'an unsigned request'} is not scripted"
                self.wrong.append(reason)
                return Response(400, reason.encode())
            wire = wire_of(scope["service"])
            try:
                operation, given = wire.parse(request)
                call = Call(scope["service"], operation, scope["region"], given)
                self.calls.append(call)
                return self._act(call, wire)
            except WireFault as fault:
                self.wrong.append(str(fault))
                return wire.refusal("WireFault", str(fault), 400)
            except Exception:  # a fault of a script: the test must see it, not a lost connection
                self.wrong.append(traceback.format_exc())
                return wire.refusal("ScriptFault", "a script failed", 400)

    def _act(self, call: Call, wire: Wire) -> Response:
        try:
            needs = needs_of(call, self.rds.customer_key_of)
            self.faults.strike(call, needs)
            self.authorization.check(call, needs)
            answer = wire.answer(call.operation, self._script(call)(call))
            self.faults.lose(call)
            return answer
        except Refused as refused:
            return wire.refusal(refused.code, refused.message, refused.status)

    def _script(self, call: Call) -> Callable[[Call], Mapping[str, Any]]:
        name = xform_name(call.operation)
        for script in self._scripts[call.service]:
            found: Callable[[Call], Mapping[str, Any]] | None = getattr(script, name, None)
            if found is not None:
                return found
        raise WireFault(f"{call.action} is not scripted")


@functools.cache
def wire_of(service: str) -> Wire:
    return Wire(service)


def _all_methods(handler: type[BaseHTTPRequestHandler]) -> type[BaseHTTPRequestHandler]:
    """rest-json asks with PUT and DELETE too."""
    answer = vars(handler)["do_GET"]
    return type("Handler", (handler,), {"do_PUT": answer, "do_DELETE": answer})
