"""A message to a URL: delivered or told why not, within bounds, and to nobody else."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from backup.errors import BackupError
from backup.settings import Secret
from backup.webhook import Post, send
from tests.lab.certificates import issue_certificates
from tests.lab.daemon import LOOPBACK, free_port
from tests.lab.httpd import HttpService, Served
from tests.lab.webhook import TOKEN, Answer, Hook, endless, garbage, hang_up, status

BODY = b'{"text": "told"}'


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as running:
        yield running


def post(url: str, seconds: float = 20.0) -> None:
    send(Post(Secret(url), BODY), seconds)


def refused(url: str, seconds: float = 20.0) -> BackupError:
    """Why it was not delivered, in three parts that do not show the URL."""
    with pytest.raises(BackupError) as caught:
        post(url, seconds)
    error = caught.value
    assert error.message and error.detail and error.hint
    assert TOKEN not in "\n".join(error.lines())
    return error


def test_it_is_posted_as_json_and_once(hook: Hook) -> None:
    post(hook.secret_url)

    (request,) = hook.requests
    assert ("POST", f"/services/{TOKEN}", BODY) == (request.method, request.path, request.body)
    assert "application/json; charset=utf-8" == request.headers["content-type"]
    assert "x-pg-backup-signature" not in request.headers


@pytest.mark.parametrize("passing", [status(500), status(503), status(429), hang_up, garbage])
def test_what_may_pass_is_tried_again(hook: Hook, passing: Answer) -> None:
    hook.answers = [passing, passing, status(200)]

    post(hook.secret_url)

    assert [BODY] * 3 == [request.body for request in hook.requests]


def test_it_is_tried_three_times_at_the_most(hook: Hook) -> None:
    hook.answers = [status(500, b"out of order\n")]

    error = refused(hook.secret_url)

    assert 3 == len(hook.requests)
    assert "answered 500: out of order" in error.detail


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(400, "webhook-format"), (403, "revoked"), (404, "webhook-url"), (410, "make a new hook")],
)
def test_a_refusal_is_final_and_says_what_to_do(hook: Hook, code: int, remedy: str) -> None:
    hook.answers = [status(code, b"no_service")]

    error = refused(hook.secret_url)

    assert 1 == len(hook.requests)
    assert f"answered {code}: no_service" in error.detail
    assert remedy in error.hint


def test_who_took_it_and_says_nothing_is_not_told_twice(hook: Hook) -> None:
    hook.answers = [hook.silence]
    began = time.monotonic()

    error = refused(hook.secret_url, 2.0)

    assert 1 == len(hook.requests)
    assert "does not answer" in error.detail
    assert time.monotonic() - began < 4


def test_the_time_that_there_is_bounds_the_tries(hook: Hook) -> None:
    hook.answers = [status(503)]
    began = time.monotonic()

    refused(hook.secret_url, 0.3)

    assert 1 == len(hook.requests)
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("code", [200, 404])
def test_an_answer_without_end_is_not_waited_for(hook: Hook, code: int) -> None:
    hook.answers = [endless(code)]
    began = time.monotonic()

    if code == 200:
        post(hook.secret_url)
    else:
        assert len(refused(hook.secret_url).detail) < 700

    assert time.monotonic() - began < 3


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(hook: Hook, code: int) -> None:
    with Hook() as other:
        hook.answers = [status(code, Location=f"{other.url}/{TOKEN}")]
        error = refused(hook.secret_url)

    assert (1, 0) == (len(hook.requests), len(other.requests))
    assert "no redirect is followed" in error.detail


def test_nobody_at_the_port_is_tried_again_and_told() -> None:
    began = time.monotonic()

    error = refused(f"http://{LOOPBACK}:{free_port()}/{TOKEN}")

    assert "Connection refused" in error.detail
    assert time.monotonic() - began > 2


def test_a_certificate_that_is_trusted_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = issue_certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    with Hook(certificates) as hook:
        post(hook.secret_url)
        assert 1 == len(hook.requests)


@pytest.mark.parametrize("wrong", ["authority", "name", "expired"])
def test_a_certificate_that_is_not_trusted_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    names = ("hooks.example.org",) if wrong == "name" else ("localhost", LOOPBACK)
    certificates = issue_certificates(tmp_path, names, days=-1 if wrong == "expired" else 2)
    if wrong != "authority":
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    with Hook(certificates) as hook:
        error = refused(hook.secret_url)
        assert [] == hook.requests
    assert "certificate" in error.detail
    assert "SSL_CERT_FILE" in error.hint


class Proxy(Served):
    """What stands between a closed network and the world: it connects whoever asks for a host."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __enter__(self) -> Proxy:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                proxy.asked.append(self.path)
                host, _, port = self.path.partition(":")
                with socket.create_connection((host, int(port))) as there:
                    self.send_response(200)
                    self.end_headers()
                    ends = {there: self.connection, self.connection: there}
                    while True:
                        for end in select.select(list(ends), (), ())[0]:
                            if not (data := end.recv(65536)):
                                return
                            ends[end].sendall(data)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._service = HttpService(Handler)
        return self


def test_it_goes_through_the_proxy_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = issue_certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    with Proxy() as proxy, Hook(certificates) as hook:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        post(hook.secret_url)
        assert 1 == len(hook.requests)
        assert [hook.url.removeprefix("https://")] == proxy.asked


def test_plain_http_behind_a_url_of_https_gets_nothing(hook: Hook) -> None:
    error = refused(hook.secret_url.replace("http://", "https://"), 3.0)

    assert [] == hook.requests
    assert "does not answer" in error.detail
