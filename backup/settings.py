"""What the options become once `backup.inputs` has read them: frozen, and free of faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal


@dataclass(frozen=True)
class Secret:
    """A value that is never shown: not by repr, not by str, not in a traceback's locals."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "***"


@dataclass(frozen=True)
class RoleSettings:
    """Who the run is in AWS. `arn` is None when the environment's credentials are used."""

    region: str | None
    arn: str | None
    session_name: str
    duration_seconds: int
    audience: str
    external_id: str | None
    allowed_account_ids: tuple[str, ...]


@dataclass(frozen=True)
class BucketSettings:
    """Where backups lie, and how their objects are written."""

    name: str
    prefix: str
    kms_key_id: str | None
    expected_owner: str | None
    tags: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SourceSettings:
    """A database to read or to write, as far as the inputs tell; a secret may still add to it.

    `parameters` are the libpq parameters of a URL beyond the named ones.
    """

    host: str | None
    port: str | None
    database: str | None
    user: str | None
    sslmode: str | None
    password: Secret | None
    password_secret_id: str | None
    iam_auth: bool
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Selection:
    """Which part of the database to dump, in pg_dump's patterns."""

    schemas: tuple[str, ...] = ()
    exclude_schemas: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    exclude_tables: tuple[str, ...] = ()
    exclude_table_data: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compression:
    """`method` is none, gzip, lz4 or zstd; `level` None leaves it to pg_dump."""

    method: str
    level: int | None = None

    def __str__(self) -> str:
        return self.method if self.level is None else f"{self.method}:{self.level}"


@dataclass(frozen=True)
class DumpSettings:
    """How to dump. `compression` None means the best that the client can do."""

    jobs: int
    compression: Compression | None
    selection: Selection
    lock_timeout_ms: int
    scratch_limit_bytes: int
    row_counts: bool


@dataclass(frozen=True)
class ThawSettings:
    """How to get objects back from Glacier. `wait_seconds` 0 means not to wait for them."""

    tier: str
    days: int
    wait_seconds: float


@dataclass(frozen=True)
class RestoreSettings:
    """What to restore, and what may be done to the target.

    `backup_id` is an id, a time or `latest`; `confirmed_target` the name that was typed twice.
    """

    backup_id: str
    schemas: tuple[str, ...]
    tables: tuple[str, ...]
    jobs: int
    scratch_limit_bytes: int
    create_database: bool
    no_owner: bool
    no_privileges: bool
    role: str | None
    with_globals: bool
    allow_existing: bool
    clean: bool
    confirmed_target: str | None


@dataclass(frozen=True)
class VerifySettings:
    """How a drill goes, and what it must reach. `check_sql` is a path."""

    after_backup: bool
    depth: str
    sample: int
    check_sql: str | None
    max_restore_seconds: float | None
    max_age_seconds: float | None


@dataclass(frozen=True)
class TunnelSettings:
    """An SSH server on the way to the database, and how to trust it and log in there.

    One of `secret_id` and `instance_id` is set. `host_keys` are lines as in `ssh-ed25519 AAAA…`.
    """

    user: str
    host: str
    port: int
    secret_id: str | None
    instance_id: str | None
    host_keys: tuple[str, ...]


@dataclass(frozen=True)
class RdsSettings:
    """The instance or the cluster that is meant: one of them, or neither where none is needed."""

    instance: str | None
    cluster: str | None


@dataclass(frozen=True)
class SnapshotSettings:
    """How to take a snapshot. `name` None lets the run make one; `keep` None deletes nothing."""

    name: str | None
    via: str
    vault: str | None
    service_role: str | None
    tags: tuple[tuple[str, str], ...]
    keep: int | None
    copy_region: str | None
    copy_kms_key_id: str | None


@dataclass(frozen=True)
class RecoverySettings:
    """What a new instance is made from, and what replaces the old one's settings.

    `snapshot` is `latest`, a name or an ARN, unless `time` is set: `latest` or a moment in UTC.
    """

    snapshot: str
    time: datetime | Literal["latest"] | None
    new_identifier: str | None
    tags: tuple[tuple[str, str], ...]
    subnet_group: str | None
    security_groups: tuple[str, ...]
    parameter_group: str | None


@dataclass(frozen=True)
class ExportSettings:
    """What to export. `snapshot` is `latest`, a name or an ARN."""

    snapshot: str
    service_role: str | None
    only: tuple[str, ...]


@dataclass(frozen=True)
class AuditSettings:
    """What to audit, against which objectives. `report_file` is relative to the workspace.

    `writer_role` is the ARN of the role that makes the backups, where it is not the audit's own.
    """

    scope: str
    fail_on: str
    max_age_seconds: float
    max_drill_age_seconds: float
    max_restore_seconds: float
    release_tag: str | None
    backup_workflow: str
    github_token: Secret | None
    writer_role: str | None
    report_file: str | None


@dataclass(frozen=True)
class Settings:
    """`database` names the backups to list, to restore or to verify.

    `wait_seconds` bounds the wait for AWS; None means not to wait.
    `target` is None where a drill brings its own server.
    """

    operation: str
    role: RoleSettings
    bucket: BucketSettings
    database: str | None
    source: SourceSettings
    target: SourceSettings | None
    dump: DumpSettings
    restore: RestoreSettings
    thaw: ThawSettings
    verify: VerifySettings
    tunnel: TunnelSettings | None
    rds: RdsSettings
    wait_seconds: float | None
    snapshot: SnapshotSettings
    recovery: RecoverySettings
    export: ExportSettings
    audit: AuditSettings
