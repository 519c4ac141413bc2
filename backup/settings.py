"""THE table of options, and what they become once they are read.

An option is born here: argparse, `action.yml` and the README's table are checked against
`OPTIONS` by a test. `backup.inputs` reads what a user wrote.
"""

from __future__ import annotations

from dataclasses import dataclass, field

OPERATIONS = {
    "backup": "dump a database into S3",
    "list": "print the catalogue of backups",
    "restore": "load a backup, or tables of it, into a database",
    "verify": "prove that a backup restores",
}


@dataclass(frozen=True)
class Option:
    """One option of every face: `INPUT_NAME`, `--name`, and a row of the README's table."""

    name: str
    help: str
    default: str = ""
    secret: bool = False


OPTIONS: tuple[Option, ...] = (
    Option("operation", "What to do: `backup`, `list`, `restore` or `verify`.", "backup"),
    Option("aws-region", "AWS region of the bucket; without it the environment's `AWS_REGION`."),
    Option("role-to-assume", "ARN of the IAM role to assume through GitHub's OIDC. Without it the credentials of the environment are used."),  # noqa: E501
    Option("role-session-name", "Name of the role session, as CloudTrail shows it.", "pg-backup-action"),  # noqa: E501
    Option("role-duration-seconds", "Length of one role session, 3600 to 43200 s; it is renewed for as long as a dump runs.", "3600"),  # noqa: E501
    Option("audience", "Audience of the id token.", "sts.amazonaws.com"),
    Option("role-external-id", "External id that the role's trust policy asks for: the id token gives a first role session, which then assumes the same role with it."),  # noqa: E501
    Option("allowed-account-ids", "AWS account ids that may be used, one a line or with commas; any other is refused."),  # noqa: E501
    Option("bucket", "Bucket that holds the backups."),
    Option("prefix", "Prefix of the backups in the bucket.", "postgresql"),
    Option("kms-key-id", "KMS key (id, ARN or alias) for SSE-KMS. Without it the bucket's default encryption applies."),  # noqa: E501
    Option("expected-bucket-owner", "Account id that must own the bucket; S3 refuses each request otherwise."),  # noqa: E501
    Option("object-tags", "Tags of every object, `key=value`, one a line, ten at the most."),
    Option("database-url", "The source as a URL, `postgresql://user:password@host:5432/database?sslmode=verify-full`; instead of host, port, database, user.", secret=True),  # noqa: E501
    Option("target-url", "The target of a restore as a URL, in place of host, port, target-database, user. For `verify`, an empty database to restore into, in place of a throwaway server.", secret=True),  # noqa: E501
    Option("host", "Host of the source; for `restore`, of the target."),
    Option("port", "Its port; 5432 without it."),
    Option("database", "Database to back up; for the other operations, the one whose backups are meant."),  # noqa: E501
    Option("target-database", "Database to restore into, on `host`; without it the name in `database`."),  # noqa: E501
    Option("user", "User who reads the source, or writes the target."),
    Option("sslmode", "libpq's sslmode. Without it `verify-full` for RDS host names and `prefer` for others."),  # noqa: E501
    Option("password", "Password of the user; the environment's `PGPASSWORD` does as well.", secret=True),  # noqa: E501
    Option("password-secret-id", "Secrets Manager secret that holds the password: plain, or the JSON that RDS writes, which may also give host, port, user and database."),  # noqa: E501
    Option("iam-auth", "`true`: log in to RDS with a token of the role instead of a password.", "false"),  # noqa: E501
    Option("jobs", "Tables dumped or loaded at the same time; each takes one connection more.", "2"),  # noqa: E501
    Option("compression", "`zstd`, `gzip` or `lz4`, with a level as in `zstd:3`, or `none`. Without it `zstd:1`, and `gzip:1` for servers 14 and 15, whose clients have no zstd."),  # noqa: E501
    Option("schemas", "Only these schemas, of the source or of the backup: pg_dump patterns, one a line."),  # noqa: E501
    Option("exclude-schemas", "Not these schemas: pg_dump patterns, one a line."),
    Option("tables", "Only these tables, of the source or of the backup: pg_dump patterns, one a line. In a backup a name without a schema is looked for in all."),  # noqa: E501
    Option("exclude-tables", "Not these tables: pg_dump patterns, one a line."),
    Option("exclude-table-data", "The definition but not the rows of these tables: pg_dump patterns, one a line."),  # noqa: E501
    Option("lock-timeout", "Longest wait for a table's lock, as in `60s` or `5min`; then the backup fails rather than queue behind a migration.", "60s"),  # noqa: E501
    Option("scratch-limit", "Most disk that the run takes at any moment; 32MiB or more, and 16MiB or more a job. Without it `64MiB`, or what the jobs need. Only the dump of a table of more than 9 GiB compressed takes more: S3 wants larger parts then."),  # noqa: E501
    Option("row-counts", "`false`: do not count the rows of each table for the manifest.", "true"),
    Option("backup-id", "Backup to restore or to verify: `latest`, an id, or a time, which means the newest backup at or before it.", "latest"),  # noqa: E501
    Option("create-database", "`true`: create the target database, which must not exist yet.", "false"),  # noqa: E501
    Option("no-owner", "`true`: what is restored belongs to the user who logs in.", "false"),
    Option("no-privileges", "`true`: restore no grants.", "false"),
    Option("role", "Role to become (`SET ROLE`) before anything is restored."),
    Option("with-globals", "`true`: first create the roles and memberships that the backup holds and the target lacks.", "false"),  # noqa: E501
    Option("allow-existing", "`true`: restore into a database that is not empty; needs `confirm-target`.", "false"),  # noqa: E501
    Option("clean", "`true`: first drop from the target what is to be restored; needs `confirm-target`.", "false"),  # noqa: E501
    Option("confirm-target", "Name of the target database, typed a second time, for what could destroy data."),  # noqa: E501
    Option("thaw-tier", "How fast Glacier gives objects back: `standard`, `bulk` or `expedited`.", "standard"),  # noqa: E501
    Option("thaw-days", "For how many days thawed objects stay readable.", "3"),
    Option("thaw-wait", "Longest wait for Glacier, as in `5h`. Without it the run asks for the objects and ends; run it again once they are there."),  # noqa: E501
    Option("verify", "`true`: drill a backup as soon as it is made, in the same run.", "false"),
    Option("verify-depth", "How far a drill goes: `objects` (all there, sizes and checksums), `archive` (every file decompresses and parses) or `restore` (a full restore, compared byte for byte).", "restore"),  # noqa: E501
    Option("sample", "How many backups to drill: the chosen one, and others of the database drawn at random from those before it.", "1"),  # noqa: E501
    Option("check-sql", "File of queries that must each return true in the restored database."),
    Option("max-restore-minutes", "Longest time that a drill's restore may take (RTO)."),
    Option("max-age-hours", "Highest age of the data in a drilled backup (RPO)."),
)  # fmt: skip


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
class Settings:
    """`database` names the backups to list, to restore or to verify.

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
