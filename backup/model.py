"""What flows between the layers: frozen values, no behaviour beyond their own arithmetic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """A PostgreSQL version: `number` as in server_version_num (170004), `text` as in 17.4."""

    number: int
    text: str

    @property
    def major(self) -> int:
        return self.number // 10000


@dataclass(frozen=True, slots=True)
class Client:
    """One folder of PostgreSQL client programs and the version its pg_dump reports."""

    major: int
    version: str
    folder: str

    def program(self, name: str) -> str:
        return f"{self.folder}/{name}"


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of 127.0.0.1 that leads, through a tunnel, to a port of another host."""

    host: str
    port: str
    local_port: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An exported snapshot of the source: everything in a backup is as of this moment."""

    id: str
    time: datetime
    lsn: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation of the source. `kind` is pg_class.relkind; `rows` is None where not counted.

    `size_bytes`, with TOAST and without indexes, is the server's estimate until it is counted.
    """

    schema: str
    name: str
    kind: str
    size_bytes: int
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Extension:
    name: str
    version: str
    schema: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the source held in the snapshot; `relations` only those that the dump must hold."""

    relations: tuple[Relation, ...]
    extensions: tuple[Extension, ...]
    roles: tuple[str, ...]
    large_objects: int
    database_bytes: int
    encoding: str
    collation: str

    def with_counted(self, counted: Iterable[Relation]) -> Inventory:
        """The same with those relations in place of their like."""
        known = {(relation.schema, relation.name): relation for relation in counted}
        relations = (known.get((each.schema, each.name), each) for each in self.relations)
        return replace(self, relations=tuple(relations))


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the archive: where its stored bytes lie, and their SHA-256 in hex.

    `object_key` is relative to the backup's root.
    `offset` is the position in the object, so that one ranged GET fetches the member.
    `schema` and `table` are set for a table's data, and None for everything else.
    """

    name: str
    object_key: str
    offset: int
    size: int
    sha256: str
    schema: str | None = None
    table: str | None = None

    @property
    def data_file(self) -> str:
        """The name that the table of contents knows: without the ending of the compression."""
        stem, _, suffix = self.name.rpartition(".")
        return stem if suffix in ("gz", "lz4", "zst") else self.name

    def of_table(self, schema: str, table: str) -> Member:
        return replace(self, schema=schema, table=table)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of the backup in S3; `crc64nvme` of all its bytes in base64, as S3 gives it.

    `key` is relative to the backup's root.
    """

    key: str
    size: int
    crc64nvme: str


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the run; seconds since the run began, and how long it took."""

    name: str
    started: float
    seconds: float


@dataclass(frozen=True, slots=True)
class BackupEntry:
    """A backup as the catalogue lists it, without reading its manifest whole.

    `tier` is how long it stays (see `backup.archive.retention`), where the listing tells.
    """

    id: str
    database: str
    manifest_key: str
    time: datetime
    stored_bytes: int
    objects: int
    tier: str | None = None


@dataclass(frozen=True, slots=True)
class WorkflowRun:
    """The workflow run that made a backup."""

    repository: str
    workflow: str
    run_id: str
    run_attempt: str
    commit: str
    url: str


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """An object of a database in the words of pg_dump's table of contents.

    `kind` is TABLE, INDEX, FUNCTION …; `schema` is empty for what lies in none; `name` is the
    entry's tag, with the argument types of a function: `total(integer, text)`.
    """

    kind: str
    schema: str
    name: str

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.schema}.{self.name}" if self.schema else f"{self.kind} {self.name}"
        )


class Severity(Enum):
    """What an error of pg_restore means for the restored database."""

    HARMLESS = "harmless"  # nothing is missing
    DEGRADED = "degraded"  # the data is there; an owner, a grant or an extension is not
    FATAL = "fatal"  # something that was to be restored is not there


@dataclass(frozen=True, slots=True)
class Complaint:
    """One error of pg_restore, and what it means.

    `entry_id` is the dump id of the entry, `about` its name; None where pg_restore named none.
    `said` are the server's words, `statement` what it was asked, `reason` why it is classed so.
    """

    entry_id: int | None
    about: ObjectName | None
    said: str
    statement: str
    severity: Severity
    reason: str
