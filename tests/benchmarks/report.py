"""What a benchmark found: a ratio against something measured in the same run."""

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
    """One ratio, the goal it is held against, and the figures behind it."""

    name: str
    ratio: float
    goal: float
    at_least: bool
    detail: str

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def paired(
    first: Callable[[], object], second: Callable[[], object], rounds: int = 7
) -> tuple[float, float, float]:
    """(median of first / second, median seconds of each), from adjacent pairs in turned order.

    Identical code varies up to twofold within seconds on shared cores; neighbors in time do not.
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


def write(findings: Sequence[Finding], path: Path) -> None:
    """The findings as a Markdown page."""
    lines = [
        "# Benchmarks",
        "",
        "Ratios against something measured in the same run, so that they mean the same on another",
        "machine. Written by `make bench`; do not edit.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d} · {_processor()}, {available_cores()} cores · "
        f"Python {platform.python_version()}",
        "",
        "| what | ratio | goal | met | figures |",
        "|---|---|---|---|---|",
    ]
    for finding in findings:
        sign = "≥" if finding.at_least else "≤"
        met = "yes" if finding.met else "**no**"
        lines.append(
            f"| {finding.name} | {finding.ratio:.2f} | {sign} {finding.goal:.2f} "
            f"| {met} | {finding.detail} |"
        )
    path.write_text("\n".join(lines) + "\n")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"
