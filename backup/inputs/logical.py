"""How to dump, to restore, to thaw and to drill."""

from __future__ import annotations

from backup.reading import Reader, is_number
from backup.settings import (
    Compression,
    DumpSettings,
    RestoreSettings,
    Selection,
    ThawSettings,
    VerifySettings,
)

# Levels as in https://www.postgresql.org/docs/current/app-pgdump.html (option --compress).
_LEVELS = {"none": (0, 0), "gzip": (1, 9), "lz4": (1, 12), "zstd": (1, 22)}


def dump(reader: Reader) -> DumpSettings:
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


def _compression(reader: Reader) -> Compression | None:
    text = reader.text("compression")
    if not text:
        return None
    method, colon, level = text.partition(":")
    if method not in _LEVELS or (colon and not is_number(level, *_LEVELS[method])):
        reader.fault("compression", f"{text!r} is not known", "write zstd, zstd:3, gzip:6 or none")
        return None
    return Compression(method, int(level) if level and method != "none" else None)


def restore(reader: Reader, dump: DumpSettings) -> RestoreSettings:
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


def thaw(reader: Reader) -> ThawSettings:
    return ThawSettings(
        tier=reader.choice("thaw-tier", ("standard", "bulk", "expedited")),
        days=reader.number("thaw-days", 1, 365),
        wait_seconds=reader.duration_ms("thaw-wait") / 1000 if reader.given("thaw-wait") else 0.0,
    )


def verify(reader: Reader) -> VerifySettings:
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
