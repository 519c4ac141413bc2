"""Archived objects: asked for once, waited for or not, and what a person is told meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from backup.aws.s3_reading import ListedObject, ReadableBucket
from backup.errors import AccessError, BackupError, InputError, StorageError
from backup.operations.finding import choose_backup, read_manifest
from backup.operations.thawing import Thawed, ThawPending, thaw
from backup.settings import ThawSettings
from backup.terminal import Terminal
from tests.buckets import put_backup, reader, settle
from tests.lab.aws import Moto
from tests.lab.cloud import PREFIX, Cloud, new_cloud
from tests.lab.faults import Answer, Fault, Header
from tests.lab.httpd import HttpService, Request, Response, answering
from tests.lab.issuer import Issuer
from tests.manifests import ID, OBJECTS, manifest_of

CONSOLE = Terminal(as_json=False, debug=False)
NOT_WAITING = ThawSettings(tier="standard", days=3, wait_seconds=0)
WAITING = ThawSettings(tier="standard", days=3, wait_seconds=60)
BYTES = sum(len(body) for body in OBJECTS.values())


@dataclass(frozen=True)
class Stage:
    cloud: Cloud
    bucket: ReadableBucket

    def put(self, storage_class: str) -> list[ListedObject]:
        """A backup whose objects, without the manifest, are needed."""
        root = put_backup(self.cloud, manifest_of(), storage_class)
        return list(self.bucket.list(f"{root}archive/"))

    def thaw(self, needed: list[ListedObject], settings: ThawSettings) -> Thawed | None:
        return thaw(self.bucket, ID, needed, settings, CONSOLE)

    def refused(self, needed: list[ListedObject], settings: ThawSettings) -> BackupError:
        with pytest.raises(BackupError) as caught:
            self.thaw(needed, settings)
        assert 3 <= len(caught.value.lines())
        return caught.value

    def asked_for(self) -> list[str]:
        return sorted(record.path for record in self.cloud.proxy.seen("POST", "restore"))


@pytest.fixture
def stage(
    moto: Moto, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Stage]:
    with new_cloud(moto, issuer) as cloud:
        settle(cloud, monkeypatch, tmp_path)
        yield Stage(cloud, reader(cloud))


@pytest.fixture
def slow_archive(moto: Moto) -> Iterator[int]:
    """An archive whose objects are under way until they have been looked at that often."""
    times = 6
    set_transition(moto, {"progression": "manual", "times": times})
    yield times
    set_transition(moto, {"progression": "immediate"})


def set_transition(moto: Moto, transition: dict[str, object]) -> None:
    body = json.dumps({"model_name": "s3::keyrestore", "transition": transition})
    connection = http.client.HTTPConnection(urlsplit(moto.url).netloc)
    with contextlib.closing(connection):
        connection.request("POST", "/moto-api/state-manager/set-transition", body)
        assert 201 == connection.getresponse().status


@pytest.mark.parametrize("storage_class", ["STANDARD", "STANDARD_IA", "GLACIER_IR"])
def test_what_can_be_read_at_once_is_left_alone(stage: Stage, storage_class: str) -> None:
    needed = stage.put(storage_class)
    stage.cloud.proxy.records.clear()

    assert stage.thaw(needed, NOT_WAITING) is None
    assert [] == stage.cloud.proxy.records


def test_archived_objects_are_thawed_and_waited_for(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = stage.put("GLACIER")
    with pytest.raises(StorageError, match="cannot read"):
        stage.bucket.read(needed[0].key)

    thawed = stage.thaw(needed, WAITING)

    assert thawed is not None
    assert (2, BYTES, "standard") == (thawed.objects, thawed.stored_bytes, thawed.tier)
    assert "less than $0.01, estimated with the prices of us-east-1" in thawed.cost
    for each in needed:
        assert len(stage.bucket.read(each.key)) == each.size
        until = stage.bucket.head(each.key).thawed_until
        assert until is not None
        assert timedelta(days=2, hours=23) < until - datetime.now(UTC) < timedelta(days=3)
    log = capsys.readouterr().err
    assert "Thawing 2 objects (15 KiB): usually 3 to 5 hours" in log
    assert "2 objects thawed" in log


def test_a_run_that_does_not_wait_ends_and_the_next_one_goes_on(stage: Stage) -> None:
    needed = stage.put("DEEP_ARCHIVE")

    error = stage.refused(needed, NOT_WAITING)

    assert isinstance(error, ThawPending)
    assert 5 == error.exit_code
    assert f"backup {ID} is being thawed: 2 objects (15 KiB) cannot be read yet" == error.message
    assert "thaw-tier standard: usually up to 12 hours, so until 20" in error.detail
    assert "https://aws.amazon.com/s3/pricing/" in error.detail
    assert "run the same again after that" in error.hint
    assert 2 == len(stage.asked_for())

    assert stage.thaw(needed, NOT_WAITING) is None
    assert 2 == len(stage.asked_for())


def test_what_is_under_way_is_not_asked_for_again(
    stage: Stage, slow_archive: int, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = stage.put("GLACIER")
    for each in needed:
        for _ in range(slow_archive):
            stage.bucket.head(each.key)

    first, second = (stage.refused(needed, NOT_WAITING) for _ in range(2))

    assert ThawPending is type(first) is type(second)
    assert 2 == len(stage.asked_for())
    assert stage.thaw(needed, WAITING) is not None
    assert 2 == len(stage.asked_for())
    assert "0/2 objects thawed after" in capsys.readouterr().err


def test_a_wait_ends_with_its_bound(stage: Stage) -> None:
    needed = stage.put("GLACIER")
    under_way = Header("x-amz-restore", 'ongoing-request="true"')
    stage.cloud.proxy.add(under_way, method="HEAD")
    began = datetime.now(UTC)

    error = stage.refused(needed, ThawSettings(tier="bulk", days=1, wait_seconds=2))

    assert timedelta(seconds=2) <= datetime.now(UTC) - began < timedelta(seconds=10)
    assert isinstance(error, ThawPending)
    assert "usually 5 to 12 hours" in error.detail
    assert "for 1 day." in error.detail
    assert [] == stage.asked_for()


def test_a_request_that_someone_else_has_made_meanwhile_is_no_error(stage: Stage) -> None:
    needed = stage.put("GLACIER")
    stage.cloud.proxy.add(
        Answer(409, "RestoreAlreadyInProgress", "Object restore is already in progress"),
        method="POST",
        pattern="restore",
    )

    assert isinstance(stage.refused(needed, NOT_WAITING), ThawPending)


def test_a_thawed_copy_that_would_vanish_soon_is_kept_longer(stage: Stage) -> None:
    needed = stage.put("GLACIER")
    stage.thaw(needed, WAITING)
    assert 2 == len(stage.asked_for())
    soon = (datetime.now(UTC) + timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    expiring = Header("x-amz-restore", f'ongoing-request="false", expiry-date="{soon}"')
    stage.cloud.proxy.add(expiring, method="HEAD")

    assert stage.thaw(needed, NOT_WAITING) is None
    assert 4 == len(stage.asked_for())


def test_only_what_is_needed_is_thawed(stage: Stage) -> None:
    stage.put("GLACIER")
    chosen = choose_backup(stage.bucket, PREFIX, "shop", "latest", CONSOLE)
    with pytest.raises(StorageError) as caught:
        read_manifest(stage.bucket, chosen)
    assert "thaws what it needs" in caught.value.hint
    stage.thaw([chosen.manifest], WAITING)
    manifest = read_manifest(stage.bucket, chosen)
    big = [member for member in manifest.members if member.table == "big"]

    stage.thaw(chosen.holding(big), WAITING)

    root = f"/{stage.cloud.bucket}/{chosen.root}"
    assert [f"{root}archive/3349.dat.zst", f"{root}manifest.json"] == stage.asked_for()


def test_expedited_is_refused_where_it_is_not_sold_before_anything_is_asked_for(
    stage: Stage,
) -> None:
    needed = [*stage.put("DEEP_ARCHIVE")]

    error = stage.refused(needed, ThawSettings(tier="expedited", days=3, wait_seconds=0))

    assert isinstance(error, InputError)
    assert "nothing comes out of DEEP_ARCHIVE with thaw-tier: expedited" == error.message
    assert [] == stage.asked_for()


def test_expedited_without_capacity_names_the_other_tier(stage: Stage) -> None:
    needed = stage.put("GLACIER")
    busy = Answer(503, "GlacierExpeditedRetrievalNotAvailable", "Glacier expedited retrievals ...")
    stage.cloud.proxy.add(busy, method="POST", pattern="restore")

    error = stage.refused(needed, ThawSettings(tier="expedited", days=3, wait_seconds=0))

    assert 5 == error.exit_code
    assert "thaw-tier: standard" in error.hint


def test_a_role_that_may_not_thaw_is_told_what_to_add(stage: Stage) -> None:
    needed = stage.put("GLACIER")
    stage.cloud.proxy.add(Answer(403, "AccessDenied", "Access Denied"), method="POST")

    error = stage.refused(needed, WAITING)

    assert isinstance(error, AccessError)
    statement = json.loads(error.hint.splitlines()[1])
    assert ("s3:RestoreObject", f"arn:aws:s3:::{stage.cloud.bucket}/{PREFIX}/*") == (
        statement["Action"],
        statement["Resource"],
    )


def test_what_intelligent_tiering_has_archived_is_thawed_too(stage: Stage) -> None:
    needed = stage.put("INTELLIGENT_TIERING")
    assert stage.thaw(needed, NOT_WAITING) is None  # it has not archived anything yet

    archived = archive_with(stage, "3349", "DEEP_ARCHIVE_ACCESS")
    error = stage.refused(needed, NOT_WAITING)

    assert "1 object (14 KiB) cannot be read yet" in error.message
    assert "usually up to 12 hours" in error.detail
    (asked,) = stage.asked_for()
    assert asked.endswith("archive/3349.dat.zst")
    archived.times = archived.hits  # S3 has moved it back
    assert stage.thaw(needed, NOT_WAITING) is None


def archive_with(stage: Stage, pattern: str, tier: str) -> Fault:
    """S3 accepts the request, which moto does not know for this class."""
    accepted = Answer(202, "Accepted", "")
    stage.cloud.proxy.add(accepted, method="POST", pattern="restore")
    return stage.cloud.proxy.add(
        Header("x-amz-archive-status", tier), method="HEAD", pattern=pattern
    )


@pytest.mark.parametrize(
    ("days", "asked"),
    [(3, "<Days>3</Days>"), (None, "")],
)
def test_the_request_names_tier_and_days(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, days: int | None, asked: str
) -> None:
    bodies: list[str] = []

    def answer(request: Request) -> Response:
        bodies.append(request.body.decode())
        return Response(202, b"")

    with contextlib.closing(HttpService(answering(answer))) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", service.url)
        reader(stage.cloud).thaw("postgresql/a", "Bulk", days)

    (body,) = bodies
    assert "<GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters>" in body
    assert asked in body
    assert (days is not None) == ("<Days>" in body)


def test_a_thawed_backup_is_found_as_any_other(stage: Stage) -> None:
    stage.put("GLACIER")
    chosen = choose_backup(stage.bucket, PREFIX, "shop", ID, CONSOLE)
    stage.thaw(list(chosen.stored.values()), WAITING)

    read_manifest(stage.bucket, chosen)

    assert {"GLACIER"} == {each.storage_class for each in chosen.stored.values()}
    for each in chosen.stored.values():
        assert len(stage.bucket.read_range(each.key, 0, each.size)) == each.size
