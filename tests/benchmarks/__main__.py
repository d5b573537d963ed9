"""`make bench`: every figure in one run, into docs/benchmarks.md; or those named on the line."""

from __future__ import annotations

import os

# One thread per matrix product, as one thread per window; before numpy is loaded.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from app.demo import write_county
from app.settings import SHIPPED_MODEL, WEIGHTS
from tests.benchmarks import (
    against_titiler,
    areas,
    deepness,
    engines,
    estimates,
    fairness,
    fast,
    halo,
    inference,
    int8,
    jobs,
    paint,
    processes,
    shared,
    sources,
    stalls,
    tiles,
)
from tests.benchmarks.report import Finding, write

ROOT = Path(__file__).parents[2]
COUNTY = ROOT / "demo-county"
DATA = ROOT.parent / "shared" / "data"

Measure = Callable[[], Sequence[Finding] | Finding]


def _fit() -> Sequence[Finding]:
    from tests.benchmarks import fit  # torch is not everywhere

    return fit.measure()


MEASURES: dict[str, Measure] = {
    "inference": lambda: inference.measure(SHIPPED_MODEL),
    "engines": lambda: engines.measure_engines(SHIPPED_MODEL),
    "joined": lambda: engines.measure_joined(SHIPPED_MODEL),
    "fast": lambda: fast.measure(SHIPPED_MODEL, WEIGHTS / "fast.onnx"),
    "halo": lambda: halo.measure(SHIPPED_MODEL, DATA) if DATA.exists() else (),
    "int8": lambda: int8.measure(SHIPPED_MODEL, DATA) if DATA.exists() else (),
    "block": lambda: tiles.measure_block(COUNTY),
    "viewport": lambda: tiles.measure_viewport(COUNTY),
    "estimates": lambda: estimates.measure(COUNTY),
    "warm": lambda: tiles.measure_warm(COUNTY),
    "titiler": lambda: against_titiler.measure(COUNTY),
    "paint": lambda: paint.measure(COUNTY),
    "stalls": lambda: stalls.measure(COUNTY),
    "hostile": lambda: stalls.measure_hostile(COUNTY),
    "memory": lambda: tiles.measure_memory(COUNTY),
    "processes": lambda: processes.measure(COUNTY),
    "redis": shared.measure,
    "fit": _fit,
    "catalog": sources.measure_catalog,
    "remote": sources.measure_remote,
    "delayed": sources.measure_area,
    "picture": sources.measure_picture,
    "areas": lambda: areas.measure_areas(COUNTY),
    "polygons": lambda: areas.measure_polygons(COUNTY),
    "hectares": lambda: areas.measure_hectares(COUNTY),
    "jobs": jobs.measure,
    "fairness": fairness.measure,
    "deepness": lambda: deepness.measure(COUNTY),
}

WITHOUT_COUNTY = frozenset({"inference", "engines", "joined", "fast", "halo", "int8"})
"""Measures that do not wait for Demo County to be written."""


def main() -> int:
    """Runs everything, or what is named; 1 when a goal is missed, 2 for an unknown name."""
    names = sys.argv[1:] or list(MEASURES)
    if unknown := [name for name in names if name not in MEASURES]:
        print(f"no measure {unknown[0]!r}; there are: {', '.join(MEASURES)}", file=sys.stderr)
        return 2
    if not WITHOUT_COUNTY.issuperset(names):
        write_county(COUNTY)
    findings: list[Finding] = []
    for name in names:
        found = MEASURES[name]()
        for finding in (found,) if isinstance(found, Finding) else found:
            findings.append(finding)
            print(f"{finding.ratio:6.2f}  {finding.name}  ({finding.detail})", flush=True)
    if not sys.argv[1:]:
        write(findings, ROOT / "docs" / "benchmarks.md")
    return 0 if all(finding.met for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
