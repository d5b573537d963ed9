"""One fault, what the prober saw before, during and after it, and whether the promise held."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.chaos.oracle import Expected, Tiles
from tests.chaos.prober import Prober, Seen
from tests.chaos.server import Server

HONEST = frozenset({"200", "502", "503", "504"})
"""What a tile may be answered in any fault."""
NO_ANSWER = frozenset({"refused", "reset"})
"""Also seen while the server's own process is gone."""
HEALTH_S = float(os.environ.get("CHAOS_HEALTH_S", "0.1"))
RECOVERY_S = 5.0
WARM_P99_S = 1.0
COMPUTED_P99_S = 5.0
"""Of tiles that have to be computed again: their cache is what is in trouble."""
PATIENCE_S = 20.0


@dataclass
class Outcome:
    """A row of the table. Times in seconds; `recovery` None: nothing to recover from."""

    name: str
    group: str = ""
    times: int = 0
    tiles: int = 0
    wrong: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    recovery: float | None = None
    health: float = 0.0
    health_control: float = 0.0
    warm_p99: float = 0.0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether the promise held."""
        return not self.problems


@dataclass
class Bench:
    """A running server, its prober and the tiles that nobody has asked for yet."""

    server: Server
    prober: Prober
    tiles: dict[str, Tiles]
    warm: Sequence[Expected]


class Trial:
    """Collects one fault's outcome. A fault calls `cold`, `fault`, `recover` and `expect`."""

    def __init__(
        self,
        bench: Bench,
        name: str,
        group: str,
        codes: frozenset[str] = HONEST,
        recovery_s: float = RECOVERY_S,
        warm_s: float = WARM_P99_S,
    ) -> None:
        self.bench = bench
        self._recovery_s, self._warm_s = recovery_s, warm_s
        self.outcome = Outcome(name, group)
        self._codes = codes
        self._began = self._ended = self._over = time.monotonic()
        self._entered = False

    @property
    def began(self) -> float:
        """When the fault began, monotonic seconds."""
        return self._began

    def cold(self, tiles: Sequence[Expected]) -> None:
        """Let the prober ask for these during the fault."""
        self.bench.prober.ask_cold(tiles)

    @contextmanager
    def fault(self) -> Iterator[None]:
        """Inside, the fault is on; what turns it off is the last thing that happens inside. May be
        entered again: the outcome is that of all times together, the longest recovery."""
        if not self._entered:
            self._entered = True
        yield
        self._ended = self._over = time.monotonic()

    def recover(self, tiles: Sequence[Expected], also: Callable[[], bool] = lambda: True) -> None:
        """Ask for tiles that are not cached until each was answered right; `also` has to become
        true as well. The time this takes is the recovery."""
        self.bench.prober.ask_cold(tiles)
        wanted = {tile.path for tile in tiles}
        satisfied: float | None = None
        while time.monotonic() < self._ended + PATIENCE_S:
            if satisfied is None and also():
                satisfied = time.monotonic() - self._ended
            right = {s.path for s in self._cold_after() if s.code == "200" and not s.wrong}
            if satisfied is not None and wanted <= right:
                break
            time.sleep(0.02)
        took = max(self._recovery(), math.inf if satisfied is None else satisfied)
        self.outcome.recovery = max(took, self.outcome.recovery or 0.0)
        self.bench.prober.ask_cold([])
        self._over = time.monotonic()

    def expect(self, true: object, problem: str) -> None:
        """Note a problem unless true."""
        if not true:
            self.outcome.problems.append(problem)

    def until(self, true: Callable[[], object], seconds: float, problem: str) -> bool:
        """Wait until something is true; a problem when it takes too long."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if true():
                return True
            time.sleep(0.03)
        self.expect(False, f"{problem}: not within {seconds:g} s")
        return False

    def note(self, text: str) -> None:
        """Add a figure to the row."""
        self.outcome.notes.append(text)

    def count(self, code: str, wrong: bool = False) -> None:
        """Count an answer that another client than the prober had."""
        self.outcome.codes[code] += 1
        self.outcome.tiles += 1
        self.outcome.wrong += wrong

    def close(self) -> Outcome:
        """Return the outcome, judged."""
        seen = self.bench.prober.between(self._began, self._over)
        outcome = self.outcome
        tiles = [s for s in seen if s.kind in ("warm", "cold")]
        outcome.tiles += len(tiles)
        outcome.wrong += sum(s.wrong for s in tiles)
        outcome.codes.update(s.code for s in tiles)
        if not outcome.times:
            outcome.times = sum(s.kind == "cold" for s in seen if s.at <= self._ended)
        warm = sorted(s.took for s in tiles if s.kind == "warm" and s.code == "200")
        outcome.warm_p99 = warm[math.ceil(len(warm) * 0.99) - 1] if warm else 0.0
        self._judge_health(seen)
        self._judge(tiles)
        return outcome

    def _cold_after(self) -> list[Seen]:
        seen = self.bench.prober.between(self._ended, math.inf)
        return [s for s in seen if s.kind == "cold" and s.at >= self._ended]

    def _recovery(self) -> float:
        """Return seconds until the first right answer after which none was an error."""
        recovered = math.inf
        for each in sorted(self._cold_after(), key=lambda s: s.at + s.took):
            if each.code != "200" or each.wrong:
                recovered = math.inf
            elif recovered == math.inf:
                recovered = each.at + each.took - self._ended
        return recovered

    def _judge_health(self, seen: Sequence[Seen]) -> None:
        """A slow answer counts unless the idle process beside it waited at least half as long."""
        control = [s for s in seen if s.kind == "control" and s.code == "200"]
        outcome = self.outcome
        outcome.health_control = max((s.took for s in control), default=0.0)
        worst = 0.0
        for each in (s for s in seen if s.kind == "health" and s.code == "200"):
            outcome.health = max(outcome.health, each.took)
            if each.took > HEALTH_S:
                beside = max(
                    (
                        s.took
                        for s in control
                        if s.at < each.at + each.took and s.at + s.took > each.at
                    ),
                    default=0.0,
                )
                if beside < each.took / 2:
                    worst = max(worst, each.took)
        self.expect(worst <= HEALTH_S, f"/healthz took {worst * 1000:.0f} ms")
        others = {s.code for s in seen if s.kind == "health"} - {"200"} - (self._codes & NO_ANSWER)
        self.expect(not others, f"/healthz answered {', '.join(sorted(others))}")

    def _judge(self, tiles: Sequence[Seen]) -> None:
        outcome = self.outcome
        self.expect(outcome.wrong == 0, f"{outcome.wrong} tiles with wrong pixels")
        others = set(outcome.codes) - self._codes
        self.expect(not others, f"answers {', '.join(sorted(others))}")
        silent = sum("no-retry-after" in s.marks for s in tiles)
        self.expect(silent == 0, f"{silent} times 503 without Retry-After")
        if outcome.recovery is not None:
            took = outcome.recovery
            self.expect(took <= self._recovery_s, f"recovery took {took:.1f} s")
        self.expect(
            outcome.warm_p99 <= self._warm_s, f"p99 of warm tiles {outcome.warm_p99 * 1000:.0f} ms"
        )
