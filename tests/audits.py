"""One area of an audit against the doubles: its checks, and the fixes that they print."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shlex
import subprocess
import sys
import unittest.mock
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from backup.aws.session import AwsSession, open_session
from backup.checks import Check, Status
from backup.inputs import read
from backup.options import OPTIONS
from backup.settings import Settings
from tests.lab.aws import REGION

clidriver: Any = importlib.import_module("awscli.clidriver")  # has no type information
# Its import tells botocore, by the environment, where the CLI's own data lie.
CLI = {"HOME": "/nonexistent", "AWS_DATA_PATH": os.environ.pop("AWS_DATA_PATH", "")}

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_MAX_ATTEMPTS": "2",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}


_sessions: dict[str, AwsSession] = {}  # by access key


def settings_of(**inputs: str) -> Settings:
    """The settings of an audit; inputs by name, with underscores for hyphens."""
    given = {"operation": "audit", "bucket": "backups", "aws-region": REGION}
    given |= {name.replace("_", "-"): value for name, value in inputs.items()}
    return read({option.name: option.default for option in OPTIONS} | given, {})


def logged_in(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, environment: Mapping[str, str]
) -> AwsSession:
    """A session with the keys and the endpoints of `environment`, for the rest of the test.

    It is kept for the next test with these keys: botocore reads its models once, and endpoints
    from the environment whenever a client is made.
    """
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if settings.role.arn:
        return open_session(settings.role, None, lambda _: None)
    key = environment["AWS_ACCESS_KEY_ID"]
    if key not in _sessions:
        _sessions[key] = open_session(settings.role, None, lambda _: None)
    return _sessions[key]


def apply(fix: str, environment: Mapping[str, str]) -> str:
    """Run the lines of a fix as an operator would, with the AWS CLI; what they print."""
    lines = [line for line in fix.splitlines() if line and not line.startswith("#")]
    if all(_is_plain(line) for line in lines):
        return "".join(_in_this_process(shlex.split(line)[1:], environment) for line in lines)
    folder = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", fix],
        env={"PATH": f"{folder}:{os.defpath}", "HOME": "/nonexistent", "AWS_PAGER": ""}
        | dict(environment),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 0 == done.returncode, f"{fix}\n{done.stdout}{done.stderr}"
    return done.stdout


def _is_plain(line: str) -> bool:
    """Whether a line is one call of the CLI, without anything that only a shell understands."""
    try:
        words = list(shlex.shlex(line, posix=True, punctuation_chars=True))
    except ValueError:
        return False  # a quotation goes on in the next line
    return line.startswith("aws ") and "$" not in line and not set("();<>|&") & set(words)


def _in_this_process(words: list[str], environment: Mapping[str, str]) -> str:
    """The CLI itself, without the second that a new process takes to import it."""
    printed, complaints = io.StringIO(), io.StringIO()
    with (
        unittest.mock.patch.dict(os.environ, CLI | dict(environment), clear=True),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(complaints),
    ):
        code = clidriver.create_clidriver().main(words)
    assert 0 == code, f"{shlex.join(words)}\n{printed.getvalue()}{complaints.getvalue()}"
    return printed.getvalue()


def statuses(checks: Mapping[str, Check], status: Status) -> list[str]:
    """The ids of the checks with that status."""
    return [id for id, check in checks.items() if check.status == status]
