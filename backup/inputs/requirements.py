"""What each operation needs of the inputs, and what does not go together."""

from __future__ import annotations

from backup.reading import Reader
from backup.settings import Settings


def check(reader: Reader, settings: Settings) -> None:
    """Remember every fault that only shows where inputs are seen together."""
    _accounts(reader, settings)
    match settings.operation:
        case "backup":
            _source(reader, settings)
            _drill_at_once(reader, settings)
        case "restore":
            _backup(reader, settings)
            _target(reader, settings)
        case "verify":
            _backup(reader, settings)
            _whole(reader, settings)
        case "snapshot":
            _rds(reader, settings)
            _snapshot(reader, settings)
        case "restore-instance":
            _rds(reader, settings)
            _recovery(reader, settings)
        case "export":
            _rds(reader, settings)
            _export(reader, settings)
        case "audit" if settings.audit.scope == "setup":
            _source(reader, settings)
        case "audit":
            _audit(reader, settings)
            _fleet(reader, settings)
        case "policy":
            _policy(reader, settings)
        case "plan" | "collect":
            _fleet(reader, settings)


def _accounts(reader: Reader, settings: Settings) -> None:
    role, allowed = settings.bucket.role_arn, settings.role.allowed_account_ids
    if role and allowed and (account := role.split(":")[4]) not in allowed:
        reader.fault("bucket-role", f"is of account {account}, which allowed-account-ids does not"
                     " name", "add it there, or correct the ARN")  # fmt: skip


def _source(reader: Reader, settings: Settings) -> None:
    source = settings.source
    if reader.given("database-url") and not (source.host and source.database):
        reader.fault("database-url", "names no host or no database",
                     "write postgresql://user:password@host:5432/database")  # fmt: skip
        return
    needed = {"database": (source.database, "shop"), "host": (source.host, "db.example.org"),
              "user": (source.user, "backup")}  # fmt: skip
    for name, (value, example) in needed.items():
        # RDS's own secrets hold these too.
        if not value and not source.password_secret_id and not reader.given("database-url"):
            reader.fault(name, "is missing", f"name it, as in {name}: {example}")
    for name, given in (("host", source.host), ("port", source.port)):
        if source.iam_auth and "," in (given or ""):
            reader.fault(name, f"is a list, and a login token is for one {name}",
                         f"give one {name}")  # fmt: skip
    if source.iam_auth and not source.user:
        reader.fault("user", "is missing, and iam-auth needs it", "name a user with rds_iam")


def _drill_at_once(reader: Reader, settings: Settings) -> None:
    waits = settings.replica is not None and settings.replica.wait_seconds is not None
    if settings.verify.after_backup and settings.read_from == "replica" and not waits:
        reader.fault("read-from", "is replica, where a new backup is not there at once to be"
                     " drilled", "give replica-wait, or drill it from the bucket")  # fmt: skip


def _backup(reader: Reader, settings: Settings) -> None:
    if reader.given("database-url"):
        reader.fault("database-url", "is the source of a backup", "name the database whose backup"
                     " is meant as database, and the target as target-url")  # fmt: skip
    elif not settings.database:
        reader.fault("database", "is missing", "name the database whose backup is meant, as in"
                     " database: shop")  # fmt: skip
    target = settings.target
    if reader.given("target-url") and target and not (target.host and target.database):
        reader.fault("target-url", "names no host or no database",
                     "write postgresql://user:password@host:5432/database")  # fmt: skip


def _target(reader: Reader, settings: Settings) -> None:
    options, target = settings.restore, settings.target
    if target is None:
        reader.fault("target-url", "is missing", "name the target: target-url:"
                     " postgresql://user:password@host:5432/database")  # fmt: skip
    if options.create_database and (options.allow_existing or options.clean):
        reader.fault("create-database", "is given with allow-existing or clean",
                     "a database that exists is not created: leave one of them out")  # fmt: skip
    if options.tables and options.schemas:
        reader.fault("tables", "are given beside schemas", "give the one or the other")
    name = target.database if target else None
    again = f"type the target's name again: confirm-target: {name or 'shop'}"
    for option in ("allow-existing", "clean"):
        if reader.flag(option) and options.confirmed_target is None:
            reader.fault(option, "could destroy data, and is not confirmed", again)
    if name and options.confirmed_target not in (None, name):
        reader.fault("confirm-target", f"{options.confirmed_target!r} is not the target",
                     f"the target is {name}: correct the one or the other")  # fmt: skip


def _whole(reader: Reader, settings: Settings) -> None:
    """A drill is of a whole backup, alone in its database."""
    for name in ("tables", "schemas", "allow-existing", "clean"):
        if reader.given(name) and reader.text(name) != "false":
            reader.fault(name, "is for restores, and a drill takes the whole backup",
                         "leave it out")  # fmt: skip
    if settings.target and settings.verify.sample > 1:
        reader.fault("sample", "is more than one, and target-url is one database",
                     "drill one backup there, or leave target-url out")  # fmt: skip


def _policy(reader: Reader, settings: Settings) -> None:
    """What names the resources of the operations that a role is for."""
    operations = settings.policy.operations
    if {"snapshot", "restore-instance", "export"}.intersection(operations):
        _rds(reader, settings)
    if "snapshot" in operations:
        _snapshot(reader, settings)
    if "export" in operations:
        _export(reader, settings)
    if settings.source.iam_auth and not settings.source.user:
        reader.fault("user", "is missing, and iam-auth needs it", "name a user with rds_iam")


def _rds(reader: Reader, settings: Settings) -> None:
    if not settings.rds.instance and not settings.rds.cluster:
        reader.fault("db-instance", "is missing, and so is db-cluster",
                     "name one, as in db-instance: shop-production")  # fmt: skip


def _snapshot(reader: Reader, settings: Settings) -> None:
    options = settings.snapshot
    if options.via == "aws-backup":
        for name, value in (
            ("backup-vault", options.vault),
            ("service-role", options.service_role),
        ):
            if not value:
                reader.fault(name, "is missing, and via: aws-backup needs it",
                             "name it; the README shows both")  # fmt: skip
        for name in ("snapshot-id", "keep"):
            if reader.given(name):
                reader.fault(name, "is for via: rds; AWS Backup names its recovery points and"
                             " deletes them itself", "leave it out")  # fmt: skip
        if options.copy_kms_key_id:
            reader.fault("copy-kms-key-id", "is for via: rds; a copy by AWS Backup has the key of"
                         " the vault that it goes to", "leave it out")  # fmt: skip
    elif options.vault:
        reader.fault("backup-vault", "is given without via: aws-backup", "give both, or neither")
    if options.copy_region and options.copy_region == settings.role.region:
        reader.fault("copy-to-region", "is the region that the snapshot is in", "name another")
    if options.copy_kms_key_id and not options.copy_region:
        reader.fault("copy-kms-key-id", "is given without copy-to-region", "give both, or neither")
    if options.copy_region and settings.wait_seconds is None:
        reader.fault("wait", "is none, and only a finished snapshot can be copied",
                     "give a time, as in wait: 2h, or leave copy-to-region out")  # fmt: skip


def _recovery(reader: Reader, settings: Settings) -> None:
    if reader.given("restore-time") and reader.given("snapshot-id"):
        reader.fault("restore-time", "is given beside snapshot-id", "give the one or the other")
    if (reader.given("password") or settings.source.iam_auth) and not settings.source.user:
        reader.fault("user", "is missing, and a way to log in is given",
                     "name who logs in to the new instance, as in user: backup")  # fmt: skip
    for name in ("host", "port", "database-url", "target-url"):
        if reader.given(name):
            reader.fault(name, "is not known yet: it is the new instance's", "leave it out")


def _export(reader: Reader, settings: Settings) -> None:
    for name, value in (("service-role", settings.export.service_role),
                        ("kms-key-id", settings.bucket.kms_key_id)):  # fmt: skip
        if not value:
            reader.fault(name, "is missing, and an export needs it", "name it; the docs show how"
                         " to make it")  # fmt: skip


def _audit(reader: Reader, settings: Settings) -> None:
    if settings.audit.release_tag and not settings.audit.github_token:
        reader.fault("release-tag", "is given without github-token, which finds its time",
                     "give both: github-token: ${{ github.token }}")  # fmt: skip


def _fleet(reader: Reader, settings: Settings) -> None:
    for name in ("database", "fleet-entry"):
        if settings.fleet.file and reader.given(name):
            reader.fault(name, "is given, and the fleet's file names the databases",
                         "leave it out; fleet-group takes a part of the fleet")  # fmt: skip
    if settings.fleet.group and not settings.fleet.file:
        reader.fault("fleet-group", "is given without fleet-file", "name the file: fleet-file:"
                     " .github/pg-backups.yml")  # fmt: skip
