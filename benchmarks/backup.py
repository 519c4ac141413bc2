"""`python -m benchmarks.backup`: this project against the usual pipes, in turns in one run.

A real PostgreSQL 17 over TLS and an S3 that discards what it is sent, both on loopback and on
the processors that the measured programs use too. Exits 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contestants import (
    OURS,
    Contestant,
    environment,
    gzip_pipe,
    identity_service,
    local,
    ours,
    versions,
    zstd_pipe,
)
from benchmarks.data import SETTINGS, load
from benchmarks.measure import BenchmarkError, Cost, Scratch, measure
from benchmarks.results import (
    MIB,
    Result,
    Stored,
    Target,
    keep,
    machine,
    median,
    other_sizes,
    show,
    stored_in,
)
from tests.lab.postgres import PostgresServer, installed
from tests.lab.sink import Sink

MAJOR = 17
MEGABYTES = 1600
SLOW_LINK = 6e6  # bytes per second
SLOW_LINK_SCRATCH = 48  # MiB


@dataclass(frozen=True)
class Case:
    """One kind of database and who is measured on it."""

    content: str
    peers: tuple[str, ...]
    rounds: int
    bandwidth: float | None = None
    options: tuple[str, ...] = ()


CASES = {
    "mixed": Case("mixed", ("gzip-pipe", "zstd-pipe", "local"), 3),
    "many-tables": Case("many-tables", ("local",), 3),
    "large-objects": Case("large-objects", ("local",), 3),
    "slow-link": Case(
        "mixed", (), 1, SLOW_LINK, ("--scratch-limit", f"{SLOW_LINK_SCRATCH}MiB")
    ),
}  # fmt: skip


def main() -> int:
    options = _arguments()
    case = CASES[options.case]
    megabytes = options.megabytes * options.scale if case.content == "mixed" else 0
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    if MAJOR not in installed():
        print(f"PostgreSQL {MAJOR} is needed; `make bench` brings one", file=sys.stderr)
        return 2
    if options.scratch:
        tempfile.tempdir = str(options.scratch)
    with ExitStack() as parts:
        scratch = parts.enter_context(Scratch())
        sink = parts.enter_context(Sink(case.bandwidth))
        server = parts.enter_context(PostgresServer(installed()[MAJOR], SETTINGS, tls=True))
        sts = identity_service()
        parts.callback(sts.close)
        size = load(server, case.content, megabytes)
        _say(f"{options.case}: a database of {size / MIB:.0f} MiB is loaded")
        variables = environment(installed()[MAJOR], server, sink, sts)
        programs = versions(variables)
        everyone = {
            each.name: each for each in (ours(*case.options), gzip_pipe(), zstd_pipe(), local())
        }
        peers = case.peers if options.peers is None else options.peers
        chosen = [everyone[name] for name in (OURS, *peers)]
        try:
            costs, stored = _compete(
                chosen, options.rounds or case.rounds, variables, sink, scratch
            )
        except BenchmarkError as error:
            print(error, file=sys.stderr)
            return 1
    result = Result(
        options.case,
        megabytes,
        machine() | programs,
        costs,
        stored,
        _targets(options.case, {name: median(each) for name, each in costs.items()}, stored),
    )
    keep(result)
    _say("", show(result, chosen), "", other_sizes(result), f"kept in {result.path}")
    return 0 if all(target.is_met for target in result.targets) else 1


def _compete(
    contestants: Sequence[Contestant],
    rounds: int,
    variables: Mapping[str, str],
    sink: Sink,
    scratch: Scratch,
) -> tuple[dict[str, list[Cost]], Stored]:
    costs: dict[str, list[Cost]] = {each.name: [] for each in contestants}
    stored: dict[str, int] = {}
    with tempfile.NamedTemporaryFile(prefix="pg-backup-bench-log-") as log:
        for turn in range(rounds):
            # Whoever begins one round comes last in another.
            shift = turn % len(contestants)
            for each in (*contestants[shift:], *contestants[:shift]):
                if each.most_rounds is not None and turn >= each.most_rounds:
                    continue
                before = sink.counters().objects
                folder = scratch.fresh()
                own = {**variables, "TMPDIR": str(folder)}
                cost = measure(each.command, own, folder, Path(log.name))
                costs[each.name].append(cost)
                _say(
                    f"round {turn + 1}  {each.name:<10} {cost.wall:7.1f} s"
                    f" {cost.cpu:7.1f} s CPU {cost.memory / MIB:5.0f} MiB memory"
                    f" {cost.scratch / MIB:5.0f} MiB scratch"
                )
                if each.name == OURS:
                    after = sink.counters()
                    stored = {k: v for k, v in after.objects.items() if k not in before}
                    _nothing_left(folder, after.open_uploads)
                scratch.free(folder)
    return costs, stored_in(stored)


def _nothing_left(scratch: Path, open_uploads: int) -> None:
    if left := sorted(path.name for path in scratch.iterdir()):
        raise BenchmarkError(f"ours left behind {left}")
    if open_uploads:
        raise BenchmarkError(f"ours left {open_uploads} uploads open")


def _targets(case: str, costs: Mapping[str, Cost], stored: Stored) -> list[Target]:
    own = costs[OURS]
    memory = Target("peak memory", own.memory / MIB, 150, " MiB")
    if case == "slow-link":
        return [Target("peak scratch", own.scratch / MIB, SLOW_LINK_SCRATCH, " MiB")]
    targets = []
    most = {"gzip-pipe": 0.25, "zstd-pipe": 0.75, "local": 1.10 if case == "mixed" else 1.30}
    for name, limit in most.items():
        if peer := costs.get(name):
            targets.append(Target(f"wall, of {name}'s", own.wall / peer.wall, limit))
    if case == "mixed":
        for name, limit in (("local", 1.25), ("zstd-pipe", 1.0)):
            if peer := costs.get(name):
                targets.append(Target(f"CPU, of {name}'s", own.cpu / peer.cpu, limit))
        return [*targets, memory, Target("peak scratch", own.scratch / MIB, 64, " MiB")]
    return [
        *targets,
        Target("objects beyond the large ones", stored.objects_beyond_large, 9),
        Target("manifest", stored.manifest_bytes / 1e6, 5, " MB"),
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backup", description=__doc__)
    parser.add_argument("--case", choices=sorted(CASES), default="mixed")
    parser.add_argument("--rounds", type=int, help="of each contestant; the slowest takes two")
    parser.add_argument(
        "--peers", nargs="*", choices=CASES["mixed"].peers, help="instead of the case's own"
    )
    parser.add_argument(
        "--megabytes", type=int, default=MEGABYTES, help="of COPY text (mixed and slow-link)"
    )
    parser.add_argument("--scale", type=int, default=1, help="times as many megabytes")
    parser.add_argument("--scratch", type=Path, help="folder for all files; TMPDIR without it")
    return parser.parse_args()


def _say(*lines: str) -> None:
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
