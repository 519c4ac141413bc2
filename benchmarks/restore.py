"""`python -m benchmarks.restore`: this project's restores and drills against the usual lines.

A real PostgreSQL 17 over TLS with default, durable settings, and an S3 that keeps in memory what
it is sent, both on loopback and on the processors that the measured programs use too. Exits 1
when a target is missed.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contestants import (
    BUCKET,
    OURS,
    Contestant,
    copy_then_restore,
    copy_then_restore_table,
    drill,
    restore,
    restore_pipe,
    versions,
)
from benchmarks.data import CHOSEN, DATABASE
from benchmarks.measure import BenchmarkError, Scratch, measure
from benchmarks.restore_results import Outcome, Race, Result, keep, show
from benchmarks.restore_stage import MAJOR, Stage, prepare
from benchmarks.results import MIB, Target, machine
from tests.lab.aws import REGION
from tests.lab.commands import read_outputs
from tests.lab.postgres import installed

CASES = ("full", "scratch", "table", "drill")
MEGABYTES = 1600
SCRATCH_LIMIT = 256  # MiB
LATENCY = 0.025  # seconds for each request
RATE = 60e6  # bytes per second for each connection
# Of what those who download all must spend, for each table of `CHOSEN`.
TABLE_LIMITS = {"supplier": (0.005, 0.1), "customer": (0.03, 0.4), "invoice": (0.1, 0.6)}


def main() -> int:
    options = _arguments()
    megabytes = round(options.megabytes * options.scale)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    if MAJOR not in installed():
        print(f"PostgreSQL {MAJOR} is needed; `make bench` brings one", file=sys.stderr)
        return 2
    if options.scratch:
        tempfile.tempdir = str(options.scratch)
    results = []
    try:
        with Scratch() as scratch, prepare(megabytes, scratch) as stage:
            _say(f"a backup of {stage.stored_bytes / 1e6:.1f} MB is stored")
            programs = machine() | versions(stage.variables)
            for case in CASES if options.case == "all" else (options.case,):
                races, targets = _RUN[case](_Track(stage, scratch, options.rounds))
                result = Result(case, megabytes, programs, stage.stored_bytes, races, targets)
                keep(result)
                _say("", show(result), "", f"kept in {result.path}")
                results.append(result)
            store = stage.sink.counters()
            _say(
                f"the store took {store.cpu_seconds:.1f} s CPU, served {store.served / MIB:.0f} MiB"
            )
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if all(target.is_met for result in results for target in result.targets) else 1


class _Track:
    """Where contestants run, one after the other, as often as they are asked to."""

    def __init__(self, stage: Stage, scratch: Scratch, rounds: int) -> None:
        self._stage = stage
        self._scratch = scratch
        self._rounds = rounds

    def race(self, title: str, contestants: Sequence[Contestant], table: str | None = None) -> Race:
        """Into an empty database each time; with `table` that one alone, from a store that is
        as far away as S3 is."""
        outcomes: dict[str, list[Outcome]] = {each.name: [] for each in contestants}
        if table:
            self._stage.sink.shape(LATENCY, RATE)
        for turn in range(self._rounds):
            # Whoever begins one round comes last in another.
            shift = turn % len(contestants)
            for each in (*contestants[shift:], *contestants[:shift]):
                self._stage.clear()
                outcome = self._run(each)
                self._stage.check(table)
                outcomes[each.name].append(outcome)
                _tell(f"{title}, round {turn + 1}  {each.name:<5}", outcome)
        self._stage.sink.shape()
        return Race(title, {each.name: each.shown for each in contestants}, outcomes)

    def drills(self) -> Race:
        contestant = drill()
        outcomes = []
        for turn in range(self._rounds):
            outcome = self._run(contestant, is_step=True)
            outcomes.append(outcome)
            _tell(f"drill, round {turn + 1}  restore {outcome.restore_seconds:.1f} s ", outcome)
        return Race("drill", {contestant.name: contestant.shown}, {contestant.name: outcomes})

    def _run(self, contestant: Contestant, *, is_step: bool = False) -> Outcome:
        folder = self._scratch.fresh()
        files = self._scratch.fresh()
        variables = {**self._stage.variables, "TMPDIR": str(folder)}
        if is_step:
            del variables["TARGET_URL"]
            variables |= _step(files)
        before = self._stage.sink.counters()
        cost = measure(contestant.command, variables, folder, files / "log")
        after = self._stage.sink.counters()
        if contestant.name == OURS and (left := sorted(path.name for path in folder.iterdir())):
            raise BenchmarkError(f"ours left behind {left}")
        seconds = None
        if is_step:
            seconds = float(read_outputs((files / "output").read_text())["restore-seconds"])
        self._scratch.free(folder)
        return Outcome(
            cost, after.served - before.served, after.requests - before.requests, seconds
        )


def _step(files: Path) -> dict[str, str]:
    """The environment of a step `operation: verify`, with a throwaway server as the target."""
    inputs = {
        "operation": "verify",
        "bucket": BUCKET,
        "aws-region": REGION,
        "database": DATABASE,
        "jobs": "2",
    }
    variables = {f"INPUT_{name.upper()}": value for name, value in inputs.items()}
    for name in ("output", "step_summary"):
        (files / name).touch()
        variables[f"GITHUB_{name.upper()}"] = str(files / name)
    return variables


def _full(track: _Track) -> tuple[list[Race], list[Target]]:
    peers = copy_then_restore(), restore_pipe()
    race = track.race("full", [restore(), *peers])
    own = race.cost(OURS)
    return [race], [
        *(
            Target(f"wall, of {peer.name}'s", own.wall / race.cost(peer.name).wall, limit)
            for peer, limit in zip(peers, (1.0, 0.75), strict=True)
        ),
        Target("peak memory", own.memory / MIB, 150, " MiB"),
    ]


def _limited(track: _Track) -> tuple[list[Race], list[Target]]:
    peer = copy_then_restore()
    race = track.race("scratch", [restore("--scratch-limit", f"{SCRATCH_LIMIT}MiB"), peer])
    own, other = race.cost(OURS), race.cost(peer.name)
    return [race], [
        Target(f"wall, of {peer.name}'s", own.wall / other.wall, 1.05),
        Target(f"peak scratch, of {peer.name}'s", own.scratch / other.scratch, 0.1),
        Target("peak scratch", own.scratch / MIB, SCRATCH_LIMIT, " MiB"),
        Target("peak memory", own.memory / MIB, 150, " MiB"),
    ]


def _table(track: _Track) -> tuple[list[Race], list[Target]]:
    races, targets = [], []
    for table, (of_bytes, of_time) in TABLE_LIMITS.items():
        peer = copy_then_restore_table(table)
        race = track.race(table, [restore("--tables", f"public.{table}"), peer], table)
        races.append(race)
        size = f"{CHOSEN[table]:g} MB"
        fetched = race.fetched(OURS) / race.fetched(peer.name)
        targets.append(Target(f"{size}: bytes, of {peer.name}'s", fetched, of_bytes))
        wall = race.cost(OURS).wall / race.cost(peer.name).wall
        targets.append(Target(f"{size}: wall, of {peer.name}'s", wall, of_time))
    return races, targets


def _drill(track: _Track) -> tuple[list[Race], list[Target]]:
    race = track.drills()
    overhead = statistics.median(
        outcome.cost.wall / outcome.restore_seconds - 1
        for outcome in race.outcomes[OURS]
        if outcome.restore_seconds
    )
    return [race], [Target("wall beyond the restore, of the restore's", overhead, 0.25)]


_RUN = {"full": _full, "scratch": _limited, "table": _table, "drill": _drill}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restore", description=__doc__)
    parser.add_argument("--case", choices=(*CASES, "all"), default="full")
    parser.add_argument("--rounds", type=int, default=3, help="of each contestant")
    parser.add_argument("--megabytes", type=int, default=MEGABYTES, help="of COPY text")
    parser.add_argument("--scale", type=float, default=1.0, help="times as many megabytes")
    parser.add_argument("--scratch", type=Path, help="folder for all files; TMPDIR without it")
    return parser.parse_args()


def _tell(what: str, outcome: Outcome) -> None:
    cost = outcome.cost
    _say(
        f"{what} {cost.wall:7.1f} s {cost.cpu:7.1f} s CPU {cost.memory / MIB:5.0f} MiB memory"
        f" {cost.scratch / MIB:5.0f} MiB scratch {outcome.fetched / 1e6:7.1f} MB fetched"
    )


def _say(*lines: str) -> None:
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
