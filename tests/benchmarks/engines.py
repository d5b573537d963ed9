"""Engines against ONNX Runtime in fp32, and joined windows against single ones: one thread each."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.autotune import INT8_SUFFIX, PROBE
from model.engines import DEFAULT, EngineSpec, create, offered
from model.normalize import normalize
from model.segment import Segmentation, segment_blocks, segment_window
from model.session import Session
from model.windows import BLOCK
from tests.benchmarks.report import Finding, paired

WITH_BF16, WITHOUT = 3.0, 1.3
JOINED = 0.78
EDGE = 2


class Speed(NamedTuple):
    """An engine against the default: `ratio` of their times, ms of both, share of equal classes."""

    spec: EngineSpec
    ratio: float
    default_ms: float
    own_ms: float
    agreement: float

    @property
    def shown(self) -> str:
        """The figures in words."""
        return (
            f"{self.spec} {self.ratio:.2f} ({self.default_ms:.0f} over {self.own_ms:.0f} ms, "
            f"{100 * self.agreement:.2f} % the same classes)"
        )


def measure_engines(model: Path) -> Finding:
    """One window of one block by every engine that there is here; the ratio is the best one's."""
    session = Session.load(model)
    size = session.card.window
    batch = normalize(imagery(size, size), session.card)[None]
    speeds = [_speed(session, other, batch) for other in _others(session, model)]
    best = max(speeds, key=lambda each: each.ratio, default=Speed(DEFAULT, 1.0, 0.0, 0.0, 1.0))
    units = any(each.spec.precision == "bf16" for each in speeds)
    return Finding(
        "a block by ONNX Runtime in fp32 over one by the best engine",
        best.ratio,
        WITH_BF16 if units else WITHOUT,
        True,
        f"{'with' if units else 'without'} bf16 units; " + "; ".join(each.shown for each in speeds),
    )


def measure_joined(model: Path) -> list[Finding]:
    """2 × 2 blocks in one window against four, and whether any pixel differs, by every engine."""
    session = Session.load(model)
    halo = session.card.halo
    size = EDGE * BLOCK + 2 * halo
    image, valid = imagery(size, size), np.ones((size, size), dtype=np.bool_)
    findings = []
    for each in (session, *_others(session, model)):
        joined = segment_blocks(each, image, valid, EDGE, EDGE)
        differing = sum(map(_differing, joined, _singles(each, image, valid)))
        ratio, together, apart = paired(
            partial(segment_blocks, each, image, valid, EDGE, EDGE),
            partial(_singles, each, image, valid),
            rounds=5,
        )
        findings.append(
            Finding(
                f"{EDGE} × {EDGE} blocks joined over one by one, {each.engine.spec}",
                # Joined windows that change anything are worth nothing.
                ratio if not differing else float("inf"),
                JOINED,
                False,
                f"{together * 1000:.0f} over {apart * 1000:.0f} ms; {differing} pixels differ",
            )
        )
    return findings


def _others(session: Session, model: Path) -> list[Session]:
    small = model.with_suffix(INT8_SUFFIX)
    int8 = small.read_bytes() if small.exists() else None
    content = model.read_bytes()
    specs = offered(int8 is not None)
    return [session.with_engine(create(spec, content, int8)) for spec in specs]


def _speed(session: Session, other: Session, batch: npt.NDArray[np.float32]) -> Speed:
    same = session.predict(batch).argmax(axis=1) == other.predict(batch).argmax(axis=1)
    ratio, slow, fast = paired(lambda: session.predict(batch), lambda: other.predict(batch))
    return Speed(other.engine.spec, ratio, slow * 1000, fast * 1000, float(same.mean()))


def imagery(rows: int, cols: int) -> npt.NDArray[np.uint8]:
    """uint8 (4, rows, cols): the probe's real windows side by side, over and over."""
    with np.load(PROBE) as kept:
        images = kept["images"]
    down, across = (-(-size // images.shape[-1]) for size in (rows, cols))
    lines = [
        np.concatenate([images[(row + col) % len(images)] for col in range(across)], axis=2)
        for row in range(down)
    ]
    image: npt.NDArray[np.uint8] = np.concatenate(lines, axis=1)[:, :rows, :cols]
    return np.ascontiguousarray(image)


def _singles(
    session: Session, image: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_]
) -> list[Segmentation]:
    size = session.card.window
    parts = [
        (slice(row, row + size), slice(col, col + size))
        for row in range(0, EDGE * BLOCK, BLOCK)
        for col in range(0, EDGE * BLOCK, BLOCK)
    ]
    return [segment_window(session, image[:, *part], valid[part]) for part in parts]


def _differing(one: Segmentation, other: Segmentation) -> int:
    different = (one.classes != other.classes) | (one.confidence != other.confidence)
    return int(different.sum())
