"""What the runner tells about the run, in its default variables.

https://docs.github.com/en/actions/reference/workflows-and-actions/variables
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from backup.model import WorkflowRun


def on_runner(environment: Mapping[str, str]) -> bool:
    """Whether this is a step of a workflow, and not a container or a terminal elsewhere."""
    return environment.get("GITHUB_ACTIONS") == "true"


def workflow_run(environment: Mapping[str, str]) -> WorkflowRun | None:
    """The run of this job, or None outside of GitHub Actions."""
    if not on_runner(environment):
        return None
    get = environment.get
    repository, run_id = get("GITHUB_REPOSITORY", ""), get("GITHUB_RUN_ID", "")
    return WorkflowRun(
        repository=repository,
        workflow=get("GITHUB_WORKFLOW", ""),
        run_id=run_id,
        run_attempt=get("GITHUB_RUN_ATTEMPT", "1"),
        commit=get("GITHUB_SHA", ""),
        url=f"{get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}/actions/runs/{run_id}",
    )


def release(environment: Mapping[str, str]) -> str | None:
    """What this run releases: the tag that it was started for, or else the commit's short hash."""
    if environment.get("GITHUB_REF_TYPE") == "tag" and environment.get("GITHUB_REF_NAME"):
        return environment["GITHUB_REF_NAME"]
    return environment.get("GITHUB_SHA", "")[:7] or None


@dataclass(frozen=True, slots=True)
class Origin:
    """The repository of this run as its id tokens name it, and who issues them.

    The ids are None where the runner does not tell them. `issuer` is a host and a path, as in
    the ARN of an OIDC provider; `subject` is the end of `sub` for a job without an environment.
    https://docs.github.com/en/actions/reference/security/oidc
    """

    owner: str
    name: str
    owner_id: str | None
    repository_id: str | None
    issuer: str
    subject: str


def origin(environment: Mapping[str, str]) -> Origin | None:
    """None where nothing says which repository is meant, as outside of GitHub Actions."""
    owner, _, name = environment.get("GITHUB_REPOSITORY", "").partition("/")
    if not owner or not name:
        return None
    return Origin(
        owner,
        name,
        environment.get("GITHUB_REPOSITORY_OWNER_ID") or None,
        environment.get("GITHUB_REPOSITORY_ID") or None,
        issuer_of(environment),
        f"ref:{environment.get('GITHUB_REF') or 'refs/heads/main'}",
    )


def issuer_of(environment: Mapping[str, str]) -> str:
    """Who issues the id tokens of this GitHub, named without `https://`."""
    host = urlsplit(environment.get("GITHUB_SERVER_URL", "")).hostname or "github.com"
    if host == "github.com":
        return "token.actions.githubusercontent.com"
    return f"token.actions.{host}" if host.endswith(".ghe.com") else f"{host}/_services/token"
