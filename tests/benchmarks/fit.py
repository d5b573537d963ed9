"""A step of training against a matrix product on the same cores; memory over epochs."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from affine import Affine
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.report import Finding, paired
from training.config import Preset, load_preset
from training.data.dataset import Data
from training.data.scenes import Scene
from training.data.splits import Split
from training.fit.compute import Compute, has_bfloat16
from training.fit.learner import Learner
from training.fit.loop import fit

THREADS = (1, 2)
MM = 2048
EPOCH = 50
"""Steps of a tiny epoch: the resident memory is looked at after each."""

EPOCHS = 10


def measure() -> list[Finding]:
    """Forward and backward, loss and optimizer included, in both precisions; then memory."""
    results = [_step("float32", "sgemm", threads, 0.6) for threads in THREADS]
    if has_bfloat16("cpu"):
        named = "float32 sgemm, itself in bfloat16"
        results += [_step("bfloat16", named, threads, 0.9) for threads in THREADS]
    return [*results, _memory()]


def _step(precision: str, named: str, threads: int, limit: float) -> Finding:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    a, b = torch.randn(MM, MM), torch.randn(MM, MM)
    preset = load_preset("candidate")
    learner = Learner.fresh(preset, Compute(threads=threads, precision=precision))
    images = torch.randn(preset.batch, 4, preset.crop, preset.crop)
    labels = torch.randint(0, 7, (preset.batch, preset.crop, preset.crop))
    batch = images, labels, torch.zeros_like(labels, dtype=torch.bool)
    weights = torch.ones(6)

    def step() -> float:
        return learner.step(batch, weights, preset, 0.0)

    with FlopCounterMode(display=False) as counter:
        step()
    flops = counter.get_total_flops()
    ratio, gemm_s, step_s = paired(lambda: [a @ b for _ in range(4)], step)
    gemm_flops = 4 * 2 * MM**3
    return Finding(
        f"a step of training as a share of {named}, {threads} thread{'s' * (threads > 1)}",
        ratio * flops / gemm_flops,
        limit,
        True,
        f"{flops / step_s / 1e9:.0f} of {gemm_flops / gemm_s / 1e9:.0f} GFLOP/s; "
        f"{step_s * 1000:.0f} ms a step of {preset.batch} x {preset.crop}²",
    )


def _memory() -> Finding:
    rng = np.random.default_rng(0)
    scenes = tuple(
        Scene(
            name=f"s{n}", place="place", year="2020",
            image=rng.integers(0, 256, (4, 256, 256), dtype=np.uint8),
            label=rng.integers(0, 7, (256, 256), dtype=np.uint8),
            resolution=1.0, epsg=26916, transform=Affine(1, 0, 500_000 + 300 * n, 0, -1, 4_000_000),
        )
        for n in range(16)
    )  # fmt: skip
    preset = Preset(
        name="memory", steps=EPOCH * EPOCHS, warmup=5, evaluate_every=EPOCH, crop=64,
        synthetic_share=0, held_out=(), left_out=(), coarse_share=0.1,
    )  # fmt: skip
    seen: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        fit(
            preset, Data(Split(scenes[:12], scenes[12:], ()), None), Path(folder),
            log=lambda line: seen.append(psutil.Process().memory_info().rss),
        )  # fmt: skip
        lasted = time.perf_counter() - started
    return Finding(
        "memory of training after the last epoch over that after the second",
        seen[-1] / seen[1],
        1.05,
        False,
        f"{seen[-1] / 1e6:.0f} over {seen[1] / 1e6:.0f} MB; {len(seen)} epochs of {EPOCH} steps, "
        f"{lasted:.0f} s",
    )
