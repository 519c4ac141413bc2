"""GitHub's REST API, as far as reading goes; every refusal says what to give the token.

https://docs.github.com/en/rest/using-the-rest-api/getting-started-with-the-rest-api
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from typing import IO, Any, TypeVar
from urllib.parse import urlencode, urlsplit

from backup.errors import AccessError
from backup.settings import Secret

T = TypeVar("T")

_VERSION = "2022-11-28"
_TRIES = 3
_TIMEOUT_SECONDS = 20
_MOST_BYTES = 8 << 20

_GIVE_TOKEN = "github-token: ${{ github.token }}"  # noqa: S105 - an expression, no token


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of GitHub, as far as an error needs it.

    `message` says what fails: "cannot read workflow backup.yml". `permission` is the line of a
    job's permissions that allows it: `actions: read`. `absent` are the statuses that mean that
    there is no such thing.
    """

    message: str
    permission: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    absent: tuple[int, ...] = (404,)


class _Elsewhere(Exception):
    """A redirect to another host, which must not get the token."""


class _SameHost(urllib.request.HTTPRedirectHandler):
    """urllib would send the token along to wherever it is redirected."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            raise _Elsewhere(urlsplit(newurl).netloc)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


class GitHubApi:
    """One API with one token. Raises AccessError for all that is no answer."""

    def __init__(self, url: str, token: Secret) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._opener = urllib.request.build_opener(_SameHost)

    def get(self, question: Question) -> Any:
        """The JSON that GitHub answers; None where there is no such thing."""
        attempt = 1
        while True:
            try:
                return self._get(question)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code in question.absent:
                        return None
                    if error.code < 500 or attempt == _TRIES:
                        raise _refusal(question, error) from error
            except _Elsewhere as error:
                raise AccessError(
                    question.message,
                    detail=f"GitHub's API redirects to {error}, which must not get the token",
                    hint="check GITHUB_API_URL, and the proxies on the way to GitHub",
                ) from error
            except (OSError, http.client.HTTPException) as error:
                if attempt == _TRIES:
                    raise AccessError(
                        question.message,
                        detail=f"GitHub's API does not answer: {error}",
                        hint="run again; see https://www.githubstatus.com if it lasts",
                    ) from error
            time.sleep(attempt)
            attempt += 1

    def _get(self, question: Question) -> Any:
        query = f"?{urlencode(question.query)}" if question.query else ""
        request = urllib.request.Request(  # noqa: S310 - the runner's own URL
            f"{self._url}{question.path}{query}",
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {self._token.value}",
                "User-Agent": "pg-backup-action",
                "X-GitHub-Api-Version": _VERSION,
            },
        )
        with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
            content = answer.read(_MOST_BYTES)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise not_github(question, f"{len(content)} bytes that are no JSON") from error


def field(question: Question, answer: Any, name: str, kind: type[T]) -> T:
    """A field that GitHub always sends. Raises AccessError where another server answered."""
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, kind):
        raise not_github(question, f"an answer without {name}")
    return value


def moment(question: Question, answer: Any, name: str) -> datetime:
    """A time that GitHub always sends, as in 2026-11-22T02:00:00Z. Raises AccessError."""
    text = field(question, answer, name, str)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        raise not_github(question, f"{name}: {text!r}") from error


def not_github(question: Question, said: str) -> AccessError:
    return AccessError(
        question.message,
        detail=f"what answers as GitHub's API sent {said}",
        hint="check GITHUB_API_URL, and the proxies on the way to GitHub",
    )


def _refusal(question: Question, error: urllib.error.HTTPError) -> AccessError:
    said = _said(error)
    detail = f"GitHub says {error.code}: {said}"
    if error.code == 401:
        hint = f"the token is wrong or has expired; {_GIVE_TOKEN}"
    elif error.code in (403, 429) and (wait := _limit(error, said)):
        hint = wait
    elif error.code in (403, 404):
        hint = f"the token must be allowed to:\npermissions:\n  {question.permission}"
    else:
        hint = "run again; see https://www.githubstatus.com if it lasts"
    return AccessError(question.message, detail=detail, hint=hint)


def _limit(error: urllib.error.HTTPError, said: str) -> str:
    """What to do about a rate limit; empty where the refusal is none.

    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    headers = error.headers
    reset, after = headers.get("x-ratelimit-reset", ""), headers.get("retry-after", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        at = datetime.fromtimestamp(int(reset), UTC)
        return f"the token's rate limit is used up: run again after {at:%H:%M} UTC"
    if after.isdigit():
        return f"GitHub's rate limit: run again in {after} s"
    return "GitHub's rate limit: run again in some minutes" if "rate limit" in said else ""


def _said(error: urllib.error.HTTPError) -> str:
    try:
        told = json.loads(error.read(_MOST_BYTES))
    except (ValueError, RecursionError, OSError, http.client.HTTPException):
        return error.reason
    return str(told["message"]) if isinstance(told, dict) and "message" in told else error.reason
