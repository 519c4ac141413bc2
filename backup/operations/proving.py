"""The proof that a restored database is the backup: dumped again, digest for digest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, TypeVar

from backup.archive import comparison, script
from backup.archive.comparison import Data, Dump
from backup.archive.manifest import Manifest
from backup.archive.toc import TableOfContents
from backup.console import Console
from backup.model import Client, Member, ObjectName
from backup.operations.phases import Phases
from backup.operations.redumping import Again, dump_again
from backup.postgres import proof
from backup.postgres.amcheck import run_amcheck
from backup.postgres.connection import Source
from backup.postgres.proof import RestoredText, restored_text
from backup.postgres.questions import ask
from backup.rows import TextDigest, digest, sum_of_rows
from backup.verdicts import Check, Finding, Proof, TableProof, Verdict, check

# What `pg_restore --file=-` prints of the data of these members: its stdout, whose end raises an
# error if pg_restore has failed. There may be other large objects in it, but no other table.
ArchiveScript = Callable[[Sequence[Member]], AbstractContextManager[BinaryIO]]

_SAME_BYTES = Finding(Verdict.PROVEN, "same bytes")
_SAME_TEXT = Finding(Verdict.PROVEN, "same rows in text")
_SAME_ROWS = Finding(Verdict.PROVEN, "same rows in another order")
_SAME_SIZE = Finding(Verdict.NOT_PROVEN, "as many rows and bytes in text, in another order or not")
_OTHER_CONTENT = Finding(Verdict.FAILED, "differs in content, not in size")

Summary = TypeVar("Summary")


@dataclass(frozen=True)
class ProofPlan:
    """How to prove. `client` should be the one that made the archive, or of its major.

    `excluded` are the entries that were left out of the restore, each with the reason.
    `amcheck` may install an extension, so it is for throwaway servers; `check_sql` are queries.
    """

    client: Client
    jobs: int
    scratch_limit_bytes: int
    excluded: Mapping[ObjectName, str] = field(default_factory=dict)
    amcheck: bool = False
    check_sql: str | None = None


def prove(
    backup: Manifest,
    contents: TableOfContents,
    restored: Source,
    archive_script: ArchiveScript,
    plan: ProofPlan,
    phases: Phases,
    console: Console,
    environment: Mapping[str, str],
) -> Proof:
    """Compare the restored database with the backup; a difference is a verdict, not an error.

    Raises VerificationError where the archive itself is damaged, and AccessError, DumpError or
    StorageError where one of both cannot be read.
    """
    archive = Dump(contents, backup.members)
    with phases.phase("Dump the restored database again"):
        again = dump_again(
            backup, restored, plan.client, plan.jobs, plan.scratch_limit_bytes, console, environment
        )
    with phases.phase("Compare it with the backup"):
        data = comparison.pairs(archive, again.dump)
        with restored_text(restored, backup.inventory.encoding, again.codec) as text:
            judged = _judge(data, text, archive_script, again.codec, plan.excluded)
            added = _judge_added(archive, again.dump, text)
        tables = tuple(_table(each, again, judged[each.name]) for each in data if each.copy)
        checks = [*_checks(backup, archive, again, plan.excluded), *_data_checks(judged, added)]
    notes = []
    if plan.amcheck:
        with phases.phase("Check tables and indexes with pg_amcheck"):
            answer = run_amcheck(plan.client, restored, plan.jobs, environment)
            if isinstance(answer, Check):
                checks.append(answer)
            else:
                notes.append(answer)
    if plan.check_sql is not None:
        with phases.phase("Ask the queries of check-sql"):
            checks.append(ask(restored, plan.check_sql))
    return Proof(tuple(checks), tables, tuple(notes))


def _checks(
    backup: Manifest, archive: Dump, again: Again, excluded: Mapping[ObjectName, str]
) -> list[Check]:
    """What does not need the data."""
    partial = backup.is_partial
    was, now, roles = archive.contents, again.dump.contents, again.inventory.roles
    return [
        proof.inventory(backup.inventory, again.inventory, excluded, partial=partial),
        comparison.objects(was, now, excluded, partial=partial),
        comparison.sequences(was, now, excluded),
        comparison.constraints(was, now),
        again.indexes,
        comparison.owners(was, now, roles),
        comparison.grants(was, now),
        proof.row_counts(backup.inventory, again.rows, excluded),
    ]


def _data_checks(judged: Mapping[ObjectName, Finding], added: Sequence[Finding]) -> list[Check]:
    large = {name: each for name, each in judged.items() if name.kind == comparison.LARGE_OBJECT}
    tables = {name: each for name, each in judged.items() if name not in large}
    return [
        check("rows", [*_bad(tables), *added], f"{len(tables)} tables: {_how(tables)}"),
        check("large objects", _bad(large), f"{len(large)}: {_how(large)}" if large else "none"),
    ]


def _bad(judged: Mapping[ObjectName, Finding]) -> list[Finding]:
    return [
        Finding(each.verdict, f"{name}: {each.text}")
        for name, each in judged.items()
        if each.verdict is not Verdict.PROVEN
    ]


def _how(judged: Mapping[ObjectName, Finding]) -> str:
    texts = [each.text for each in judged.values() if each.verdict is Verdict.PROVEN]
    return ", ".join(f"{texts.count(text)} {text}" for text in dict.fromkeys(texts))


def _judge(
    data: Sequence[Data],
    restored: RestoredText,
    archive_script: ArchiveScript,
    codec: str,
    excluded: Mapping[ObjectName, str],
) -> dict[ObjectName, Finding]:
    """Each table's rows and each large object: the same bytes, or else the same text."""
    judged: dict[ObjectName, Finding] = {}
    differing = []
    for each in data:
        if each.is_same:
            judged[each.name] = _SAME_BYTES
        elif each.name in excluded:
            text = f"was left out: {excluded[each.name]}"
            judged[each.name] = Finding(Verdict.NOT_PROVEN, text)
        elif each.actual is None:
            judged[each.name] = Finding(Verdict.FAILED, "is missing")
        else:
            differing.append(each)
    if differing:
        archived = _of_archive(differing, archive_script, codec, digest)
        for each in differing:
            actual = digest(_text(each, restored))
            judged[each.name] = _compare(each, archived.get(each.name), actual)
    # The order of rows means nothing, and a table may be written in another one.
    reordered = [each for each in differing if judged[each.name] is _SAME_SIZE]
    if reordered:
        sums = _of_archive(reordered, archive_script, codec, sum_of_rows)
        for each in reordered:
            same = sums.get(each.name) == sum_of_rows(_text(each, restored))
            judged[each.name] = _SAME_ROWS if same else _OTHER_CONTENT
    return judged


def _of_archive(
    data: Sequence[Data],
    archive_script: ArchiveScript,
    codec: str,
    summed: Callable[[Iterable[bytes]], Summary],
) -> dict[ObjectName, Summary]:
    """What the text of each comes to in the archive."""
    statements = {
        each.copy.encode(codec, "surrogateescape"): each.expected.data_file
        for each in data
        if each.copy
    }
    names = {each.expected.data_file: each.name for each in data}
    with archive_script([each.expected for each in data]) as stream:
        return {
            names[file]: summed(pieces)
            for file, pieces in script.contents(stream, statements)
            if file in names
        }


def _text(each: Data, restored: RestoredText) -> Iterator[bytes]:
    return restored.table(each.copy) if each.copy else restored.large_object(int(each.name.name))


def _compare(each: Data, expected: TextDigest | None, actual: TextDigest) -> Finding:
    if expected is None:
        return Finding(Verdict.FAILED, "differs, and pg_restore prints nothing of it")
    if actual == expected:
        return _SAME_TEXT
    if each.copy and actual.rows != expected.rows:
        text = f"holds {actual.rows} rows, and {expected.rows} in the backup"
        return Finding(Verdict.FAILED, text)
    if actual.bytes != expected.bytes:
        text = f"differs: {actual.bytes} bytes of content, and {expected.bytes} in the backup"
        return Finding(Verdict.FAILED, text)
    return _SAME_SIZE if each.copy else _OTHER_CONTENT


def _judge_added(archive: Dump, again: Dump, restored: RestoredText) -> list[Finding]:
    """Tables without data in the archive (exclude-table-data) must be empty."""
    findings = []
    for name, entry in comparison.added(archive, again):
        if rows := digest(restored.table(entry.copy)).rows:
            text = f"{name} holds {rows} rows, and none are in the backup"
            findings.append(Finding(Verdict.FAILED, text))
    return findings


def _table(each: Data, again: Again, judged: Finding) -> TableProof:
    schema, table = each.name.schema, each.name.name
    return TableProof(
        schema=schema,
        table=table,
        rows=again.rows.get((schema, table)),
        bytes=each.expected.size,
        sha256=each.expected.sha256,
        verdict=judged.verdict,
        how=judged.text,
    )
