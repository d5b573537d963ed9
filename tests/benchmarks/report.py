"""Benchmark results: ratios to something measured in the same run, and the page that lists them."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from model.cores import available_cores


@dataclass(frozen=True, slots=True)
class Finding:
    """One ratio, the limit `make bench` checks it against, and the figures behind it."""

    name: str
    ratio: float
    goal: float
    at_least: bool
    detail: str

    @property
    def met(self) -> bool:
        """Return whether the ratio is within its limit."""
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call, in seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def paired(
    first: Callable[[], object], second: Callable[[], object], rounds: int = 7
) -> tuple[float, float, float]:
    """Return (median of first / second, median seconds of each), from pairs in alternating order.

    On shared cores identical code varies up to twofold within seconds; adjacent runs do not.
    """
    first(), second()
    times: list[tuple[float, float]] = []
    for round_number in range(rounds):
        if round_number % 2:
            b, a = seconds(second), seconds(first)
        else:
            a, b = seconds(first), seconds(second)
        times.append((a, b))
    return (
        statistics.median(a / b for a, b in times),
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
    )


HEAD = """\
# Benchmarks

- [All at once](#all-at-once)
- [One by one](#one-by-one)
- [Containers and restarts](#containers-and-restarts)

![Share of classes that change with more context, for five halos](images/benchmarks.png)

Most figures are ratios to something measured in the same run, so that they carry over to other
machines. `make bench` writes the first section; `python -m tests.benchmarks NAME` measures one row.

## All at once

{date:%Y-%m-%d} · {processor}, {cores} cores · Python {python}

| measurement | ratio | figures |
|---|--:|---|
"""
NEXT_SECTION = "## One by one"


def write(findings: Sequence[Finding], path: Path) -> None:
    """Write the findings into the first section of a Markdown page; the others stay as they are."""
    head = HEAD.format(
        date=datetime.now(UTC),
        processor=processor_name(),
        cores=available_cores(),
        python=platform.python_version(),
    )
    rows = (f"| {f.name} | {f.ratio:.2f} | {f.detail} |\n" for f in findings)
    old = path.read_text() if path.exists() else ""
    rest = old[old.index(NEXT_SECTION) :] if NEXT_SECTION in old else ""
    path.write_text(head + "".join(rows) + "\n" + rest)


def processor_name() -> str:
    """Return the name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"
