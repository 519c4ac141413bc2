"""Lambda as its functions see it: the runtime API, with AWS's own client on the other end.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import json
import queue
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.lab.httpd import HttpService, Request, Response, Served, answering

_API = "/2018-06-01/runtime"
_FUNCTION = "arn:aws:lambda:eu-central-1:123456789012:function:pg-backup"


@dataclass(frozen=True)
class Answer:
    """What an invocation came to: `response`, or `error` with errorMessage and errorType."""

    response: Any
    error: dict[str, Any] | None
    seconds: float
    seconds_left: float  # until its deadline


@dataclass
class LambdaApi(Served):
    """Hands one event at a time to whoever asks for the next, and waits for what comes of it."""

    init_errors: list[Any] = field(default_factory=list)

    def __enter__(self) -> LambdaApi:
        self._events: queue.Queue[tuple[str, bytes, float] | None] = queue.Queue()
        self._answers: queue.Queue[tuple[str, str, Any]] = queue.Queue()
        self._service = HttpService(answering(self._answer))
        return self

    def __exit__(self, *_: object) -> None:
        self._events.put(None)  # for a client that still waits
        super().__exit__()

    @property
    def env(self) -> dict[str, str]:
        """What Lambda sets for every function (and reserves)."""
        return {
            "AWS_LAMBDA_RUNTIME_API": self.url.removeprefix("http://"),
            "AWS_LAMBDA_FUNCTION_NAME": "pg-backup",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "2048",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "LAMBDA_TASK_ROOT": "/var/task",
        }

    def invoke(self, event: Any, seconds: float = 900.0, patience: float = 120.0) -> Answer:
        """Send an event to a function with that timeout. Raises queue.Empty after `patience`."""
        identifier = str(uuid.uuid4())
        began = time.time()
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        self._events.put((identifier, body, began + seconds))
        answered, kind, content = self._answers.get(timeout=patience)
        ended = time.time()
        assert identifier == answered
        error = content if kind == "error" else None
        response = content if kind == "response" else None
        return Answer(response, error, ended - began, began + seconds - ended)

    def _answer(self, request: Request) -> Response:
        if request.path == f"{_API}/invocation/next":
            return self._next()
        if request.path == f"{_API}/init/error":
            self.init_errors.append(json.loads(request.body))
            return Response(202, b"{}")
        match = re.fullmatch(f"{_API}/invocation/([^/]+)/(response|error)", request.path)
        if match is None:
            return Response(404, b"{}")
        self._answers.put((match[1], match[2], json.loads(request.body)))
        return Response(202, b"{}")

    def _next(self) -> Response:
        event = self._events.get()
        if event is None:
            return Response(500, b"{}")
        identifier, body, deadline = event
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": identifier,
            "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": _FUNCTION,
        }
        return Response(200, body, headers)
