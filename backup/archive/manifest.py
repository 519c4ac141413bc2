"""`manifest.json`: the one file that makes a backup a backup, written last.

Its form is `docs/manifest.schema.json`; `format` counts up when a reader of the old form would
misread the new one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from backup.archive.fields import Fields, Unreadable
from backup.archive.retention import TIERS
from backup.errors import VerificationError
from backup.model import (
    Client,
    Extension,
    Inventory,
    Member,
    Phase,
    Relation,
    ServerVersion,
    Snapshot,
    StoredObject,
    WorkflowRun,
)
from backup.settings import Selection

FORMAT = 1
NAME = "manifest.json"
TABLE_OF_CONTENTS = "toc.dat"


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
    retention_tier: str | None = None

    @property
    def is_partial(self) -> bool:
        """Whether some schemas or tables were dumped, and not the whole database."""
        return bool(self.selection.schemas or self.selection.tables)

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
        "sizes": _sizes(manifest),
        "phases": [asdict(phase) for phase in manifest.phases],
    }
    if manifest.retention_tier:
        head["retention_tier"] = manifest.retention_tier
    inventory = asdict(manifest.inventory)
    lines = [f"{_json(name)}: {_json(value)}" for name, value in head.items()]
    lines += [
        f'"inventory": {{{_inner(inventory)}}}',
        f'"objects": {_rows([asdict(each) for each in manifest.objects])}',
        f'"members": {_rows([_member(each) for each in manifest.members])}',
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("utf-8", "backslashreplace")


def _sizes(manifest: Manifest) -> dict[str, int]:
    return {
        "database": manifest.inventory.database_bytes,
        "stored": manifest.stored_bytes,
        "members": sum(member.size for member in manifest.members),
    }


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


# What members and objects are called. A name becomes a path, on disk and in the bucket, so none
# may lead out of its folder, or be hidden, or look like an option.
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_KEY = re.compile(rf"archive/{_FILE.pattern}")
_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
_NAME = re.compile(r".+", re.DOTALL)
_DIGITS = re.compile(r"[0-9]+")
_LSN = re.compile(r"([0-9A-F]+/[0-9A-F]+)?")
_COMPRESSION = re.compile(r"none|(gzip|lz4|zstd)(:[0-9]+)?")
_TIER = re.compile("|".join(TIERS))
_KIND = re.compile(r"[rpfmvS]")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CRC64NVME = re.compile(r"[A-Za-z0-9+/]{11}=")


def decode(content: bytes) -> Manifest:
    """The manifest that `encode` wrote; of the client no folder, of the snapshot no id.

    Raises VerificationError for anything that `encode` does not write: a damaged manifest must
    not lead to bytes that it does not mean.
    """
    try:
        fields = Fields.of(content)
        if (number := fields.whole("format")) > FORMAT:
            raise VerificationError(
                f"the manifest has format {number}, and this version reads {FORMAT}",
                detail="a newer version of the action made the backup",
                hint="use the version that made it, which the manifest names under action.version",
            )
        return _read(fields)
    except Unreadable as error:
        raise VerificationError(
            "the manifest is damaged",
            detail=f"in {NAME}, {error}",
            hint="restore another backup (operation: list shows them). Where the bucket keeps"
            " versions, an earlier version of this manifest may be whole",
        ) from error


def _read(fields: Fields) -> Manifest:
    fields.whole("format", FORMAT)
    source, client = fields.part("source"), fields.part("client")
    server, snapshot = fields.part("server"), fields.part("snapshot")
    action, selection = fields.part("action"), fields.part("selection")
    run = action.part_or_none("run")
    objects = tuple(_read_object(each) for each in fields.parts("objects"))
    members = tuple(_read_member(each) for each in fields.parts("members"))
    manifest = Manifest(
        id=fields.text("id", _ID),
        database=fields.text("database", _NAME),
        host=source.text("host"),
        port=source.text("port", _DIGITS),
        finished=fields.moment("finished"),
        snapshot=Snapshot("", snapshot.moment("time"), snapshot.text("lsn", _LSN)),
        server=ServerVersion(server.whole("number", 100000), server.text("text")),
        client=Client(client.whole("major", 14), client.text("version"), folder=""),
        action_version=action.text("version"),
        run=WorkflowRun(**{name: run.text(name) for name in WorkflowRun.__slots__})
        if run
        else None,
        compression=fields.text("compression", _COMPRESSION),
        selection=Selection(
            schemas=selection.texts("schemas"),
            exclude_schemas=selection.texts("exclude_schemas"),
            tables=selection.texts("tables"),
            exclude_tables=selection.texts("exclude_tables"),
            exclude_table_data=selection.texts("exclude_table_data"),
        ),
        inventory=_read_inventory(fields.part("inventory")),
        phases=tuple(
            Phase(each.text("name"), each.seconds("started"), each.seconds("seconds"))
            for each in fields.parts("phases")
        ),
        objects=objects,
        members=members,
        retention_tier=fields.text("retention_tier", _TIER)
        if "retention_tier" in fields.values
        else None,
    )
    _check_places(objects, members)
    _check_sizes(fields.part("sizes"), manifest)
    return manifest


def _read_inventory(fields: Fields) -> Inventory:
    return Inventory(
        relations=tuple(
            Relation(
                schema=each.text("schema"),
                name=each.text("name"),
                kind=each.text("kind", _KIND),
                size_bytes=each.whole("size_bytes"),
                rows=each.whole_or_none("rows"),
            )
            for each in fields.parts("relations")
        ),
        extensions=tuple(
            Extension(each.text("name"), each.text("version"), each.text("schema"))
            for each in fields.parts("extensions")
        ),
        roles=fields.texts("roles"),
        large_objects=fields.whole("large_objects"),
        database_bytes=fields.whole("database_bytes"),
        encoding=fields.text("encoding"),
        collation=fields.text("collation"),
    )


def _read_object(fields: Fields) -> StoredObject:
    return StoredObject(
        fields.text("key", _KEY), fields.whole("size"), fields.text("crc64nvme", _CRC64NVME)
    )


def _read_member(fields: Fields) -> Member:
    member = Member(
        name=fields.text("name", _FILE),
        object_key=fields.text("object", _KEY),
        offset=fields.whole("offset"),
        size=fields.whole("size"),
        sha256=fields.text("sha256", _SHA256),
    )
    if "schema" in fields.values or "table" in fields.values:
        return member.of_table(fields.text("schema"), fields.text("table"))
    return member


def _check_places(objects: tuple[StoredObject, ...], members: tuple[Member, ...]) -> None:
    """Every member lies in its object, and every object holds one."""
    _check_unique("objects", (each.key for each in objects))
    _check_unique("members", (each.name for each in members))
    sizes = {each.key: each.size for each in objects}
    for member in members:
        if member.object_key not in sizes:
            raise Unreadable(f"{member.name} lies in {member.object_key}, which is not listed")
        if member.offset + member.size > sizes[member.object_key]:
            raise Unreadable(f"{member.name} lies beyond the end of {member.object_key}")
    if unused := sizes.keys() - {member.object_key for member in members}:
        raise Unreadable(f"no member lies in {min(unused)}")
    if TABLE_OF_CONTENTS not in {member.name for member in members}:
        raise Unreadable(f"there is no member {TABLE_OF_CONTENTS}")


def _check_unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Unreadable(f"{name} is listed twice among the {what}")
        seen.add(name)


def _check_sizes(fields: Fields, manifest: Manifest) -> None:
    """The sums that `encode` has written must be those of what is listed."""
    for name, total in _sizes(manifest).items():
        if fields.whole(name) != total:
            raise fields.unlike(name, f"is {fields.whole(name)}, and what is listed makes {total}")
