"""The backup that is found is the one that was meant, and is all there."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.archive.manifest import Manifest, decode, encode
from backup.aws.s3_reading import ReadableBucket
from backup.errors import AccessError, BackupError, InputError, VerificationError
from backup.operations.finding import choose_backup, read_manifest
from backup.terminal import Terminal
from tests.buckets import put_backup, reader, settle
from tests.lab.cloud import PREFIX, Cloud
from tests.manifests import ID, OBJECTS, manifest_of

OLDER = "20261121T020000Z-000000"

CONSOLE = Terminal(as_json=False, debug=False)


@pytest.fixture
def bucket(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ReadableBucket:
    settle(cloud, monkeypatch, tmp_path)
    return reader(cloud)


def find_backup(bucket: ReadableBucket, database: str, wanted: str) -> Manifest:
    return read_manifest(bucket, choose_backup(bucket, PREFIX, database, wanted, CONSOLE))


def refused(bucket: ReadableBucket, wanted: str = "latest", database: str = "shop") -> BackupError:
    with pytest.raises(BackupError) as caught:
        find_backup(bucket, database, wanted)
    assert 3 == len(caught.value.lines())
    return caught.value


def test_a_backup_is_found_with_its_manifest_and_where_its_objects_lie(
    bucket: ReadableBucket, cloud: Cloud
) -> None:
    put_backup(cloud, manifest_of(OLDER))
    root = put_backup(cloud, manifest_of(), "GLACIER_IR")
    put_backup(cloud, manifest_of("20261123T020000Z-ffffff", "another"))

    place = choose_backup(bucket, PREFIX, "shop", "2026-11-22", CONSOLE)
    manifest = read_manifest(bucket, place)

    assert (ID, root, decode(encode(manifest_of()))) == (place.entry.id, place.root, manifest)
    assert dict.fromkeys(OBJECTS, "GLACIER_IR") == {
        key: each.storage_class for key, each in place.stored.items() if key != "manifest.json"
    }
    big = [each for each in manifest.members if each.table == "big"]
    assert [f"{root}archive/3349.dat.zst"] == [each.key for each in place.holding(big)]


def test_a_backup_is_found_by_any_name_of_a_database(bucket: ReadableBucket, cloud: Cloud) -> None:
    name = 'a/b "c"|%2F ..é🐘\nd'
    put_backup(cloud, manifest_of(database=name))

    assert name == find_backup(bucket, name, ID).database


def test_a_database_without_backups_says_where_it_was_looked_for(
    bucket: ReadableBucket, cloud: Cloud
) -> None:
    put_backup(cloud, manifest_of(database="shop2"))

    error = refused(bucket)

    assert isinstance(error, InputError)
    assert f"s3://{cloud.bucket}/{PREFIX}/shop/" in error.detail


def test_a_missing_object_and_one_of_another_size_are_named(
    bucket: ReadableBucket, cloud: Cloud
) -> None:
    root = put_backup(cloud, manifest_of())
    cloud.s3.delete_object(Bucket=cloud.bucket, Key=f"{root}archive/3349.dat.zst")
    cloud.s3.put_object(Bucket=cloud.bucket, Key=f"{root}archive/pack-0001.tar", Body=b"x")

    error = refused(bucket)

    assert isinstance(error, VerificationError)
    assert f"backup {ID} is not whole: 2 objects of 2 are not what the manifest says" == (
        error.message
    )
    assert "archive/3349.dat.zst is missing" in error.detail
    assert "archive/pack-0001.tar has 1 bytes instead of 1,000" in error.detail


@pytest.mark.parametrize(
    "copied", [manifest_of(OLDER), manifest_of(database="other")], ids=["older", "other database"]
)
def test_a_manifest_of_another_backup_is_refused(
    bucket: ReadableBucket, cloud: Cloud, copied: Manifest
) -> None:
    root = put_backup(cloud, manifest_of())
    cloud.s3.put_object(Bucket=cloud.bucket, Key=f"{root}manifest.json", Body=encode(copied))

    error = refused(bucket)

    assert isinstance(error, VerificationError)
    assert f"the manifest of backup {ID} is that of another" == error.message


def test_a_damaged_manifest_is_named_with_its_place(bucket: ReadableBucket, cloud: Cloud) -> None:
    root = put_backup(cloud, manifest_of())
    cloud.s3.put_object(
        Bucket=cloud.bucket, Key=f"{root}manifest.json", Body=encode(manifest_of())[:-3]
    )

    error = refused(bucket)

    assert f"backup {ID} cannot be used: the manifest is damaged" == error.message
    assert f"s3://{cloud.bucket}/{root}manifest.json" in error.detail


@pytest.mark.parametrize(
    ("allowed", "missing"), [("s3:GetObject", "s3:ListBucket"), ("s3:ListBucket", "s3:GetObject")]
)
@pytest.mark.usefixtures("bucket")
def test_what_the_role_lacks_is_named(cloud: Cloud, allowed: str, missing: str) -> None:
    put_backup(cloud, manifest_of())
    cloud.allow({"Effect": "Allow", "Action": allowed, "Resource": "*"})

    error = refused_as_role(cloud)

    assert isinstance(error, AccessError)
    assert missing in error.hint


def refused_as_role(cloud: Cloud) -> BackupError:
    with pytest.raises(BackupError) as caught:
        find_backup(reader(cloud, cloud.role), "shop", "latest")
    return caught.value
