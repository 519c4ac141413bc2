"""Snapshots, new instances, exports and audits: the layers beside the logical backups."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Literal

from backup.reading import Reader
from backup.settings import (
    AuditSettings,
    ExportSettings,
    RdsSettings,
    RecoverySettings,
    Secret,
    SnapshotSettings,
)

# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Limits.html#RDS_Limits.Constraints
_IDENTIFIER = r"[A-Za-z](?:-?[A-Za-z0-9]){0,62}"
_SNAPSHOT_NAME = r"[A-Za-z](?:-?[A-Za-z0-9]){0,254}"
_ROLE = r"arn:aws[a-z-]*:iam::\d{12}:role/.+"
_EXAMPLE_WRITER = "arn:aws:iam::123456789012:role/pg-backup-writer"
_MOST_TAGS = 45  # of the 50 that RDS takes; the others are the action's own
# What the strategy promises where nobody says otherwise.
_RPO_SECONDS, _RTO_SECONDS = 26 * 3600.0, 4 * 3600.0


def rds(reader: Reader) -> RdsSettings:
    if reader.given("db-instance") and reader.given("db-cluster"):
        reader.fault("db-instance", "is given beside db-cluster", "give the one or the other")
    return RdsSettings(
        instance=reader.matching("db-instance", _IDENTIFIER, "shop-production"),
        cluster=reader.matching("db-cluster", _IDENTIFIER, "shop-production"),
    )


def wait_seconds(reader: Reader) -> float | None:
    return None if reader.text("wait") == "none" else reader.duration_ms("wait") / 1000


def snapshot(reader: Reader) -> SnapshotSettings:
    is_new = reader.text("operation") == "snapshot"
    name = "snapshot-id"
    return SnapshotSettings(
        name=reader.matching(name, _SNAPSHOT_NAME, "shop-v1-4-2") if is_new else None,
        via=reader.choice("via", ("rds", "aws-backup")),
        vault=reader.matching("backup-vault", r"[A-Za-z0-9_-]{2,50}", "production") or None,
        service_role=_service_role(reader),
        tags=_tags(reader),
        keep=reader.number("keep", 1, 1000) if reader.given("keep") else None,
        copy_region=reader.matching("copy-to-region", r"[a-z]{2}(-[a-z]+)+-\d+", "eu-west-1"),
        copy_kms_key_id=reader.text("copy-kms-key-id") or None,
    )


def recovery(reader: Reader) -> RecoverySettings:
    return RecoverySettings(
        snapshot=reader.text("snapshot-id") or "latest",
        time=_moment(reader),
        new_identifier=reader.matching("new-instance", _IDENTIFIER, "shop-restored"),
        tags=_tags(reader),
        subnet_group=reader.text("db-subnet-group") or None,
        security_groups=reader.lines("vpc-security-groups"),
        parameter_group=reader.text("db-parameter-group") or None,
    )


def export(reader: Reader) -> ExportSettings:
    return ExportSettings(
        snapshot=reader.text("snapshot-id") or "latest",
        service_role=_service_role(reader),
        only=reader.lines("export-only"),
    )


def audit(reader: Reader) -> AuditSettings:
    token = reader.text("github-token").strip()
    if not re.fullmatch(r"[!-~]*", token):
        reader.fault("github-token", "is no token", "write ${{ github.token }}")
    return AuditSettings(
        scope=reader.choice("scope", ("strategy", "setup")),
        fail_on=reader.choice("fail-on", ("fail", "warn", "never")),
        max_age_seconds=reader.quantity("max-age-hours", 3600) or _RPO_SECONDS,
        max_drill_age_seconds=reader.quantity("max-drill-age-days", 86400) or 0.0,
        max_restore_seconds=reader.quantity("max-restore-minutes", 60) or _RTO_SECONDS,
        release_tag=reader.text("release-tag") or None,
        backup_workflow=reader.matching("backup-workflow", r"[\w.-]+\.ya?ml", "backup.yml") or "",
        github_token=Secret(token) if token else None,
        writer_role=reader.matching("writer-role", _ROLE, _EXAMPLE_WRITER),
        report_file=_report_file(reader),
    )


def _service_role(reader: Reader) -> str | None:
    example = "arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole"
    return reader.matching("service-role", _ROLE, example)


def _tags(reader: Reader) -> tuple[tuple[str, str], ...]:
    tags = tuple(reader.tag("tags", line) for line in reader.lines("tags"))
    for key, _ in tags:
        if key.lower().startswith(("aws:", "pg-backup-action:")):
            reader.fault("tags", f"{key} is a key of its own meaning", "choose another")
    if len(tags) > _MOST_TAGS:
        reader.fault(
            "tags", f"{len(tags)} tags, and there is room for {_MOST_TAGS}", "leave some out"
        )
    return tags


def _moment(reader: Reader) -> datetime | Literal["latest"] | None:
    text = reader.text("restore-time")
    if text == "latest":
        return "latest"
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        reader.fault("restore-time", f"{text!r} is no time", "write latest, or a time as"
                     " 2026-11-22T02:00Z or 2026-11-22T03:00+01:00")  # fmt: skip
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _report_file(reader: Reader) -> str | None:
    text = reader.text("report-file")
    path = PurePosixPath(text)
    is_outside = path.is_absolute() or ".." in path.parts or not path.name
    if text and (is_outside or re.search(r"[\r\n\0]", text)):
        reader.fault("report-file", f"{text!r} is outside the workspace", "write audit.json")
    return text or None
