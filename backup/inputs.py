"""The reading of the options: `Settings`, or every fault at once, before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import unquote

from backup.errors import InputError
from backup.reading import Reader, is_number
from backup.settings import (
    OPERATIONS,
    OPTIONS,
    BucketSettings,
    Compression,
    DumpSettings,
    RestoreSettings,
    RoleSettings,
    Secret,
    Selection,
    Settings,
    SourceSettings,
    ThawSettings,
    VerifySettings,
)


def read(values: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    """Read option names and the texts given for them; an empty text means not given.

    `environment` supplies PGPASSWORD, AWS_REGION and AWS_DEFAULT_REGION.
    Raises InputError with every fault found.
    """
    reader = Reader(values)
    source = _source(reader, environment)
    settings = Settings(
        operation=reader.choice("operation", tuple(OPERATIONS)),
        role=_role(reader, environment),
        bucket=_bucket(reader),
        database=source.database,
        source=source,
        target=_target(reader, source),
        dump=(dump := _dump(reader)),
        restore=_restore(reader, dump),
        thaw=_thaw(reader),
        verify=_verify(reader),
    )
    if settings.operation == "backup":
        _require_source(reader, settings)
    if settings.operation in ("restore", "verify"):
        _require_backup(reader, settings)
    if settings.operation == "restore":
        _require_target(reader, settings)
    if settings.operation == "verify":
        _require_whole(reader, settings)
    if reader.faults:
        raise InputError.from_faults(reader.faults)
    return settings


def secrets_among(values: Mapping[str, str]) -> list[str]:
    """What must not be shown of the texts given, before any of them is read."""
    given = [values[option.name] for option in OPTIONS if option.secret and values.get(option.name)]
    for url in (values.get("database-url", ""), values.get("target-url", "")):
        # Whatever libpq takes for the password: a raw / or @ in it ends up in other parts.
        if inside := re.match(r"[a-z]+://[^:@]*:(.*)@", url, re.DOTALL):
            given += [inside[1], unquote(inside[1]), *re.split(r"[/@:?]", inside[1])]
    return [text for text in given if text]


def _role(reader: Reader, environment: Mapping[str, str]) -> RoleSettings:
    region = (
        reader.matching("aws-region", r"[a-z]{2}(-[a-z]+)+-\d+", "eu-central-1")
        or environment.get("AWS_REGION")
        or environment.get("AWS_DEFAULT_REGION")
    )
    if not region:
        reader.fault("aws-region", "is missing", "name the bucket's region: eu-central-1")
    accounts = tuple(reader.text("allowed-account-ids").replace(",", " ").split())
    for account in accounts:
        if not re.fullmatch(r"\d{12}", account):
            reader.fault("allowed-account-ids", f"{account!r} is no account id", "write 12 digits")
    return RoleSettings(
        region=region or None,
        arn=reader.matching(
            "role-to-assume",
            r"arn:aws[a-z-]*:iam::\d{12}:role/.+",
            "arn:aws:iam::123456789012:role/pg-backup-writer",
        ),
        # https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
        session_name=reader.matching("role-session-name", r"[\w+=,.@-]{2,64}", "pg-backup-action")
        or "",
        # botocore renews 15 minutes before the end: a session of 900 s would be renewed at once.
        duration_seconds=reader.number("role-duration-seconds", 3600, 43200),
        audience=reader.text("audience"),
        external_id=reader.text("role-external-id") or None,
        allowed_account_ids=accounts,
    )


def _bucket(reader: Reader) -> BucketSettings:
    name = reader.text("bucket")
    if not name:
        reader.fault("bucket", "is missing", "name the bucket: my-company-pg-backups")
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    elif not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name):
        reader.fault("bucket", f"{name!r} is no bucket name", "give the name alone, without s3://")
    prefix = reader.text("prefix").strip("/")
    if not re.fullmatch(r"[A-Za-z0-9!_.*'()/-]*", prefix):
        reader.fault("prefix", f"{prefix!r} has characters that S3 keys should not have",
                     "use letters, digits and / ! - _ . * ' ( )")  # fmt: skip
    tags = tuple(_tag(reader, line) for line in reader.lines("object-tags"))
    if len(tags) > 10:
        reader.fault("object-tags", f"{len(tags)} tags, and S3 takes ten", "leave some out")
    return BucketSettings(
        name=name,
        prefix=prefix,
        kms_key_id=reader.text("kms-key-id") or None,
        expected_owner=reader.matching("expected-bucket-owner", r"\d{12}", "123456789012"),
        tags=tags,
    )


def _tag(reader: Reader, line: str) -> tuple[str, str]:
    key, separator, value = line.partition("=")
    if not separator or not key.strip():
        reader.fault("object-tags", f"{line!r} is no tag", "write key=value, one a line")
    return key.strip(), value.strip()


def _source(reader: Reader, environment: Mapping[str, str]) -> SourceSettings:
    url = _url_parameters(reader, "database-url")
    for name in ("host", "port", "database", "user", "sslmode"):
        if url and reader.given(name):
            reader.fault(name, "is given beside database-url", "give the one or the other")
    password = url.pop("password", "") or reader.text("password") or environment.get("PGPASSWORD")
    port = url.pop("port", "") or reader.text("port")
    if port and not all(is_number(part, 1, 65535) for part in port.split(",")):
        reader.fault("port", f"{port!r} is no port", "write a number from 1 to 65535, and in a URL"
                     " %2F for a / in the password")  # fmt: skip
    sslmode = url.pop("sslmode", "") or reader.text("sslmode")
    modes = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
    if sslmode and sslmode not in modes:
        reader.fault("sslmode", f"{sslmode!r} is no sslmode", f"use one of {', '.join(modes)}")
    source = SourceSettings(
        host=url.pop("host", "") or reader.text("host") or None,
        port=port or None,
        database=url.pop("dbname", "") or reader.text("database") or None,
        user=url.pop("user", "") or reader.text("user") or None,
        sslmode=sslmode or None,
        password=Secret(password) if password else None,
        password_secret_id=reader.text("password-secret-id") or None,
        iam_auth=reader.flag("iam-auth"),
        parameters=tuple(sorted(url.items())),
    )
    given = (source.password, source.password_secret_id, source.iam_auth or None)
    if sum(way is not None for way in given) > 1:
        reader.fault(
            "password",
            "more than one way to log in is given",
            "keep one of password (or PGPASSWORD), password-secret-id, iam-auth",
        )
    return source


def _target(reader: Reader, source: SourceSettings) -> SourceSettings | None:
    """The target as the inputs name it: by its URL, or by the host and the rest of them."""
    url = _url_parameters(reader, "target-url")
    if not url:
        named = reader.text("target-database") or source.database
        known = source.host or source.password_secret_id
        to_restore = reader.text("operation") == "restore"
        return replace(source, database=named) if known and to_restore else None
    given = ["target-database"]
    if reader.text("operation") != "backup":
        given += ["host", "port", "user"]
    for name in given:
        if reader.given(name):
            reader.fault(name, "is given beside target-url", "give the one or the other")
    password = url.pop("password", "")
    target = SourceSettings(
        host=url.pop("host", None),
        port=url.pop("port", None),
        database=url.pop("dbname", None),
        user=url.pop("user", None),
        sslmode=url.pop("sslmode", None),
        # A URL without one: the login is given beside it, but never that of the source.
        password=Secret(password) if password else None,
        password_secret_id=None,
        iam_auth=False,
        parameters=tuple(sorted(url.items())),
    )
    if password or reader.text("operation") == "backup":
        return target
    return replace(
        target,
        password=source.password,
        password_secret_id=source.password_secret_id,
        iam_auth=source.iam_auth,
    )


def _url_parameters(reader: Reader, option: str) -> dict[str, str]:
    """The URL as libpq itself reads it; its text, which may hold a password, is never shown."""
    url = reader.text(option)
    if not url:
        return {}
    remedy = "write postgresql://user:password@host:5432/database, with %40 for an @ in a password"
    if not url.startswith(("postgresql://", "postgres://")):
        reader.fault(option, "does not begin with postgresql://", remedy)
        return {}
    import psycopg.conninfo

    try:
        parsed = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        reader.fault(option, "libpq cannot read it", remedy)
        return {}
    return {name: str(value) for name, value in parsed.items() if value is not None}


def _require_source(reader: Reader, settings: Settings) -> None:
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
    if source.iam_auth and "," in (source.port or ""):
        reader.fault("port", "is a list, and a login token is for one port", "give one port")
    if source.iam_auth and not source.user:
        reader.fault("user", "is missing, and iam-auth needs it", "name a user with rds_iam")


def _require_backup(reader: Reader, settings: Settings) -> None:
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


def _require_target(reader: Reader, settings: Settings) -> None:
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


def _require_whole(reader: Reader, settings: Settings) -> None:
    """A drill is of a whole backup, alone in its database."""
    for name in ("tables", "schemas", "allow-existing", "clean"):
        if reader.given(name) and reader.text(name) != "false":
            reader.fault(name, "is for restores, and a drill takes the whole backup",
                         "leave it out")  # fmt: skip
    if settings.target and settings.verify.sample > 1:
        reader.fault("sample", "is more than one, and target-url is one database",
                     "drill one backup there, or leave target-url out")  # fmt: skip


def _restore(reader: Reader, dump: DumpSettings) -> RestoreSettings:
    return RestoreSettings(
        backup_id=reader.text("backup-id"),
        schemas=dump.selection.schemas,
        tables=dump.selection.tables,
        jobs=dump.jobs,
        scratch_limit_bytes=dump.scratch_limit_bytes,
        create_database=reader.flag("create-database"),
        no_owner=reader.flag("no-owner"),
        no_privileges=reader.flag("no-privileges"),
        role=reader.text("role") or None,
        with_globals=reader.flag("with-globals"),
        allow_existing=reader.flag("allow-existing"),
        clean=reader.flag("clean"),
        confirmed_target=reader.text("confirm-target") or None,
    )


def _thaw(reader: Reader) -> ThawSettings:
    return ThawSettings(
        tier=reader.choice("thaw-tier", ("standard", "bulk", "expedited")),
        days=reader.number("thaw-days", 1, 365),
        wait_seconds=reader.duration_ms("thaw-wait") / 1000 if reader.given("thaw-wait") else 0.0,
    )


def _verify(reader: Reader) -> VerifySettings:
    depth = reader.choice("verify-depth", ("objects", "archive", "restore"))
    for name in ("check-sql", "max-restore-minutes"):
        if reader.given(name) and depth != "restore":
            reader.fault(name, f"needs a restore, and verify-depth is {depth}",
                         "leave out the one or the other")  # fmt: skip
    return VerifySettings(
        after_backup=reader.flag("verify"),
        depth=depth,
        sample=reader.number("sample", 1, 100),
        check_sql=reader.text("check-sql") or None,
        max_restore_seconds=reader.quantity("max-restore-minutes", 60),
        max_age_seconds=reader.quantity("max-age-hours", 3600),
    )


def _dump(reader: Reader) -> DumpSettings:
    jobs = reader.number("jobs", 1, 64)
    # Each job fills one part of 8 MiB while others are on their way.
    least_scratch = max(32 << 20, jobs * (16 << 20))
    return DumpSettings(
        jobs=jobs,
        compression=_compression(reader),
        selection=Selection(
            schemas=reader.lines("schemas"),
            exclude_schemas=reader.lines("exclude-schemas"),
            tables=reader.lines("tables"),
            exclude_tables=reader.lines("exclude-tables"),
            exclude_table_data=reader.lines("exclude-table-data"),
        ),
        lock_timeout_ms=reader.duration_ms("lock-timeout"),
        scratch_limit_bytes=reader.size("scratch-limit", minimum=least_scratch)
        or max(64 << 20, least_scratch),
        row_counts=reader.flag("row-counts"),
    )


# Levels as in https://www.postgresql.org/docs/current/app-pgdump.html (option --compress).
_LEVELS = {"none": (0, 0), "gzip": (1, 9), "lz4": (1, 12), "zstd": (1, 22)}


def _compression(reader: Reader) -> Compression | None:
    text = reader.text("compression")
    if not text:
        return None
    method, colon, level = text.partition(":")
    if method not in _LEVELS or (colon and not is_number(level, *_LEVELS[method])):
        reader.fault("compression", f"{text!r} is not known", "write zstd, zstd:3, gzip:6 or none")
        return None
    return Compression(method, int(level) if level and method != "none" else None)
