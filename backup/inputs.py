"""The reading of the options: `Settings`, or every fault at once, before anything is touched."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from urllib.parse import unquote

from backup.errors import Fault, InputError
from backup.settings import (
    OPERATIONS,
    OPTIONS,
    BucketSettings,
    Compression,
    DumpSettings,
    RoleSettings,
    Secret,
    Selection,
    Settings,
    SourceSettings,
)

_BY_NAME = {option.name: option for option in OPTIONS}


def read(values: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    """Read option names and the texts given for them; an empty text means not given.

    `environment` supplies PGPASSWORD, AWS_REGION and AWS_DEFAULT_REGION.
    Raises InputError with every fault found.
    """
    reader = _Reader(values)
    settings = Settings(
        operation=reader.choice("operation", tuple(OPERATIONS)),
        role=_role(reader, environment),
        bucket=_bucket(reader),
        source=_source(reader, environment),
        dump=_dump(reader),
    )
    if settings.operation == "backup":
        _require_source(reader, settings)
    if reader.faults:
        raise InputError.from_faults(reader.faults)
    return settings


def secrets_among(values: Mapping[str, str]) -> list[str]:
    """What must not be shown of the texts given, before any of them is read."""
    given = [values[option.name] for option in OPTIONS if option.secret and values.get(option.name)]
    url = values.get("database-url", "")
    # Whatever libpq takes for the password: a raw / or @ in it ends up in other parts of the URL.
    inside = re.match(r"[a-z]+://[^:@]*:(.*)@", url, re.DOTALL)
    pieces = [inside[1], unquote(inside[1]), *re.split(r"[/@:?]", inside[1])] if inside else []
    return [*given, *(piece for piece in pieces if piece)]


def _role(reader: _Reader, environment: Mapping[str, str]) -> RoleSettings:
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


def _bucket(reader: _Reader) -> BucketSettings:
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


def _tag(reader: _Reader, line: str) -> tuple[str, str]:
    key, separator, value = line.partition("=")
    if not separator or not key.strip():
        reader.fault("object-tags", f"{line!r} is no tag", "write key=value, one a line")
    return key.strip(), value.strip()


def _source(reader: _Reader, environment: Mapping[str, str]) -> SourceSettings:
    url = _url_parameters(reader)
    for name in ("host", "port", "database", "user", "sslmode"):
        if url and reader.given(name):
            reader.fault(name, "is given beside database-url", "give the one or the other")
    password = url.pop("password", "") or reader.text("password") or environment.get("PGPASSWORD")
    port = url.pop("port", "") or reader.text("port")
    if port and not all(_is_number(part, 1, 65535) for part in port.split(",")):
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


def _url_parameters(reader: _Reader) -> dict[str, str]:
    """The URL as libpq itself reads it; its text, which may hold a password, is never shown."""
    url = reader.text("database-url")
    if not url:
        return {}
    remedy = "write postgresql://user:password@host:5432/database, with %40 for an @ in a password"
    if not url.startswith(("postgresql://", "postgres://")):
        reader.fault("database-url", "does not begin with postgresql://", remedy)
        return {}
    import psycopg.conninfo

    try:
        parsed = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        reader.fault("database-url", "libpq cannot read it", remedy)
        return {}
    return {name: str(value) for name, value in parsed.items() if value is not None}


def _require_source(reader: _Reader, settings: Settings) -> None:
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


def _dump(reader: _Reader) -> DumpSettings:
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


def _compression(reader: _Reader) -> Compression | None:
    text = reader.text("compression")
    if not text:
        return None
    method, colon, level = text.partition(":")
    if method not in _LEVELS or (colon and not _is_number(level, *_LEVELS[method])):
        reader.fault("compression", f"{text!r} is not known", "write zstd, zstd:3, gzip:6 or none")
        return None
    return Compression(method, int(level) if level and method != "none" else None)


# The server keeps its timeouts in an int.
_LONGEST_TIMEOUT_MS = 2**31 - 1


def _is_number(text: str, low: int, high: int) -> bool:
    """Whether the text is a whole number in that range, in the digits 0 to 9."""
    return text.isascii() and text.isdigit() and low <= int(text) <= high


class _Reader:
    """Reads one option after the other and remembers what is wrong with them."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.faults: list[Fault] = []
        for name in values:
            # Bytes that are no UTF-8 reach Python as lone surrogates.
            if re.search("[\udc80-\udcff]", values[name]):
                self.fault(name, "is not UTF-8", "write it in UTF-8")
            if name not in _BY_NAME:
                near = difflib.get_close_matches(name, list(_BY_NAME), n=1)
                remedy = f"did you mean {near[0]}?" if near else "remove it"
                self.fault(name, "is not an input of this action", remedy)

    def fault(self, option: str, problem: str, remedy: str) -> None:
        self.faults.append(Fault(option, problem, remedy))

    def given(self, name: str) -> bool:
        return bool(self.values.get(name, "").strip())

    def text(self, name: str) -> str:
        option = _BY_NAME[name]
        value = self.values.get(name, "")
        # A password may begin or end with a space; nothing else means to.
        value = value if option.secret else value.strip()
        return value or option.default

    def lines(self, name: str) -> tuple[str, ...]:
        return tuple(line.strip() for line in self.text(name).splitlines() if line.strip())

    def matching(self, name: str, pattern: str, example: str) -> str | None:
        text = self.text(name)
        if text and not re.fullmatch(pattern, text):
            self.fault(name, f"{text!r} is not of its form", f"write it like {example}")
        return text or None

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        text = self.text(name)
        if text not in allowed:
            self.fault(name, f"{text!r} is not known", f"use one of {', '.join(allowed)}")
        return text

    def flag(self, name: str) -> bool:
        text = self.text(name).lower()
        if text not in ("true", "false"):
            self.fault(name, f"{text!r} is neither true nor false", "write true or false")
        return text == "true"

    def number(self, name: str, low: int, high: int) -> int:
        text = self.text(name)
        if _is_number(text, low, high):
            return int(text)
        self.fault(name, f"{text!r} will not do", f"write a whole number from {low} to {high}")
        return low

    def duration_ms(self, name: str) -> int:
        match = re.fullmatch(r"(\d+) ?(ms|s|min|h)", self.text(name))
        if match:
            unit = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000}[match[2]]
            if 0 < int(match[1]) * unit <= _LONGEST_TIMEOUT_MS:
                return int(match[1]) * unit
        self.fault(name, f"{self.text(name)!r} is no duration", "write 60s, 5min or 500ms")
        return 1

    def size(self, name: str, *, minimum: int) -> int:
        """Bytes; 0 when nothing is given."""
        text = self.text(name)
        units = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
        match = re.fullmatch(r"(\d+) ?([KMG]i?B)", text)
        size = int(match[1]) * units[match[2]] if match and match[2] in units else 0
        if text and size < minimum:
            least = f"{minimum >> 20}MiB"
            self.fault(name, f"{text!r} is no size of {least} or more", f"write {least}, or 1GiB")
        return size
