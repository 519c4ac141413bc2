"""A bucket with backups in it, and the reader of it, for tests of what reads one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backup.archive.catalogue import database_prefix
from backup.archive.manifest import Manifest, encode
from backup.aws.s3_reading import ReadableBucket
from backup.aws.session import open_session
from backup.settings import BucketSettings, RoleSettings
from tests.lab.aws import REGION
from tests.lab.cloud import PREFIX, Cloud
from tests.manifests import OBJECTS


def settle(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """The environment of a job whose keys may do everything; three attempts at each request."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in cloud.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")


def reader(cloud: Cloud, role: str | None = None) -> ReadableBucket:
    """Through the cloud's proxy, with the environment's keys or as a role."""
    who = RoleSettings(REGION, role, "pg-backup-action", 3600, "sts.amazonaws.com", None, ())
    session = open_session(who, cloud.issuer.token if role else None, lambda _: None)
    where = BucketSettings(
        name=cloud.bucket, prefix=PREFIX, kms_key_id=None, expected_owner=None, tags=()
    )
    return ReadableBucket(session, where, connections=4)


def put_backup(cloud: Cloud, manifest: Manifest, storage_class: str = "STANDARD") -> str:
    """Store the backup and its objects, past the proxy; its root."""
    root = f"{database_prefix(PREFIX, manifest.database)}{manifest.id}/"
    for name, body in {**OBJECTS, "manifest.json": encode(manifest)}.items():
        cloud.s3.put_object(
            Bucket=cloud.bucket, Key=root + name, Body=body, StorageClass=storage_class
        )
    return root
