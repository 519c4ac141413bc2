"""`operation: policy`: the policies of a role, from what the operations ask of AWS.

Nothing is asked of anybody: the inputs tell, and what they leave open becomes the narrowest
pattern, with a note.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backup.aws.grants import Grant, PolicyScope, needed, needed_of_bucket_role
from backup.aws.policy_document import (
    MOST_INLINE,
    MOST_MANAGED,
    as_text,
    document,
    length,
    merged,
)
from backup.console import Console
from backup.errors import InputError
from backup.operations.policy_scope import Pattern, patterns, patterns_of_recovery, policy_scope
from backup.operations.policy_trust import trust_of_bucket_role, trust_policy
from backup.report.report import Document, Report, Section, Table
from backup.settings import Settings


def run(settings: Settings, console: Console, environment: Mapping[str, str]) -> Report:
    """Print what a role needs. Raises InputError where the inputs do not say of which account."""
    account = _account(settings)
    audited = settings.audit.writer_role or settings.role.arn
    scope = policy_scope(settings, account=account, role=audited)
    operations = _operations(settings)
    trust = trust_policy(settings, scope, environment, console)
    documents = {
        "policy": _policy("policy", needed, operations, scope, console),
        "trust-policy": trust.document,
    }
    if scope.bucket_role:
        name = "bucket-role-policy"
        documents[name] = _policy(name, needed_of_bucket_role, operations, scope, console)
        if settings.role.arn:
            documents["bucket-role-trust-policy"] = trust_of_bucket_role(settings.role.arn)
    found = [*patterns(settings, scope)]
    if "restore-instance" in operations:
        found += patterns_of_recovery(scope)
    used = [each for each in found if _is_used(each, documents)]
    return Report(
        verdict=f"a role for {', '.join(operations)}, which {trust.told} can assume",
        sections=tuple(_sections(documents, used)),
        outputs={name: json.dumps(each) for name, each in documents.items()},
        data={
            **documents,
            "patterns": [{"resource": each.resource, "remedy": each.remedy} for each in used],
        },
    )


def _account(settings: Settings) -> str:
    """The 12 digits of the first role's account."""
    role, owner = settings.role, settings.bucket.expected_owner
    if role.arn:
        return role.arn.split(":")[4]
    if len(role.allowed_account_ids) == 1:
        return role.allowed_account_ids[0]
    # The bucket of another role may be another account's.
    if owner and not settings.bucket.role_arn:
        return owner
    raise InputError(
        "nothing says which AWS account the role is in",
        detail="the policies name what belongs to an account, and nothing is asked of AWS",
        hint="role-to-assume: arn:aws:iam::123456789012:role/pg-backup-writer",
    )


def _operations(settings: Settings) -> tuple[str, ...]:
    """Those of policy-for, and what they do beside in the same run."""
    wanted: list[str] = []
    for name in settings.policy.operations:
        # The setup is looked at with what a backup needs.
        is_setup = name == "audit" and settings.audit.scope == "setup"
        wanted.append("backup" if is_setup else name)
        if name == "backup" and settings.verify.after_backup:
            wanted.append("verify")
    return tuple(dict.fromkeys(wanted))


def _policy(
    name: str,
    granted: Callable[[str, PolicyScope], tuple[Grant, ...]],
    operations: Sequence[str],
    scope: PolicyScope,
    console: Console,
) -> dict[str, Any]:
    grants = [grant for operation in operations for grant in granted(operation, scope)]
    policy = document(grant.statement() for grant in merged(grants))
    if (size := length(policy)) > MOST_MANAGED:
        console.warning(
            f"The {name} is too long for a managed policy",
            f"it has {size:,} characters, and IAM takes {MOST_MANAGED:,} in a managed policy and"
            f" {MOST_INLINE:,} in all inline policies of a role; run it once for each operation of"
            " policy-for, and attach what each run prints as a policy of its own",
        )
    return policy


def _is_used(pattern: Pattern, documents: Mapping[str, Any]) -> bool:
    return json.dumps(pattern.resource) in json.dumps(documents)


def _sections(documents: Mapping[str, Any], found: Sequence[Pattern]) -> list[Section]:
    titles = {
        "policy": "Policy of the role",
        "trust-policy": "Trust policy of the role",
        "bucket-role-policy": "Policy of the bucket-role",
        "bucket-role-trust-policy": "Trust policy of the bucket-role",
    }
    shown: list[Section] = [
        Document(titles[name], "json", as_text(each)) for name, each in documents.items()
    ]
    rows = tuple((each.resource, each.remedy) for each in found)
    return [*shown, Table("What would make it exact", ("Resource", "How"), rows)]
