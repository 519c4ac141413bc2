"""When the last release was made: what a snapshot must be newer than."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime

from backup.checks import Answer, ask
from backup.errors import InputError
from backup.github.repository import Repository
from backup.settings import AuditSettings


def released(settings: AuditSettings, environment: Mapping[str, str]) -> Answer[datetime] | None:
    """The time of the commit that `release-tag` names; None where none is given."""
    tag, token = settings.release_tag, settings.github_token
    if not tag or not token:
        return None

    def made() -> datetime:
        repository = Repository(environment, token)
        if time := repository.tagged(tag):
            return time
        raise InputError(
            f"there is no tag {tag} in {repository.name}",
            detail="GitHub knows no commit under that name",
            hint="correct release-tag, or push the tag: git push origin " + shlex.quote(tag),
        )

    return ask(made)
