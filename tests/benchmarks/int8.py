"""The 8-bit file against the 32-bit one: adjacent pairs of the served window, one thread.

Calibrated and checked on the real labels of `../shared/data`, as `training export --int8` does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from model.session import Session
from tests.benchmarks.report import Finding, paired


def measure(model: Path, data: Path) -> Finding:
    """How many times as fast; the goal is what would make it worth shipping."""
    from training.config import load_preset
    from training.export.int8 import calibration_split, quantize

    preset = load_preset(Session.load(model).card.training.preset)
    split = calibration_split(preset, data / "labels" / "chips.csv")
    with tempfile.TemporaryDirectory(prefix="landcover-int8-") as folder:
        out = Path(folder, "int8.onnx")
        _, result = quantize(model, split.train, split.validation, out, lambda _: None)
        fp32, int8 = Session.load(model, threads=1), Session.load(out, threads=1)
    size = fp32.card.window
    window = np.random.default_rng(0).standard_normal((1, 4, size, size)).astype(np.float32)
    ratio, slow, fast = paired(lambda: fp32.predict(window), lambda: int8.predict(window))
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return Finding(
        "a window in 32 bits over one in 8 bits",
        ratio,
        1.30,
        True,
        f"{slow * 1000:.0f} over {fast * 1000:.0f} ms, "
        f"{'with' if 'vnni' in flags else 'without'} VNNI; {result.exact} outer levels in 32 bits; "
        f"{100 * result.agreement:.2f} % of {result.pixels:,} pixels get the same class",
    )
