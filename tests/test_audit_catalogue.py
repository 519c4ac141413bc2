"""The audit of the catalogue: what is missing in it, what is left over, what is not proven."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backup.archive.catalogue import database_prefix
from backup.archive.manifest import Manifest, encode
from backup.aws.grants import PolicyScope, needed
from backup.aws.s3 import Bucket
from backup.aws.session import open_session
from backup.checks import Check, Status
from backup.model import StoredObject
from backup.operations.auditing import storage
from backup.operations.auditing.catalogue import checks
from backup.terminal import Terminal
from backup.wording import size
from tests.audits import KEYS, apply, logged_in, settings_of
from tests.buckets import put_backup
from tests.findings import assert_bad, assert_denied
from tests.lab.aws import REGION
from tests.lab.cloud import PREFIX, Cloud
from tests.lab.postgres import PostgresServer
from tests.lab.runner import run_action
from tests.lab.sts import ACCOUNT
from tests.manifests import manifest_of
from tests.steps import back_up, database_named, forget, green

yaml: Any = importlib.import_module("yaml")  # has no type information of its own

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
LISTED = {
    "catalogue.gaps",
    "catalogue.sizes",
    "catalogue.drills",
    "catalogue.objects",
    "catalogue.archived",
    "catalogue.orphans",
}
CONSOLE = Terminal(as_json=False, debug=False)


def id_of(moment: datetime) -> str:
    return f"{moment:%Y%m%dT%H%M%SZ}-0a1b2c"


@dataclass
class Audited:
    """A bucket of the strict double, and the audit of the catalogue in it."""

    cloud: Cloud
    monkeypatch: pytest.MonkeyPatch
    env: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.env = KEYS | {"AWS_ENDPOINT_URL": self.cloud.double.url}

    def checks(self, now: datetime = NOW, **inputs: str) -> dict[str, Check]:
        settings = settings_of(bucket=self.cloud.bucket, **inputs)
        session = logged_in(self.monkeypatch, settings, self.env)
        bucket = Bucket(session, settings.bucket, connections=4)
        return by_id(checks(bucket, settings, CONSOLE, now))

    def as_role(self, *without: str) -> dict[str, Check]:
        """The audit by a role with the permissions of the documentation, but for some."""
        scope = PolicyScope("aws", REGION, ACCOUNT, self.cloud.bucket, PREFIX)
        statements = [grant.statement() for grant in needed("audit", scope)]
        for each in statements:
            actions = each["Action"] if isinstance(each["Action"], list) else [each["Action"]]
            each["Action"] = [action for action in actions if action not in without]
        self.cloud.allow(*(each for each in statements if each["Action"]))
        settings = settings_of(bucket=self.cloud.bucket, role_to_assume=self.cloud.role)
        logged_in(self.monkeypatch, settings_of(bucket="any"), self.env | self.cloud.env)
        session = open_session(settings.role, self.cloud.issuer.token, lambda _: None)
        bucket = Bucket(session, settings.bucket, connections=4)
        return by_id(checks(bucket, settings, CONSOLE, NOW))

    def put(self, moment: datetime, database: str = "shop", storage_class: str = "STANDARD") -> str:
        """A backup of two small objects; its root."""
        return put_backup(self.cloud, manifest_of(id_of(moment), database), storage_class)

    def put_sized(self, moment: datetime, stored: int, **changes: Any) -> str:
        """A backup whose archive is one object of that size; its root."""
        manifest = replace(sized(id_of(moment), stored), **changes)
        root = f"{database_prefix(PREFIX, manifest.database)}{manifest.id}/"
        for name, body in (
            ("archive/pack-0001.tar", bytes(stored)),
            ("manifest.json", encode(manifest)),
        ):
            self.cloud.s3.put_object(Bucket=self.cloud.bucket, Key=root + name, Body=body)
        return root

    def drill(self, root: str, verdict: str = "proven", moment: datetime = NOW) -> None:
        record = json.dumps({"depth": "restore", "verdict": verdict}).encode()
        self.write(f"{root}drills/{moment:%Y%m%dT%H%M%SZ}.json", record)

    def write(self, key: str, body: bytes = b"x") -> None:
        self.cloud.s3.put_object(Bucket=self.cloud.bucket, Key=key, Body=body)

    def remove(self, key: str) -> None:
        self.cloud.s3.delete_object(Bucket=self.cloud.bucket, Key=key)

    def keep_versions(self) -> None:
        self.cloud.s3.put_bucket_versioning(
            Bucket=self.cloud.bucket, VersioningConfiguration={"Status": "Enabled"}
        )


def by_id(found: list[Check]) -> dict[str, Check]:
    ids = [check.id for check in found]
    assert len(ids) == len(set(ids)), ids
    assert all(check.fix for check in found if check.status is not Status.PASS)
    return {check.id: check for check in found}


def sized(backup_id: str, stored: int) -> Manifest:
    """A manifest of one object that holds the table of contents alone."""
    whole = manifest_of(backup_id)
    toc = next(each for each in whole.members if each.name == "toc.dat")
    return replace(
        whole,
        objects=(StoredObject("archive/pack-0001.tar", stored, "AAAAAAAAAAA="),),
        members=(replace(toc, object_key="archive/pack-0001.tar", offset=0, size=stored),),
    )


@pytest.fixture
def audited(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Audited:
    return Audited(cloud, monkeypatch)


def test_a_catalogue_in_order_is_green(audited: Audited) -> None:
    for days in range(6):
        root = audited.put(NOW - days * DAY)
    audited.drill(root)

    found = audited.checks(NOW + timedelta(hours=20))

    assert dict.fromkeys([*LISTED, "catalogue.uploads"], Status.PASS) == {
        id: check.status for id, check in found.items()
    }
    assert "6 manifests read" in found["catalogue.objects"].reason


def test_the_documented_permissions_answer_every_question(audited: Audited) -> None:
    audited.put(NOW)
    found = audited.as_role()
    assert [] == [check for check in found.values() if check.status is Status.UNKNOWN]


@pytest.mark.parametrize(
    ("action", "unknown"),
    [
        ("s3:ListBucket", LISTED),
        ("s3:GetObject", {"catalogue.objects"}),
        ("s3:ListBucketMultipartUploads", {"catalogue.uploads"}),
    ],
)
def test_a_denied_question_makes_its_checks_unknown_and_names_the_permission(
    audited: Audited, action: str, unknown: set[str]
) -> None:
    audited.put(NOW)

    found = audited.as_role(action)

    assert unknown == {id for id, check in found.items() if check.status is Status.UNKNOWN}
    assert_denied(found.values(), unknown, f'"{action}"')


def test_an_empty_catalogue_is_a_failure(audited: Audited) -> None:
    found = audited.checks()

    assert_bad(found["catalogue.gaps"], Status.FAIL, "there is no backup below", "gh workflow run")
    audited.put(NOW)
    assert Status.PASS is audited.checks()["catalogue.gaps"].status


class TestGaps:
    def series(self, audited: Audited, *ages: float, database: str = "shop") -> None:
        """Backups that many days old, of a manifest alone: nothing else of them is looked at."""
        for age in ages:
            root = f"{database_prefix(PREFIX, database)}{id_of(NOW - age * DAY)}/"
            audited.write(f"{root}manifest.json")

    def test_a_series_that_has_stopped_is_a_failure_until_it_goes_on(
        self, audited: Audited
    ) -> None:
        self.series(audited, 5, 4, 3, 2)

        check = audited.checks(backup_workflow="nightly.yml")["catalogue.gaps"]
        assert_bad(check, Status.FAIL, "shop: none for 48 h 0 min", "gh workflow run nightly.yml")

        self.series(audited, 1, 0)  # what that workflow makes
        assert Status.PASS is audited.checks(NOW + DAY)["catalogue.gaps"].status

    def test_a_backup_left_out_is_told_of_for_a_month(self, audited: Audited) -> None:
        self.series(audited, *(age for age in range(15) if age != 6))

        check = audited.checks()["catalogue.gaps"]
        week = NOW - 7 * DAY
        assert_bad(check, Status.WARN, f"after {week:%Y-%m-%d %H:%M} UTC", "usual: 24 h 0 min")
        assert f"gh run list --workflow backup.yml --created {week:%Y-%m-%d}T" in check.fix

        self.series(audited, *range(-30, 0))
        assert Status.PASS is audited.checks(NOW + 30 * DAY)["catalogue.gaps"].status

    def test_a_schedule_of_working_days_has_no_gaps_over_weekends(self, audited: Audited) -> None:
        self.series(audited, *(age for age in range(40) if (NOW - age * DAY).weekday() < 5))

        found = audited.checks()

        assert Status.PASS is found["catalogue.gaps"].status

    def test_backups_between_the_scheduled_ones_make_no_gaps(self, audited: Audited) -> None:
        self.series(audited, *range(20), 3.4, 3.5, 3.6, 9.3)

        assert Status.PASS is audited.checks()["catalogue.gaps"].status

    def test_each_database_has_an_interval_of_its_own(self, audited: Audited) -> None:
        self.series(audited, 28, 21, 14, 7, database="weekly")
        self.series(audited, 5, 4, 3, 2, 1, database="daily")
        assert Status.PASS is audited.checks()["catalogue.gaps"].status

        check = audited.checks(NOW + DAY)["catalogue.gaps"]
        assert_bad(check, Status.FAIL, "daily: none for")
        assert "weekly" not in check.reason

    def test_three_backups_tell_no_interval(self, audited: Audited) -> None:
        self.series(audited, 100, 99, 98)

        check = audited.checks()["catalogue.gaps"]

        assert Status.PASS is check.status
        assert "too few to know the usual interval: shop" in check.reason


class TestSizes:
    @pytest.mark.parametrize(
        ("sizes", "status"),
        [
            ((1000, 501, 1500), Status.PASS),
            ((1000, 499), Status.WARN),
            ((1000, 3001), Status.WARN),
            ((1000, 100, 110, 120), Status.WARN),
        ],
    )
    def test_a_jump_is_told_of_until_the_backup_is_proven(
        self, audited: Audited, sizes: tuple[int, ...], status: Status
    ) -> None:
        roots = [
            audited.put_sized(NOW - (len(sizes) - number) * DAY, each)
            for number, each in enumerate(sizes)
        ]
        check = audited.checks()["catalogue.sizes"]
        assert status is check.status, check
        if status is Status.WARN:
            backup_id = roots[1].split("/")[-2]
            assert_bad(check, status, f"{backup_id} has {size(sizes[1])}")
            step = yaml.safe_load(check.fix)["with"]
            assert ("verify", "shop", backup_id) == (
                step["operation"],
                step["database"],
                step["backup-id"],
            )
            audited.drill(roots[1], "failed")
            assert status is audited.checks()["catalogue.sizes"].status
            audited.drill(roots[1], moment=NOW + DAY)
            assert Status.PASS is audited.checks()["catalogue.sizes"].status

    def test_backups_of_a_part_are_compared_with_one_another(self, audited: Audited) -> None:
        part = replace(manifest_of().selection, schemas=("sales",))
        for age in (6, 4, 2):
            audited.put_sized(NOW - age * DAY, 90_000)
            audited.put_sized(NOW - (age - 1) * DAY, 1000, selection=part)
        assert Status.PASS is audited.checks()["catalogue.sizes"].status

        audited.put_sized(NOW, 100, selection=part)
        assert_bad(audited.checks()["catalogue.sizes"], Status.WARN, "the one before 1000 B")


class TestDrills:
    def test_a_database_without_a_drill_is_named_and_drilled_by_the_fix(
        self, audited: Audited, postgres: PostgresServer
    ) -> None:
        name = database_named(postgres, "audited shop", "CREATE TABLE orders AS SELECT 1 AS id")
        try:
            audited.cloud.allow({"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
            green(back_up(audited.cloud, postgres, name))
        finally:
            forget(postgres, name)

        before = audited.checks()["catalogue.drills"]
        assert_bad(before, Status.WARN, "1 backup of audited shop")
        step = yaml.safe_load(before.fix)["with"]
        clients = {"PG_BACKUP_CLIENTS": str(postgres.binaries)}
        green(run_action(audited.cloud.inputs | step, audited.cloud.env | clients))

        assert Status.PASS is audited.checks()["catalogue.drills"].status

    def test_every_database_wants_its_own(self, audited: Audited) -> None:
        audited.drill(audited.put(NOW))
        audited.put(NOW, "bank")

        check = audited.checks()["catalogue.drills"]

        assert_bad(check, Status.WARN, "none of 1 backup of bank", "database: bank")
        assert "shop" not in check.reason


class TestObjects:
    def test_objects_that_were_deleted_come_back(self, audited: Audited) -> None:
        audited.keep_versions()
        root = audited.put(NOW)
        for name in ("archive/3349.dat.zst", "archive/pack-0001.tar"):
            audited.remove(root + name)

        before = audited.checks()["catalogue.objects"]
        assert_bad(before, Status.FAIL, f"{root}archive/3349.dat.zst is gone")
        apply(before.fix, audited.env)

        assert Status.PASS is audited.checks()["catalogue.objects"].status

    @pytest.mark.parametrize("name", ["archive/3349.dat.zst", "manifest.json"])
    def test_objects_that_were_replaced_come_back(self, audited: Audited, name: str) -> None:
        audited.keep_versions()
        root = audited.put(NOW)
        audited.write(root + name, b"other bytes")

        before = audited.checks()["catalogue.objects"]
        assert_bad(before, Status.FAIL, f"{root}{name}")
        apply(before.fix, audited.env)

        assert Status.PASS is audited.checks()["catalogue.objects"].status

    def test_ten_manifests_of_each_database_are_read_and_of_the_others_the_list_is_looked_at(
        self, audited: Audited
    ) -> None:
        audited.keep_versions()
        for age in range(1, 12):
            root = audited.put(NOW - age * DAY)
            audited.put(NOW - age * DAY, "bank")
        found = audited.checks()
        assert Status.PASS is found["catalogue.objects"].status
        assert "20 manifests read, the newest 10 of each" in found["catalogue.objects"].reason

        for name in ("archive/3349.dat.zst", "archive/pack-0001.tar"):
            audited.remove(root + name)
        before = audited.checks()["catalogue.objects"]
        assert_bad(before, Status.FAIL, f"{root} holds nothing but its manifest")
        apply(before.fix, audited.env)
        assert Status.PASS is audited.checks()["catalogue.objects"].status

    def test_an_archived_manifest_is_not_read(self, audited: Audited) -> None:
        audited.put(NOW - DAY, storage_class="GLACIER")
        audited.put(NOW)
        assert "1 manifest read" in audited.checks()["catalogue.objects"].reason


class TestArchived:
    @pytest.mark.parametrize(
        ("storage_class", "words"), [("GLACIER", "3 to 5 hours"), ("DEEP_ARCHIVE", "12 hours")]
    )
    def test_a_newest_backup_in_an_archive_is_told_of_until_there_is_a_newer_one(
        self, audited: Audited, storage_class: str, words: str
    ) -> None:
        audited.put(NOW - DAY, storage_class=storage_class)

        check = audited.checks()["catalogue.archived"]
        assert_bad(check, Status.WARN, storage_class, words, "gh workflow run backup.yml")

        audited.put(NOW)  # what that workflow makes
        after = audited.checks()["catalogue.archived"]
        assert (Status.PASS, "1 older backup must be thawed first") == (after.status, after.reason)

    def test_instant_retrieval_is_no_archive(self, audited: Audited) -> None:
        audited.put(NOW, storage_class="GLACIER_IR")
        assert Status.PASS is audited.checks()["catalogue.archived"].status


class TestOrphans:
    def test_what_no_manifest_names_is_removed_by_the_fix_and_nothing_else(
        self, audited: Audited
    ) -> None:
        whole = audited.put(NOW - 5 * DAY)
        audited.drill(whole)
        others = ("rds/shop/1.json", "setup/1.json", "outcomes/backup/shop/1-good.json")
        kept = [*audited.cloud.objects(), *written(audited, *others)]
        left = written(
            audited,
            f"shop/{id_of(NOW - 4 * DAY)}/archive/pack-0001.tar",
            f"shop/{id_of(NOW - 5 * DAY)}/archive/it's left.tar",
            "notes.txt",
        )

        early = audited.checks(NOW + DAY)["catalogue.orphans"]
        assert Status.PASS is early.status  # a backup may still be under way
        before = audited.checks(NOW + 3 * DAY)["catalogue.orphans"]
        assert_bad(before, Status.WARN, "3 objects, 3 B", "has no manifest, so it is no backup")
        apply(before.fix, audited.env)

        assert Status.PASS is audited.checks(NOW + 3 * DAY)["catalogue.orphans"].status
        assert sorted(kept) == sorted(audited.cloud.objects())
        assert not set(left) & set(audited.cloud.objects())

    def test_a_backup_whose_manifest_was_deleted_comes_back_and_is_not_removed(
        self, audited: Audited
    ) -> None:
        audited.keep_versions()
        root = audited.put(NOW - 5 * DAY)
        kept = sorted(audited.cloud.objects())
        audited.remove(f"{root}manifest.json")

        before = audited.checks(NOW + 3 * DAY)["catalogue.orphans"]
        assert_bad(before, Status.WARN, root)
        apply(before.fix, audited.env)

        assert kept == sorted(audited.cloud.objects())
        assert Status.PASS is audited.checks(NOW + 3 * DAY)["catalogue.orphans"].status

    def test_drills_of_an_expired_backup_are_left_to_expire(self, audited: Audited) -> None:
        root = audited.put(NOW - 5 * DAY)
        audited.drill(root)
        for name in ("manifest.json", "archive/3349.dat.zst", "archive/pack-0001.tar"):
            audited.remove(root + name)

        found = audited.checks(NOW + 3 * DAY)

        assert Status.PASS is found["catalogue.orphans"].status


def written(audited: Audited, *names: str) -> list[str]:
    keys = [f"{PREFIX}/{name}" for name in names]
    for key in keys:
        audited.write(key)
    return keys


class TestUploads:
    def test_uploads_that_were_left_over_are_aborted_by_the_fix(self, audited: Audited) -> None:
        key = f"{PREFIX}/shop/{id_of(NOW)}/archive/it's 1.dat"
        audited.cloud.s3.create_multipart_upload(Bucket=audited.cloud.bucket, Key=key)
        audited.cloud.s3.create_multipart_upload(Bucket=audited.cloud.bucket, Key="other/1.dat")

        young = audited.checks(NOW + DAY)["catalogue.uploads"]
        assert Status.PASS is young.status
        assert "1 upload under way" in young.reason
        before = audited.checks(NOW + 3 * DAY)["catalogue.uploads"]
        assert_bad(before, Status.WARN, "1 upload", key)
        apply(before.fix, audited.env)

        assert Status.PASS is audited.checks(NOW + 3 * DAY)["catalogue.uploads"].status
        assert ["other/1.dat"] == audited.cloud.open_uploads()


class TestStorage:
    def table(self, audited: Audited, now: datetime) -> list[tuple[str, ...]]:
        settings = settings_of(bucket=audited.cloud.bucket)
        session = logged_in(audited.monkeypatch, settings, audited.env)
        bucket = Bucket(session, settings.bucket, connections=1)
        return list(storage.table(storage.storage(bucket, settings, now)).rows)

    def test_a_database_has_a_line_for_all_and_one_for_each_class(self, audited: Audited) -> None:
        audited.put_sized(NOW - 40 * DAY, 1000)
        audited.put_sized(NOW, 1500)
        root = audited.put(NOW, "bank", storage_class="GLACIER_IR")
        audited.write(f"{root}drills/{NOW:%Y%m%dT%H%M%SZ}.json", json.dumps({}).encode())

        rows = {row[:2]: row[2:] for row in self.table(audited, NOW)}

        assert {
            ("bank", "all"),
            ("bank", "GLACIER_IR"),
            ("bank", "STANDARD"),
            ("shop", "STANDARD"),
        } == set(rows)
        assert ("1", "2 B", "+2 B", "") == rows["bank", "STANDARD"]
        assert ("4", "3") == (rows["bank", "all"][0], rows["bank", "GLACIER_IR"][0])
        assert "+50%" == rows["shop", "STANDARD"][3]

    def test_what_is_older_than_a_month_was_not_added_in_it(self, audited: Audited) -> None:
        audited.put_sized(NOW, 1000)

        (row,) = self.table(audited, NOW + 31 * DAY)

        assert ("+0 B", "+0%") == row[4:]

    def test_nothing_stored_is_an_empty_table(self, audited: Audited) -> None:
        assert [] == self.table(audited, NOW)


def test_the_mark_of_a_tier_belongs_to_its_backup(audited: Audited) -> None:
    for days in range(6):
        audited.write(f"{audited.put(NOW - days * DAY)}retention-tier/daily")
    later = NOW + 3 * DAY  # by now nothing can be under way
    assert Status.PASS is audited.checks(later)["catalogue.orphans"].status


def test_in_a_replica_what_has_not_come_yet_is_no_loss(audited: Audited) -> None:
    for days in range(6):
        root = audited.put(NOW - days * DAY)
    audited.remove(f"{root}archive/3349.dat.zst")
    made = manifest_of().finished

    def objects_at(moment: datetime) -> Check:
        settings = settings_of(bucket=audited.cloud.bucket)
        there = replace(settings.bucket, replica_of="the-first")
        session = logged_in(audited.monkeypatch, settings, audited.env)
        bucket = Bucket(session, there, connections=4)
        found = checks(bucket, replace(settings, bucket=there), CONSOLE, moment)
        return by_id(found)["catalogue.objects"]

    young = objects_at(made + DAY / 2)
    assert_bad(young, Status.WARN, f"{root}archive/3349.dat.zst is not replicated yet")
    assert "--bucket the-first" in young.fix and "ReplicationStatus" in young.fix
    assert_bad(objects_at(made + 2 * DAY), Status.FAIL, f"{root}archive/3349.dat.zst is gone")
