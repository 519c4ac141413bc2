"""What the runner tells about the run, in its default variables.

https://docs.github.com/en/actions/reference/workflows-and-actions/variables
"""

from __future__ import annotations

from collections.abc import Mapping

from backup.model import WorkflowRun


def workflow_run(environment: Mapping[str, str]) -> WorkflowRun | None:
    """The run of this job, or None outside of GitHub Actions."""
    if environment.get("GITHUB_ACTIONS") != "true":
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
