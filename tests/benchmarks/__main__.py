"""`make bench`: every figure in one run, into docs/benchmarks.md."""

from __future__ import annotations

import os

# One thread per matrix product, as one thread per window; before numpy is loaded.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import sys
from pathlib import Path

from app.demo import write_county
from app.settings import SHIPPED_MODEL
from tests.benchmarks import areas, halo, inference, int8, jobs, processes, sources, tiles
from tests.benchmarks.report import Finding, write

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Runs everything; 1 when a goal is missed."""
    county = ROOT / "demo-county"
    write_county(county)
    findings: list[Finding] = []
    only = sys.argv[1:]

    def note(*found: Finding) -> None:
        findings.extend(found)
        for finding in found:
            print(f"{finding.ratio:6.2f}  {finding.name}  ({finding.detail})", flush=True)

    if not only or "inference" in only:
        note(*inference.measure(SHIPPED_MODEL))
    data = ROOT.parent / "shared" / "data"
    if (not only or "halo" in only) and data.exists():
        note(halo.measure(SHIPPED_MODEL, data))
    if (not only or "int8" in only) and data.exists():
        note(int8.measure(SHIPPED_MODEL, data))
    for name in ("block", "viewport", "warm", "memory"):
        if not only or name in only:
            note(getattr(tiles, f"measure_{name}")(county))
    if not only or "processes" in only:
        note(processes.measure(county))
    if not only or "areas" in only:
        note(*areas.measure_areas(county))
    if not only or "hectares" in only:
        note(areas.measure_hectares(county))
    for name in ("catalogue", "remote"):
        if not only or name in only:
            note(*getattr(sources, f"measure_{name}")())
    if not only or "area" in only:
        note(sources.measure_area())
    if not only or "jobs" in only:
        note(*jobs.measure())
    if not only:
        write(findings, ROOT / "docs" / "benchmarks.md")
    return 0 if all(finding.met for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
