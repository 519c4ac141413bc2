"""What AWS refused, why, and the line that mends it.

`explained` turns every error of botocore into the project's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from backup.aws.permissions import WRITE_KMS, key_statement, partition, statements
from backup.errors import AccessError, BackupError, InputError, StorageError


@dataclass(frozen=True, slots=True)
class Remedy:
    """What an error code of one service means: which class of error it is, and what to do."""

    error: type[BackupError]
    hint: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was asked of AWS, as far as an error message needs it.

    `message` says what failed: "cannot write s3://b/k". `actions` and `resource` are the IAM
    statement that allows it; `kms_actions` and `kms_resource` the one for its key.
    `unreachable` is the error to raise where the network or the service fails, and `failure`
    that for codes nobody knows; `remedies` are those of the service at hand, by code.
    `inputs` are the names of those that give bucket and region.
    """

    message: str
    region: str
    actions: tuple[str, ...] = ()
    resource: str | tuple[str, ...] = ""
    kms_actions: tuple[str, ...] = ()
    kms_resource: str = ""
    bucket: str = ""
    inputs: tuple[str, str] = ("bucket", "aws-region")
    expected_owner: str | None = None
    unreachable: type[BackupError] = field(default=AccessError)
    failure: type[BackupError] = field(default=StorageError)
    remedies: Mapping[str, Remedy] = field(default_factory=dict)


@contextmanager
def explained(attempt: Attempt) -> Iterator[None]:
    """Raise botocore's errors as AccessError, InputError or StorageError, with a remedy."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _refusal(error.response, attempt) from error
    except BotoCoreError as error:
        raise _failure(error, attempt) from error


def error_code(error: Any) -> str:
    """The code of a ClientError, as in NoSuchUpload."""
    return str(error.response.get("Error", {}).get("Code", ""))


def sent_before(error: Any) -> int:
    """How often the request of a ClientError had been sent before its last attempt."""
    return int(error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0))


# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_DENIED = {"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "AccountProblem",
           "UnauthorizedOperation", "AuthException", "AuthorizationError", "403",
           "Forbidden"}  # fmt: skip
_STALE = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_BAD_KEYS = {"InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken", "SignatureDoesNotMatch",
             "UnrecognizedClientException", "AuthFailure"}  # fmt: skip
_SKEWED = {"RequestTimeTooSkewed", "RequestInTheFuture"}
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect", "301",
              "IllegalLocationConstraintException"}  # fmt: skip
_BUSY = {"SlowDown", "ServiceUnavailable", "InternalError", "InternalFailure", "RequestTimeout",
         "Throttling", "ThrottlingException", "TooManyRequestsException", "OperationAborted",
         "ServiceUnavailableException",
         "RequestLimitExceeded", "500", "502", "503", "504"}  # fmt: skip
_CORRUPT = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "IncompleteBody",
            "XAmzContentChecksumMismatch", "InvalidPart"}  # fmt: skip


def _refusal(response: dict[str, Any], attempt: Attempt) -> BackupError:
    error = response.get("Error", {})
    code, text = str(error.get("Code", "")), str(error.get("Message", "")).strip()
    detail = f"AWS says {code}: {text}" if text else f"AWS says {code}"
    if remedy := attempt.remedies.get(code):
        return remedy.error(attempt.message, detail=detail, hint=remedy.hint)
    if code.startswith(("KMS.", "Kms")) or code == "KMSAccessDenied":
        return _key_trouble(code, detail, attempt)
    if code in _DENIED:
        return _denial(text, detail, attempt)
    if code in _STALE:
        return AccessError(
            attempt.message, detail=detail,
            hint="the credentials of the environment have expired: fetch new ones, or use "
            "role-to-assume, whose sessions are renewed while the backup runs",
        )  # fmt: skip
    if code in _BAD_KEYS:
        return AccessError(
            attempt.message, detail=detail,
            hint="the credentials are not AWS's, or not whole: set AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN together, or use role-to-assume",
        )  # fmt: skip
    if code in _SKEWED:
        hint = "this machine's clock is wrong by more than 15 minutes: set it (chrony, timedatectl)"
        return AccessError(attempt.message, detail=detail, hint=hint)
    if code in _ELSEWHERE:
        return _elsewhere(response, detail, attempt)
    if code == "NoSuchBucket":
        no_bucket = InputError(
            attempt.message,
            detail=f"there is no bucket {attempt.bucket!r} ({detail})",
            hint=f"correct `{attempt.inputs[0]}`, or create it: "
            f"aws s3 mb s3://{attempt.bucket} --region {attempt.region}",
        )
        no_bucket.is_out_of_reach = True
        return no_bucket
    if code in _BUSY:
        hint = "run it again in a while; AWS_MAX_ATTEMPTS sets how often a request is tried"
        retried = response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
        busy = attempt.unreachable(
            attempt.message, detail=f"{detail} (sent {int(retried) + 1} times)", hint=hint
        )
        busy.is_out_of_reach = True
        return busy
    return attempt.failure(attempt.message, detail=detail, hint=_other_hint(code, attempt))


def _other_hint(code: str, attempt: Attempt) -> str:
    if code in _CORRUPT:
        return "the bytes that arrived are not those that were sent: run it again, and suspect the network path or this machine's memory if it repeats"  # noqa: E501
    if code == "NoSuchUpload":
        return "the upload was aborted by someone else: a lifecycle rule (AbortIncompleteMultipartUpload) must leave it more days than a backup takes"  # noqa: E501
    if code == "ConditionalRequestConflict":
        return "someone else writes or deletes the same object at the same time: run the backup again, it takes a new id"  # noqa: E501
    if code in ("EntityTooLarge", "EntityTooSmall", "InvalidPartOrder"):
        return "the store has other limits than S3 for the size or number of parts"
    if code in ("InvalidRequest", "InvalidArgument", "NotImplemented"):
        return "the bucket's settings, or an S3-compatible store, do not take this request; leave out object-tags and kms-key-id to see which one it is"  # noqa: E501
    if code == "InvalidObjectState":
        return "it is archived (Glacier), and not thawed or no longer: run the restore again, which thaws what it needs; thaw-days says for how long"  # noqa: E501
    if code == "GlacierExpeditedRetrievalNotAvailable":
        return "AWS has no capacity for expedited retrievals right now: thaw-tier: standard"
    if code == "NoSuchKey":
        return "it was deleted, or never written: look at what is there with operation: list"
    if attempt.failure is not StorageError:
        return "run it again in a while; the service's API reference describes the code"
    return f"look the code up: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html ({attempt.region})"  # noqa: E501


def _denial(text: str, detail: str, attempt: Attempt) -> BackupError:
    # IAM's own words, where it gives them:
    # "... is not authorized to perform: ACTION on resource: ARN because ..."
    named = re.search(
        r"not authorized to perform:? ([\w-]+:\w+)(?: on resource: \"?([^\s\"]+))?", text
    )
    action, resource = (named[1], named[2]) if named else ("", None)
    if action.startswith("kms:"):
        return _key_denial((action,), resource, detail, attempt)
    lines = []
    if "explicit deny" in text:
        lines.append(
            "a policy denies it explicitly: look for a Deny in the bucket policy, the role's "
            "permissions boundary and the organisation's SCPs"
        )
    actions, allowed = attempt.actions, attempt.resource or resource
    # SNS writes its own name in capital letters.
    known = {each.lower() for each in attempt.actions}
    if action and action.lower() not in known:  # one that AWS asks for on the way: iam:PassRole
        actions, allowed = (action,), resource or attempt.resource
    if actions:
        lines.append("allow it in the role's policy:")
        lines += statements(actions, allowed or "*")
    if attempt.kms_actions and attempt.kms_resource and not named:
        lines.append(key_statement(attempt.kms_actions, attempt.kms_resource))
    if attempt.expected_owner and not named:
        lines.append(
            f"or the bucket does not belong to account {attempt.expected_owner}: "
            "see expected-bucket-owner"
        )
    return AccessError(attempt.message, detail=detail, hint="\n".join(lines))


def _key_trouble(code: str, detail: str, attempt: Attempt) -> BackupError:
    if "AccessDenied" in code:
        return _key_denial((), None, detail, attempt)
    if "NotFound" in code:
        hint = f"correct kms-key-id: it must be a key of the bucket's region, {attempt.region}"
        return InputError(attempt.message, detail=f"there is no such KMS key ({detail})", hint=hint)
    if "Disabled" in code or "InvalidState" in code:
        hint = "enable the KMS key, or cancel its deletion, or name another with kms-key-id"
        return InputError(attempt.message, detail=detail, hint=hint)
    return attempt.unreachable(attempt.message, detail=detail, hint="run it again in a while")


def _key_denial(
    named_actions: tuple[str, ...], named_key: str | None, detail: str, attempt: Attempt
) -> AccessError:
    actions = attempt.kms_actions or named_actions or WRITE_KMS
    # S3 does not tell the key of an object that it refuses to decrypt.
    unknown = f"arn:{partition(attempt.region)}:kms:{attempt.region}:ACCOUNT_ID:key/KEY_ID"
    return AccessError(
        attempt.message,
        detail=detail,
        hint="allow the KMS key in the role's policy, and in the key's policy too if it is "
        "another account's:\n"
        + key_statement(actions, named_key or attempt.kms_resource or unknown),
    )


def _elsewhere(response: dict[str, Any], detail: str, attempt: Attempt) -> BackupError:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    error = response.get("Error", {})
    expecting = re.search(r"expecting '([a-z0-9-]+)'", str(error.get("Message", "")))
    right = (
        headers.get("x-amz-bucket-region") or error.get("Region") or (expecting and expecting[1])
    )
    return wrong_region(attempt, str(right) if right else None, detail)


def wrong_region(attempt: Attempt, right: str | None, detail: str) -> InputError:
    """The bucket lies in region `right` (None where AWS does not say) and not in the session's."""
    region = attempt.inputs[1]
    return InputError(
        attempt.message,
        detail=f"bucket {attempt.bucket!r} is not in {attempt.region}"
        + (f" but in {right}" if right else f" ({detail})"),
        hint=f"{region}: {right}" if right else f"set {region} to the region of the bucket",
    )


def _failure(error: Exception, attempt: Attempt) -> BackupError:
    """An error that AWS did not send: no credentials, no network, a broken answer."""
    from botocore import exceptions

    text = " ".join(str(error).split())
    match error:
        case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
            return no_credentials(attempt.message, text)
        case exceptions.CredentialRetrievalError() | exceptions.MetadataRetrievalError():
            hint = "the place the credentials come from (profile, container, instance) failed"
            return AccessError(attempt.message, detail=text, hint=hint)
        case exceptions.ProfileNotFound() | exceptions.ConfigParseError():
            return InputError(
                attempt.message, detail=text, hint="correct AWS_PROFILE or ~/.aws/config"
            )
        case exceptions.ProxyConnectionError():
            hint = "correct HTTPS_PROXY, or name AWS in NO_PROXY: .amazonaws.com"
        case exceptions.SSLError():
            hint = "a certificate is not trusted: for a proxy that inspects TLS, set AWS_CA_BUNDLE"
        case exceptions.EndpointConnectionError() | exceptions.ConnectTimeoutError():
            hint = f"no route to AWS in {attempt.region}: check DNS, firewall and VPC endpoints, and AWS_ENDPOINT_URL if it is set"  # noqa: E501
        case exceptions.ParamValidationError() | exceptions.ValidationError():
            return InputError(attempt.message, detail=text, hint="correct the input that it names")
        case _:
            hint = "the connection broke more often than it was tried again; run it again, or raise AWS_MAX_ATTEMPTS"  # noqa: E501
    failure = attempt.unreachable(attempt.message, detail=text, hint=hint)
    failure.is_out_of_reach = isinstance(
        error, exceptions.ConnectionError | exceptions.HTTPClientError
    )
    return failure


def no_credentials(message: str, detail: str) -> AccessError:
    """Nobody said who we are: neither a role nor keys in the environment."""
    return AccessError(
        message,
        detail=detail or "no role is named and the environment holds no AWS credentials",
        hint="let the workflow assume a role:\n"
        "permissions:\n  id-token: write\n"
        "with:\n  role-to-assume: arn:aws:iam::123456789012:role/pg-backup-writer",
    )
