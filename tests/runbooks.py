"""A person with a runbook: takes commands and YAML out of its page and runs them as written."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import by_hand
from tests.lab.aws import REPOSITORY
from tests.lab.cloud import Cloud, listing, reading, writing
from tests.lab.postgres import PostgresServer
from tests.lab.runner import ActionRun, run_action

yaml: Any = importlib.import_module("yaml")  # has no type information of its own

RUNBOOKS = REPOSITORY / "docs/runbooks"
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
# Of a block of nothing else: the names that the blocks after it use, all in one shell.
_VALUE = r"(?:'(?:[^']|'\\'')*'|\$\((?:[^\n\\]|\\.)*\)|[^\s#]*)"
_ASSIGNMENTS = re.compile(rf"(?:(?:export )?(?:\w+={_VALUE}\s*)+(?:#.*)?\n?)+", re.DOTALL)


@dataclass
class Runbook:
    """A page. `filled` are its placeholders and what stands for them here."""

    page: str
    filled: Mapping[str, str]

    def block(self, heading: str, number: int = 0, language: str = "sh") -> str:
        """The block of that number among those of its language in a section."""
        return [text for at, is_in, text in self._blocks() if (at, is_in) == (heading, language)][
            number
        ]

    def names_before(self, block: str) -> str:
        """What earlier blocks have set."""
        names = ""
        for _, language, text in self._blocks():
            if text == block:
                break
            if language == "sh" and _ASSIGNMENTS.fullmatch(text):
                names += text
        return names

    def _blocks(self) -> list[tuple[str, str, str]]:
        text = (RUNBOOKS / self.page).read_text()
        for placeholder, value in self.filled.items():
            text = text.replace(placeholder, value)
        found = []
        for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
            heading, _, body = section.partition("\n")
            for indent, language, block in _BLOCK.findall(body):
                found.append((heading, language, re.sub(f"(?m)^{indent}", "", block)))
        return found


@dataclass
class Desk:
    """A server over TLS, a bucket, a shell, and a workflow to paste steps into."""

    server: PostgresServer
    cloud: Cloud
    shell: by_hand.Shell
    filled: dict[str, str] = field(default_factory=dict)

    def open(self, page: str) -> Runbook:
        return Runbook(page, self.filled)

    def type(self, book: Runbook, heading: str, number: int = 0) -> str:
        """Run a shell block, to its end without an error; what it printed."""
        block = book.block(heading, number)
        return self.shell.run(f"set -e\n{book.names_before(block)}{block}").decode()

    def paste(self, book: Runbook, heading: str) -> ActionRun:
        """Run the workflow step of a section, with the role and the authority of this place."""
        (step,) = yaml.safe_load(book.block(heading, language="yaml"))
        given = {name: _as_input(value) for name, value in step["with"].items()}
        environment = dict(self.cloud.env) | clients(self.server)
        if self.server.certificates is not None:
            environment["PGSSLROOTCERT"] = str(self.server.certificates.authority)
        return run_action(given | {"role-to-assume": self.cloud.role}, environment)


def sit_down(server: PostgresServer, cloud: Cloud, folder: Path, password: str) -> Desk:
    """A desk on which everything that the pages take for granted lies."""
    bucket = cloud.bucket
    cloud.allow(writing(bucket), listing(bucket), reading(bucket))
    program = folder / "venv/bin/python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    environment = dict(by_hand.shell(folder, server, cloud).environment) | clients(server)
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "AWS_DEFAULT_REGION"):
        del environment[name]  # the pages say what they need of these
    filled = {
        "my-company-pg-backups": bucket,
        "db.example.org": "127.0.0.1",
        "5432": str(server.port),
        "'THE-PASSWORD'": "'" + password.replace("'", "'\\''") + "'",
        "${{ secrets.RESTORE_PASSWORD }}": json.dumps(password),
    }
    return Desk(server, cloud, by_hand.Shell(folder, environment), filled)


def clients(server: PostgresServer) -> dict[str, str]:
    return {"PG_BACKUP_CLIENTS": str(server.binaries)}


def _as_input(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
