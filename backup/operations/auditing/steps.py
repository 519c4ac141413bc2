"""Fixes that a workflow makes: a step of this action, or a run of the workflow that has it."""

from __future__ import annotations

import json
import re

from backup.settings import Settings

# What YAML 1.1 takes for something else than text.
_WORDS = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")


def backing_up(settings: Settings) -> str:
    return f"gh workflow run {settings.audit.backup_workflow}"


def step_of(settings: Settings, operation: str, database: str, backup_id: str) -> str:
    """The inputs of a step, for a job that logs in as the other steps do."""
    inputs = {
        "operation": operation,
        "bucket": settings.bucket.name,
        "prefix": settings.bucket.prefix,
        "database": database,
        "backup-id": backup_id,
    }
    return "with:\n" + "\n".join(f"  {name}: {_yaml(text)}" for name, text in inputs.items())


def _yaml(text: str) -> str:
    """A scalar; JSON's strings are YAML's too."""
    is_plain = re.fullmatch(r"[a-z][a-z0-9_./-]*", text) and text not in _WORDS
    return text if is_plain else json.dumps(text)
