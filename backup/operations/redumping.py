"""The restored database, dumped again as the source was: its table of contents and digests."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from backup.archive.comparison import Dump
from backup.archive.encodings import codec_of
from backup.archive.follow import Follower, Sent
from backup.archive.manifest import Manifest
from backup.archive.redump import Nowhere
from backup.archive.scratch import scratch_folder
from backup.archive.toc import TableOfContents
from backup.archive.uploads import Uploads
from backup.console import Console
from backup.model import Client, Inventory
from backup.operations.counting import RowCounter
from backup.postgres.clients import supports
from backup.postgres.connection import Source, connect, hang_up, pinned
from backup.postgres.counts import tables_with_data
from backup.postgres.dump import DumpPlan, RunningDump
from backup.postgres.inventory import read_inventory
from backup.postgres.proof import indexes
from backup.postgres.snapshot import export_snapshot
from backup.settings import Compression, DumpSettings, Selection
from backup.verdicts import Check

_EVERYTHING = Selection()
_LOCK_TIMEOUT_MS = 60_000
_CLOSING_SECONDS = 1.0


@dataclass(frozen=True)
class Again:
    """What a restored database holds, all of it in one snapshot.

    `rows` are of each table by schema and name; `codec` is Python's name of the dump's encoding.
    """

    dump: Dump
    inventory: Inventory
    rows: Mapping[tuple[str, str], int]
    indexes: Check
    codec: str


def dump_again(
    backup: Manifest,
    restored: Source,
    client: Client,
    jobs: int,
    scratch_limit_bytes: int,
    console: Console,
    environment: Mapping[str, str],
) -> Again:
    """Dump all of the database, and keep nothing but digests.

    Raises AccessError, DumpError or StorageError.
    """
    with ExitStack() as undo:
        connection = connect(restored)
        undo.callback(hang_up, connection)
        source = pinned(restored, connection)
        snapshot = export_snapshot(connection, _LOCK_TIMEOUT_MS)
        inventory = read_inventory(connection, _EVERYTHING)
        tables = tables_with_data(connection, inventory, _EVERYTHING)
        usable = indexes(connection)
        codec = codec_of(backup.inventory.encoding)
        compression = _compression(backup.compression, client)
        scratch = undo.enter_context(scratch_folder())
        uploads = Uploads(Nowhere(), "", threads=1)
        undo.callback(uploads.close, _CLOSING_SECONDS)
        plan = DumpPlan(
            client,
            source,
            snapshot,
            compression,
            DumpSettings(
                jobs, compression, _EVERYTHING, _LOCK_TIMEOUT_MS, scratch_limit_bytes, True
            ),
            backup.inventory.encoding,
            scratch / "archive",
        )
        dump = undo.enter_context(RunningDump(plan, environment, console.info))
        counter = undo.enter_context(RowCounter(connection, tables))
        archive = Follower(
            plan.folder,
            scratch,
            uploads,
            dump,
            scratch_limit=scratch_limit_bytes,
            modified=0,
            codec=codec,
            on_contents=_accept,
        ).follow(_say_nothing)
        counted = counter.result(console)
    return Again(
        Dump(archive.contents, archive.members),
        inventory,
        {(each.schema, each.name): each.rows for each in counted if each.rows is not None},
        usable,
        codec,
    )


def _compression(recorded: str, client: Client) -> Compression:
    """As in the backup, so that equal rows are equal bytes; none at all if this client cannot."""
    method, _, level = recorded.partition(":")
    if not supports(client, method):
        return Compression("none")
    return Compression(method, int(level) if level else None)


def _accept(_: TableOfContents) -> None:
    """Whatever it holds is compared afterwards."""


def _say_nothing(_: Sent) -> None:
    """The phase as a whole is shown; it is short beside the restore."""
