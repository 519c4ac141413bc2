"""What the options become once `backup.inputs` has read them: frozen, and free of faults."""

from __future__ import annotations

from collections.abc import Mapping
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
    """Where backups lie, and how their objects are written.

    `role_arn` is assumed for the bucket alone. `retention_tier` is `auto`, or the tag's value.
    `replica_of` names the bucket that this one is the replica of; None for the first one.
    `read_below` says what below the prefix is read, in patterns, for policies to paste.
    """

    name: str
    prefix: str
    kms_key_id: str | None
    expected_owner: str | None
    tags: tuple[tuple[str, str], ...]
    role_arn: str | None = None
    retention_tier: str | None = None
    replica_of: str | None = None
    read_below: tuple[str, ...] = ("*",)


@dataclass(frozen=True)
class ReplicaSettings:
    """The bucket that S3 replicates the backups to. `wait_seconds` None means not to wait."""

    bucket: str
    region: str
    wait_seconds: float | None


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
class Promises:
    """What was promised of one database: of its newest backup, of its drill, of its restore."""

    max_age_seconds: float
    max_drill_age_seconds: float
    max_restore_seconds: float


@dataclass(frozen=True)
class AuditedFleet:
    """What an audit has of a fleet's file.

    `promises` are of the databases whose backups lie in the audited bucket and prefix, by the
    database; `known` are those of every group. `elsewhere` are the names of the others and where
    the file has their backups.
    """

    promises: Mapping[str, Promises]
    known: frozenset[str]
    elsewhere: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class AuditSettings:
    """What to audit, against which objectives. `report_file` is relative to the workspace.

    `writer_role` is the ARN of the role that makes the backups, where it is not the audit's own.
    `fleet` is what the run has read of `fleet-file`, None without one.
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
    fleet: AuditedFleet | None = None


@dataclass(frozen=True)
class NotificationSettings:
    """Who is told how a run ended, and when: `failure`, `always` or `change`.

    `webhook_format` is `slack` or `json`. Metrics go to `namespace` after every run.
    """

    topic_arn: str | None
    webhook_url: Secret | None
    webhook_format: str
    webhook_secret: Secret | None
    on: str
    namespace: str | None

    @property
    def listeners(self) -> tuple[object, ...]:
        """Everybody that there is to tell; None for those that there are not."""
        return self.topic_arn, self.webhook_url, self.namespace


@dataclass(frozen=True)
class FleetSettings:
    """Where the fleet's file lies, relative to the workspace, and which part of it is meant.

    `given` are the step's own inputs by name, as far as they could be a database's: no secrets.
    """

    file: str | None
    group: str | None
    given: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicySettings:
    """The operations that a role is for, and who may assume it."""

    operations: tuple[str, ...]
    repository: str | None
    subject: str


@dataclass(frozen=True)
class Settings:
    """`database` names the backups to list, to restore or to verify.

    `read_from` is `bucket`, `replica` or `auto`.

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
    replica: ReplicaSettings | None
    read_from: str
    notifications: NotificationSettings
    fleet: FleetSettings
    policy: PolicySettings
