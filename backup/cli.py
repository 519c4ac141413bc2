"""The local face: `python -m backup OPERATION --option value`, the same program for a terminal."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from backup.options import OPERATIONS, OPTIONS
from backup.program import main as run
from backup.terminal import Terminal


def parser() -> argparse.ArgumentParser:
    """One flag for each option of the table; many-line options may be repeated."""
    built = argparse.ArgumentParser(
        prog="python -m backup",
        description="PostgreSQL backups in S3.",
        epilog="Passwords come from PGPASSWORD, DATABASE_URL or TARGET_URL, a token of GitHub from"
        " GITHUB_TOKEN, a webhook's URL and its key from WEBHOOK_URL and WEBHOOK_SECRET, and AWS"
        " credentials from the environment.",
        allow_abbrev=False,
    )
    built.add_argument("operation", choices=sorted(OPERATIONS), help="; ".join(
        f"{name}: {what}" for name, what in OPERATIONS.items()))  # fmt: skip
    for option in OPTIONS:
        if option.name == "operation" or option.secret:
            continue  # argv can be read by every user of the machine
        given = f" [{option.default}]" if option.default else ""
        text = (option.help + given).replace("%", "%%")
        built.add_argument(f"--{option.name}", action="append", metavar="TEXT", help=text)
    built.add_argument("--json", action="store_true", help="print the result as JSON")
    built.add_argument("--debug", action="store_true", help="print tracebacks")
    return built


def main(arguments: Sequence[str] | None = None) -> int:
    given = vars(parser().parse_args(arguments))
    terminal = Terminal(as_json=given.pop("json"), debug=given.pop("debug"))
    values = {"operation": given.pop("operation")}
    for name, texts in given.items():
        if texts:
            values[name.replace("_", "-")] = "\n".join(texts)
    # A URL may hold a password, so it comes from the environment alone.
    for name in ("database-url", "target-url"):
        # DATABASE_URL is what a backup reads, and nothing that a restore could mean.
        if name == "database-url" and values["operation"] in ("restore", "verify"):
            continue
        if url := os.environ.get(name.upper().replace("-", "_")):
            values[name] = url
    for name in ("github-token", "webhook-url", "webhook-secret"):
        if secret := os.environ.get(name.upper().replace("-", "_")):
            values[name] = secret
    code = run(values, os.environ, terminal)
    sys.stdout.flush()
    return code
