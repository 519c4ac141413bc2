"""An id-token issuer that behaves as GitHub's does, with a key of its own.

https://docs.github.com/en/actions/reference/security/oidc
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.lab.httpd import HttpService, Request, Response, Served, answering

GITHUB_ISSUER = "https://token.actions.githubusercontent.com"
SUBJECT = "repo:octo-org/shop:ref:refs/heads/main"
KEY_ID = "lab-key-1"


@dataclass
class Issuer(Served):
    """Signs id tokens for whoever holds the request token; its fields may be changed while it runs.

    The tokens' `iss` is GitHub's own name by default, so that trust policies read as real ones
    do; the keys are at `jwks_url`. `status` other than 200 is what a token request is answered.
    """

    subject: str = SUBJECT
    name: str = GITHUB_ISSUER
    lifetime: float = 300.0  # seconds; negative: already expired when issued
    status: int = 200
    forge: bool = False  # sign with a key that is not in the JWKS, under the same key id
    issued: list[str] = field(default_factory=list)  # every token handed out
    refused: int = 0

    def __enter__(self) -> Issuer:
        self.request_token = secrets.token_urlsafe(40)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._forged_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._service = HttpService(answering(self._answer))
        return self

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/.well-known/jwks"

    @property
    def env(self) -> dict[str, str]:
        """What the runner gives a job that has `permissions: id-token: write`."""
        query = urlencode({"api-version": "2.0"})
        return {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/token?{query}",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self.request_token,
        }

    def token(self, audience: str = "sts.amazonaws.com", **claims: Any) -> str:
        """A signed token; `claims` override the usual ones."""
        now = time.time()
        organisation, _, repository = self.subject.split(":")[1].partition("/")
        usual = {
            "jti": str(uuid.uuid4()),
            "iss": self.name,
            "sub": self.subject,
            "aud": audience,
            "iat": int(now),
            "nbf": int(min(now, now + self.lifetime)) - 60,
            "exp": int(now + self.lifetime),
            "repository": f"{organisation.split('@')[0]}/{repository.split('@')[0]}",
            "repository_owner": organisation.split("@")[0],
            "ref": "refs/heads/main",
            "ref_type": "branch",
            "sha": "0" * 40,
            "run_id": "1234567890",
            "run_number": "7",
            "run_attempt": "1",
            "actor": "octocat",
            "workflow": "backup",
            "event_name": "schedule",
            "runner_environment": "github-hosted",
        }
        key = self._forged_key if self.forge else self._key
        return jwt.encode(usual | claims, key, algorithm="RS256", headers={"kid": KEY_ID})

    def _answer(self, request: Request) -> Response:
        match request.method, request.path:
            case "GET", "/token":
                return self._issue(request)
            case "GET", "/.well-known/openid-configuration":
                return _json(
                    200,
                    {
                        "issuer": self.name,
                        "jwks_uri": self.jwks_url,
                        "subject_types_supported": ["public", "pairwise"],
                        "response_types_supported": ["id_token"],
                        "id_token_signing_alg_values_supported": ["RS256"],
                        "scopes_supported": ["openid"],
                    },
                )
            case "GET", "/.well-known/jwks":
                public = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
                return _json(
                    200, {"keys": [{**public, "kid": KEY_ID, "alg": "RS256", "use": "sig"}]}
                )
            case _:
                return _json(404, {"message": "Not Found"})

    def _issue(self, request: Request) -> Response:
        scheme, _, presented = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(presented, self.request_token):
            self.refused += 1
            return _json(401, {"message": "Unauthorized"})
        if request.query.get("api-version") != ["2.0"]:
            self.refused += 1
            return _json(400, {"message": "the api-version of the request URL was lost"})
        if self.status != 200:
            self.refused += 1
            return _json(self.status, {"message": f"The issuer answers {self.status}"})
        # Without an audience GitHub uses the URL of the repository's owner.
        default = f"https://github.com/{self.subject.split(':')[1].split('/')[0]}"
        token = self.token(request.query.get("audience", [default])[0])
        self.issued.append(token)
        return _json(200, {"count": len(token), "value": token})


def _json(status: int, value: object) -> Response:
    body = json.dumps(value).encode()
    return Response(status, body, {"Content-Type": "application/json; charset=utf-8"})
