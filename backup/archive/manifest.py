"""`manifest.json`: the one file that makes a backup a backup, written last.

Its form is `docs/manifest.schema.json`; `format` counts up when a reader of the old form would
misread the new one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from backup.model import (
    Client,
    Inventory,
    Member,
    Phase,
    ServerVersion,
    Snapshot,
    StoredObject,
    WorkflowRun,
)
from backup.settings import Selection

FORMAT = 1
NAME = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """Everything that is known of a backup. Keys of objects are relative to the manifest."""

    id: str
    database: str
    host: str
    port: str
    finished: datetime
    snapshot: Snapshot
    server: ServerVersion
    client: Client
    action_version: str
    run: WorkflowRun | None
    compression: str
    selection: Selection
    inventory: Inventory
    phases: tuple[Phase, ...]
    objects: tuple[StoredObject, ...]
    members: tuple[Member, ...]

    @property
    def stored_bytes(self) -> int:
        return sum(each.size for each in self.objects)


def encode(manifest: Manifest) -> bytes:
    """The manifest as JSON: one line an object and a member, so that it can be read and diffed."""
    head: dict[str, Any] = {
        "format": FORMAT,
        "id": manifest.id,
        "database": manifest.database,
        "source": {"host": manifest.host, "port": manifest.port},
        "snapshot": {"time": _utc(manifest.snapshot.time), "lsn": manifest.snapshot.lsn},
        "finished": _utc(manifest.finished),
        "server": asdict(manifest.server),
        "client": {"major": manifest.client.major, "version": manifest.client.version},
        "action": {"version": manifest.action_version, "run": _run(manifest.run)},
        "compression": manifest.compression,
        "selection": asdict(manifest.selection),
        "sizes": {
            "database": manifest.inventory.database_bytes,
            "stored": manifest.stored_bytes,
            "members": sum(member.size for member in manifest.members),
        },
        "phases": [asdict(phase) for phase in manifest.phases],
    }
    inventory = asdict(manifest.inventory)
    lines = [f"{_json(name)}: {_json(value)}" for name, value in head.items()]
    lines += [
        f'"inventory": {{{_inner(inventory)}}}',
        f'"objects": {_rows([asdict(each) for each in manifest.objects])}',
        f'"members": {_rows([_member(each) for each in manifest.members])}',
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("utf-8", "backslashreplace")


def _inner(inventory: dict[str, Any]) -> str:
    return ",\n  ".join(
        f"{_json(name)}: {_rows(value) if name == 'relations' else _json(value)}"
        for name, value in inventory.items()
    )


def _rows(values: list[dict[str, Any]] | tuple[dict[str, Any], ...]) -> str:
    return "[\n    " + ",\n    ".join(_json(value) for value in values) + "\n  ]"


def _member(member: Member) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": member.name,
        "object": member.object_key,
        "offset": member.offset,
        "size": member.size,
        "sha256": member.sha256,
    }
    if member.table is not None:
        fields |= {"schema": member.schema, "table": member.table}
    return fields


def _run(run: WorkflowRun | None) -> dict[str, str] | None:
    return asdict(run) if run else None


def _utc(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
