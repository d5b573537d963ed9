"""The model `fast` against the shipped one: blocks a second by the same engine, one thread."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from model.autotune import INT8_SUFFIX
from model.engines import DEFAULT, EngineSpec, create, offered
from model.segment import segment_blocks
from model.session import Session
from model.windows import BLOCK
from tests.benchmarks.engines import imagery
from tests.benchmarks.report import Finding, paired

GOAL = 3.0


def measure(shipped: Path, fast: Path) -> list[Finding]:
    """One finding for every engine that there is here, and one for 2 × 2 joined blocks; none
    without a model file `fast`."""
    if not fast.exists():
        print(f"fast: not measured, as there is no {fast} (docs/training.md)", file=sys.stderr)
        return []
    models = [Session.load(path) for path in (shipped, fast)]
    small = [_content(path.with_suffix(INT8_SUFFIX)) for path in (shipped, fast)]
    specs = [DEFAULT, *offered(int8=None not in small)]
    contents = [path.read_bytes() for path in (shipped, fast)]
    findings = []
    for spec in specs:
        pair = [
            each if spec == DEFAULT else each.with_engine(create(spec, content, int8))
            for each, content, int8 in zip(models, contents, small, strict=True)
        ]
        findings.append(_compared(spec, pair, 1))
    return [*findings, _compared(DEFAULT, models, 2)]


def _compared(spec: EngineSpec, pair: list[Session], edge: int) -> Finding:
    shipped, fast = pair
    ratio, slow, quick = paired(_work(shipped, edge), _work(fast, edge))
    what = "a block" if edge == 1 else f"{edge} × {edge} joined blocks"
    return Finding(
        f"{what} by the shipped model over `fast`, {spec}",
        ratio,
        GOAL,
        True,
        f"{slow * 1000:.0f} over {quick * 1000:.0f} ms",
    )


def _work(session: Session, edge: int) -> Callable[[], object]:
    size = edge * BLOCK + 2 * session.card.halo
    valid = np.ones((size, size), dtype=np.bool_)
    return partial(segment_blocks, session, imagery(size, size), valid, edge, edge)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
