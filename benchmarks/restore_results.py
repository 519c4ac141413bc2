"""What the rounds of restores gave: medians, ratios against the targets, a table and a file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure import Cost
from benchmarks.results import FOLDER, MIB, Target, aligned, median


@dataclass(frozen=True)
class Outcome:
    """Of one run. `restore_seconds` is what a drill says that its restore took."""

    cost: Cost
    fetched: int  # bytes of all answers' bodies, lists of keys among them
    requests: int
    restore_seconds: float | None = None


@dataclass(frozen=True)
class Race:
    """Contestants that did the same, in turns: by name, an outcome for each round."""

    title: str
    shown: Mapping[str, str]
    outcomes: Mapping[str, Sequence[Outcome]]

    def cost(self, name: str) -> Cost:
        return median([outcome.cost for outcome in self.outcomes[name]])

    def fetched(self, name: str) -> float:
        return statistics.median(outcome.fetched for outcome in self.outcomes[name])

    def requests(self, name: str) -> float:
        return statistics.median(outcome.requests for outcome in self.outcomes[name])


@dataclass(frozen=True)
class Result:
    case: str
    megabytes: int  # of COPY text
    machine: Mapping[str, str]
    stored_bytes: int  # of the archive
    races: Sequence[Race]
    targets: Sequence[Target]

    @property
    def path(self) -> Path:
        return FOLDER / f"restore-{self.case}-{self.megabytes}.json"


def show(result: Result) -> str:
    """Two tables: what each cost, and the targets."""
    titles = ("wall", "CPU", "memory", "scratch", "fetched", "requests", "rounds")
    tables = []
    for race in result.races:
        rows: list[tuple[str, ...]] = [(race.title, *titles)]
        for name, outcomes in race.outcomes.items():
            cost = race.cost(name)
            rows.append(
                (
                    race.shown[name],
                    f"{cost.wall:.1f} s",
                    f"{cost.cpu:.1f} s",
                    f"{cost.memory / MIB:.0f} MiB",
                    f"{cost.scratch / MIB:.0f} MiB",
                    f"{race.fetched(name) / 1e6:.1f} MB",
                    f"{race.requests(name):.0f}",
                    str(len(outcomes)),
                )
            )
        tables.append(aligned(rows))
    targets = [("target", "reached", "at most", "")]
    targets += [
        (each.name, f"{each.reached:.4g}{each.unit}", f"{each.limit:.4g}{each.unit}",
         "met" if each.is_met else "MISSED")
        for each in result.targets
    ]  # fmt: skip
    return "\n\n".join([*tables, aligned(targets)])


def keep(result: Result) -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n")
    value = asdict(result) | {
        "targets": [asdict(each) | {"met": each.is_met} for each in result.targets],
    }
    result.path.write_text(json.dumps(value, indent=2) + "\n")
