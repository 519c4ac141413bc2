"""THE table of options: an option of any face is born here.

argparse, `action.yml` and the README's table are checked against `OPTIONS` by a test.
`backup.inputs` reads what a user wrote.
"""

from __future__ import annotations

from dataclasses import dataclass

OPERATIONS = {
    "backup": "dump a database into S3",
    "list": "print the catalogue of backups",
    "restore": "load a backup, or tables of it, into a database",
    "verify": "prove that a backup restores",
    "snapshot": "take a snapshot of an RDS instance or an Aurora cluster",
    "restore-instance": "make a new RDS instance or cluster from a snapshot or a point in time",
    "export": "export an RDS snapshot to S3 as Parquet, for analysis",
    "audit": "check the whole strategy, or the setup before the first backup",
    "plan": "read the fleet's file and make the matrix of a workflow of it",
    "collect": "sum up what the jobs of a fleet have done",
    "policy": "print the IAM policy and the trust policy that operations need",
}


@dataclass(frozen=True)
class Option:
    """One option of every face: `INPUT_NAME`, `--name`, and a row of the README's table."""

    name: str
    help: str
    default: str = ""
    secret: bool = False


OPTIONS: tuple[Option, ...] = (
    Option("operation", "What to do: `backup`, `list`, `restore`, `verify`, `snapshot`, `restore-instance`, `export`, `audit`, `plan`, `collect` or `policy`.", "backup"),  # noqa: E501
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
    Option("object-tags", "Tags of every object of a backup, `key=value`, one a line, ten at the most."),  # noqa: E501
    Option("bucket-role", "ARN of a role in the bucket's account, which the first role assumes for all that touches the bucket and its key (role chaining)."),  # noqa: E501
    Option("retention-tier", "Tag `retention-tier` of a backup's objects, for the bucket's lifecycle: `daily`, `weekly`, `monthly`, `yearly`, or `auto`: the first backup of a year is yearly, of a month monthly, of a week weekly, any other daily. Without it none."),  # noqa: E501
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
    Option("max-restore-minutes", "Longest time that a restore may take, in a drill or into a new instance (RTO)."),  # noqa: E501
    Option("max-age-hours", "Highest age of the data in a drilled backup (RPO); for `audit` of the newest backup of each database, 26 without it."),  # noqa: E501
    Option("max-drill-age-days", "For `audit`: highest age of the newest proven drill of each database.", "35"),  # noqa: E501
    Option("tunnel", "SSH server through which to reach the database, `ssh://user@bastion:22`."),
    Option("tunnel-secret-id", "Secrets Manager secret with the private key for the tunnel: plain, or JSON with `private_key` and `host_key`."),  # noqa: E501
    Option("tunnel-host-key", "Public key that the SSH server must show, as in `ssh-ed25519 AAAA…`; one a line."),  # noqa: E501
    Option("tunnel-instance-id", "EC2 instance of the SSH server: a key made for this run is sent to it by EC2 Instance Connect, in place of a key from a secret."),  # noqa: E501
    Option("db-instance", "Identifier of an RDS for PostgreSQL instance."),
    Option("db-cluster", "Identifier of an Aurora PostgreSQL or a Multi-AZ cluster."),
    Option("via", "Who takes the snapshot: `rds` or `aws-backup`.", "rds"),
    Option("backup-vault", "Vault of AWS Backup, for `via: aws-backup`."),
    Option("service-role", "ARN of the role that AWS Backup, or RDS's export, does its work with."),
    Option("snapshot-id", "The snapshot. For `snapshot` the name of the new one, made from release and time without it; for `restore-instance` and `export` a name, an ARN (also of a recovery point), or `latest`, which is meant without it."),  # noqa: E501
    Option("tags", "Tags of a new snapshot or instance, `key=value`, one a line."),
    Option("keep", "How many snapshots taken by this action stay; older ones are deleted, never the newest. Without it none is."),  # noqa: E501
    Option("copy-to-region", "Region that a new snapshot is copied to."),
    Option("copy-kms-key-id", "KMS key in that region; needed for encrypted snapshots."),
    Option("wait", "Longest wait for AWS, as in `2h`; `none` starts the work and ends.", "2h"),
    Option("new-instance", "Identifier of the instance or cluster that `restore-instance` makes; the old one's with the time behind it, without it."),  # noqa: E501
    Option("restore-time", "Point in time to restore to, `latest` or as in `2026-11-22T02:00Z`; in place of `snapshot-id`."),  # noqa: E501
    Option("db-subnet-group", "Subnet group of the new instance, where the old one's will not do, as in another region."),  # noqa: E501
    Option("vpc-security-groups", "Security groups of the new instance, likewise; ids, one a line."),  # noqa: E501
    Option("db-parameter-group", "Parameter group of the new instance, likewise."),
    Option("export-only", "Parts to export, one a line: `database`, `database.schema` or `database.schema.table`. Without it all."),  # noqa: E501
    Option("scope", "What to audit: `strategy`, or `setup`, before the first backup.", "strategy"),
    Option("fail-on", "What makes an audit red: `fail`, `warn` or `never`.", "fail"),
    Option("release-tag", "Git tag of the last release: a snapshot must be newer. Needs `github-token`."),  # noqa: E501
    Option("backup-workflow", "File name of the workflow that makes the backups, to be audited with `github-token`.", "backup.yml"),  # noqa: E501
    Option("github-token", "Token that may read the repository's actions and contents: the expression `github.token`.", secret=True),  # noqa: E501
    Option("writer-role", "ARN of the role that makes the backups, for `audit` to look at; `role-to-assume` without it."),  # noqa: E501
    Option("report-file", "File for the audit as JSON, below the workspace."),
    Option("replica-bucket", "Bucket in another region, to which S3 replicates the backups."),
    Option("replica-region", "Its region."),
    Option("replica-wait", "Longest time that a backup waits until all its objects are in the replica, as in `15min`. Without it the run does not wait."),  # noqa: E501
    Option("read-from", "Where backups are read: `bucket`, `replica`, or `auto`: the replica where the bucket cannot be reached.", "auto"),  # noqa: E501
    Option("sns-topic-arn", "SNS topic that is told how the run ended."),
    Option("webhook-url", "URL that is told the same, by a POST over https.", secret=True),
    Option("webhook-format", "`slack`, whose form many others take as well, or `json`. Without it `slack` for hooks.slack.com and `json` for others."),  # noqa: E501
    Option("webhook-secret", "Key that signs what is posted as `json` (HMAC with SHA-256).", secret=True),  # noqa: E501
    Option("notify-on", "When topic and webhook are told: on `failure`, `always`, or on `change`: a failure after a good run, and a good run after a failure.", "failure"),  # noqa: E501
    Option("cloudwatch-namespace", "Namespace of CloudWatch that every run gives its metrics to."),
    Option("fleet-file", "The fleet's file: defaults, and a list of databases. For `plan` and `collect` `.github/pg-backups.yml` without it; an `audit` that is given one misses no database of it."),  # noqa: E501
    Option("fleet-group", "Of the fleet only the databases of this group."),
    Option("fleet-entry", "An entry of the matrix that `plan` made: the expression `toJSON(matrix)`. It stands for the inputs that are left as they are."),  # noqa: E501
    Option("policy-for", "Operations that a role is for, one a line; `policy` prints what they need.", "backup"),  # noqa: E501
    Option("trusted-repository", "Repository that the role is for, as in `acme/shop`, or with its ids `acme@123/shop@456`; the run's own without it."),  # noqa: E501
    Option("trusted-subject", "What of that repository may assume the role: a branch or a tag as in `ref:refs/heads/main`, or `environment:production`. No pull requests: nobody has reviewed their workflow.", "ref:refs/heads/main"),  # noqa: E501
)  # fmt: skip
