"""Reading out of a bucket: whole ranges or an error, over networks that fail on purpose."""

from __future__ import annotations

import base64
import json
import os
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from awscrt.checksums import crc64nvme

from backup.aws.s3_reading import ReadableBucket
from backup.errors import AccessError, BackupError, StorageError
from tests.buckets import reader, settle
from tests.lab.cloud import Cloud
from tests.lab.faults import (
    INTERNAL_ERROR,
    SLOW_DOWN,
    Action,
    Answer,
    CorruptAnswer,
    CutShort,
    OtherRange,
    Reset,
)

KEY = "postgresql/shop/archive/1.dat"
CONTENT = os.urandom(1 << 20)
OFFSET, SIZE = 300_001, 500_003
WANTED = CONTENT[OFFSET : OFFSET + SIZE]


@pytest.fixture
def bucket(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ReadableBucket:
    """The bucket behind a proxy that can fail, with an object in it."""
    settle(cloud, monkeypatch, tmp_path)
    cloud.s3.put_object(Bucket=cloud.bucket, Key=KEY, Body=CONTENT, ChecksumAlgorithm="CRC64NVME")
    return reader(cloud)


def failure(bucket: ReadableBucket, offset: int = OFFSET, size: int = SIZE) -> BackupError:
    with pytest.raises(BackupError) as caught:
        bucket.read_range(KEY, offset, size)
    return caught.value


def gets(cloud: Cloud) -> int:
    return len(cloud.proxy.seen("GET", KEY))


def test_a_range_is_fetched_with_one_request_for_its_bytes_alone(
    bucket: ReadableBucket, cloud: Cloud
) -> None:
    assert WANTED == bucket.read_range(KEY, OFFSET, SIZE)
    assert CONTENT[-1:] == bucket.read_range(KEY, len(CONTENT) - 1, 1)

    asked = [record.headers["range"] for record in cloud.proxy.seen("GET", KEY)]
    assert [f"bytes={OFFSET}-{OFFSET + SIZE - 1}", "bytes=1048575-1048575"] == asked


def test_nothing_is_asked_for_an_empty_range(bucket: ReadableBucket, cloud: Cloud) -> None:
    assert b"" == bucket.read_range(KEY, OFFSET, 0)
    assert 0 == gets(cloud)


@pytest.mark.parametrize(
    "fault",
    [
        SLOW_DOWN,
        INTERNAL_ERROR,
        Reset(),
        CutShort(0, "reset"),
        CutShort(SIZE // 2, "reset"),
        CutShort(SIZE - 1, "close"),
    ],
    ids=repr,
)
def test_a_range_whose_answer_breaks_off_is_asked_for_again(
    bucket: ReadableBucket, cloud: Cloud, fault: Action
) -> None:
    cloud.proxy.add(fault, method="GET", pattern=KEY, times=2)

    assert WANTED == bucket.read_range(KEY, OFFSET, SIZE)
    assert 3 == gets(cloud)


def test_an_answer_that_stalls_in_its_middle_is_given_up_and_asked_for_again(
    bucket: ReadableBucket, cloud: Cloud
) -> None:
    fault = CutShort(SIZE // 2, "stall", 90)
    cloud.proxy.add(fault, method="GET", pattern=KEY, times=1)

    assert WANTED == bucket.read_range(KEY, OFFSET, SIZE)
    assert 2 == gets(cloud)


@pytest.mark.parametrize("ending", ["reset", "close"])
def test_a_range_that_breaks_off_each_time_is_an_error(
    bucket: ReadableBucket, cloud: Cloud, ending: str
) -> None:
    fault = CutShort(1000, "reset") if ending == "reset" else CutShort(1000, "close")
    cloud.proxy.add(fault, method="GET", pattern=KEY)

    error = failure(bucket)

    assert isinstance(error, StorageError)
    assert f"cannot read s3://{cloud.bucket}/{KEY}" == error.message
    assert "no answer arrived whole" in error.detail
    assert 3 == gets(cloud)


@pytest.mark.parametrize("other", [None, "bytes=0-500002", "bytes=300002-800004"])
def test_another_range_than_the_one_asked_for_is_never_taken_for_it(
    bucket: ReadableBucket, cloud: Cloud, other: str | None
) -> None:
    cloud.proxy.add(OtherRange(other), method="GET", pattern=KEY)

    error = failure(bucket)

    assert isinstance(error, StorageError)
    assert "did not answer as S3 does" in error.message
    assert f"it was asked for bytes {OFFSET} to {OFFSET + SIZE - 1}" in error.detail
    assert 1 == gets(cloud)


@pytest.mark.parametrize("offset", [len(CONTENT) - 10, len(CONTENT), len(CONTENT) + 10])
def test_an_object_that_is_shorter_than_promised_is_an_error(
    bucket: ReadableBucket, offset: int
) -> None:
    error = failure(bucket, offset, 11)

    assert isinstance(error, StorageError)
    assert "is too short" in error.message
    assert f"the manifest places bytes up to {offset + 11} in it" in error.detail


def test_a_missing_object_says_how_objects_vanish(bucket: ReadableBucket, cloud: Cloud) -> None:
    cloud.s3.delete_object(Bucket=cloud.bucket, Key=KEY)

    for read in (lambda: bucket.read_range(KEY, 0, 1), lambda: bucket.head(KEY)):
        with pytest.raises(StorageError) as caught:
            read()
        assert f"s3://{cloud.bucket}/{KEY} is missing" == caught.value.message
        assert "lifecycle rule" in caught.value.detail


def test_an_archived_object_says_that_it_must_be_thawed(
    bucket: ReadableBucket, cloud: Cloud
) -> None:
    archived = Answer(
        403, "InvalidObjectState", "The operation is not valid for the object's storage class"
    )
    cloud.proxy.add(archived, method="GET", pattern=KEY)

    error = failure(bucket)

    assert 5 == error.exit_code
    assert "thaws what it needs" in error.hint


def test_a_head_tells_size_class_and_checksum(bucket: ReadableBucket) -> None:
    state = bucket.head(KEY)

    checksum = base64.b64encode(crc64nvme(CONTENT).to_bytes(8, "big")).decode()
    assert (len(CONTENT), "STANDARD", checksum) == (
        state.size,
        state.storage_class,
        state.crc64nvme,
    )
    assert state.is_readable


def test_a_whole_object_whose_bytes_are_not_those_of_its_checksum_is_not_read(
    bucket: ReadableBucket, cloud: Cloud
) -> None:
    cloud.proxy.add(CorruptAnswer(), method="GET", pattern=KEY, times=1)
    assert CONTENT == bucket.read(KEY)  # a flipped bit on the way: it is asked for again
    assert 2 == gets(cloud)

    cloud.proxy.add(CorruptAnswer(), method="GET", pattern=KEY)
    with pytest.raises(StorageError) as caught:
        bucket.read(KEY)
    assert "no answer arrived whole" in caught.value.detail


@pytest.mark.parametrize(
    ("call", "action"),
    [
        (lambda bucket: bucket.read_range(KEY, 0, 1), "s3:GetObject"),
        (lambda bucket: bucket.head(KEY), "s3:GetObject"),
        (lambda bucket: bucket.thaw(KEY, "Standard", 3), "s3:RestoreObject"),
    ],
    ids=["read_range", "head", "thaw"],
)
@pytest.mark.usefixtures("bucket")
def test_a_denied_request_is_answered_with_the_statement_that_allows_it(
    cloud: Cloud, call: Callable[[ReadableBucket], object], action: str
) -> None:
    cloud.allow({"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"})

    with pytest.raises(AccessError) as caught:
        call(reader(cloud, cloud.role))

    statement = json.loads(caught.value.hint.splitlines()[1])
    resource = f"arn:aws:s3:::{cloud.bucket}/postgresql/*"
    assert {"Effect": "Allow", "Action": action, "Resource": resource} == statement


def test_many_threads_read_at_once(bucket: ReadableBucket) -> None:
    ranges = [(offset, 4099) for offset in range(0, len(CONTENT) - 4099, 40_009)]

    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda span: bucket.read_range(KEY, *span), ranges))

    assert [CONTENT[offset : offset + size] for offset, size in ranges] == read


@pytest.mark.usefixtures("bucket")
def test_a_range_is_held_in_memory_once(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", cloud.double.url)  # the proxy's memory is ours too
    direct = reader(cloud)
    large = 8 << 20
    cloud.s3.put_object(Bucket=cloud.bucket, Key=KEY, Body=bytes(large))
    direct.read_range(KEY, 0, 1)

    tracemalloc.start()
    try:
        assert large == len(direct.read_range(KEY, 0, large))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1.2 * large
