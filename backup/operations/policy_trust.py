"""Who may become a role: the jobs of one repository, by branch, tag or environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backup.aws.permissions import partition
from backup.aws.policy import PolicyScope
from backup.aws.policy_document import document
from backup.aws.trust_policy import (
    own_statement,
    provider_arn,
    subject_heads,
    token_conditions,
    token_statement,
)
from backup.console import Console
from backup.errors import InputError
from backup.github.context import issuer_of, origin
from backup.settings import Settings

_FORM = re.compile(r"(?P<owner>[^/@]+)(@(?P<owner_id>\d+))?/(?P<name>[^/@]+)(@(?P<id>\d+))?")


@dataclass(frozen=True, slots=True)
class Trusted:
    """`told` says who is let in, in one phrase."""

    document: dict[str, Any]
    told: str


@dataclass(frozen=True, slots=True)
class Repository:
    """As id tokens name it; the ids are None where nobody told them."""

    owner: str
    name: str
    owner_id: str | None
    id: str | None


def trust_policy(
    settings: Settings, scope: PolicyScope, environment: Mapping[str, str], console: Console
) -> Trusted:
    """Raises InputError where nothing names a repository."""
    role, repository = settings.role, _repository(settings, environment)
    end = _subject(settings.policy.subject)
    plain, with_ids = subject_heads(
        repository.owner, repository.name, repository.owner_id, repository.id
    )
    heads = [plain]
    if repository.owner_id and repository.id:
        heads.append(with_ids)
    else:
        _warn_of_ids(repository, console)
    issuer = issuer_of(environment)
    subjects = [_as_it_is(f"{head}:{end}") for head in heads]
    statements = [
        token_statement(
            provider_arn(partition(scope.region), scope.account, issuer),
            token_conditions(issuer, _as_it_is(role.audience), subjects),
        )
    ]
    if role.external_id and role.arn:
        statements.append(own_statement(role.arn, _as_it_is(role.external_id)))
    told = f"jobs of {repository.owner}/{repository.name} at {end}"
    return Trusted(document(statements), told)


def trust_of_bucket_role(first: str) -> dict[str, Any]:
    """The first role alone may become the one of the bucket."""
    statement = {"Effect": "Allow", "Principal": {"AWS": first}, "Action": "sts:AssumeRole"}
    return document([statement])


def _repository(settings: Settings, environment: Mapping[str, str]) -> Repository:
    given, ours = settings.policy.repository, origin(environment)
    own = Repository(ours.owner, ours.name, ours.owner_id, ours.repository_id) if ours else None
    if given is None:
        if own is None:
            raise InputError(
                "nothing says which repository the role is for",
                detail="this is no run of GitHub Actions, which would name its own",
                hint="trusted-repository: acme/shop",
            )
        return own
    found = _FORM.fullmatch(given)
    assert found is not None  # noqa: S101 - the input was read
    repository = Repository(found["owner"], found["name"], found["owner_id"], found["id"])
    if own and (own.owner, own.name) == (repository.owner, repository.name):
        return Repository(
            own.owner,
            own.name,
            repository.owner_id or own.owner_id,
            repository.id or own.id,
        )
    return repository


def _warn_of_ids(repository: Repository, console: Console) -> None:
    name = f"{repository.owner}/{repository.name}"
    query = '"\\(.owner.login)@\\(.owner.id)/\\(.name)@\\(.id)"'
    console.warning(
        f"{name} is trusted by its name alone",
        "repositories created or renamed since 15 July 2026 have numeric ids in the sub of their"
        " tokens, and are not let in without them; who takes over the name is."
        f" Give trusted-repository with its ids: gh api repos/{name} --jq '{query}'",
    )


def _subject(text: str) -> str:
    """A colon in the name of an environment is written %3A.

    https://docs.github.com/en/actions/reference/security/oidc
    """
    kind, _, name = text.partition(":")
    return f"{kind}:{name.replace(':', '%3A')}" if kind == "environment" else text


def _as_it_is(text: str) -> str:
    """In a value of StringEquals `${…}` alone would mean something else."""
    return text.replace("${", "${$}{")
