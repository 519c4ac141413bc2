"""GitHub's OIDC id token: who this workflow run is, in words that AWS believes.

https://docs.github.com/en/actions/reference/security/oidc
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from urllib.parse import quote

from backup.errors import AccessError
from backup.github.context import on_runner

_TRIES = 4
_TIMEOUT_SECONDS = 10

_PERMISSION = """\
give the job the permission to ask for one:
permissions:
  id-token: write
  contents: read"""


def id_token_loader(
    environment: Mapping[str, str], audience: str, mask: Callable[[str], None]
) -> Callable[[], str] | None:
    """A function that fetches a fresh token at each call, or None outside of GitHub Actions.

    A token lives for about five minutes, so each renewal of the role session needs a new one.
    The function raises AccessError.
    """
    if not on_runner(environment):
        return None

    def load() -> str:
        url = environment.get("ACTIONS_ID_TOKEN_REQUEST_URL")
        request_token = environment.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
        if not url or not request_token:
            raise _no_permission(environment)
        mask(request_token)
        token = _fetch(f"{url}&audience={quote(audience, safe='')}", request_token)
        mask(token)
        return token

    return load


def _no_permission(environment: Mapping[str, str]) -> AccessError:
    event = environment.get("GITHUB_EVENT_NAME", "")
    if event == "pull_request":
        return AccessError(
            "GitHub gives this run no id token",
            detail="the run is for a pull request, and one from a fork never gets a token",
            hint="run backups on: schedule or workflow_dispatch; for pull requests of your own"
            f" repository {_PERMISSION}",
        )
    return AccessError(
        "GitHub gives this run no id token",
        detail="the job lacks the permission id-token: write"
        " (a called workflow needs it in the calling job too)",
        hint=_PERMISSION,
    )


def _fetch(url: str, request_token: str) -> str:
    request = urllib.request.Request(  # noqa: S310 - the runner's own URL
        url, headers={"Authorization": f"bearer {request_token}", "Accept": "application/json"}
    )
    attempt = 1
    while True:
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
                token = json.load(answer)["value"]
            if not isinstance(token, str) or not token:
                raise ValueError("it holds no token")
            return token
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == _TRIES:
                raise AccessError(
                    "GitHub refused the id token",
                    detail=f"its token service answered {error.code} {error.reason}",
                    hint=_PERMISSION,
                ) from error
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            if attempt == _TRIES:
                raise AccessError(
                    "GitHub's id token could not be fetched",
                    detail=f"its token service did not answer as it should: {error}",
                    hint="run again; see https://www.githubstatus.com if it lasts",
                ) from error
        time.sleep(attempt)
        attempt += 1
