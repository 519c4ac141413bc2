"""A small backup made by hand, for tests of what reads one."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from awscrt.checksums import crc64nvme

from backup.archive.manifest import Manifest
from backup.model import (
    Client,
    Extension,
    Inventory,
    Member,
    Phase,
    Relation,
    ServerVersion,
    Snapshot,
    StoredObject,
    WorkflowRun,
)
from backup.settings import Selection

ID = "20261122T020000Z-1f9c3a"
OBJECTS = {
    "archive/pack-0001.tar": b"toc.dat" * 100 + b"orders" * 50,
    "archive/3349.dat.zst": b"a large member" * 1000,
}
FILES = {
    "toc.dat": ("archive/pack-0001.tar", 0, 700),
    "3350.dat.zst": ("archive/pack-0001.tar", 700, 300),
    "blob_16401.dat.zst": ("archive/pack-0001.tar", 1000, 0),
    "3349.dat.zst": ("archive/3349.dat.zst", 0, 14000),
}
TABLES = {"3349.dat.zst": ("public", "big"), "3350.dat.zst": ("sh op", 'or"ders\n\udcff')}
RUN = WorkflowRun("org/shop", "nightly", "12", "1", "abc", "https://github.com/org/shop/12")


def manifest_of(backup_id: str = ID, database: str = "shop") -> Manifest:
    """A backup of two tables: one of rows that were counted, one of rows that were not."""
    moment = datetime(2026, 11, 22, 2, 0, 0, 123456, UTC)
    return Manifest(
        id=backup_id,
        database=database,
        host="db.example.org",
        port="5432",
        finished=moment,
        snapshot=Snapshot("", moment.replace(microsecond=0), ""),
        server=ServerVersion(170004, "17.4"),
        client=Client(17, "17.4", ""),
        action_version="1.0.0",
        run=RUN,
        compression="zstd:1",
        selection=Selection(schemas=("sh op", "public")),
        inventory=Inventory(
            relations=(
                Relation("public", "big", "r", 30_720_000, 300_000),
                Relation("sh op", 'or"ders\n\udcff', "r", 1, None),
            ),
            extensions=(Extension("plpgsql", "1.0", "pg_catalog"),),
            roles=("reader", "éléphant"),
            large_objects=1,
            database_bytes=65_746_611,
            encoding="UTF8",
            collation="icu:de-DE",
        ),
        phases=(Phase("Dump and upload", 0.5, 12.25),),
        objects=tuple(
            StoredObject(
                key, len(body), base64.b64encode(crc64nvme(body).to_bytes(8, "big")).decode()
            )
            for key, body in OBJECTS.items()
        ),
        members=tuple(_member(name) for name in FILES),
    )


def _member(name: str) -> Member:
    key, offset, size = FILES[name]
    digest = hashlib.sha256(OBJECTS[key][offset : offset + size]).hexdigest()
    member = Member(name, key, offset, size, digest)
    return member.of_table(*TABLES[name]) if name in TABLES else member


@dataclass(frozen=True)
class Put:
    """An object as the store would list it."""

    key: str
    size: int = 1
