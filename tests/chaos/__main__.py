"""`make chaos`: every fault against the real server, watched by a prober of its own.

`python -m tests.chaos` plays all faults and writes docs/reliability.md; `--quick` those of every
CI run (a minute); words play the faults whose name holds one of them. Exits with status 1 when a
promise is broken. Servers listen on loopback only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.chaos import caches, clients, processes, sources
from tests.chaos.control import control
from tests.chaos.oracle import write_ground
from tests.chaos.report import HEAD, row_of, summary_of, write_chaos
from tests.chaos.stage import Fault, Group, Stage
from tests.chaos.trial import Outcome, Trial
from tests.world.graphs import write_model

GROUPS = (
    sources.GROUP, clients.GROUP, clients.HOSTILE, clients.OVERLOAD, caches.DISKS, caches.REDIS,
    processes.GROUP, processes.TWO,
)  # fmt: skip
SIDE_M, YEARS = 3300, range(2013, 2016)
QUICK_SIDE_M, QUICK_YEARS = 2300, range(2013, 2015)
SLOW_STEPS = 1


@contextmanager
def stage(quick: bool) -> Iterator[Stage]:
    """Yield the made world and the models, in a folder that is removed."""
    with tempfile.TemporaryDirectory(prefix="landcover-chaos-") as name, control() as port:
        folder = Path(name)
        side, years = (QUICK_SIDE_M, QUICK_YEARS) if quick else (SIDE_M, YEARS)
        world = write_ground(folder / "local", years, side)
        model = write_model(folder / "models" / "pixelwise.onnx", "pixelwise")
        slow = write_model(folder / "models" / "slow.onnx", "slow", steps=SLOW_STEPS)
        yield Stage(folder, world, model, slow, port, quick)


def selected(group: Group, quick: bool, words: list[str]) -> list[Fault]:
    """Return the faults of a group that are to be played, named."""
    named = [replace(fault, name=name) for name, fault in group.faults.items()]
    if words:
        return [f for f in named if any(word in f"{group.name}: {f.name}" for word in words)]
    if quick:
        return [f for f in named if f.quick]
    return [f for f in named if "(once)" not in f.name]


def play(group: Group, faults: list[Fault], scene: Stage) -> list[Outcome]:
    """Play the faults of a group one after the other on one server."""
    outcomes = []
    with group.open(scene) as bench:
        for fault in faults:
            trial = Trial(
                bench, fault.name, group.name, fault.codes, fault.recovery_s, fault.warm_s
            )
            try:
                fault.run(bench, trial)
            except Exception as error:  # a harness that fails has not shown that the promise holds
                traceback.print_exc()
                trial.expect(False, f"not played to the end: {error!r}")
            outcome = trial.close()
            outcomes.append(outcome)
            print(row_of(outcome), end="", flush=True)
    return outcomes


def main() -> int:
    """Return 1 when a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the faults of every CI run")
    parser.add_argument("words", nargs="*", help="parts of the names of the faults to play")
    given = parser.parse_args()
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with stage(given.quick) as scene:
        print(HEAD, end="", flush=True)
        for group in GROUPS:
            if faults := selected(group, given.quick, given.words):
                outcomes += play(group, faults, scene)
    print(f"\n{summary_of(outcomes)} ({time.monotonic() - began:.0f} s)", flush=True)
    if not given.quick and not given.words:
        write_chaos(outcomes)
    return 0 if outcomes and all(outcome.kept for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
