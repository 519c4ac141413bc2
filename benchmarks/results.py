"""What the rounds gave: medians, ratios against the targets, a table and a file."""

from __future__ import annotations

import json
import os
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.contestants import OURS, Contestant
from benchmarks.measure import Cost

FOLDER = Path(__file__).with_name("results")
MIB = 1 << 20
# A member at least this large is an object of its own.
LARGE_OBJECT = 8 * MIB


@dataclass(frozen=True)
class Stored:
    """What one backup left in the store."""

    objects: int
    objects_beyond_large: int  # packs, the manifest, and members that are small all the same
    stored_bytes: int
    manifest_bytes: int


@dataclass(frozen=True)
class Target:
    """`reached` should be at most `limit`."""

    name: str
    reached: float
    limit: float
    unit: str = ""

    @property
    def is_met(self) -> bool:
        return self.reached <= self.limit


@dataclass(frozen=True)
class Result:
    case: str
    megabytes: int  # of COPY text; 0 where the case has one size alone
    machine: Mapping[str, str]
    costs: Mapping[str, Sequence[Cost]]  # by contestant, one for each round
    stored: Stored
    targets: Sequence[Target]

    @property
    def path(self) -> Path:
        size = f"-{self.megabytes}" if self.megabytes else ""
        return FOLDER / f"{self.case}{size}.json"


def median(costs: Sequence[Cost]) -> Cost:
    """Of the rounds; of memory and disk the highest, for these are bounds."""
    return Cost(
        wall=statistics.median(cost.wall for cost in costs),
        cpu=statistics.median(cost.cpu for cost in costs),
        memory=max(cost.memory for cost in costs),
        largest_process=max(cost.largest_process for cost in costs),
        scratch=max(cost.scratch for cost in costs),
    )


def stored_in(objects: Mapping[str, int]) -> Stored:
    """From the keys and sizes of one backup's objects."""
    large = [
        key
        for key, size in objects.items()
        if size >= LARGE_OBJECT and not re.search(r"/(pack-\d+\.tar|manifest\.json)$", key)
    ]
    return Stored(
        objects=len(objects),
        objects_beyond_large=len(objects) - len(large),
        stored_bytes=sum(objects.values()),
        manifest_bytes=sum(size for key, size in objects.items() if key.endswith("/manifest.json")),
    )


def machine() -> dict[str, str]:
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": model[1] if model else os.uname().machine,
        "processors": str(len(os.sched_getaffinity(0))),
        "kernel": os.uname().release,
    }


def show(result: Result, contestants: Sequence[Contestant]) -> str:
    """Two tables: what each cost, and the targets."""
    rows: list[tuple[str, ...]] = [("", "wall", "CPU", "memory", "largest", "scratch", "rounds")]
    for contestant in contestants:
        costs = result.costs[contestant.name]
        cost = median(costs)
        rows.append(
            (
                contestant.shown,
                f"{cost.wall:.1f} s",
                f"{cost.cpu:.1f} s",
                *(f"{size / MIB:.0f} MiB" for size in (cost.memory, cost.largest_process)),
                f"{cost.scratch / MIB:.0f} MiB",
                str(len(costs)),
            )
        )
    targets = [("target", "reached", "at most", "")]
    targets += [
        (each.name, f"{each.reached:.2f}{each.unit}", f"{each.limit:.2f}{each.unit}",
         "met" if each.is_met else "MISSED")
        for each in result.targets
    ]  # fmt: skip
    stored = result.stored
    return (
        f"{aligned(rows)}\n\nstored by {OURS}: {stored.stored_bytes / 1e6:.1f} MB in"
        f" {stored.objects} objects, {stored.objects_beyond_large} beyond the large ones;"
        f" manifest {stored.manifest_bytes / 1e6:.2f} MB\n\n{aligned(targets)}"
    )


def keep(result: Result) -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n")
    value = asdict(result) | {
        "targets": [asdict(each) | {"met": each.is_met} for each in result.targets],
        "medians": {name: asdict(median(costs)) for name, costs in result.costs.items()},
    }
    result.path.write_text(json.dumps(value, indent=2) + "\n")


def other_sizes(result: Result) -> str:
    """Peaks of ours in earlier runs of this case at other sizes: they should be the same."""
    rows = []
    for path in sorted(FOLDER.glob(f"{result.case}-[0-9]*.json")):
        earlier = json.loads(path.read_text())
        cost = earlier["medians"][OURS]
        rows.append(
            (
                f"{OURS} at {earlier['megabytes']} MB",
                f"memory {cost['memory'] / MIB:.0f} MiB",
                f"scratch {cost['scratch'] / MIB:.0f} MiB",
                f"{earlier['megabytes'] / cost['wall']:.0f} MB/s",
            )
        )
    return aligned(rows) if len(rows) > 1 else ""


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
