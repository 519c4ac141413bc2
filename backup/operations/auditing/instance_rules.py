"""What is expected of an instance's own settings.

Where AWS judges them too, as Security Hub does, so hard is this:
https://docs.aws.amazon.com/securityhub/latest/userguide/rds-controls.html
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from backup.aws.instances import Instance
from backup.aws.network import SubnetRoute
from backup.checks import Check, Status, failed, passed, warned
from backup.operations.auditing.rds_subject import Subject

LEAST_RETENTION_DAYS = 7
# RDS ships a log every five minutes, and a busy server a little later.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_PIT.html
LATEST_RESTORABLE = timedelta(minutes=15)
# Storage autoscaling begins to grow an instance at this much.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_PIOPS.Autoscaling.html
LEAST_FREE = 0.10
_GIB = 1024**3


def retention(id: str, title: str, subject: Subject) -> Check:
    days = subject.database.upkeep.retention_days
    if days >= LEAST_RETENTION_DAYS:
        return passed(id, title, f"{subject.name} keeps automated backups for {days} days")
    reason = (
        f"{subject.name} keeps automated backups for {days} days; {LEAST_RETENTION_DAYS} is"
        " the least, for a fault that is found after a weekend"
        if days
        else f"automated backups of {subject.name} are off: it cannot go back to a point in time"
    )
    fix = subject.modify(f"--backup-retention-period {LEAST_RETENTION_DAYS}")
    return failed(id, title, reason, fix)


def restorable(id: str, title: str, subject: Subject) -> Check:
    latest, status = subject.database.upkeep.latest_restorable, subject.database.status
    if latest is None:
        reason = f"RDS names no moment that {subject.name} ({status}) can be restored to"
        return failed(id, title, reason, _until_restorable(subject))
    age = subject.now - latest
    shown = f"{subject.name} can be restored to {latest:%Y-%m-%d %H:%M} UTC"
    if age <= LATEST_RESTORABLE:
        return passed(id, title, f"{shown}, {minutes(age)} ago")
    reason = f"{shown} at the latest, {minutes(age)} ago, and is {status}: RDS ships no more logs"
    return failed(id, title, reason, _until_restorable(subject))


def _until_restorable(subject: Subject) -> str:
    if subject.database.upkeep.retention_days == 0:
        return subject.modify(f"--backup-retention-period {LEAST_RETENTION_DAYS}")
    kind = "cluster" if subject.is_cluster else "instance"
    if subject.database.status == "stopped":
        return subject.rds(f"start-db-{kind} --db-{kind}-identifier {subject.name}")
    if subject.database.status == "storage-full":
        return subject.modify(f"--allocated-storage {_grown(subject.members[0])}")
    # A snapshot bounds the loss until someone has read in the events why.
    return (
        subject.take_snapshot(subject.stamped)
        + "\n"
        + subject.rds(
            f"describe-events --source-type db-{kind} --source-identifier {subject.name}",
            "--duration 1440",
        )
    )


def snapshot(
    id: str, title: str, subject: Subject, newest: datetime | None, release: datetime
) -> Check:
    released = f"the release of {release:%Y-%m-%d %H:%M} UTC"
    if newest and newest >= release:
        reason = f"the newest snapshot of {subject.name} is of {newest:%Y-%m-%d %H:%M} UTC"
        return passed(id, title, f"{reason}, after {released}")
    told = f"the newest is of {newest:%Y-%m-%d %H:%M} UTC" if newest else "there is none"
    reason = f"no snapshot of {subject.name} was taken since {released}: {told}"
    return failed(id, title, reason, subject.take_snapshot(subject.stamped))


def public(id: str, title: str, subject: Subject) -> Check:
    open_ones = [each for each in subject.members if each.network.is_public]
    if not open_ones and not subject.database.network.is_public:
        return passed(id, title, f"{subject.name} has no public address")
    names = ", ".join(each.identifier for each in open_ones) or subject.name
    reason = f"{names} has a public address: only its security groups and passwords protect it"
    if subject.is_cluster and not subject.is_aurora:
        return failed(id, title, reason, _anew(subject))
    fix = subject.modify_members(open_ones, "--no-publicly-accessible")
    return failed(id, title, reason, fix)


def _anew(subject: Subject) -> str:
    return (
        "a Multi-AZ cluster keeps what it was made with; make a copy, which is never public:\n"
        f"operation: restore-instance\ndb-cluster: {subject.name}\nrestore-time: latest"
    )


def subnets(id: str, title: str, subject: Subject, routes: tuple[SubnetRoute, ...]) -> Check:
    leading = [route for route in routes if route.gateway]
    if not leading and (not routes or not all(each.table for each in routes)):
        unseen = ", ".join(each.subnet for each in routes if not each.table) or "its subnets"
        fix = (
            "# with the keys of the account that the VPC belongs to\n"
            f"aws ec2 describe-route-tables --region {subject.region}"
            f" --filters Name=vpc-id,Values={subject.members[0].network.vpc or ''}"
        )
        reason = f"EC2 shows no route table of {unseen}, so nobody knows where they lead"
        return Check(id, title, Status.UNKNOWN, reason, fix)
    if not leading:
        return passed(id, title, f"none of its {len(routes)} subnets leads to an internet gateway")
    told = ", ".join(f"{each.subnet} ({each.table} to {each.gateway})" for each in leading)
    vpc = subject.members[0].network.vpc
    ec2, region = "aws ec2", f"--region {subject.region}"
    lines = [
        "# a route table that leads nowhere; whatever else is in these subnets goes with them",
        f"table=$({ec2} create-route-table --vpc-id {vpc}"
        f" --query RouteTable.RouteTableId --output text {region})",
    ]
    for each in leading:
        change = (
            f"replace-route-table-association --association-id {each.association}"
            if each.association
            else f"associate-route-table --subnet-id {each.subnet}"
        )
        lines.append(f'{ec2} {change} --route-table-id "$table" {region}')
    return failed(id, title, f"subnets of {subject.name} are public: {told}", "\n".join(lines))


def encryption(id: str, title: str, subject: Subject) -> Check:
    storage = subject.database.storage
    if storage.is_encrypted:
        return passed(id, title, f"{subject.name} is encrypted with {storage.kms_key_id}")
    reason = f"{subject.name} is not encrypted, and neither are its backups; only a copy can be"
    return failed(id, title, reason, subject.encrypt())


def deletion_protection(id: str, title: str, subject: Subject) -> Check:
    if subject.database.has_deletion_protection:
        return passed(id, title, f"{subject.name} cannot be deleted by one call")
    reason = f"one call deletes {subject.name}, and its automated backups with it"
    return failed(id, title, reason, subject.modify("--deletion-protection"))


def multi_az(id: str, title: str, subject: Subject) -> Check:
    if subject.database.is_multi_az or (subject.is_cluster and not subject.is_aurora):
        return passed(id, title, f"{subject.name} has a second availability zone to go to")
    reason = f"when its availability zone fails, {subject.name} is gone until it is restored"
    if not subject.is_cluster:
        return warned(id, title, reason, subject.modify("--multi-az"))
    fix = subject.rds(
        f"create-db-instance --db-instance-identifier {subject.name}-reader",
        f"--db-cluster-identifier {subject.name} --engine {subject.database.engine}",
        f"--db-instance-class {subject.members[0].instance_class} --no-publicly-accessible",
    )
    return warned(id, title, reason, fix)


def iam_login(id: str, title: str, subject: Subject) -> Check:
    if subject.database.has_iam_login:
        return passed(id, title, f"{subject.name} takes tokens of IAM (iam-auth: true)")
    reason = f"{subject.name} takes passwords only, which have to be kept and rotated"
    return warned(id, title, reason, subject.modify("--enable-iam-database-authentication"))


def minor_upgrades(id: str, title: str, subject: Subject) -> Check:
    if subject.is_cluster and not subject.is_aurora:
        behind = [] if subject.database.upkeep.upgrades_minor else [subject.name]
        fix = subject.modify("--auto-minor-version-upgrade")
    else:
        members = [each for each in subject.members if not each.upkeep.upgrades_minor]
        behind = [each.identifier for each in members]
        fix = subject.modify_members(members, "--auto-minor-version-upgrade")
    if not behind:
        return passed(id, title, "minor versions, with their fixes, are installed by RDS")
    return warned(id, title, f"{', '.join(behind)} stays at its minor version, unfixed", fix)


def storage(id: str, title: str, subject: Subject) -> Check:
    if subject.is_aurora:
        return passed(id, title, "Aurora's storage grows by itself")
    now, most = subject.database.storage.allocated_gib, subject.database.storage.max_allocated_gib
    if subject.is_cluster or now is None:
        # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/multi-az-db-clusters-concepts.html
        return passed(id, title, f"a Multi-AZ cluster has {now} GiB, and cannot grow by itself")
    if most and most >= math.ceil(now * (1 + LEAST_FREE)):
        return passed(id, title, f"{subject.name} grows by itself from {now} to {most} GiB")
    reason = (
        f"{subject.name} has grown to {now} GiB, and may grow to {most} GiB only"
        if most and most > now
        else f"{subject.name} stays at {now} GiB; a full disk stops it"
    )
    return warned(id, title, reason, subject.modify(f"--max-allocated-storage {2 * now}"))


def free_storage(id: str, title: str, subject: Subject, free: dict[Instance, float]) -> Check:
    """`free`: bytes, by member; those that CloudWatch has no sample of are left out."""
    shares = {
        each: left / (each.storage.allocated_gib * _GIB)
        for each, left in free.items()
        if each.storage.allocated_gib
    }
    told = ", ".join(f"{each.identifier} {share:.0%}" for each, share in shares.items())
    short = [each for each, share in shares.items() if share < LEAST_FREE]
    if not short:
        return passed(id, title, f"free storage: {told}")
    reason = f"less than {LEAST_FREE:.0%} of the storage is free: {told}; a full disk stops it"
    options = [f"--allocated-storage {_grown(short[0])}"]
    most = short[0].storage.max_allocated_gib
    if most and most <= _grown(short[0]):
        options.append(f"--max-allocated-storage {2 * _grown(short[0])}")
    return failed(id, title, reason, subject.modify(*options))


def _grown(instance: Instance) -> int:
    """A quarter more GiB; RDS takes steps of 10 % at the least."""
    return math.ceil((instance.storage.allocated_gib or 20) * 1.25)


def minutes(age: timedelta) -> str:
    count = max(0, int(age.total_seconds() // 60))
    return f"{count} min" if count < 120 else f"{count // 60} h"
