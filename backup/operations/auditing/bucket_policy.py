"""Whether a bucket's policy refuses every request that does not come over TLS.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SID = "DenyInsecureTransport"

# What may stand in a statement that narrows nothing but the transport. NotAction, NotResource and
# NotPrincipal leave something out, so a statement with one of them denies too little.
_PLAIN = {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}


def denies_plain_http(policy: Mapping[str, Any] | None, bucket_arn: str) -> bool:
    """Whether http is denied to everybody, for all actions, on the bucket and on all objects."""
    statements = [each for each in _listed((policy or {}).get("Statement")) if _denies(each)]
    resources = [each for statement in statements for each in _listed(statement["Resource"])]
    # A pattern takes in all keys if it matches the star itself, as any other character.
    return all(
        any(_matches(str(pattern), arn) for pattern in resources)
        for arn in (bucket_arn, f"{bucket_arn}/*")
    )


def denying_plain_http(policy: Mapping[str, Any] | None, bucket_arn: str) -> dict[str, Any]:
    """The same policy with the statement that it lacks."""
    known: dict[str, Any] = dict(policy or {"Version": "2012-10-17"})
    statements = _listed(known.get("Statement"))
    taken = {each.get("Sid") for each in statements}
    sid, number = _SID, 2
    while sid in taken:
        sid, number = f"{_SID}{number}", number + 1
    deny = {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [bucket_arn, f"{bucket_arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return known | {"Statement": [*statements, deny]}


def _denies(statement: Mapping[str, Any]) -> bool:
    return (
        statement.get("Effect") == "Deny"
        and statement.keys() <= _PLAIN
        and {"Principal", "Action", "Resource"} <= statement.keys()
        and _is_everybody(statement["Principal"])
        and any(_matches(str(each).lower(), "s3:*") for each in _listed(statement["Action"]))
        and _is_plain_http_alone(statement.get("Condition", {}))
    )


def _is_everybody(principal: Any) -> bool:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html"""
    if isinstance(principal, Mapping):
        return "*" in _listed(principal.get("AWS"))
    return bool(principal == "*")


def _is_plain_http_alone(condition: Mapping[str, Any]) -> bool:
    """Without a condition everything is denied, http as well; with another one, less than http."""
    tests = [
        (operator.lower(), key.lower(), [str(each).lower() for each in _listed(value)])
        for operator, keys in condition.items()
        for key, value in keys.items()
    ]
    return all(
        operator in ("bool", "boolifexists")
        and key == "aws:securetransport"
        and values == ["false"]
        for operator, key, values in tests
    )


def _matches(pattern: str, text: str) -> bool:
    """IAM's wildcards: `*` for any characters, `?` for one (which a star of the text is not)."""
    parts = re.findall(r"\*|\?|[^*?]+", pattern)
    written = {"*": ".*", "?": "[^*]"}
    regex = "".join(written.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(regex, text, re.DOTALL) is not None


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]
