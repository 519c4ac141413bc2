"""A bucket in a second region that S3 copies to, and ways in which the copy is late or lacking."""

from __future__ import annotations

import functools
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from backup.aws.grants import PolicyScope, needed
from tests.lab.aws import REGION, visible_objects
from tests.lab.cloud import PREFIX, Cloud
from tests.lab.sts import ACCOUNT

REPLICA_REGION = "eu-west-1"
ORDERS = "CREATE TABLE orders AS SELECT n FROM generate_series(1, 1000) n"


@dataclass(frozen=True)
class Replica:
    """The bucket `name`, of the first one of `cloud`; nothing copies to it until told to."""

    cloud: Cloud
    name: str

    @property
    def inputs(self) -> dict[str, str]:
        return {"replica_bucket": self.name, "replica_region": REPLICA_REGION}

    @functools.cached_property
    def s3(self) -> Any:
        """A client that may do everything, past the proxy."""
        return self.cloud.double.client("s3", region=REPLICA_REGION)

    def replicate(self, prefix: str = "") -> None:
        """S3 copies whatever comes from now on, at once."""
        rule = {
            "ID": "second-region",
            "Priority": 1,
            "Status": "Enabled",
            "Filter": {"Prefix": prefix},
            "Destination": {"Bucket": f"arn:aws:s3:::{self.name}"},
            "DeleteMarkerReplication": {"Status": "Disabled"},
        }
        role = f"arn:aws:iam::{ACCOUNT}:role/replication"
        self.cloud.s3.put_bucket_replication(
            Bucket=self.cloud.bucket, ReplicationConfiguration={"Role": role, "Rules": [rule]}
        )

    def objects(self, prefix: str = "") -> dict[str, int]:
        return visible_objects(self.s3, self.name, prefix)

    def copy(self, key: str) -> None:
        """What S3 does with one object, tags included, when it comes to it."""
        source = {"Bucket": self.cloud.bucket, "Key": key}
        tags = self.cloud.s3.get_object_tagging(**source)["TagSet"]
        body = self.cloud.read(key)
        self.s3.put_object(Bucket=self.name, Key=key, Body=body)
        self.s3.put_object_tagging(Bucket=self.name, Key=key, Tagging={"TagSet": tags})

    def copy_all(self, *without: str) -> list[str]:
        """Every object but those whose key contains one of these texts; the keys left out."""
        left = []
        for key in self.cloud.objects():
            if any(text in key for text in without):
                left.append(key)
            else:
                self.copy(key)
        return left

    def requests(self) -> int:
        """How often the action has asked the replica anything."""
        return len(self.cloud.proxy.seen("*", f"^/{self.name}"))

    def may(self, operation: str, **scope: Any) -> None:
        """The role gets what is documented for an operation with this replica, and no more."""
        granted = needed(operation, self.scope(**scope))
        self.cloud.allow(*(each.statement() for each in granted))

    def scope(self, **more: Any) -> PolicyScope:
        return PolicyScope(
            "aws",
            REGION,
            ACCOUNT,
            self.cloud.bucket,
            PREFIX,
            replica=self.name,
            replica_region=REPLICA_REGION,
            **more,
        )


@contextmanager
def second_region(cloud: Cloud, name: str = "") -> Iterator[Replica]:
    """A bucket in the second region; both keep versions, as replication wants."""
    name = name or f"replica-{secrets.token_hex(4)}"
    replica = Replica(cloud, name)
    place = {"LocationConstraint": REPLICA_REGION}
    replica.s3.create_bucket(Bucket=name, CreateBucketConfiguration=place)
    for client, bucket in ((replica.s3, name), (cloud.s3, cloud.bucket)):
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    yield replica


@contextmanager
def later(condition: Callable[[], object], action: Callable[[], object]) -> Iterator[None]:
    """Do something once a condition holds, while the action runs."""
    ended = threading.Event()
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            while not ended.is_set() and not condition():
                time.sleep(0.1)
            if not ended.is_set():
                action()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert [] == failures
