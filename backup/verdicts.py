"""What a drill has found out: three words, of which only the first is green."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

_MOST_TEXTS = 10


class Verdict(Enum):
    """Ordered from good to bad by `worst`."""

    PROVEN = "proven"
    NOT_PROVEN = "not proven"  # nothing speaks against it, and something could not be looked at
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a comparison met; PROVEN for what a person should know and is no harm."""

    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison of the restored database with the backup."""

    name: str
    verdict: Verdict
    detail: str


@dataclass(frozen=True, slots=True)
class TableProof:
    """One table's rows. `bytes` and `sha256` are of its member in the archive, as it is stored.

    `rows` is None where they were not counted; `how` says by what it is proven, or why not.
    """

    schema: str
    table: str
    rows: int | None
    bytes: int
    sha256: str
    verdict: Verdict
    how: str


@dataclass(frozen=True, slots=True)
class Proof:
    """All that was compared; `notes` are checks that could not be run and are not needed."""

    checks: tuple[Check, ...]
    tables: tuple[TableProof, ...]
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return worst(
            [each.verdict for each in self.checks] + [each.verdict for each in self.tables]
        )


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    return max(verdicts, key=list(Verdict).index, default=Verdict.PROVEN)


def check(name: str, findings: Iterable[Finding], fine: str) -> Check:
    """The check that these findings make; `fine` is said where none of them is bad.

    The worst are named first.
    """
    found = sorted(findings, key=lambda each: -list(Verdict).index(each.verdict))
    verdict = worst(each.verdict for each in found)
    texts = [each.text for each in found[:_MOST_TEXTS]]
    if verdict is Verdict.PROVEN:
        texts.insert(0, fine)
    if len(found) > _MOST_TEXTS:
        texts.append(f"and {len(found) - _MOST_TEXTS} more")
    return Check(name, verdict, "; ".join(texts))
