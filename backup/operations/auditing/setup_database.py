"""Steps of the doctor: what the login may, who is in the way, and how much room there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backup.archive.scratch import scratch_folder
from backup.checks import Check
from backup.errors import BackupError
from backup.model import Client, Inventory
from backup.operations.auditing.setup_course import Course, Step, failed, passed, warned
from backup.operations.auditing.setup_privileges import JUDGES, MOST_NAMED
from backup.operations.choosing import compression_for
from backup.postgres.clients import choose, installed
from backup.postgres.connection import Connection, Source, pinned
from backup.postgres.counts import tables_with_data
from backup.postgres.globals import dump_globals
from backup.postgres.inventory import extension_tables, read_inventory
from backup.postgres.occupancy import Blocker, LockTable, Room, blockers, lock_table, room
from backup.postgres.privileges import Privileges, read_privileges
from backup.postgres.remedies import to_connect_often, to_lock_more
from backup.postgres.snapshot import export_snapshot, server_version
from backup.settings import DumpSettings
from backup.wording import count, duration, size

_LOCKS = (Step.LOCK_TABLE, Step.LOCKS)


@dataclass(frozen=True, slots=True)
class Examined:
    """The inventory in the snapshot, and what the login may of it."""

    inventory: Inventory
    privileges: Privileges


def look_at_client(
    course: Course,
    source: Source | None,
    connection: Connection | None,
    settings: DumpSettings,
    environment: Mapping[str, str],
) -> None:
    """Whether there is a pg_dump for this server that compresses as is asked, and logs in.

    Its libpq is not ours: it may lack TLS, or a way to log in. pg_dumpall beside it has the same,
    and reads next to nothing.
    """
    if not course.ready(Step.CLIENT, Step.LOGIN, Step.DISK) or source is None or connection is None:
        return
    server = server_version(connection)
    try:
        choice = choose(server, installed(environment))
        compression = compression_for(settings.compression, choice.client)
        with scratch_folder() as folder:
            denied = dump_globals(
                choice.client, pinned(source, connection), environment, folder / "globals.sql"
            )
    except BackupError as error:
        course.fail(Step.CLIENT, error)
        return
    told = f"pg_dump {choice.client.version} for PostgreSQL {server.text}, with {compression}"
    if choice.warning:
        course.add(warned(Step.CLIENT, choice.warning, _other_client(server.major, choice.client)))
    elif denied:
        course.add(warned(Step.CLIENT, f"{told}; {denied}", _ROLES_BY_HAND))
    else:
        course.add(passed(Step.CLIENT, f"{told}; it logs in, and the roles can be read"))


_ROLES_BY_HAND = "keep the statements that create the roles in the repository: a restore needs them"


def _other_client(major: int, client: Client) -> str:
    return (
        f"use a release of the action whose image has pg_dump {major}, or install"
        f" postgresql-client-{major} and name its bin folder in PG_BACKUP_CLIENTS; or accept"
        f" pg_dump {client.major}, and restore into PostgreSQL {client.major}"
    )


def look_at_contents(course: Course, connection: Connection | None, settings: DumpSettings) -> None:
    """Everything that the dump would read, in a snapshot such as it would take."""
    steps = (Step.CONNECTIONS, Step.INVENTORY, *JUDGES, *_LOCKS)
    if connection is None:
        for step in steps:
            course.ready(step, Step.LOGIN)
        return
    course.look(
        Step.CONNECTIONS, lambda: room(connection), lambda left: judge_room(left, settings.jobs)
    )
    connection.rollback()  # a snapshot is for a transaction that has asked nothing yet
    found = course.look(Step.INVENTORY, lambda: _examine(connection, settings), _told_inventory)
    if found is None:
        for step in (*JUDGES, *_LOCKS):
            course.ready(step, Step.INVENTORY)
        return
    course.add(*(judge(found.privileges) for judge in JUDGES.values()))
    course.look(
        Step.LOCK_TABLE,
        lambda: lock_table(connection),
        lambda there: judge_lock_table(there, found.privileges),
    )
    course.look(
        Step.LOCKS,
        lambda: blockers(connection, found.inventory),
        lambda held: judge_locks(held, settings.lock_timeout_ms / 1000),
    )


def _examine(connection: Connection, settings: DumpSettings) -> Examined:
    selection = settings.selection
    export_snapshot(connection, settings.lock_timeout_ms)
    inventory = read_inventory(connection, selection)
    with_data = tables_with_data(connection, inventory, selection)
    of_extensions = extension_tables(connection, selection)
    return Examined(inventory, read_privileges(connection, inventory, with_data, of_extensions))


def _told_inventory(found: Examined) -> Check:
    inventory, privileges = found.inventory, found.privileges
    told = [
        count(len(inventory.relations), "relation"),
        f"a database of {size(inventory.database_bytes)}" if inventory.database_bytes else "",
        f"extensions {', '.join(each.name for each in inventory.extensions)}, which a restore"
        " needs on its server" if inventory.extensions else "",
        f"{count(privileges.foreign_tables, 'foreign table')}, whose rows lie on another server"
        " and are in no backup of this one" if privileges.foreign_tables else "",
        f"{count(privileges.materialized_views, 'materialized view')}, filled anew by a restore"
        if privileges.materialized_views else "",
    ]  # fmt: skip
    return passed(Step.INVENTORY, "; ".join(each for each in told if each))


def judge_lock_table(there: LockTable, found: Privileges) -> Check:
    """pg_dump locks every table and sequence at once, and other sessions take locks too.

    The server has some room beyond its promise, so that more may still work.
    """
    needed = found.tables.number + found.sequences.number
    told = f"a dump takes {count(needed, 'lock')}, and the server has room for {there.size:,}"
    if needed <= there.size:
        return passed(Step.LOCK_TABLE, told)
    return warned(
        Step.LOCK_TABLE,
        f"{told} (max_locks_per_transaction {there.per_transaction}); it may run out of them:"
        " “out of shared memory”",
        to_lock_more(there.per_transaction_for(needed)),
    )


def judge_locks(held: Sequence[Blocker], patience: float) -> Check:
    """`patience` is lock-timeout in seconds: who holds on longer would fail a backup."""
    if not held:
        return passed(Step.LOCKS, "nobody holds or wants an ACCESS EXCLUSIVE lock right now")
    told = "; ".join(_told_lock(each) for each in held[:MOST_NAMED])
    fix = "\n".join(
        [
            "-- wait until it is over, or raise lock-timeout, or end it, whatever it is doing:",
            *dict.fromkeys(_end(each) for each in held[:MOST_NAMED]),
        ]
    )
    if any(each.seconds is not None and each.seconds > patience for each in held):
        return failed(
            Step.LOCKS, f"{told}: longer than lock-timeout, so a backup would fail now", fix
        )
    return warned(Step.LOCKS, f"{told}: a backup would wait for it now", fix)


def _told_lock(lock: Blocker) -> str:
    who = f"process {lock.pid}" if lock.pid else "a prepared transaction"
    about = ", ".join(
        each
        for each in (
            lock.application and f"application {lock.application}",
            lock.user and f"user {lock.user}",
            f"for {duration(lock.seconds)}" if lock.seconds is not None else "",
        )
        if each
    )
    does = "waits for" if lock.is_waiting else "holds"
    return f"{who}{f' ({about})' if about else ''} {does} {lock.table.schema}.{lock.table.name}"


def _end(lock: Blocker) -> str:
    if lock.pid:
        return f"SELECT pg_terminate_backend({lock.pid});"
    return "SELECT gid, prepared, owner FROM pg_prepared_xacts; -- then ROLLBACK PREPARED 'gid';"


def judge_room(left: Room, jobs: int) -> Check:
    """A dump takes one connection for each job, one for pg_dump itself, and ours."""
    needed = jobs + 2
    limits = (
        ("the server", left.of_server, "-- raise max_connections, or close what idles:\n"
         "SELECT pid, application_name, state FROM pg_stat_activity ORDER BY state;"),
        (f"the role {left.user}", left.of_role, to_connect_often("ROLE", left.user)),
        ("the database", left.of_database, to_connect_often("DATABASE", left.database)),
    )  # fmt: skip
    short = [each for each in limits if each[1] is not None and each[1] < needed]
    if not short:
        told = f"{needed} are needed, and the server has {left.of_server} left"
        return passed(Step.CONNECTIONS, told)
    told = ", ".join(f"{where} has {max(free or 0, 0)} left" for where, free, _ in short)
    most = min(free or 0 for _, free, _ in short) - 2
    fixes = [*(fix for _, _, fix in short), *([f"-- or jobs: {most}"] if most > 0 else [])]
    return failed(Step.CONNECTIONS, f"{needed} are needed (jobs + 2), and {told}", "\n".join(fixes))
