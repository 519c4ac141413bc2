"""Steps of the doctor: what the login may not read of what the dump reads, and the SQL for it."""

from __future__ import annotations

from collections.abc import Sequence

from backup.checks import Check
from backup.operations.auditing.setup_course import Step, failed, passed
from backup.postgres.privileges import Named, Needed, Privileges
from backup.postgres.remedies import to_read, to_read_large_objects, to_see_all_rows
from backup.wording import count

MOST_NAMED = 5


def _schemas(found: Privileges) -> Check:
    return _judged(
        Step.SCHEMAS, "USAGE", found.schemas, "schema", found.schemas.schemas,
        to_read(found),
    )  # fmt: skip


def _tables(found: Privileges) -> Check:
    return _judged(
        Step.TABLES, "SELECT", found.tables, "table", _names(found.tables.relations),
        to_read(found),
    )  # fmt: skip


def _sequences(found: Privileges) -> Check:
    return _judged(
        Step.SEQUENCES, "SELECT", found.sequences, "sequence", _names(found.sequences.relations),
        to_read(found),
    )  # fmt: skip


def _large_objects(found: Privileges) -> Check:
    number, lacking = found.large_object_count, found.large_objects
    if not lacking:
        return passed(Step.LARGE_OBJECTS, _all(number, "large object", "SELECT"))
    return failed(
        Step.LARGE_OBJECTS,
        f"{found.user} may not read {len(lacking):,} of {count(number, 'large object')}"
        f" ({_listed(list(map(str, lacking)))}); pg_dump stops at the first",
        to_read_large_objects(found),
    )


def _row_security(found: Privileges) -> Check:
    if not found.row_security:
        return passed(Step.ROW_SECURITY, f"no policy hides rows from {found.user}")
    return failed(
        Step.ROW_SECURITY,
        f"policies would hide rows of {count(len(found.row_security), 'table')} from"
        f" {found.user} ({_listed(_names(found.row_security))}); pg_dump refuses half a table",
        to_see_all_rows(found),
    )


JUDGES = {
    Step.SCHEMAS: _schemas,
    Step.TABLES: _tables,
    Step.SEQUENCES: _sequences,
    Step.LARGE_OBJECTS: _large_objects,
    Step.ROW_SECURITY: _row_security,
}


def _judged(
    step: Step, privilege: str, needed: Needed, what: str, lacking: Sequence[str], fix: str
) -> Check:
    if not lacking:
        return passed(step, _all(needed.number, what, privilege))
    return failed(
        step,
        f"{privilege} is missing on {len(lacking):,} of {count(needed.number, what)}:"
        f" {_listed(lacking)}; pg_dump stops at the first",
        fix,
    )


def _all(number: int, what: str, privilege: str) -> str:
    return f"{privilege} on {count(number, what)}" if number else f"there is no {what}"


def _names(found: Sequence[Named]) -> list[str]:
    return [f"{each.schema}.{each.name}" for each in found]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
