"""Inputs that come as one JSON object: a row of a fleet's matrix, or the event of a function.

The runner passes the default of every input that a step leaves out, so that what is given and
what is left as it was cannot be told apart: an object fills both empty inputs and defaults.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import Any

from backup.errors import Fault, InputError
from backup.options import OPTIONS

_BY_NAME = {option.name: option for option in OPTIONS}

# What a row holds beside the inputs, for the workflow's own expressions.
LABELS = ("name", "group")

_OF_A_RUN = {
    "operation", "fleet-file", "fleet-group", "fleet-entry", "scope", "fail-on", "report-file",
    "policy-for", "trusted-repository", "trusted-subject",
}  # fmt: skip
# What the fleet's file may say of a database.
OF_A_DATABASE = tuple(
    option.name for option in OPTIONS if not option.secret and option.name not in _OF_A_RUN
)

# A drill reaches no source and takes the whole backup, whatever part of a database is backed up.
_FOR_BACKUPS_ALONE = {
    "host", "port", "user", "sslmode", "password-secret-id", "iam-auth",
    "tunnel", "tunnel-secret-id", "tunnel-host-key", "tunnel-instance-id",
    "schemas", "exclude-schemas", "tables", "exclude-tables", "exclude-table-data",
}  # fmt: skip

_WITHOUT_SECRETS = {
    "password": "name a secret of Secrets Manager: password-secret-id: shop/backup",
    "github-token": "give it to the step: github-token: ${{ github.token }}",
    "database-url": "name host, database and user, and a secret: password-secret-id: shop/backup",
}


def merged(values: Mapping[str, str]) -> dict[str, str]:
    """The inputs with those of `fleet-entry` in the place of what is left as it was.

    Raises InputError with every fault of the entry; its values are never shown.
    """
    text = values.get("fleet-entry", "").strip()
    if not text:
        return dict(values)
    entry, faults = _entry(text)
    if faults:
        raise InputError.from_faults(faults)
    return filled(values, entry)


def filled(values: Mapping[str, str], entry: Mapping[str, str]) -> dict[str, str]:
    """The inputs with `entry` in the place of those that are empty or have their default.

    For `operation: verify` what says how to reach a source is left out of the entry.
    """
    fitting = {name: text for name, text in entry.items() if is_left(name, values.get(name, ""))}
    operation = values.get("operation") or _BY_NAME["operation"].default
    if fitting.get("operation", operation) == "verify":
        fitting = {name: text for name, text in fitting.items() if name not in _FOR_BACKUPS_ALONE}
    return {**values, **fitting}


def is_left(name: str, text: str) -> bool:
    """Whether an input is as it is where nobody gives it."""
    return text.strip() in ("", _BY_NAME[name].default)


def unfit(name: str) -> tuple[str, str] | None:
    """Why an input of that name cannot be in an entry, and what to do; None where it can."""
    option = _BY_NAME.get(name)
    if option is None:
        near = difflib.get_close_matches(name, [*OF_A_DATABASE, *LABELS], n=1)
        return "is not an input of this action", f"did you mean {near[0]}?" if near else "remove it"
    if option.secret:
        instead = (
            f"give it to the step: {name}: ${{{{ secrets.{name.upper().replace('-', '_')} }}}}"
        )
        return "is a secret, and everyone may read this", _WITHOUT_SECRETS.get(name, instead)
    return None


def _entry(text: str) -> tuple[dict[str, str], list[Fault]]:
    """The inputs of a JSON object, and what is wrong with it."""
    try:
        read = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        remedy = "write fleet-entry: ${{ toJSON(matrix) }}"
        return {}, [Fault("fleet-entry", "is no JSON object", remedy)]
    entry: dict[str, str] = {}
    faults: list[Fault] = []
    for name, value in read.items():
        if name in LABELS or value is None:
            continue
        shown = name if re.fullmatch(r"[\w-]{1,40}", name) else ascii(name)[:40]
        if wrong := unfit(name):
            faults.append(Fault(f"fleet-entry: {shown}", *wrong))
        elif name == "fleet-entry":
            faults.append(Fault("fleet-entry", "holds another one", "remove it"))
        elif (text_of := as_text(value)) is None:
            remedy = "write a text, a number, true or false; several lines as one text"
            faults.append(Fault(f"fleet-entry: {shown}", "is a list or an object", remedy))
        else:
            entry[name] = text_of
    return entry, faults


def _refuse(constant: str) -> None:
    """NaN and Infinity are Python's and not JSON's."""
    raise ValueError(constant)


def as_text(value: Any) -> str | None:
    """A value as an input's text; None for what is none."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int():
            return str(value)
        case float():
            # JSON knows one kind of number, and programs write 5432.0 for 5432.
            return str(int(value)) if value.is_integer() else str(value)
    return None
