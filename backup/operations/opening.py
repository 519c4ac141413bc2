"""How an operation comes to a bucket: as which role, and whether it is the replica that is read.

Everything else in AWS (secrets, RDS, notifications) is asked by the first session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from backup.aws.s3 import Bucket
from backup.aws.s3_reading import ReadableBucket
from backup.aws.session import AwsSession, open_session
from backup.console import Console
from backup.errors import BackupError
from backup.github.id_token import id_token_loader
from backup.settings import ReplicaSettings, Settings


@dataclass(frozen=True, slots=True)
class BucketAccess:
    """A bucket and who we are there. `settings` are the run's, with that bucket in them."""

    session: AwsSession
    settings: Settings

    def bucket(self, connections: int) -> Bucket:
        return Bucket(self.session, self.settings.bucket, connections)

    def readable(self, connections: int) -> ReadableBucket:
        return ReadableBucket(self.session, self.settings.bucket, connections)


def log_in(settings: Settings, console: Console, environment: Mapping[str, str]) -> AwsSession:
    """The first session, of `role-to-assume` or of the environment. Raises AccessError, InputError.

    Where the replica may be read, the login must not hang on the region that is lost: STS of each
    region gives out keys that hold in all.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_enable-regions.html
    """
    role, replica = settings.role, settings.replica
    load = id_token_loader(environment, role.audience, console.mask)
    if settings.read_from == "replica" and replica:
        return _elsewhere(settings, replica, console, environment)
    try:
        return open_session(role, load, console.mask)
    except BackupError as error:
        if not error.is_out_of_reach or not replica or settings.read_from != "auto":
            raise
        console.warning(f"Logging in to AWS in {replica.region}", "\n".join(error.lines()))
        return _elsewhere(settings, replica, console, environment)


def _elsewhere(
    settings: Settings, replica: ReplicaSettings, console: Console, environment: Mapping[str, str]
) -> AwsSession:
    """Logged in at the replica's region, for clients of the first one where it is named."""
    load = id_token_loader(environment, settings.role.audience, console.mask)
    session = open_session(replace(settings.role, region=replica.region), load, console.mask)
    return session.in_region(settings.role.region or replica.region)


def first_bucket(session: AwsSession, settings: Settings, console: Console) -> BucketAccess:
    """The bucket that is written to. Raises AccessError where `bucket-role` cannot be assumed."""
    return BucketAccess(_in_its_role(session, settings, console), settings)


def replica_of(session: AwsSession, settings: Settings, console: Console) -> BucketAccess:
    """The bucket that S3 replicates to. Raises AccessError where `bucket-role` cannot be assumed.

    Key and owner are its own: what is written there takes its default encryption.
    """
    assert settings.replica is not None  # noqa: S101 - inputs without one were refused
    bucket = replace(
        settings.bucket,
        name=settings.replica.bucket,
        kms_key_id=None,
        expected_owner=None,
        replica_of=settings.bucket.name,
    )
    there = session.in_region(settings.replica.region)
    return BucketAccess(_in_its_role(there, settings, console), replace(settings, bucket=bucket))


def bucket_to_read(session: AwsSession, settings: Settings, console: Console) -> BucketAccess:
    """The bucket that backups are read from, as `read-from` says.

    With `auto` the replica takes the place of a bucket that nobody can reach, and a warning says
    so; one that refuses stays the one that is meant. Raises AccessError, and whatever the first
    bucket said where the replica cannot be reached either.
    """
    if settings.replica is None or settings.read_from == "bucket":
        return first_bucket(session, settings, console)
    if settings.read_from == "replica":
        return replica_of(session, settings, console)
    try:
        first = first_bucket(session, settings, console)
        _see_it_answer(first)
    except BackupError as error:
        if not error.is_out_of_reach:
            raise
        access = _in_place_of_the_first(session, settings, console, error)
        console.warning(
            f"Reading from the replica s3://{settings.replica.bucket} in {settings.replica.region}",
            "\n".join(error.lines()),
        )
        return access
    return first


def _see_it_answer(access: BucketAccess) -> None:
    """Raises where nobody answers. What S3 refuses, the operation itself will meet."""
    try:
        access.readable(1).check()
    except BackupError as error:
        if error.is_out_of_reach:
            raise


def _in_place_of_the_first(
    session: AwsSession, settings: Settings, console: Console, error: BackupError
) -> BucketAccess:
    try:
        access = replica_of(session, settings, console)
        access.readable(1).check()
    except BackupError as second:
        error.detail += f"\nand the replica: {second.message}: {second.detail}"
        error.hint += f"\nfor the replica: {second.hint}"
        raise error from second
    return access


def _in_its_role(session: AwsSession, settings: Settings, console: Console) -> AwsSession:
    arn, first = settings.bucket.role_arn, settings.role
    if not arn:
        return session
    role = replace(first, arn=arn, external_id=None, allowed_account_ids=())
    return session.assuming(role, first.arn, console.mask)
