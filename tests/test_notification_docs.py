"""What docs/notifications.md says is so: the metrics, the form, the signature, the permissions."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from backup.aws.grants import PolicyScope, needed
from backup.operations.notifying.measured import KNOWN
from backup.settings import Secret
from backup.webhook import Post, send
from tests.lab.aws import REPOSITORY
from tests.lab.httpd import Request
from tests.lab.webhook import Hook
from tests.schemas import published, validator

PAGE = (REPOSITORY / "docs/notifications.md").read_text()
SECRET = "a key that two know"
BODY = '{"what": "Zürich is backed up"}'.encode()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_metrics_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+?) \|", PAGE, re.MULTILINE)
    documented = {name: (unit, tuple(re.findall(r"`(\w+)`", of))) for name, unit, of in rows}
    known = {name: (kind.unit, kind.dimensions) for name, kind in KNOWN.items()}
    assert known == documented
    assert list(known) == [name for name, _, _ in rows]


def test_the_example_is_of_the_published_form() -> None:
    (example,) = (json.loads(each) for each in blocks("json") if '"format"' in each)
    Draft202012Validator.check_schema(published("notification"))
    assert [] == [error.message for error in validator("notification").iter_errors(example)]
    for name in example:
        without = {key: value for key, value in example.items() if key != name}
        assert not validator("notification").is_valid(without), f"{name} is not required"


@pytest.fixture(scope="module")
def signed() -> Iterator[Request]:
    """A message that was posted with a key."""
    with Hook() as hook:
        send(Post(Secret(f"{hook.url}/hook"), BODY, Secret(SECRET)), 10)
        (request,) = hook.requests
        yield request


def verdict(headers: dict[str, str], body: bytes, secret: str) -> bool:
    """What the receiver of the documentation says."""
    (receiver,) = blocks("python")
    scope: dict[str, Any] = {}
    exec(receiver, scope)  # noqa: S102 - the lines that a reader pastes
    return bool(scope["is_genuine"](headers, body, secret))


def headers_of(request: Request) -> dict[str, str]:
    """With the names as the documentation writes them; HTTP knows no case."""
    names = ("X-Pg-Backup-Timestamp", "X-Pg-Backup-Signature")
    return {name: request.headers[name.lower()] for name in names}


def test_the_documented_receiver_believes_what_is_signed(signed: Request) -> None:
    assert verdict(headers_of(signed), signed.body, SECRET)


def test_the_documented_receiver_believes_nothing_else(signed: Request) -> None:
    headers = headers_of(signed)
    time_of = "X-Pg-Backup-Timestamp"
    assert not verdict(headers, signed.body + b" ", SECRET)
    assert not verdict(headers, signed.body, "another key")
    assert not verdict(headers | {time_of: str(int(time.time()) + 1)}, signed.body, SECRET)
    for forged in ("", "²", "1e9", "-1"):
        assert not verdict(headers | {time_of: forged}, signed.body, SECRET)
    assert not verdict({}, signed.body, SECRET)


def test_the_documented_receiver_takes_nothing_old(
    signed: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time() + 301
    monkeypatch.setattr(time, "time", lambda: later)
    assert not verdict(headers_of(signed), signed.body, SECRET)


def test_the_documented_permissions_are_what_telling_needs() -> None:
    scope = PolicyScope("aws", "eu-central-1", "123456789012", "BUCKET", "PREFIX")
    telling = replace(
        scope,
        topic_arn="arn:aws:sns:eu-central-1:123456789012:pg-backup",
        namespace="PgBackup",
        remembers_outcomes=True,
    )
    (documented,) = (json.loads(each) for each in blocks("json") if '"Sid"' in each)
    own = needed("verify", scope)
    listing = [grant for grant in own if grant.sid == "ListBackups"]
    beyond = [grant for grant in needed("verify", telling) if grant not in own]
    assert documented == [grant.statement() for grant in (*beyond, *listing)]
