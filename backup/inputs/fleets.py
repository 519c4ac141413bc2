"""Which databases belong together, and which role they need."""

from __future__ import annotations

from pathlib import PurePosixPath

from backup.inputs.entries import OF_A_DATABASE, is_left
from backup.options import OPERATIONS
from backup.reading import Reader
from backup.settings import FleetSettings, PolicySettings

_USUAL_FILE = ".github/pg-backups.yml"
# By name, or by name and id where both forms of `sub` are meant.
_REPOSITORY = r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+|[A-Za-z0-9_.-]+@\d+/[A-Za-z0-9_.-]+@\d+"
# Behind the repository, as in the `sub` of an id token; a * would let others in. So would
# `pull_request`: such a run is of the branch's own workflow, which nobody has reviewed.
# https://docs.github.com/en/actions/reference/security/oidc
_SUBJECT = r"ref:refs/(heads|tags)/[^*?\s]+|environment:[^*?\s]([^*?\r\n]*[^*?\s])?"


def fleet(reader: Reader) -> FleetSettings:
    text = reader.text("fleet-file")
    path = PurePosixPath(text)
    if text and (path.is_absolute() or ".." in path.parts or "\0" in text):
        reader.fault("fleet-file", f"{text!r} is outside the workspace", f"write {_USUAL_FILE}")
    is_needed = reader.text("operation") in ("plan", "collect")
    return FleetSettings(
        file=text or (_USUAL_FILE if is_needed else None),
        group=reader.text("fleet-group") or None,
        given={
            name: text
            for name, text in reader.values.items()
            if name in OF_A_DATABASE and not is_left(name, text)
        },
    )


def policy(reader: Reader) -> PolicySettings:
    subject = reader.text("trusted-subject")
    if subject == "pull_request":
        reader.fault("trusted-subject", "pull_request would trust what nobody has reviewed: whoever"
                     " may push a branch writes the workflow that gets the role",
                     "trust an environment with reviewers: environment:pull-requests")  # fmt: skip
    else:
        reader.matching("trusted-subject", _SUBJECT, "ref:refs/heads/main")
    operations = reader.lines("policy-for")
    known = [name for name in OPERATIONS if name not in ("plan", "policy")]
    for name in operations:
        if name not in known:
            reader.fault("policy-for", f"{name!r} is no operation that needs a role",
                         f"use {', '.join(known)}, one a line")  # fmt: skip
    return PolicySettings(
        operations=tuple(dict.fromkeys(operations)),
        repository=reader.matching("trusted-repository", _REPOSITORY, "acme/shop"),
        subject=subject,
    )
