"""Runs the action as GitHub's runner does: its environment, its files, its docker command.

https://docs.github.com/en/actions/reference/workflows-and-actions/dockerfile-support
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.aws import REPOSITORY
from tests.lab.commands import Annotation, Log, read_log, read_outputs

TIMEOUT = 180.0  # seconds
JOB = {
    "CI": "true",
    "GITHUB_ACTIONS": "true",
    "GITHUB_ACTION": "backup",
    "GITHUB_ACTOR": "octocat",
    "GITHUB_API_URL": "https://api.github.com",
    "GITHUB_EVENT_NAME": "schedule",
    "GITHUB_JOB": "backup",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_REF_NAME": "main",
    "GITHUB_REPOSITORY": "octo-org/shop",
    "GITHUB_REPOSITORY_OWNER": "octo-org",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_RUN_ID": "1234567890",
    "GITHUB_RUN_NUMBER": "7",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_SHA": "0" * 40,
    "GITHUB_WORKFLOW": "backup",
    "RUNNER_ARCH": "X64",
    "RUNNER_NAME": "lab",
    "RUNNER_OS": "Linux",
}
# What a process needs to run here at all, and no more: no home, no AWS settings, no PG*.
INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR", "PG_BACKUP_TEST_POSTGRES")


@dataclass(frozen=True)
class ActionRun:
    """What a finished step leaves: its exit code, its log and the files it wrote."""

    exit_code: int
    output: str  # stdout and stderr as they came
    outputs: dict[str, str]
    summary: str
    log: Log
    seconds: float
    leftovers: list[str]  # live processes and temporary files it left behind

    @property
    def annotations(self) -> list[Annotation]:
        return self.log.annotations

    @property
    def errors(self) -> list[Annotation]:
        return [entry for entry in self.annotations if entry.level == "error"]

    @property
    def warnings(self) -> list[Annotation]:
        return [entry for entry in self.annotations if entry.level == "warning"]


class RunningAction:
    """A step that runs: its log so far, signals to it, its processes, its result."""

    def __init__(self, command: list[str], env: dict[str, str], home: Path, marker: str) -> None:
        self.home = home
        self.marker = marker
        self._started = time.monotonic()
        self._pieces: list[bytes] = []
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=home / "workspace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """The log until now."""
        return b"".join(self._pieces).decode(errors="replace")

    @property
    def temp(self) -> Path:
        """The step's TMPDIR and RUNNER_TEMP (not shared with an image's /tmp)."""
        return self.home / "temp"

    def wait_for(self, pattern: str, timeout: float = 60.0) -> re.Match[str]:
        """Wait until the log matches. Raises TimeoutError, with the log, if it does not."""
        deadline = time.monotonic() + timeout
        while True:
            ended = self.process.poll() is not None and not self._reader.is_alive()
            if found := re.search(pattern, self.output, re.MULTILINE):
                return found
            if ended or time.monotonic() > deadline:
                raise TimeoutError(f"{pattern!r} did not come:\n{self.output}")
            time.sleep(0.02)

    def send(self, with_signal: signal.Signals) -> None:
        """Signal the step's first process alone, as the runner does when a run is cancelled."""
        self.process.send_signal(with_signal)

    def processes(self) -> dict[int, str]:
        """Live processes that the step started, however they were detached: pids, command lines.

        They are known by a variable that the step's environment has and every child inherits: its
        marker, or one that leads into its folders, as HOME or TMPDIR do, which pg_dump is given.
        """
        signs = (f"LAB_RUN={self.marker}".encode(), f"={self.home}/".encode())
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes()
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # ended in the meantime, or not ours to read
            if any(sign in environment for sign in signs) and words[0]:
                found[int(folder.name)] = b" ".join(words).decode(errors="replace").strip()
        return found

    def finish(self, timeout: float = TIMEOUT) -> ActionRun:
        """Wait for the end. Raises TimeoutError, with the log, after `timeout` seconds."""
        try:
            exit_code = self.process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise TimeoutError(f"still running after {timeout} s:\n{self.output}") from error
        seconds = time.monotonic() - self._started
        self._reader.join(5)
        files = self.home / "files"
        return ActionRun(
            exit_code,
            self.output,
            read_outputs((files / "output").read_text()),
            (files / "summary").read_text(),
            read_log(self.output),
            seconds,
            self.leftovers(),
        )

    def kill(self) -> None:
        """End what still runs, by pid."""
        for pid in (self.process.pid, *self.processes()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def leftovers(self) -> list[str]:
        """What the ended step left behind: live processes, files in its temporary folders."""
        files = [str(path) for path in self.temp.rglob("*")]
        return [*(f"pid {pid}: {line}" for pid, line in self.processes().items()), *files]

    def close(self) -> None:
        """Kill what runs and remove the step's folders."""
        self.kill()
        self._reader.join(5)
        if self.process.stdout:
            self.process.stdout.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> RunningAction:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while piece := os.read(self.process.stdout.fileno(), 65536):
            self._pieces.append(piece)


def start_action(
    inputs: Mapping[str, str], env: Mapping[str, str] | None = None, *, python: str = sys.executable
) -> RunningAction:
    """Start entrypoint.py with `inputs` (names as in action.yml) and the job's variables `env`:
    an Issuer's env, AWS_ENDPOINT_URL and the like."""
    home, marker = folders()
    variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
    variables |= JOB | {
        "HOME": str(home / "home"),
        "TMPDIR": str(home / "temp"),
        "RUNNER_TEMP": str(home / "temp"),
        "GITHUB_WORKSPACE": str(home / "workspace"),
        "GITHUB_OUTPUT": str(home / "files/output"),
        "GITHUB_STEP_SUMMARY": str(home / "files/summary"),
        "GITHUB_ENV": str(home / "files/env"),
        "GITHUB_STATE": str(home / "files/state"),
        "LAB_RUN": marker,
    }
    variables |= _inputs(inputs) | dict(env or {})
    return RunningAction([python, str(REPOSITORY / "entrypoint.py")], variables, home, marker)


def run_action(
    inputs: Mapping[str, str], env: Mapping[str, str] | None = None, *, timeout: float = TIMEOUT
) -> ActionRun:
    """Run entrypoint.py to its end; see `start_action`."""
    with start_action(inputs, env) as running:
        return running.finish(timeout)


def start_image(
    image: str,
    inputs: Mapping[str, str],
    env: Mapping[str, str] | None = None,
    *,
    job_path: str | None = None,
    workspace: Path | None = None,
) -> RunningAction:
    """Start the built image with the command line of the runner, on the host's network.

    `job_path` is a PATH that the job set; `workspace` a folder to mount, read-only, in place of
    an empty one. A signal sent goes to the docker client, which passes it on to PID 1.
    """
    home, marker = folders()
    container = f"lab-{marker}"
    job = JOB | {
        "RUNNER_TEMP": "/github/runner_temp",
        "GITHUB_WORKSPACE": "/github/workspace",
        "GITHUB_OUTPUT": "/github/files/output",
        "GITHUB_STEP_SUMMARY": "/github/files/summary",
        "GITHUB_ENV": "/github/files/env",
        "GITHUB_STATE": "/github/files/state",
        "LAB_RUN": marker,
    }
    job |= _inputs(inputs) | dict(env or {})
    command = ["docker", "run", "--name", container, "--rm", "--network", "host"]
    command += ["--workdir", "/github/workspace", "-e", "HOME=/github/home"]
    if job_path is not None:
        command += ["-e", f"PATH={job_path}"]
    for name in job:
        command += ["-e", name]  # the value comes from docker's own environment
    volumes = {
        home / "temp": "/github/runner_temp",
        home / "home": "/github/home",
        home / "files": "/github/files",
        workspace or home / "workspace": "/github/workspace" + (":ro" if workspace else ""),
    }
    for source, target in volumes.items():
        command += ["-v", f"{source}:{target}"]
    docker = {name: v for name, v in os.environ.items() if name in ("PATH", "HOME", "DOCKER_HOST")}
    return RunningAction([*command, image], job | docker, home, marker)


def run_image(
    image: str,
    inputs: Mapping[str, str],
    env: Mapping[str, str] | None = None,
    *,
    job_path: str | None = None,
    workspace: Path | None = None,
    timeout: float = TIMEOUT,
) -> ActionRun:
    """Run the built image to its end; see `start_image`."""
    with start_image(image, inputs, env, job_path=job_path, workspace=workspace) as running:
        return running.finish(timeout)


def folders() -> tuple[Path, str]:
    """A new home of a run, with the folders and files that the runner makes, and its marker."""
    marker = uuid.uuid4().hex[:12]
    home = Path(tempfile.mkdtemp(prefix="pg-backup-lab-run-"))
    home.chmod(0o755)
    for folder in ("temp", "home", "files", "workspace"):
        (home / folder).mkdir()
    for name in ("output", "summary", "env", "state"):
        (home / "files" / name).touch()
    return home, marker


def _inputs(inputs: Mapping[str, str]) -> dict[str, str]:
    """The runner upper-cases names and turns spaces into underscores; hyphens stay."""
    return {f"INPUT_{name.upper().replace(' ', '_')}": value for name, value in inputs.items()}
