"""A message to a URL that somebody gave: by POST, within bounds, and to no other host.

The URL is a secret, and so are the words behind its host: no error names more than the host.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import IO
from urllib.parse import urlsplit

from backup import __version__
from backup.errors import AccessError, BackupError, InputError
from backup.settings import Secret

_PAUSES_SECONDS = (0.5, 2.0)  # before the second and the third try
_TIMEOUT_SECONDS = 5.0
_MOST_BYTES = 500

TIMESTAMP, SIGNATURE = "X-Pg-Backup-Timestamp", "X-Pg-Backup-Signature"


@dataclass(frozen=True)
class Post:
    """One message. `key` signs it; None where nothing is to be signed."""

    url: Secret
    body: bytes
    key: Secret | None = None


def signature(key: Secret, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over timestamp, a dot and the body, as the header has it."""
    signed = hmac.new(key.value.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={signed.hexdigest()}"


def send(post: Post, seconds: float) -> None:
    """Deliver it within about that many seconds. Raises AccessError or InputError.

    What was too busy, or could not be reached, is tried again; a host that took the message and
    then says nothing is not, for it may have shown the message already.
    """
    until, pauses = time.monotonic() + seconds, list(_PAUSES_SECONDS)
    while True:
        error, is_passing = _try(post, max(0.1, min(_TIMEOUT_SECONDS, until - time.monotonic())))
        if error is None:
            return
        if not is_passing or not pauses or time.monotonic() + pauses[0] >= until:
            raise error
        time.sleep(pauses.pop(0))


def _try(post: Post, timeout: float) -> tuple[BackupError | None, bool]:
    """Why it was not delivered, and whether that may pass."""
    host = urlsplit(post.url.value).netloc
    try:
        with _opener().open(_request(post), timeout=timeout):
            return None, False  # whatever the answer says: nobody reads it
    except urllib.error.HTTPError as error:
        with error:
            return _refused(host, error), error.code == 429 or error.code >= 500
    except _Elsewhere as error:
        detail = f"{host} redirects to {error}, and no redirect is followed"
        hint = "give the URL that it leads to as webhook-url, if it is yours"
        return InputError(_MESSAGE, detail=detail, hint=hint), False
    except urllib.error.URLError as error:  # before anything was sent
        is_trusted = not isinstance(error.reason, ssl.SSLCertVerificationError)
        return _unreachable(host, error.reason), is_trusted
    except (OSError, http.client.HTTPException) as error:
        return _unreachable(host, error), not isinstance(error, TimeoutError)


def _request(post: Post) -> urllib.request.Request:
    headers: dict[str, str] = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": f"pg-backup-action/{__version__}",
        "Connection": "close",
    }
    if post.key:
        timestamp = str(int(time.time()))
        headers[TIMESTAMP] = timestamp
        headers[SIGNATURE] = signature(post.key, timestamp, post.body)
    return urllib.request.Request(  # noqa: S310 - https, or this machine: the inputs see to it
        post.url.value, data=post.body, headers=headers, method="POST"
    )


class _Elsewhere(Exception):
    """A redirect. It would turn the POST into a GET, or hand the message to somebody else."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,  # noqa: ARG002 - urllib's own signature
        fp: IO[bytes],
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: Message,  # noqa: ARG002
        newurl: str,
    ) -> urllib.request.Request | None:
        fp.close()
        raise _Elsewhere(urlsplit(newurl).hostname or "somewhere else")


def _opener() -> urllib.request.OpenerDirector:
    """Verifies certificates and host names; goes through HTTPS_PROXY where there is one."""
    https = urllib.request.HTTPSHandler(context=ssl.create_default_context())
    return urllib.request.build_opener(https, _NoRedirect)


_MESSAGE = "the webhook was not told"
_REMEDIES: Mapping[int, str] = {
    400: "webhook-format says in which form it is told: slack or json",
    401: "correct webhook-url; who checks the signature must know the same webhook-secret",
    403: "correct webhook-url: the hook may have been revoked",
    404: "correct webhook-url: the hook may have been removed",
    410: "make a new hook and give its URL as webhook-url: this one is gone",
    429: "it is told too often: notify-on: change or failure tells it less",
}


def _refused(host: str, error: urllib.error.HTTPError) -> BackupError:
    try:
        told = error.read(_MOST_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        told = ""
    said = " ".join(told.split())
    detail = f"{host} answered {error.code}" + (f": {said}" if said else "")
    busy = "it is out of order: look at the host's own log or status page"
    hint = _REMEDIES.get(error.code, busy if error.code >= 500 else "correct webhook-url")
    return AccessError(_MESSAGE, detail=detail, hint=hint)


def _unreachable(host: str, reason: object) -> BackupError:
    if isinstance(reason, ssl.SSLCertVerificationError):
        detail = f"the certificate of {host} is not trusted: {reason.verify_message}"
        hint = "for an authority of your own, name its certificates with SSL_CERT_FILE"
        return AccessError(_MESSAGE, detail=detail, hint=hint)
    detail = f"{host} does not answer: {reason or type(reason).__name__}"
    hint = "check host and port in webhook-url, DNS, firewall and HTTPS_PROXY"
    return AccessError(_MESSAGE, detail=detail, hint=hint)
